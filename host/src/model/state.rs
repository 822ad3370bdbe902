//! A job's states, and the one function that changes them: pure and total. No clock, no I/O.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::aftermath::Aftermath;
use super::phase::Phase;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum JobState {
    /// Accepted, and waiting for the service's earlier jobs.
    Pending,
    Running(Phase),
    /// It failed or was cancelled in this phase, and what ran before is being brought back.
    Unwinding(Phase),
    /// The release serves.
    Completed,
    Failed(Aftermath),
    Cancelled(Aftermath),
}

/// What callers see of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    Pending,
    Running,
    Completed,
    Failed,
    Cancelled,
}

/// What can happen to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// A phase begins, or begins again after a crash.
    Entered(Phase),
    /// A phase that may have touched what runs has failed, or was cancelled.
    UnwindingBegan,
    /// Another deployer has the service now: nothing more is done.
    TakenOver(String),
    Completed,
    Failed(Aftermath),
    Cancelled(Aftermath),
}

#[derive(Debug, Error)]
#[error("a job that is {state:?} cannot take {event:?}: this is a defect of the deployer; please report it")]
pub struct IllegalEvent {
    state: Box<JobState>,
    event: Box<JobEvent>,
}

/// The one way from a state to the next.
///
/// # Errors
/// When the event cannot happen in the state.
pub fn next(state: &JobState, event: &JobEvent) -> Result<JobState, IllegalEvent> {
    use JobEvent as E;
    use JobState as S;
    let illegal = || Err(IllegalEvent { state: Box::new(state.clone()), event: Box::new(event.clone()) });
    match (state, event) {
        (S::Pending, E::Entered(phase)) => Ok(S::Running(*phase)),
        (S::Pending, E::Cancelled(Aftermath::Untouched)) => Ok(S::Cancelled(Aftermath::Untouched)),
        (S::Pending, E::Failed(Aftermath::Untouched)) => Ok(S::Failed(Aftermath::Untouched)),
        (S::Pending, E::UnwindingBegan | E::TakenOver(_) | E::Completed | E::Failed(_) | E::Cancelled(_)) => {
            illegal()
        }

        (S::Running(now), E::Entered(phase)) if phase >= now => Ok(S::Running(*phase)),
        (S::Running(_), E::Entered(_)) => illegal(),
        // Nothing that runs is touched before Start, and nothing takes a verified release down.
        (S::Running(Phase::StartService | Phase::VerifyHealth), E::UnwindingBegan) => Ok(unwinding(state)),
        (
            S::Running(Phase::Validation | Phase::Transfer | Phase::Build | Phase::Register),
            E::UnwindingBegan,
        ) => illegal(),
        // A verified release that was live stays what it was, whoever has the service afterwards.
        (S::Running(Phase::Register), E::TakenOver(_)) => illegal(),
        (
            S::Running(
                Phase::Validation
                | Phase::Transfer
                | Phase::Build
                | Phase::StartService
                | Phase::VerifyHealth,
            )
            | S::Unwinding(_),
            E::TakenOver(holder),
        ) => Ok(S::Failed(Aftermath::TakenOver(holder.clone()))),
        (S::Running(Phase::Register), E::Completed) => Ok(S::Completed),
        (
            S::Running(
                Phase::Validation
                | Phase::Transfer
                | Phase::Build
                | Phase::StartService
                | Phase::VerifyHealth,
            ),
            E::Completed,
        ) => illegal(),
        (S::Running(Phase::Validation | Phase::Transfer | Phase::Build), E::Failed(Aftermath::Untouched)) => {
            Ok(S::Failed(Aftermath::Untouched))
        }
        (
            S::Running(Phase::Validation | Phase::Transfer | Phase::Build),
            E::Cancelled(Aftermath::Untouched),
        ) => Ok(S::Cancelled(Aftermath::Untouched)),
        // Start looks around before it touches anything.
        (S::Running(Phase::StartService), E::Failed(aftermath)) if aftermath.is_untouched() => {
            Ok(S::Failed(aftermath.clone()))
        }
        (S::Running(Phase::StartService), E::Cancelled(aftermath)) if aftermath.is_untouched() => {
            Ok(S::Cancelled(aftermath.clone()))
        }
        (S::Running(_), E::Failed(_) | E::Cancelled(_)) => illegal(),

        (S::Unwinding(_), E::UnwindingBegan) => Ok(state.clone()),
        (S::Unwinding(_), E::Failed(Aftermath::Untouched) | E::Cancelled(Aftermath::Untouched)) => illegal(),
        // What was verified had replaced what ran before.
        (
            S::Unwinding(
                Phase::Validation | Phase::Transfer | Phase::Build | Phase::VerifyHealth | Phase::Register,
            ),
            E::Failed(Aftermath::StillRuns(_)) | E::Cancelled(Aftermath::StillRuns(_)),
        ) => illegal(),
        (S::Unwinding(_), E::Failed(aftermath)) => Ok(S::Failed(aftermath.clone())),
        (S::Unwinding(_), E::Cancelled(aftermath)) => Ok(S::Cancelled(aftermath.clone())),
        (S::Unwinding(_), E::Entered(_) | E::Completed) => illegal(),

        (
            S::Completed | S::Failed(_) | S::Cancelled(_),
            E::Entered(_)
            | E::UnwindingBegan
            | E::TakenOver(_)
            | E::Completed
            | E::Failed(_)
            | E::Cancelled(_),
        ) => illegal(),
    }
}

fn unwinding(state: &JobState) -> JobState {
    match state {
        JobState::Running(phase) | JobState::Unwinding(phase) => JobState::Unwinding(*phase),
        JobState::Pending | JobState::Completed | JobState::Failed(_) | JobState::Cancelled(_) => {
            state.clone()
        }
    }
}

impl JobState {
    pub fn status(&self) -> JobStatus {
        match self {
            JobState::Pending => JobStatus::Pending,
            JobState::Running(_) | JobState::Unwinding(_) => JobStatus::Running,
            JobState::Completed => JobStatus::Completed,
            JobState::Failed(_) => JobStatus::Failed,
            JobState::Cancelled(_) => JobStatus::Cancelled,
        }
    }

    /// The phase that the job is in, while it is in one.
    pub fn phase(&self) -> Option<Phase> {
        match self {
            JobState::Running(phase) | JobState::Unwinding(phase) => Some(*phase),
            JobState::Pending | JobState::Completed | JobState::Failed(_) | JobState::Cancelled(_) => None,
        }
    }

    /// What runs now, for a job that is over and did not complete.
    pub fn aftermath(&self) -> Option<&Aftermath> {
        match self {
            JobState::Pending | JobState::Running(_) | JobState::Unwinding(_) | JobState::Completed => None,
            JobState::Failed(aftermath) | JobState::Cancelled(aftermath) => Some(aftermath),
        }
    }

    pub fn is_over(&self) -> bool {
        match self {
            JobState::Pending | JobState::Running(_) | JobState::Unwinding(_) => false,
            JobState::Completed | JobState::Failed(_) | JobState::Cancelled(_) => true,
        }
    }
}

impl JobStatus {
    pub fn name(self) -> &'static str {
        match self {
            JobStatus::Pending => "pending",
            JobStatus::Running => "running",
            JobStatus::Completed => "completed",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(state: JobState, event: JobEvent, expect: Option<JobState>) {
        assert_eq!(next(&state, &event).ok(), expect, "{state:?} + {event:?}");
    }

    #[test]
    fn the_ways_that_there_are() {
        use JobEvent as E;
        use JobState as S;
        let restored = Aftermath::Restored("r1".into());
        check(S::Pending, E::Entered(Phase::Validation), Some(S::Running(Phase::Validation)));
        check(S::Pending, E::Entered(Phase::StartService), Some(S::Running(Phase::StartService)));
        check(S::Pending, E::Completed, None);
        check(S::Running(Phase::Build), E::Entered(Phase::Transfer), None);
        check(S::Running(Phase::Build), E::Entered(Phase::Build), Some(S::Running(Phase::Build)));
        check(S::Running(Phase::Build), E::UnwindingBegan, None);
        check(S::Running(Phase::Build), E::Failed(restored.clone()), None);
        check(
            S::Running(Phase::Build),
            E::Failed(Aftermath::Untouched),
            Some(S::Failed(Aftermath::Untouched)),
        );
        let still = Aftermath::StillRuns("r1".into());
        for untouched in [Aftermath::Untouched, still.clone()] {
            check(
                S::Running(Phase::StartService),
                E::Failed(untouched.clone()),
                Some(S::Failed(untouched.clone())),
            );
            check(
                S::Running(Phase::StartService),
                E::Cancelled(untouched.clone()),
                Some(S::Cancelled(untouched.clone())),
            );
            check(S::Running(Phase::VerifyHealth), E::Failed(untouched.clone()), None);
            check(S::Unwinding(Phase::VerifyHealth), E::Failed(untouched), None);
        }
        check(S::Running(Phase::Build), E::Failed(still.clone()), None);
        check(S::Running(Phase::StartService), E::Failed(restored.clone()), None);
        check(S::Unwinding(Phase::StartService), E::Failed(Aftermath::Untouched), None);
        check(S::Unwinding(Phase::StartService), E::Failed(still.clone()), Some(S::Failed(still)));
        check(S::Running(Phase::VerifyHealth), E::UnwindingBegan, Some(S::Unwinding(Phase::VerifyHealth)));
        check(S::Unwinding(Phase::VerifyHealth), E::Failed(restored.clone()), Some(S::Failed(restored)));
        check(S::Running(Phase::Register), E::UnwindingBegan, None);
        let taken = Aftermath::TakenOver("b".into());
        check(S::Running(Phase::StartService), E::TakenOver("b".into()), Some(S::Failed(taken.clone())));
        check(S::Unwinding(Phase::VerifyHealth), E::TakenOver("b".into()), Some(S::Failed(taken)));
        check(S::Running(Phase::Register), E::TakenOver("b".into()), None);
        check(S::Pending, E::TakenOver("b".into()), None);
        check(S::Running(Phase::Register), E::Failed(Aftermath::NothingBefore), None);
        check(S::Running(Phase::Register), E::Completed, Some(S::Completed));
    }

    #[test]
    fn what_is_over_stays_over() {
        for state in [
            JobState::Completed,
            JobState::Failed(Aftermath::Untouched),
            JobState::Cancelled(Aftermath::NothingBefore),
        ] {
            for event in [
                JobEvent::Entered(Phase::Register),
                JobEvent::UnwindingBegan,
                JobEvent::TakenOver("b".into()),
                JobEvent::Completed,
                JobEvent::Failed(Aftermath::Untouched),
                JobEvent::Cancelled(Aftermath::Untouched),
            ] {
                check(state.clone(), event, None);
            }
        }
    }
}
