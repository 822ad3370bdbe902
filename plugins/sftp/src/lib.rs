//! Transfer: sends what changed and takes the rest from the previous release. Validation: says what it could not
//! send.
//!
//! In the order of a transfer: what is left out, the manifest of what is not, carrying it over, and telling
//! by comparison what is still to do.

use std::path::Path;

use deployer_plugin::source;
use deployer_plugin::types::{Deployment, Error, Files, Finding};

mod carry;
mod compare;
mod exclusions;
mod manifest;
mod server;
mod settings;
mod validate;

deployer_plugin::world!("carrier");

struct Sftp;

impl phases::plugin::Guest for Sftp {
    fn describe() -> phases::plugin::Description {
        phases::plugin::Description {
            name: "sftp".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: env!("CARGO_PKG_DESCRIPTION").into(),
            settings_schema: deployer_plugin::settings::schema::<settings::Settings>(),
        }
    }
}

impl phases::validate::Guest for Sftp {
    fn validate(deployment: Deployment) -> Result<Vec<Finding>, Error> {
        let settings = deployer_plugin::settings::settings(&deployment)?;
        Ok(validate::findings(Path::new(source::FOLDER), &settings))
    }
}

impl phases::transfer::Guest for Sftp {
    fn transfer(deployment: Deployment) -> Result<Files, Error> {
        let settings = deployer_plugin::settings::settings(&deployment)?;
        carry::transfer(Path::new(source::FOLDER), &settings, &deployment, &mut server::Host)
    }
}

bindings::export!(Sftp with_types_in bindings);
