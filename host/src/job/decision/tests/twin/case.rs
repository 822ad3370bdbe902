//! The jobs that the twin runs, and what goes wrong in each.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::{JobKind, JobRecord, JobState, Phase, PhaseRecord, PhaseStatus, Stored};

/// The job's own release, the one that ran before it, and one that is no longer kept.
pub const OWN: &str = "r3";
pub const BEFORE: &str = "r2";
pub const OLD: &str = "r1";
/// What another deployer puts in its place.
pub const OTHERS: &str = "r4";
/// How often the registry is away before it answers.
pub const AWAY: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// A step of the phase fails, each time.
    Fails(Phase),
    /// A step of the phase fails, once.
    FailsOnce(Phase),
    /// Start sees that it lacks something, before it stops anything.
    Lacks,
    /// Somebody cancels the job in the middle of a step of the phase.
    Cancelled(Phase),
    /// When the deployer is cut, another one takes the service over, and deploys.
    TakenOver,
}

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub kind: JobKind,
    /// Whether a release runs when the job begins.
    pub runs: bool,
    pub trouble: Trouble,
}

/// A job of a kind, with nothing done.
pub fn job(kind: JobKind) -> JobRecord {
    JobRecord {
        id: "deploy-3".into(),
        kind,
        service: "shop".into(),
        target: "root@server:22".into(),
        method: "docker".into(),
        release: OWN.into(),
        request: crate::model::samples::request(),
        plan: Stored::Unknown { raw: Value::Null, why: "it has none".into() },
        state: JobState::Pending,
        cancelled_by: None,
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        completed_at: None,
        error: None,
        registration: None,
        previous: None,
        generation: None,
        retention: None,
        phases: Phase::ALL.map(phase).to_vec(),
    }
}

fn phase(phase: Phase) -> PhaseRecord {
    PhaseRecord {
        phase,
        status: PhaseStatus::Pending,
        started_at: None,
        completed_at: None,
        details: json!({}),
        error: None,
    }
}

/// Every kind of job, with each trouble that it can have.
pub fn cases() -> Vec<Case> {
    let kinds = [(JobKind::Deploy, true), (JobKind::Deploy, false), (JobKind::Rollback, true)];
    let mut cases = Vec::new();
    for (kind, runs) in kinds {
        let first = if kind == JobKind::Deploy { 0 } else { 3 };
        let phases = Phase::ALL.into_iter().skip(first);
        let troubles = phases
            .flat_map(|phase| [Trouble::Fails(phase), Trouble::FailsOnce(phase), Trouble::Cancelled(phase)])
            .chain([Trouble::None, Trouble::Lacks, Trouble::TakenOver]);
        cases.extend(troubles.map(|trouble| Case { kind, runs, trouble }));
    }
    cases
}
