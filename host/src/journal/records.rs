//! What the journal keeps, as values.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::job::state::{JobState, Phase, PhaseStatus};
use crate::ssh::RemoteProcess;

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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    pub name: String,
    pub one_line: bool,
}

pub struct NewJob {
    pub id: String,
    pub kind: JobKind,
    pub service: String,
    pub target: String,
    pub method: String,
    pub release: String,
    pub request: JobRequest,
    pub plan: Value,
    pub created_at: Timestamp,
    pub idempotency_key: Option<String>,
    /// The environment's values, encrypted. None for a rollback: the release has its own on the target.
    pub sealed: Option<Vec<u8>>,
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
    pub plan: Value,
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

/// A phase's new standing. Times and details that are `None` stay as they are.
#[derive(Clone, Debug)]
pub struct PhaseUpdate {
    pub phase: Phase,
    pub status: PhaseStatus,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub details: Option<Value>,
    pub error: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    Request,
    Target,
    Plugin,
    Host,
}

/// Why something failed, for people: what was attempted, what was seen, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub fault: Fault,
    /// The plugin whose step it was, if it was one's.
    pub plugin: Option<String>,
    pub attempted: String,
    pub seen: String,
    pub next: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(plugin) = &self.plugin {
            write!(f, "{plugin}: ")?;
        }
        write!(f, "could not {}: {}", self.attempted, self.seen.trim_end())?;
        if !self.next.is_empty() {
            write!(f, "; next: {}", self.next)?;
        }
        Ok(())
    }
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

/// What a job removed of its service's older releases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    pub removed: Vec<Removed>,
    /// By the sizes that were recorded when the releases were made.
    pub freed_bytes: u64,
    /// What should have gone, and is tried again after the next deployment.
    pub left: Vec<Left>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    pub release: String,
    pub because: String,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Left {
    pub release: String,
    pub because: String,
}

#[derive(Clone, Debug)]
pub struct StepStart {
    pub job: String,
    /// The step's place in the job: `build/0`, `restore`.
    pub step: String,
    pub plugin: String,
    pub function: String,
    pub digest: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    pub id: i64,
    pub step: String,
    pub plugin: String,
    pub function: String,
    pub digest: String,
    pub started_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    pub result: Option<Value>,
    pub error: Option<Failure>,
}

#[derive(Clone, Debug)]
pub struct CallStart {
    pub job: String,
    pub step: i64,
    pub call: String,
    pub arguments: Value,
    pub changes_target: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallRecord {
    pub id: i64,
    pub step: i64,
    pub call: String,
    pub arguments: Value,
    pub effect: String,
    /// The process on the target, when the call was a command.
    pub process: Option<RemoteProcess>,
    pub started_at: Timestamp,
    pub duration_ms: Option<u64>,
    /// `ok`, or the error's text; none while it runs, and for one that was cut off.
    pub outcome: Option<String>,
    pub exit: Option<String>,
    pub output_tail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The job's state changed.
    Job,
    /// A phase's status changed.
    Phase,
    /// How far a phase is.
    Progress,
    /// A line of a step's log.
    Log,
}

#[derive(Clone, Debug)]
pub struct NewEvent {
    pub at: Timestamp,
    pub kind: EventKind,
    pub data: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Counts from 1 within the job.
    pub sequence: u64,
    pub at: Timestamp,
    pub kind: EventKind,
    pub data: Value,
}

/// What a release is to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// A job is making it.
    Candidate,
    /// It runs, and was verified.
    Live,
    /// It was live before, and can be again.
    Retired,
    /// It failed. It is never gone back to.
    Bad,
    /// Its removal has begun. Some of it may still be there, so it is not gone back to.
    Removing,
    /// Nothing of it is on the target. Its record stays for the history.
    Removed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    pub service: String,
    pub target: String,
    pub id: String,
    pub job: String,
    pub standing: Standing,
    pub method: String,
    pub port: u16,
    pub environment: Vec<Variable>,
    /// Keyed with this host's own key, so that values cannot be guessed from it.
    pub environment_digest: String,
    pub files: Option<Value>,
    pub artifact: Option<Value>,
    pub instance: Option<Value>,
    /// The plugins' digests, by name.
    pub plugins: Value,
    /// The pipeline with its settings. None where an older version made the release.
    #[serde(default)]
    pub plan: Option<Value>,
    pub created_at: Timestamp,
    /// When it last became the live one.
    #[serde(default)]
    pub promoted_at: Option<Timestamp>,
    /// The job that made it the live one then.
    #[serde(default)]
    pub promoted_by: Option<String>,
    /// None where an older version made the release.
    #[serde(default)]
    pub origin: Option<Origin>,
}

/// Who deployed a release, and what was asked for then: so that a deployer whose journal does not have the job
/// can go back to the release as the one that made it would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The deployer, for people.
    pub deployer: String,
    /// As the caller wrote it.
    pub service_path: String,
    pub droplet_id: Option<u64>,
    pub auto_register: bool,
    pub verification_job_id: Option<String>,
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
    pub fn phase(&self, phase: Phase) -> Option<&PhaseRecord> {
        self.phases.iter().find(|record| record.phase == phase)
    }

    /// What runs now that the job is over, in words.
    pub fn outcome(&self) -> Option<String> {
        match &self.state {
            JobState::Pending | JobState::Running(_) => None,
            JobState::Unwinding(phase) => {
                Some(format!("{phase} did not pass; what ran before is brought back"))
            }
            JobState::Completed => Some(format!("release {} serves", self.release)),
            JobState::Failed(aftermath) | JobState::Cancelled(aftermath) => Some(aftermath.to_string()),
        }
    }
}

impl Retention {
    /// Whether it says what became of a release.
    pub fn names(&self, release: &str) -> bool {
        self.removed.iter().any(|removed| removed.release == release)
            || self.left.iter().any(|left| left.release == release)
    }
}

impl PhaseUpdate {
    pub fn new(phase: Phase, status: PhaseStatus) -> Self {
        PhaseUpdate { phase, status, started_at: None, completed_at: None, details: None, error: None }
    }
}

impl EventKind {
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Job => "job",
            EventKind::Phase => "phase",
            EventKind::Progress => "progress",
            EventKind::Log => "log",
        }
    }

    pub fn from_name(name: &str) -> Option<EventKind> {
        use EventKind as K;
        [K::Job, K::Phase, K::Progress, K::Log].into_iter().find(|kind| kind.name() == name)
    }
}

impl Standing {
    pub fn name(self) -> &'static str {
        match self {
            Standing::Candidate => "candidate",
            Standing::Live => "live",
            Standing::Retired => "retired",
            Standing::Bad => "bad",
            Standing::Removing => "removing",
            Standing::Removed => "removed",
        }
    }

    pub fn from_name(name: &str) -> Option<Standing> {
        use Standing as S;
        [S::Candidate, S::Live, S::Retired, S::Bad, S::Removing, S::Removed]
            .into_iter()
            .find(|standing| standing.name() == name)
    }
}
