//! A job, as it was asked for and as it goes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::Failure;
use super::layout::Layout;
use super::phase::{Phase, PhaseStatus};
use super::plan::Plan;
use super::release::ReleaseRecord;
use super::retention::Retention;
use super::state::{self, IllegalEvent, JobEvent, JobState};
use super::stored::Stored;
use super::variable::Variable;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    Deploy,
    Rollback,
}

/// Who asked: for the record, not for a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// A token's name, or a user's of the command line.
    pub name: String,
    /// The address that the request came from.
    pub from: String,
}

/// What was asked for. Of the environment, only the names are here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// As the caller wrote it.
    pub service_path: String,
    /// Where that is on this machine.
    pub service_folder: String,
    /// What tells that folder from another one in its place. None where an older version accepted the job.
    #[serde(default)]
    pub folder_mark: Option<String>,
    pub droplet_id: Option<u64>,
    pub service_port: u16,
    pub auto_register: bool,
    pub verification_job_id: Option<String>,
    pub environment: Vec<Variable>,
    /// Of everything that was asked for, values included; keyed, so that they cannot be guessed from it.
    #[serde(default)]
    pub digest: String,
    pub actor: Actor,
}

pub struct NewJob {
    pub id: String,
    pub kind: JobKind,
    pub service: String,
    pub target: String,
    pub method: String,
    pub release: String,
    pub request: JobRequest,
    pub plan: Stored<Plan>,
    pub created_at: Timestamp,
    pub idempotency_key: Option<String>,
    /// The environment's values, encrypted. None for a rollback: the release has its own on the target.
    pub encrypted_environment: Option<Vec<u8>>,
    /// Phases that this job does not have, with the reason.
    pub skipped: Vec<(Phase, String)>,
}

#[derive(Debug)]
pub enum Submitted {
    New(JobRecord),
    /// A job with the same idempotency key was there already, for the same request.
    Known(JobRecord),
    /// The idempotency key is another request's.
    KeyTaken(JobRecord),
}

#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    pub id: String,
    pub kind: JobKind,
    pub service: String,
    pub target: String,
    pub method: String,
    pub release: String,
    pub request: JobRequest,
    pub plan: Stored<Plan>,
    pub state: JobState,
    pub cancelled_by: Option<String>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub error: Option<Failure>,
    pub registration: Option<Registration>,
    pub previous: Option<ReleaseRecord>,
    /// Of the lease that the job took on its service. None before it had one.
    pub generation: Option<u64>,
    /// None when the job had nothing to remove.
    pub retention: Option<Retention>,
    /// All six, in order.
    pub phases: Vec<PhaseRecord>,
}

/// A job that completed, and whose release is still to be registered.
#[derive(Debug)]
pub struct Unregistered {
    pub job: JobRecord,
    /// A later job of the service that completed: registering this one's release would be wrong by now.
    pub superseded_by: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PhaseRecord {
    pub phase: Phase,
    pub status: PhaseStatus,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub details: Value,
    pub error: Option<Failure>,
}

/// A phase's new status. Times and details that are `None` stay as they are.
#[derive(Clone, Debug)]
pub struct PhaseUpdate {
    pub phase: Phase,
    pub status: PhaseStatus,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub details: Option<Value>,
    pub error: Option<Failure>,
}

/// What the registry confirmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    pub droplet_id: Option<u64>,
    pub service_name: String,
    pub endpoint: String,
    pub registered_at: Timestamp,
    pub registry_response: Value,
}

impl JobKind {
    pub fn name(self) -> &'static str {
        match self {
            JobKind::Deploy => "deploy",
            JobKind::Rollback => "rollback",
        }
    }
}

impl JobRecord {
    /// # Errors
    /// When the event cannot happen in the job's state. Then it stays as it is.
    pub fn apply(&mut self, event: &JobEvent) -> Result<(), IllegalEvent> {
        self.state = state::next(&self.state, event)?;
        Ok(())
    }

    /// Where its release lives under the target's services root.
    pub fn layout(&self, services_root: &str) -> Layout {
        Layout::new(services_root, &self.service, &self.release)
    }

    pub fn phase(&self, phase: Phase) -> Option<&PhaseRecord> {
        self.phases.iter().find(|record| record.phase == phase)
    }

    /// What runs now that the job is over, in words.
    pub fn outcome(&self) -> Option<String> {
        match &self.state {
            JobState::Pending | JobState::Running(_) => None,
            JobState::Unwinding(phase) => Some(format!("{phase} failed; restoring the previous release")),
            JobState::Completed => Some(format!("release {} serves", self.release)),
            JobState::Failed(aftermath) | JobState::Cancelled(aftermath) => Some(aftermath.to_string()),
        }
    }
}

impl PhaseUpdate {
    pub fn new(phase: Phase, status: PhaseStatus) -> Self {
        PhaseUpdate { phase, status, started_at: None, completed_at: None, details: None, error: None }
    }
}
