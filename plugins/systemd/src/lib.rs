//! Deployment method: a virtual environment or build commands, run as a systemd unit.
//!
//! The unit `deployer-{service}.service` is the same for all releases of a service; each release's text of
//! it is kept in the service's folder, so that a release can be restored exactly as it was. The service runs as
//! a user of its own that can read its files and write its state folder only.

mod account;
mod command;
mod inspect;
mod owner;
mod settings;
mod unit;
mod unit_text;
mod validate;
mod venv;

use deployer_plugin::method::{Finished, Values, Workplace, build};
use deployer_plugin::settings::{schema, settings};
use deployer_plugin::types::{Artifact, Deployment, Error, Files, Finding, Instance};
use deployer_plugin::{environment, method, target};
use settings::Settings;

deployer_plugin::world!("method");

struct Systemd;

impl phases::plugin::Guest for Systemd {
    fn describe() -> phases::plugin::Description {
        phases::plugin::Description {
            name: "systemd".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: env!("CARGO_PKG_DESCRIPTION").into(),
            settings_schema: schema::<Settings>(),
        }
    }
}

impl phases::validate::Guest for Systemd {
    fn validate(deployment: Deployment) -> Result<Vec<Finding>, Error> {
        validate::validate(&deployment, &settings(&deployment)?)
    }
}

impl phases::build::Guest for Systemd {
    fn build(deployment: Deployment, files: Files) -> Result<Artifact, Error> {
        make(&deployment, &files, &settings(&deployment)?)
    }

    fn inspect(deployment: Deployment, artifact: Artifact) -> Result<Option<Artifact>, Error> {
        inspect::inspect(&deployment, artifact)
    }

    fn discard(deployment: Deployment, artifact: Artifact) -> Result<(), Error> {
        discard(&deployment, &artifact)
    }
}

impl phases::start::Guest for Systemd {
    fn start(deployment: Deployment, _artifact: Artifact) -> Result<Instance, Error> {
        unit::start(&deployment, &settings(&deployment)?)
    }

    fn promote(deployment: Deployment, instance: Instance) -> Result<(), Error> {
        unit::promote(&deployment, &instance)
    }

    fn restore(deployment: Deployment) -> Result<Option<Instance>, Error> {
        unit::restore(&deployment)
    }
}

bindings::export!(Systemd with_types_in bindings);

/// The virtual environment if there are requirements, then the build commands, then a look whether what
/// Start will run is there: a program that is missing stops nothing that runs now.
fn make(deployment: &Deployment, files: &Files, settings: &Settings) -> Result<Artifact, Error> {
    let venv = venv::make(deployment, files, settings)?;
    if let Some(artifact) = Finished::artifact(deployment, files)? {
        return Ok(artifact);
    }
    environment::place(
        &deployment.layout.environment,
        &method::names(&deployment.environment),
        environment::Form::Quoted,
    )?;
    let place = Workplace {
        directory: &files.path,
        virtual_environment: venv.as_ref().map(|venv| venv.path.as_str()),
        environment_file: &deployment.layout.environment,
        values: Values { port: deployment.port, release: &deployment.release },
    };
    build(&settings.build, &place)?;
    command::find(deployment, settings)?;
    let artifact = match venv {
        Some(venv) => Artifact {
            kind: venv::KIND.into(),
            reference: venv::link(&files.path),
            bytes: venv.bytes()?,
            digest: venv.digest,
        },
        None => Artifact {
            kind: "files".into(),
            reference: files.path.clone(),
            digest: files.digest.clone(),
            bytes: None,
        },
    };
    Finished::mark(deployment, files, artifact)
}

fn discard(deployment: &Deployment, artifact: &Artifact) -> Result<(), Error> {
    let root = &deployment.layout.root;
    let release = method::release_of(root, &artifact.reference).ok_or_else(|| {
        Error::target(
            format!("discard {}", artifact.reference),
            format!("it is not in a release of {}", deployment.service),
            "check that nothing uses it, and remove it by hand",
        )
    })?;
    if artifact.kind == venv::KIND {
        venv::discard(root, &artifact.digest, &release)?;
    }
    target::remove(&unit::kept_path(root, &release))?;
    target::remove(&Finished::path(deployment, &release))
}
