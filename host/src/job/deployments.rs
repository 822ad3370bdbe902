//! The seam between the API and what does the work: values in, values out. It knows neither HTTP nor SSH.

use super::health::Health;
use super::refusal::Refusal;
use super::request::{DeployRequest, FieldProblem, Known};

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::journal::{AuditEntry, AuditHead, AuditVerdict};
use crate::model::{Actor, CallRecord, Event, JobRecord, ReleaseRecord};

/// What the API asks of the rest of the deployer.
#[async_trait]
pub trait Deployments: Send + Sync {
    /// Accepts a deployment: the job is durable when this returns. A request with an idempotency key that was
    /// seen before gives the earlier job back.
    async fn submit(
        &self,
        request: DeployRequest,
        idempotency_key: Option<String>,
        actor: Actor,
    ) -> Result<JobRecord, Refusal>;

    /// What speaks against a deployment with these fields, for a request that is wrong in others already.
    async fn problems(&self, known: &Known) -> Vec<FieldProblem>;

    async fn job(&self, id: &str) -> Result<Option<CurrentJob>, Refusal>;

    /// Goes back to the release before the live one of the job's service, or to `release`, and waits for the
    /// end. The record is of the new job, and it is over. Dropping the future only stops the waiting. A request
    /// with an idempotency key that was seen before waits for the earlier job.
    async fn rollback(
        &self,
        id: &str,
        release: Option<String>,
        idempotency_key: Option<String>,
        actor: Actor,
    ) -> Result<JobRecord, Refusal>;

    /// Asks a job to end. It may still be ending when this returns.
    async fn cancel(&self, id: &str, actor: Actor) -> Result<JobRecord, Refusal>;

    /// A service's jobs, newest first, only ones that are older than the job `before`. None for a service
    /// that was never seen.
    async fn history(
        &self,
        service: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Option<Vec<JobRecord>>, Refusal>;

    /// A job's events after a sequence number, oldest first. None are there for a job that is not known.
    async fn events(&self, id: &str, after: u64, limit: u32) -> Result<Vec<Event>, Refusal>;

    /// Changes whenever an event was appended to any job.
    fn watch(&self) -> watch::Receiver<u64>;

    /// What a job's plugins asked the host to do.
    async fn calls(&self, id: &str) -> Result<Vec<CallRecord>, Refusal>;

    /// A service's releases on the target, newest first. None for a service that was never seen.
    async fn releases(&self, service: &str) -> Result<Option<Vec<ReleaseOnTarget>>, Refusal>;

    /// The audit's records, newest first, only ones before `before`, and of one service where it is named. None
    /// for a service that was never seen.
    async fn audit(
        &self,
        service: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Option<Vec<AuditEntry>>, Refusal>;

    /// Looks at every record of the audit, and compares it with a head that was kept elsewhere.
    async fn verify_audit(&self, known: Option<AuditHead>) -> Result<AuditVerdict, Refusal>;

    async fn health(&self) -> Health;

    async fn capabilities(&self) -> Capabilities;

    /// How many jobs there are by status.
    async fn counts(&self) -> Result<Vec<(String, u64)>, Refusal>;
}

/// A release, and whether a rollback can take it.
#[derive(Clone, Debug)]
pub struct ReleaseOnTarget {
    pub record: ReleaseRecord,
    /// It ran before the live one: a rollback that names no release takes this one, or none.
    pub is_predecessor: bool,
    /// Why a rollback cannot take it.
    pub unavailable: Option<String>,
    /// Why the target could not be asked whether a rollback can take it.
    pub unchecked: Option<String>,
    /// Whether this is what the target said just now, or only what the journal knew.
    pub target_asked: bool,
}

#[derive(Clone, Debug)]
pub struct CurrentJob {
    pub record: JobRecord,
    /// How far the phase that runs is, if it says so.
    pub progress: Option<Value>,
}

#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// The names that `deployment_method` may have: those that both a `build` and a `start` plugin answer to.
    pub methods: Vec<String>,
    pub plugins: Vec<PluginSummary>,
    /// Files in the plugins' folder that are not plugins for this deployer.
    pub refused: Vec<RefusedPlugin>,
    /// As in `root@203.0.113.7:22`.
    pub target: String,
    pub registry: Option<String>,
    pub limits: JobLimits,
}

#[derive(Clone, Debug, Serialize)]
pub struct PluginSummary {
    pub name: String,
    pub version: String,
    pub summary: String,
    /// What it exports: `build`, `start`.
    pub phases: Vec<String>,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct RefusedPlugin {
    pub file: String,
    pub reason: String,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct JobLimits {
    pub job_timeout_seconds: u64,
    pub retention_days: u32,
}
