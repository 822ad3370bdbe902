//! What happened, in order, durable: jobs, phases, steps, host calls, events, releases, and the audit.
//!
//! Only this module writes history. It decides nothing: it keeps what it is told and gives it back. Every
//! method that returns `Ok` has made its change durable.

mod audit;
mod observer;
mod sqlite;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

use crate::model::{
    Actor, CallRecord, CallStart, Event, Failure, IllegalReleaseEvent, JobRecord, NewEvent, NewJob,
    PhaseUpdate, Registration, ReleaseRecord, RemoteProcess, Retention, StepRecord, StepStart, Submitted,
    Unregistered,
};

pub use audit::{
    AuditAction, AuditBreak, AuditEntry, AuditHead, AuditRecord, AuditVerdict, BreakReason, NoHead,
    UsedPlugin,
};
pub use observer::Observer;
pub use sqlite::Sqlite;

#[derive(Debug, Error)]
pub enum JournalError {
    #[error("cannot open the journal {path}: {source}; check that the data folder exists and can be written")]
    Open { path: String, source: sqlx::Error },
    #[error("cannot record {what}: {source}; check the space and the permissions of the data folder")]
    Write { what: &'static str, source: sqlx::Error },
    #[error("cannot read {what} from the journal: {source}")]
    Read { what: &'static str, source: sqlx::Error },
    #[error("{0}")]
    Unrecorded(String),
    #[error(
        "the journal has {what} that this version cannot read: {source}; it may have been written by a newer one"
    )]
    Decode { what: &'static str, source: serde_json::Error },
    #[error(transparent)]
    Illegal(#[from] IllegalReleaseEvent),
}

impl JournalError {
    /// Whether the same may work later: the disk was full, or slow.
    pub fn may_pass(&self) -> bool {
        match self {
            JournalError::Write { .. } | JournalError::Read { .. } | JournalError::Unrecorded(_) => true,
            JournalError::Open { .. } | JournalError::Decode { .. } | JournalError::Illegal(_) => false,
        }
    }
}

/// The jobs: what was asked for, what was done, and what was seen meanwhile.
#[async_trait]
pub trait JobLog: Send + Sync {
    /// Records a new job with its six phases, its encrypted environment and who asked for it, all or nothing. A
    /// job that was submitted with the same idempotency key is given back instead.
    async fn submit(&self, job: &NewJob) -> Result<Submitted, JournalError>;
    /// The job that was submitted with an idempotency key.
    async fn keyed(&self, key: &str) -> Result<Option<JobRecord>, JournalError>;
    async fn job(&self, id: &str) -> Result<Option<JobRecord>, JournalError>;
    /// A service's jobs, newest first: at most `limit`, and only older ones than the job `before`.
    async fn history(
        &self,
        service: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<JobRecord>, JournalError>;
    async fn knows_service(&self, service: &str) -> Result<bool, JournalError>;
    /// Jobs that are not over, in the order of their acceptance.
    async fn unfinished(&self) -> Result<Vec<JobRecord>, JournalError>;
    /// How many jobs there are by status.
    async fn counts(&self) -> Result<Vec<(String, u64)>, JournalError>;

    /// Records a job's new state, and an event that says so. A state that is over erases the encrypted environment, and
    /// goes into the audit.
    async fn set_state(&self, job: &JobRecord) -> Result<(), JournalError>;
    /// Records who cancelled a job that is not over, if nobody had before.
    async fn set_cancelled_by(&self, job: &str, actor: &Actor) -> Result<(), JournalError>;
    /// Records the fingerprint of the key that the target showed.
    async fn set_host_key(&self, job: &str, fingerprint: &str) -> Result<(), JournalError>;
    /// Records the generation of the lease that a job took.
    async fn set_generation(&self, job: &str, generation: u64) -> Result<(), JournalError>;
    async fn set_previous(&self, job: &str, previous: Option<&ReleaseRecord>) -> Result<(), JournalError>;
    /// What a job has removed so far of its service's older releases.
    async fn set_retention(&self, job: &str, retention: &Retention) -> Result<(), JournalError>;
    async fn set_phase(&self, job: &str, update: &PhaseUpdate) -> Result<(), JournalError>;

    async fn step_started(&self, step: &StepStart) -> Result<i64, JournalError>;
    async fn step_ended(&self, id: i64, outcome: Result<&Value, &Failure>) -> Result<(), JournalError>;
    /// A job's steps in the order that they began.
    async fn steps(&self, job: &str) -> Result<Vec<StepRecord>, JournalError>;

    async fn call_started(&self, call: &CallStart) -> Result<i64, JournalError>;
    async fn call_running(&self, id: i64, process: &RemoteProcess) -> Result<(), JournalError>;
    async fn call_ended(
        &self,
        id: i64,
        outcome: &str,
        exit: Option<&str>,
        output_tail: &str,
        duration_ms: u64,
    ) -> Result<(), JournalError>;
    async fn calls(&self, job: &str) -> Result<Vec<CallRecord>, JournalError>;

    /// Appends events, in one transaction.
    async fn append(&self, job: &str, events: &[NewEvent]) -> Result<(), JournalError>;
    /// A job's events after a sequence number, at most `limit`.
    async fn events(&self, job: &str, after: u64, limit: u32) -> Result<Vec<Event>, JournalError>;
    /// Changes whenever an event was appended to any job.
    fn watch(&self) -> tokio::sync::watch::Receiver<u64>;

    /// The encrypted environment of a job, if it is not over.
    async fn encrypted_environment(&self, job: &str) -> Result<Option<Vec<u8>>, JournalError>;
}

/// The releases of services on targets, and where they are registered.
#[async_trait]
pub trait Releases: Send + Sync {
    async fn put_release(&self, release: &ReleaseRecord) -> Result<(), JournalError>;
    /// Makes a release the live one, and the one that was live before a retired one, in one transaction.
    async fn promote(&self, release: &ReleaseRecord) -> Result<(), JournalError>;
    /// Records several releases as the target has them, all or none.
    async fn put_releases(&self, releases: &[ReleaseRecord]) -> Result<(), JournalError>;
    /// The service whose release a job made on a target: also of a job of another deployer.
    async fn service_of(&self, job: &str, target: &str) -> Result<Option<String>, JournalError>;
    /// A service's releases on a target, newest first, without those that were removed.
    async fn releases(&self, service: &str, target: &str) -> Result<Vec<ReleaseRecord>, JournalError>;
    /// The releases of all services on a target, oldest first, without those that were removed.
    async fn releases_on(&self, target: &str) -> Result<Vec<ReleaseRecord>, JournalError>;

    /// Jobs on a target whose releases are to be registered in the background, oldest first.
    async fn unregistered(&self, target: &str) -> Result<Vec<Unregistered>, JournalError>;
    /// Records the registration of a job that is over.
    async fn set_registration(&self, job: &str, registration: &Registration) -> Result<(), JournalError>;

    async fn droplet_id(&self, service: &str) -> Result<Option<u64>, JournalError>;
    async fn set_droplet_id(&self, service: &str, id: u64) -> Result<(), JournalError>;
}

/// Who did what, in a chain that shows when a record was changed.
#[async_trait]
pub trait Audit: Send + Sync {
    /// The audit, newest first: at most `limit` records, only older ones than the record `before`, and only of
    /// one service where it is named.
    async fn audit(
        &self,
        service: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, JournalError>;
    /// Looks at every record of the audit. `known` is a head that was kept elsewhere.
    async fn verify_audit(&self, known: Option<AuditHead>) -> Result<AuditVerdict, JournalError>;
}

/// The store of history. A trait, because a store that several hosts share will follow.
#[async_trait]
pub trait Journal: JobLog + Releases + Audit {
    /// Whether it can record now. Asking often writes no more than asking once a second.
    async fn check(&self) -> Result<(), JournalError>;

    /// Puts everything into the one file, and gives it up. Nothing can be read or recorded any more.
    async fn close(&self);
}

/// Now, at the precision that the journal keeps.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// RFC 3339 in UTC with milliseconds: sorts as text.
pub fn time_text(at: Timestamp) -> String {
    format!("{at:.3}")
}
