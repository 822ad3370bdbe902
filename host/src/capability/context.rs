//! Everything that one step's call has to do with, before each import gets its part of it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::boundary::Boundary;
use super::environment::source::EnvironmentSource;
use super::folder::ServiceFolder;
use super::grant::Grants;
use super::http::client::HttpClient;
use super::http::registry::Registry;
use super::record::Recorder;
use super::started::Started;
use crate::secret::Redactor;
use crate::ssh::Ssh;

/// Cheap to clone: the same for all calls of a step.
#[derive(Clone)]
pub struct StepContext {
    /// The plugin that is called, for messages and the record.
    pub plugin: String,
    pub grants: Grants,
    /// The pipeline's file as people write it, for messages: `pipelines/default.toml`.
    pub pipeline_file: String,
    pub limits: Limits,
    /// Takes out of what is recorded what the job must not show. What the plugin gets is not changed.
    pub redactor: Redactor,
    /// Where on the target its calls reach.
    pub boundary: Boundary,
    /// What a verify step looks at.
    pub started: Option<Started>,
    /// What an upload sends from, and what the plugin sees as `/service` where it has `service.read`.
    pub service_dir: Option<ServiceFolder>,
    pub ssh: Ssh,
    pub http: HttpClient,
    pub registry: Option<Registry>,
    /// The target's name or address in the network, without brackets.
    pub target_host: String,
    pub environment: EnvironmentSource,
    /// The function that is called may only look: calls that change anything are refused, granted or not.
    pub only_reads: bool,
    pub recorder: Arc<dyn Recorder>,
    /// Ends every call that waits, and then the step.
    pub cancel: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For all of the plugin's memories together.
    pub memory_bytes: u64,
    /// For one call of the plugin, with all that it waits for.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 128 << 20, timeout: Duration::from_secs(600) }
    }
}
