//! What a job does next. Pure: a value, computed from what is recorded of the job and from what its last action came
//! to. `drive` does it, and `registering` for a job that is over.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::model::{
    Aftermath, JobEvent, JobKind, JobRecord, JobState, Phase, PhaseStatus, Retry, StepRecord,
};

/// What is to be done. Each is done whole before the next is asked for, and may be done again after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take the lease, and see that a rollback can still take its release.
    CheckRollbackTarget,
    /// Record that a phase begins.
    Enter(Phase),
    /// See whether another release was made the live one: then this job's is not to be registered.
    LookForSuccessor,
    /// Call those of a phase's steps that are not on record as done.
    RunSteps(Phase),
    /// Make the verified release the live one. Nothing takes it down from here on.
    Promote,
    /// Record that a phase passed.
    Pass(Phase),
    /// Record that Register is not done, because of what is live by now.
    SkipRegister {
        live: String,
    },
    /// Record that a phase failed, and why.
    Fail(Phase, Cause),
    /// See whether the release was live before another deployer took the service over.
    LookWhetherLive {
        holder: String,
    },
    /// See that what ran before still runs: the job failed before it called anything that touches it.
    LookAtPrevious,
    /// Record that what ran before is brought back from now on.
    BeginUnwinding,
    /// Take away what failed, bring back what ran before, and verify it.
    Unwind(Phase),
    /// Record that the job is in Register, which it does not have.
    PassOverRegister,
    /// Remove the releases that are no longer kept.
    Retain,
    /// Record the job's end.
    Finish(End),
    /// Register the release of a job that is over.
    Register,
    /// Come back later.
    RetryAfter(Duration),
    /// Record that the release is not registered any more, because of a later job.
    GiveUpRegistering {
        later: String,
    },
    Nothing,
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Completed,
    /// It failed, or was cancelled. `bad` says that its release is not to be gone back to.
    Unsuccessful {
        aftermath: Aftermath,
        bad: bool,
    },
    /// What runs is another deployer's now.
    TakenOver {
        holder: String,
        bad: bool,
    },
    /// Its release was live when another deployer took the service over: it did what it was to do.
    CompletedBefore {
        holder: String,
    },
}

/// What the last action of this run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// There was none: the run begins.
    Begins,
    /// It was done, and what there is to say of it is on record.
    Done,
    Entered(Phase),
    NoSuccessor,
    Successor(String),
    /// A phase's steps came to their end.
    Ran(Phase),
    Promoted,
    /// A phase did not come to its end.
    Interrupted(Phase, Cause),
    FailureRecorded(Phase, Cause),
    WasLive {
        holder: String,
        live: bool,
    },
    /// What ran before was looked at, or brought back.
    Seen(Aftermath),
    Retained,
}

/// Why a phase did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    Failed,
    Cancelled,
    TakenOver(String),
}

/// What a decision is made by, beside the job's record.
#[derive(Clone, Debug)]
pub struct Facts {
    pub last: Last,
    /// Start was called in this job, in this run or an earlier one: what ran may have been touched.
    pub start_begun: bool,
    pub has_lease: bool,
}

/// What a job that is not over does next.
pub fn next(job: &JobRecord, facts: &Facts) -> Action {
    let bad = makes_release(job);
    match &job.state {
        JobState::Pending => match &facts.last {
            Last::Begins if job.kind == JobKind::Rollback => Action::CheckRollbackTarget,
            Last::Interrupted(..) => {
                Action::Finish(End::Unsuccessful { aftermath: Aftermath::Untouched, bad: false })
            }
            Last::Begins
            | Last::Done
            | Last::Entered(_)
            | Last::NoSuccessor
            | Last::Successor(_)
            | Last::Ran(_)
            | Last::Promoted
            | Last::FailureRecorded(..)
            | Last::WasLive { .. }
            | Last::Seen(_)
            | Last::Retained => following(job),
        },
        JobState::Running(_) => running(job, facts, bad),
        JobState::Unwinding(phase) => match &facts.last {
            Last::Seen(aftermath) => Action::Finish(End::Unsuccessful { aftermath: aftermath.clone(), bad }),
            Last::Interrupted(_, Cause::TakenOver(holder)) => {
                Action::Finish(End::TakenOver { holder: holder.clone(), bad })
            }
            Last::Begins
            | Last::Done
            | Last::Entered(_)
            | Last::NoSuccessor
            | Last::Successor(_)
            | Last::Ran(_)
            | Last::Promoted
            | Last::Interrupted(_, Cause::Failed | Cause::Cancelled)
            | Last::FailureRecorded(..)
            | Last::WasLive { .. }
            | Last::Retained => Action::Unwind(*phase),
        },
        JobState::Completed | JobState::Failed(_) | JobState::Cancelled(_) => Action::Nothing,
    }
}

fn running(job: &JobRecord, facts: &Facts, bad: bool) -> Action {
    match &facts.last {
        Last::Begins | Last::Done => following(job),
        Last::Entered(Phase::Register) if !facts.has_lease => Action::LookForSuccessor,
        Last::Entered(phase) => Action::RunSteps(*phase),
        Last::NoSuccessor => Action::RunSteps(Phase::Register),
        Last::Successor(live) => Action::SkipRegister { live: live.clone() },
        Last::Ran(Phase::VerifyHealth) => Action::Promote,
        Last::Ran(phase) => Action::Pass(*phase),
        Last::Promoted => Action::Pass(Phase::VerifyHealth),
        Last::Interrupted(Phase::VerifyHealth, Cause::TakenOver(holder)) => {
            Action::LookWhetherLive { holder: holder.clone() }
        }
        Last::Interrupted(phase, cause) => Action::Fail(*phase, cause.clone()),
        Last::WasLive { holder, live: true } => {
            Action::Finish(End::CompletedBefore { holder: holder.clone() })
        }
        Last::WasLive { holder, live: false } => {
            Action::Fail(Phase::VerifyHealth, Cause::TakenOver(holder.clone()))
        }
        Last::FailureRecorded(phase, cause) => failed(*phase, cause, facts.start_begun, bad),
        Last::Seen(aftermath) => Action::Finish(End::Unsuccessful { aftermath: aftermath.clone(), bad }),
        Last::Retained => Action::Finish(End::Completed),
    }
}

fn failed(phase: Phase, cause: &Cause, start_begun: bool, bad: bool) -> Action {
    match (phase, cause) {
        // The release is verified and live. It is registered later.
        (Phase::Register, Cause::Failed | Cause::Cancelled) => Action::Retain,
        // The releases are another deployer's to remove.
        (Phase::Register, Cause::TakenOver(_)) => Action::Finish(End::Completed),
        (
            Phase::Validation | Phase::Transfer | Phase::Build | Phase::StartService | Phase::VerifyHealth,
            Cause::TakenOver(holder),
        ) => Action::Finish(End::TakenOver { holder: holder.clone(), bad }),
        (Phase::Validation | Phase::Transfer | Phase::Build, Cause::Failed | Cause::Cancelled) => {
            Action::Finish(End::Unsuccessful { aftermath: Aftermath::Untouched, bad })
        }
        // It looked around, and called nothing that touches what runs.
        (Phase::StartService, Cause::Failed | Cause::Cancelled) if !start_begun => Action::LookAtPrevious,
        (Phase::StartService | Phase::VerifyHealth, Cause::Failed | Cause::Cancelled) => {
            Action::BeginUnwinding
        }
    }
}

/// The first phase that is not done, in order. What an earlier run recorded as failed is tried again.
fn following(job: &JobRecord) -> Action {
    let is_open = |phase: &Phase| match job.phase(*phase).map(|record| record.status) {
        Some(PhaseStatus::Success | PhaseStatus::Skipped) => false,
        Some(PhaseStatus::Pending | PhaseStatus::Running | PhaseStatus::Failed) | None => true,
    };
    match Phase::ALL.into_iter().find(is_open) {
        Some(phase) => Action::Enter(phase),
        None if job.state == JobState::Running(Phase::Register) => Action::Retain,
        None => Action::PassOverRegister,
    }
}

/// Whether a job makes its release, and does not go back to one that there is.
fn makes_release(job: &JobRecord) -> bool {
    match job.kind {
        JobKind::Deploy => true,
        JobKind::Rollback => false,
    }
}

/// What a job that is over has still to do: `later` is a later job of the service that completed.
pub fn after_end(job: &JobRecord, later: Option<&str>, now: Timestamp) -> Action {
    let completed = job.state == JobState::Completed;
    let Some(retry) =
        job.phase(Phase::Register).filter(|_| completed).and_then(|register| match register.status {
            PhaseStatus::Failed => Retry::of(&register.details),
            PhaseStatus::Pending | PhaseStatus::Running | PhaseStatus::Success | PhaseStatus::Skipped => None,
        })
    else {
        return Action::Nothing;
    };
    match (retry.next_at, later) {
        (None, _) => Action::Nothing,
        (Some(_), Some(later)) => Action::GiveUpRegistering { later: later.to_owned() },
        (Some(at), None) => match Duration::try_from(at.duration_since(now)) {
            Ok(pause) if !pause.is_zero() => Action::RetryAfter(pause),
            Ok(_) | Err(_) => Action::Register,
        },
    }
}

/// The events that end a job which cannot even be prepared. It has touched nothing, unless an earlier run had.
pub fn cannot_run(job: &JobRecord, because: &str) -> Vec<JobEvent> {
    let lost = || {
        JobEvent::Failed(match &job.previous {
            Some(previous) => Aftermath::NotRestored(previous.id.clone()),
            None => Aftermath::LeftBehind { because: because.to_owned() },
        })
    };
    match &job.state {
        JobState::Pending | JobState::Running(Phase::Validation | Phase::Transfer | Phase::Build) => {
            vec![JobEvent::Failed(Aftermath::Untouched)]
        }
        JobState::Running(Phase::StartService | Phase::VerifyHealth) => {
            vec![JobEvent::UnwindingBegan, lost()]
        }
        JobState::Unwinding(_) => vec![lost()],
        // Its release is verified and live, and only registering it failed.
        JobState::Running(Phase::Register) => vec![JobEvent::Completed],
        JobState::Completed | JobState::Failed(_) | JobState::Cancelled(_) => Vec::new(),
    }
}

/// What a step answered in this run or an earlier one, if it came to its end: it is not called again.
pub fn recorded_answer<'a>(done: &'a [StepRecord], key: &str, function: &str) -> Option<&'a Value> {
    done.iter()
        .filter(|step| step.step == key && step.function == function)
        .find_map(|step| step.result.as_ref())
}

/// Whether Start was called, by the keys of the calls that a job made: what ran may have been touched since.
pub fn start_begun<'a>(mut keys: impl Iterator<Item = &'a str>) -> bool {
    keys.any(|key| matches!(key, "start/0" | "restore" | "promote"))
}

#[cfg(test)]
mod tests;
