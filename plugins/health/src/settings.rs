//! What healthy means: the settings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// How the service is probed over HTTP, and which answer is right.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The path to request, with its query, if any.
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
    /// The right status, or a list of them.
    pub status: Statuses,
    /// A text that the body must contain.
    pub body_contains: Option<String>,
    /// Headers to send.
    pub headers: BTreeMap<String, String>,
    /// Headers that the answer must have, with these values.
    pub expect_headers: BTreeMap<String, String>,
    /// Through the SSH connection to the target's own loopback, or through the network.
    pub via: Via,
    /// The port to probe, when it differs from the instance's.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// How long the service may take until its first answer, in seconds from the first probe.
    #[schemars(range(min = 1, max = 600))]
    pub deadline_seconds: u32,
    /// The pause between two probes of a service that does not answer yet, in milliseconds.
    #[schemars(range(min = 10, max = 60_000))]
    pub interval_ms: u32,
    /// How long one answer may take, in milliseconds.
    #[schemars(range(min = 10, max = 60_000))]
    pub timeout_ms: u32,
    /// How many wrong answers in all fail the check.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// The pause after a wrong answer, in milliseconds.
    #[schemars(range(min = 10, max = 60_000))]
    pub attempt_interval_ms: u32,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Statuses {
    One(u16),
    Several(Vec<u16>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    Target,
    Network,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            path: "/health".into(),
            status: Statuses::One(200),
            body_contains: None,
            headers: BTreeMap::new(),
            expect_headers: BTreeMap::new(),
            via: Via::Target,
            port: None,
            deadline_seconds: 30,
            interval_ms: 250,
            timeout_ms: 5000,
            attempts: 3,
            attempt_interval_ms: 1000,
        }
    }
}

impl Statuses {
    pub fn allow(&self, status: u16) -> bool {
        match self {
            Statuses::One(one) => *one == status,
            Statuses::Several(several) => several.contains(&status),
        }
    }
}

impl std::fmt::Display for Statuses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Statuses::One(one) => write!(f, "{one}"),
            Statuses::Several(several) => {
                let words: Vec<String> = several.iter().map(ToString::to_string).collect();
                f.write_str(&words.join(" or "))
            }
        }
    }
}
