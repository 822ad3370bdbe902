//! How a job ends that does not complete: what its last phase is recorded as, and what becomes of its release.

use serde_json::json;

use super::host::Host;
use super::registering;
use super::runner::{Runner, Stop};
use crate::journal::{JournalError, now};
use crate::model::{
    Aftermath, Failure, Fault, JobEvent, JobKind, JobRecord, JobState, Phase, PhaseStatus, PhaseUpdate,
    ReleaseStatus,
};

/// A job that could not even be prepared has touched nothing, unless an earlier run had.
pub(super) async fn end_unstarted(
    host: &Host,
    mut job: JobRecord,
    failure: Failure,
) -> Result<(), JournalError> {
    let touched = !matches!(
        job.state,
        JobState::Pending | JobState::Running(Phase::Validation | Phase::Transfer | Phase::Build)
    );
    job.completed_at = Some(now());
    if job.state == JobState::Running(Phase::Register) {
        // Its release is verified and live, and only registering it failed.
        let mut update = PhaseUpdate::new(Phase::Register, PhaseStatus::Failed);
        update.completed_at = job.completed_at;
        update.error = Some(failure);
        host.journal.set_phase(&job.id, &update).await?;
        job.state = JobState::Completed;
        return host.journal.set_state(&job).await;
    }
    job.state = JobState::Failed(match &job.previous {
        Some(previous) if touched => Aftermath::NotRestored(previous.id.clone()),
        None if touched => Aftermath::LeftBehind { because: failure.seen.clone() },
        Some(_) | None => Aftermath::Untouched,
    });
    job.error = Some(failure);
    host.journal.set_state(&job).await
}

impl Runner {
    /// Records how a phase stopped, and ends or unwinds the job. False when the job goes on.
    pub(super) async fn stopped(&mut self, phase: Phase, stop: Stop) -> Result<bool, JournalError> {
        let (failure, details) = match stop {
            // Nobody needs to deploy again because a registry was away.
            Stop::Failed { failure, details } if phase == Phase::Register => {
                (*failure, registering::scheduled(details, 1))
            }
            Stop::Failed { failure, details } => (*failure, details),
            // Where it was cut off does not matter: the release is live, and is to be registered.
            Stop::Cancelled if phase == Phase::Register => {
                (self.cancelled(phase), registering::scheduled(json!({ "cancelled": true }), 1))
            }
            Stop::Cancelled => (self.cancelled(phase), json!({ "cancelled": true })),
            Stop::TakenOver(holder) if phase == Phase::VerifyHealth => {
                match self.was_live().await {
                    Ok(true) => return self.complete_for(&holder).await,
                    Ok(false) => {}
                    Err(Stop::Journal(error)) => return Err(error),
                    // Then it is not known, and what is known is said.
                    Err(Stop::Failed { .. } | Stop::Cancelled | Stop::TakenOver(_)) => {}
                }
                let failure = taken_over(phase, &holder);
                self.phase_ended(phase, PhaseStatus::Failed, json!({}), Some(failure)).await?;
                self.leave_to(phase, holder).await?;
                return Ok(true);
            }
            Stop::TakenOver(holder) => {
                let failure = taken_over(phase, &holder);
                self.phase_ended(phase, PhaseStatus::Failed, json!({}), Some(failure)).await?;
                self.leave_to(phase, holder).await?;
                return Ok(true);
            }
            Stop::Journal(error) => return Err(error),
        };
        self.phase_ended(phase, PhaseStatus::Failed, details, Some(failure.clone())).await?;
        match phase {
            Phase::Register => return Ok(false),
            Phase::Validation | Phase::Transfer | Phase::Build => {
                self.job.error = Some(failure);
                if self.makes() {
                    self.mark_bad().await?;
                }
                self.finish(Aftermath::Untouched).await?;
            }
            // It looked around, and called nothing that touches what runs.
            Phase::StartService if !self.start_begun() => {
                self.job.error = Some(failure);
                if self.job.kind == JobKind::Deploy {
                    self.mark_bad().await?;
                }
                self.tell(phase, None).await?;
                // An earlier run may have announced a start that it never called.
                self.withdraw_intent().await?;
                let aftermath = self.untouched().await;
                self.finish(aftermath).await?;
            }
            Phase::StartService | Phase::VerifyHealth => {
                self.job.error = Some(failure);
                self.advance(JobEvent::UnwindingBegan).await?;
                Box::pin(self.unwind(phase)).await?;
            }
        }
        Ok(true)
    }

    /// Ends the job where it is: what runs is another deployer's now.
    pub(super) async fn leave_to(&mut self, phase: Phase, holder: String) -> Result<(), JournalError> {
        self.job.error = Some(taken_over(phase, &holder));
        if self.job.kind == JobKind::Deploy {
            self.mark_bad().await?;
        }
        self.job.completed_at = Some(now());
        self.advance(JobEvent::TakenOver(holder)).await
    }

    pub(super) async fn finish(&mut self, aftermath: Aftermath) -> Result<(), JournalError> {
        match &aftermath {
            Aftermath::Restored(_) | Aftermath::StillRuns(_) | Aftermath::Unverified { .. } => {
                self.record_restored().await?;
                self.withdraw_intent().await?;
            }
            Aftermath::NothingBefore
            | Aftermath::NotRestored(_)
            | Aftermath::Down { .. }
            | Aftermath::LeftBehind { .. } => self.withdraw_intent().await?,
            Aftermath::Untouched | Aftermath::TakenOver(_) => {}
        }
        self.give_up_lease().await;
        self.job.completed_at = Some(now());
        // Whoever cancels it after this is told that it is over.
        let event = if self.live.settle().await {
            JobEvent::Failed(aftermath)
        } else {
            JobEvent::Cancelled(aftermath)
        };
        self.advance(event).await
    }

    pub(super) async fn mark_bad(&mut self) -> Result<(), JournalError> {
        self.release.status = ReleaseStatus::Bad;
        self.host.journal.put_release(&self.release).await?;
        if self.sent_something() { self.record_release().await } else { Ok(()) }
    }

    pub(super) fn cancelled(&self, phase: Phase) -> Failure {
        let who = self.live.cancelled_by();
        Failure {
            fault: Fault::Request,
            plugin: None,
            attempted: format!("finish {phase}"),
            seen: format!("cancelled by {who}"),
            next: String::new(),
        }
    }
}

pub(super) fn taken_over(phase: Phase, holder: &str) -> Failure {
    Failure {
        fault: Fault::Host,
        plugin: None,
        attempted: format!("finish {phase}"),
        seen: format!(
            "this deployer was stopped, stood still or did not reach the target for so long that its lease \
             ended, and {holder} took the service over: this job has touched nothing on the target since"
        ),
        next: "see on the target what runs, and deploy again if another version is wanted".into(),
    }
}
