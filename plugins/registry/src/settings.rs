//! How the registry is spoken to: the settings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// Which dialect the registry speaks, and what is registered beside the service's name and endpoint.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `auto` finds out by asking.
    pub dialect: Dialect,
    /// Who is responsible for the service. Sent when its droplet is created; changed in the registry after that.
    pub steward: Option<String>,
    /// Added to what is registered, beside the release and the method.
    pub metadata: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    #[default]
    Auto,
    /// `POST /droplets`, `GET /droplets/name/{name}`, `PATCH /droplets/{id}`.
    Droplets,
    /// `POST /register`.
    Register,
}
