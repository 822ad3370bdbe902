//! Register: tells the registry where the service answers.
//!
//! Registries speak one of two dialects, and asking finds out which. To register again is to update. What
//! the registry has is what counts, not what it was sent: its answer must name the service's endpoint.

mod client;
mod droplets;
mod record;
mod settings;

use client::{Registry, Remote};
use deployer_plugin::types::{Deployment, Error, Publication, Registration};
use record::{Ids, Subject};
use serde_json::json;
use settings::{Dialect, Settings};

deployer_plugin::world!("registrar");

struct Registrar;

impl phases::plugin::Guest for Registrar {
    fn describe() -> phases::plugin::Description {
        phases::plugin::Description {
            name: "registry".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: env!("CARGO_PKG_DESCRIPTION").into(),
            settings_schema: deployer_plugin::settings::schema::<Settings>(),
        }
    }
}

impl phases::register::Guest for Registrar {
    fn register(deployment: Deployment, publication: Publication) -> Result<Registration, Error> {
        let settings: Settings = deployer_plugin::settings::settings(&deployment)?;
        let subject = Subject { settings: &settings, deployment: &deployment, publication: &publication };
        register(&mut Remote, subject)
    }
}

/// A registry of droplets knows the service by name, or takes it; any other has no such paths.
fn register(registry: &mut dyn Registry, subject: Subject) -> Result<Registration, Error> {
    match subject.settings.dialect {
        Dialect::Droplets => droplets::register(registry, subject)?.ok_or_else(|| {
            Error::target(
                "register with `POST /droplets`",
                "the registry does not have this path",
                "check --registry, and `dialect` in [settings.registry]",
            )
        }),
        Dialect::Register => post(registry, subject),
        Dialect::Auto => match droplets::register(registry, subject)? {
            Some(registration) => Ok(registration),
            None => post(registry, subject),
        },
    }
}

/// The dialect of one call. It has none to ask again with: its answer is the confirmation.
fn post(registry: &mut dyn Registry, subject: Subject) -> Result<Registration, Error> {
    let body = json!({
        "service_name": subject.deployment.service,
        "endpoint": subject.publication.endpoint,
        "metadata": subject.metadata(),
    });
    let answer = registry.send("POST", "/register", Some(&subject.with_id("droplet_id", body)))?;
    subject.confirm(&answer, Ids::Perhaps)
}

bindings::export!(Registrar with_types_in bindings);

#[cfg(test)]
mod tests;
