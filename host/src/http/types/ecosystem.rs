//! What every service of this ecosystem answers, on the wire.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::job::{JobLimits, PluginSummary, RefusedPlugin};

/// The answer to `GET /health`.
#[derive(Debug, Serialize)]
pub struct Health {
    pub status: &'static str,
    pub ssh_status: &'static str,
    pub registry_status: &'static str,
    pub journal_status: &'static str,
    /// What is wrong in full, for those who may deploy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<HealthDetails>,
}

#[derive(Debug, Serialize)]
pub struct HealthDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
}

/// The answer to `GET /capabilities`.
#[derive(Debug, Serialize)]
pub struct Capabilities {
    pub methods: Vec<String>,
    pub features: Vec<&'static str>,
    pub plugins: Vec<PluginSummary>,
    /// Files in the plugins folder that this deployer cannot use, with the reason.
    pub refused_plugins: Vec<RefusedPlugin>,
    pub limits: ServerLimits,
    pub server: Server,
}

#[derive(Debug, Serialize)]
pub struct ServerLimits {
    #[serde(flatten)]
    pub jobs: JobLimits,
    pub request_bytes: usize,
    pub environment_value_bytes: usize,
    pub history_page: u32,
}

#[derive(Debug, Serialize)]
pub struct Server {
    pub name: &'static str,
    pub version: &'static str,
    pub target: String,
    pub registry: Option<String>,
}

/// The answer to `GET /state`.
#[derive(Debug, Serialize)]
pub struct State {
    pub status: &'static str,
    pub version: &'static str,
    pub uptime_seconds: u64,
    pub started_at: String,
    /// How many jobs there are by status.
    pub jobs: Map<String, Value>,
}

/// The answer to `GET /dependencies`.
#[derive(Debug, Serialize)]
pub struct Dependencies {
    pub required: Vec<Dependency>,
    pub optional: Vec<Dependency>,
}

#[derive(Debug, Serialize)]
pub struct Dependency {
    pub name: &'static str,
    pub address: Option<String>,
    pub status: String,
    pub available: bool,
}

/// What a service of the ecosystem tells this one with `POST /message`.
#[derive(Debug, PartialEq)]
pub struct Message {
    pub trace_id: String,
    pub source: String,
    pub kind: MessageKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    Status,
    Event,
    Command,
    Query,
}

#[derive(Debug, Serialize)]
pub struct MessageReceived {
    pub received: bool,
    pub trace_id: String,
    pub message_type: MessageKind,
    pub timestamp: String,
    pub detail: &'static str,
}
