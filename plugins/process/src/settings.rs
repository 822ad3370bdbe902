//! The settings.

use deployer_plugin::method::CommandLine;
use schemars::JsonSchema;
use serde::Deserialize;

/// Seconds to end by itself, where nothing else says.
pub const STOP_TIMEOUT: u32 = 10;

#[derive(Clone, Debug, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The start command: a string, split as a shell would (of variables, only `$PORT`), or a list.
    /// `{port}` is the service's port, `{release}` the release's id. Default: the Procfile's `web:` line.
    pub start: Option<CommandLine>,
    /// Commands that run in the release's folder before it starts, as the SSH user, with the service's
    /// environment: strings are lines for `sh`, lists go without a shell. They may run again after a crash.
    pub build: Vec<CommandLine>,
    /// How many seconds the service may take to stop before it is killed.
    pub stop_timeout: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { start: None, build: Vec::new(), stop_timeout: STOP_TIMEOUT }
    }
}
