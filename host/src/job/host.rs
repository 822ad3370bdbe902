//! What every job works with, and what a job asks of it that is not a plugin's work.

use std::path::PathBuf;
use std::sync::Arc;

use super::condition::Conditions;
use super::release::ReleaseIds;
use crate::capability::{HttpClient, Registry};
use crate::journal::Journal;
use crate::model::RemoteProcess;
use crate::plugin::{Catalog, Runtime};
use crate::secret::Cipher;
use crate::ssh::{KillOutcome, Ssh, Target};

/// What every job works with.
pub struct Host {
    pub journal: Arc<dyn Journal>,
    pub cipher: Cipher,
    pub runtime: Runtime,
    pub catalog: Catalog,
    pub ssh: Ssh,
    pub http: HttpClient,
    pub registry: Option<Registry>,
    /// The services root on this machine.
    pub services: PathBuf,
    pub pipelines: PathBuf,
    /// The services root on the target.
    pub root: String,
    /// This deployer's id in its leases. It is the data folder's, so that it stays after a restart.
    pub owner: String,
    pub release_ids: ReleaseIds,
    /// Held while the journal is compared with the target, and while a job takes a lease.
    pub reconciling: tokio::sync::Mutex<()>,
    pub conditions: Conditions,
}

impl Host {
    /// The URL at which callers reach a service.
    pub fn service_url(&self, port: u16) -> String {
        let host = self.ssh.target().host();
        if host.contains(':') { format!("http://[{host}]:{port}") } else { format!("http://{host}:{port}") }
    }

    /// Whether a job is for the server that this deployer was started with. A job never runs on another one.
    pub fn serves(&self, target: &str) -> bool {
        target.parse::<Target>().is_ok_and(|target| target == *self.ssh.target())
    }

    /// Ends a process group that a command of an earlier run left on the target, if it still is that one.
    pub(super) async fn end_leftover(&self, process: &RemoteProcess) -> Result<(), String> {
        match self.ssh.kill_group(process).await {
            Ok(KillOutcome::Gone | KillOutcome::Terminated | KillOutcome::Killed) => Ok(()),
            Ok(KillOutcome::Unknown(reason)) => Err(reason),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// This deployer, for people.
pub(super) fn who() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = if machine.trim().is_empty() { "a machine without a name" } else { machine.trim() };
    format!("the deployer on {machine} (process {})", std::process::id())
}
