//! Validation: what speaks against this deployment, before anything is changed.
//!
//! Every check says what it found, passed ones too, and none of them stops the others: whoever fixes a
//! deployment wants to know all that is wrong with it at once.

use std::path::Path;

use deployer_plugin::source;
use deployer_plugin::types::{Deployment, Error, Finding};

mod folder;
mod machine;
mod port;

deployer_plugin::world!("validator");

/// What the service's folder and the target must have.
#[derive(Debug, schemars::JsonSchema, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Bytes that must be free on the target beyond twice the service's size. Default: 256 MiB.
    min_free_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { min_free_bytes: 256 * 1024 * 1024 }
    }
}

struct Preflight;

impl phases::plugin::Guest for Preflight {
    fn describe() -> phases::plugin::Description {
        phases::plugin::Description {
            name: "preflight".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: env!("CARGO_PKG_DESCRIPTION").into(),
            settings_schema: deployer_plugin::settings::schema::<Settings>(),
        }
    }
}

impl phases::validate::Guest for Preflight {
    fn validate(deployment: Deployment) -> Result<Vec<Finding>, Error> {
        let settings: Settings = deployer_plugin::settings::settings(&deployment)?;
        let folder = folder::Folder::read(Path::new(source::FOLDER));
        let mut findings = vec![folder.finding()];
        match machine::ask(&deployment) {
            Ok(machine) => {
                findings.extend(machine.findings(
                    folder.bytes,
                    settings.min_free_bytes,
                    &deployment.layout.root,
                ));
                findings.push(port::finding(&machine.port, &machine.user, &deployment));
            }
            Err(error) => findings.push(unanswered(error)),
        }
        Ok(findings)
    }
}

fn unanswered(error: Error) -> Finding {
    Finding::failed("the target answers", format!("{}: {}", error.attempted, error.seen), error.next)
}

bindings::export!(Preflight with_types_in bindings);
