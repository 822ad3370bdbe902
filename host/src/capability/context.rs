//! Everything that one step's call has to do with. Nothing reaches a host call by another way.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use tokio_util::sync::CancellationToken;

use super::boundary::Boundary;
use super::environment::EnvironmentSource;
use super::folder::ServiceFolder;
use super::grant::Grants;
use super::http::HttpClient;
use super::instance::Started;
use super::record::Recorder;
use crate::secret::{Redactor, Secret};
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

/// The registry that the deployer was given.
#[derive(Debug, Clone)]
pub struct Registry {
    /// `https://registry.example.com/api`, without a user; a request's path comes after it.
    pub url: String,
    /// Sent as a bearer token. No plugin sees it.
    pub token: Option<Secret>,
    /// Sent where there is no token. No plugin sees it either.
    pub login: Option<Login>,
}

/// A user and a password, as a URL may have them before its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

impl Registry {
    /// What the host sends as `Authorization`.
    pub fn authorization(&self) -> Option<Secret> {
        match (&self.token, &self.login) {
            (Some(token), _) => Some(Secret::new(format!("Bearer {}", token.expose()))),
            (None, Some(login)) => Some(Secret::new(format!("Basic {}", login.basic()))),
            (None, None) => None,
        }
    }

    /// What must not be shown of it: each secret with what stands in its place.
    pub fn secrets(&self) -> Vec<(&'static str, String)> {
        let token = self.token.iter().map(|token| ("[registry token]", token.expose().to_owned()));
        let login = self.login.iter().flat_map(|login| {
            let password = login.password.expose().to_owned();
            [("[registry password]", password), ("[registry login]", login.basic())]
        });
        token.chain(login).filter(|(_, secret)| !secret.is_empty()).collect()
    }
}

impl Login {
    fn basic(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", self.user, self.password.expose()))
    }
}
