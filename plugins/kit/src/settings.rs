//! A plugin's settings: one Rust type is the schema and the parser.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::types::{Deployment, Error, Fault};

/// The JSON Schema of a settings type. Doc comments become descriptions.
pub fn schema<T: JsonSchema>() -> String {
    schemars::schema_for!(T).to_value().to_string()
}

/// The step's settings.
///
/// # Errors
/// When they are not of this type. The host has checked them against the schema, so this is a schema that
/// says less than its type: the plugin's fault.
pub fn settings<T: DeserializeOwned>(deployment: &Deployment) -> Result<T, Error> {
    serde_json::from_str(&deployment.settings).map_err(|error| Error {
        fault: Fault::Plugin,
        attempted: "read the settings".into(),
        seen: error.to_string(),
        next: "fix the settings in the pipeline; the plugin's authors should make its settings schema refuse them".into(),
    })
}
