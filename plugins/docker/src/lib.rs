//! Deployment method: builds an image and runs it as a container, on Docker 20.10 and later.
//!
//! The old container stops before the new one starts, since both want the service's port. What a release
//! was run with is kept on the target, so that it can be restored exactly as it was.

mod base;
mod build;
mod client;
mod container;
mod discard;
mod dockerfile;
mod image;
mod inspect;
mod launch;
mod owner;
mod settings;
mod tag;
mod validate;

use deployer_plugin::settings::{schema, settings};
use deployer_plugin::types::{Artifact, Deployment, Error, Files, Finding, Instance};
use settings::Settings;

deployer_plugin::world!("method");

struct Docker;

impl phases::plugin::Guest for Docker {
    fn describe() -> phases::plugin::Description {
        phases::plugin::Description {
            name: "docker".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: env!("CARGO_PKG_DESCRIPTION").into(),
            settings_schema: schema::<Settings>(),
        }
    }
}

impl phases::validate::Guest for Docker {
    fn validate(deployment: Deployment) -> Result<Vec<Finding>, Error> {
        validate::validate(&deployment, &settings(&deployment)?)
    }
}

impl phases::build::Guest for Docker {
    fn build(deployment: Deployment, files: Files) -> Result<Artifact, Error> {
        build::build(&deployment, &files, &settings(&deployment)?)
    }

    fn inspect(deployment: Deployment, artifact: Artifact) -> Result<Option<Artifact>, Error> {
        inspect::inspect(&deployment, artifact)
    }

    fn discard(deployment: Deployment, artifact: Artifact) -> Result<(), Error> {
        discard::discard(&deployment, &artifact)
    }
}

impl phases::start::Guest for Docker {
    fn start(deployment: Deployment, artifact: Artifact) -> Result<Instance, Error> {
        container::start(&deployment, &artifact, &settings(&deployment)?)
    }

    fn promote(deployment: Deployment, instance: Instance) -> Result<(), Error> {
        container::promote(&deployment, &instance, &settings(&deployment)?)
    }

    fn restore(deployment: Deployment) -> Result<Option<Instance>, Error> {
        container::restore(&deployment)
    }
}

bindings::export!(Docker with_types_in bindings);
