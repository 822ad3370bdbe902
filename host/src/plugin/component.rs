//! A plugin that was checked: what it says of itself, what it exports, and its compiled code.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;
use wasmtime::component::InstancePre;

use super::store::State;
use crate::contract::Export;
use crate::contract::bindings::exports::deployer::pipeline as exports;

/// Compiled and checked. A job that holds one goes on with it, whatever becomes of its file.
pub struct Plugin {
    pub name: String,
    pub version: String,
    pub summary: String,
    /// The JSON Schema of its settings.
    pub settings_schema: Value,
    pub exports: BTreeSet<Export>,
    /// The contract's interfaces that it can call: `target`, `http`, …
    pub imports: BTreeSet<String>,
    /// SHA-256 of its file, in hexadecimal.
    pub digest: String,
    pub file: PathBuf,
    pub(super) validator: Validator,
    pub(super) code: Code,
}

/// What is called.
#[derive(Clone)]
pub(super) struct Code {
    pub pre: InstancePre<State>,
    pub validate: Option<exports::validate::GuestIndices>,
    pub transfer: Option<exports::transfer::GuestIndices>,
    pub build: Option<exports::build::GuestIndices>,
    pub start: Option<exports::start::GuestIndices>,
    pub verify: Option<exports::verify::GuestIndices>,
    pub register: Option<exports::register::GuestIndices>,
}

/// A setting that the plugin's schema does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem {
    /// The keys that lead to it; none for the settings as a whole.
    pub path: Vec<String>,
    pub message: String,
}

impl Plugin {
    /// Whether the plugin has a part in a phase.
    pub fn exports(&self, export: Export) -> bool {
        self.exports.contains(&export)
    }

    /// A method builds and starts services.
    pub fn is_method(&self) -> bool {
        self.exports(Export::Start)
    }

    /// Checks a step's settings against the plugin's schema.
    ///
    /// # Errors
    /// With all that is wrong, each by its keys.
    pub fn check_settings(&self, settings: &Value) -> Result<(), Vec<SettingProblem>> {
        let problems: Vec<SettingProblem> =
            self.validator.iter_errors(settings).flat_map(|error| self.problems(&error)).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn problems(&self, error: &ValidationError<'_>) -> Vec<SettingProblem> {
        let path: Vec<String> = error.instance_path().segments().map(|segment| segment.to_string()).collect();
        let below = |name: &str| path.iter().cloned().chain([name.to_owned()]).collect();
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected }
            | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected
                .iter()
                .map(|name| SettingProblem { path: below(name), message: self.no_such_setting(&path) })
                .collect(),
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                vec![SettingProblem { path: below(name), message: "is missing".into() }]
            }
            _ => vec![SettingProblem { path, message: error.to_string() }],
        }
    }

    fn no_such_setting(&self, parent: &[String]) -> String {
        let known = match (parent, self.settings_schema.get("properties")) {
            ([], Some(Value::Object(properties))) => {
                properties.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
            }
            // Nested schemas may be anywhere: the name alone has to do.
            _ => return "is not a setting here".into(),
        };
        if known.is_empty() {
            format!("is not a setting of the plugin `{}`, which has none", self.name)
        } else {
            format!("is not a setting of the plugin `{}`; it has {known}", self.name)
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("exports", &self.exports)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}
