//! How a job ends: what a phase that failed is recorded as, what becomes of the job's release, and the last record.

use serde_json::{Value, json};

use super::decision::{self, End};
use super::host::Host;
use super::interrupt::Interrupt;
use super::runner::Runner;
use super::{records, registering, release};
use crate::journal::{JournalError, now};
use crate::model::{
    Aftermath, Failure, Fault, JobEvent, JobRecord, JobState, Phase, PhaseStatus, PhaseUpdate, ReleaseEvent,
};

/// Ends a job that could not even be prepared.
pub(super) async fn end_unstarted(
    host: &Host,
    mut job: JobRecord,
    failure: Failure,
) -> Result<(), JournalError> {
    job.completed_at = Some(now());
    let events = decision::cannot_run(&job, &failure.seen);
    if job.state == JobState::Running(Phase::Register) {
        let mut update = PhaseUpdate::new(Phase::Register, PhaseStatus::Failed);
        update.completed_at = job.completed_at;
        update.error = Some(failure);
        host.journal.set_phase(&job.id, &update).await?;
    } else {
        job.error = Some(failure);
    }
    for event in events {
        if let Err(error) = job.apply(&event) {
            tracing::error!(job = %job.id, %error);
        }
    }
    host.journal.set_state(&job).await
}

impl Runner {
    /// Records that a phase failed, and keeps the reason for the job's own record.
    pub(super) async fn record_failure(
        &mut self,
        phase: Phase,
        details: Value,
        failure: Option<Failure>,
    ) -> Result<(), JournalError> {
        if phase == Phase::Register {
            // Nobody needs to deploy again because a registry was away: the release is live, and is registered later.
            let details = registering::scheduled(details, 1);
            return self.phase_ended(phase, PhaseStatus::Failed, details, failure).await;
        }
        self.phase_ended(phase, PhaseStatus::Failed, details, failure.clone()).await?;
        self.job.error = failure.or(self.job.error.take());
        Ok(())
    }

    /// Records that the release is not registered, because another one is live.
    pub(super) async fn skip_register(&mut self, live: &str) -> Result<(), JournalError> {
        let reason = format!("another release is live now: {live} deployed it");
        self.phase_ended(Phase::Register, PhaseStatus::Skipped, json!({ "reason": reason }), None).await
    }

    /// Whether this job's release was live before somebody else took the service over. Where that is not known, what
    /// is known is said.
    pub(super) async fn was_live_before(&self) -> Result<bool, JournalError> {
        match self.was_live().await {
            Ok(live) => Ok(live),
            Err(Interrupt::Journal(error)) => Err(error),
            Err(Interrupt::Failed { .. } | Interrupt::Cancelled | Interrupt::TakenOver(_)) => Ok(false),
        }
    }

    /// Looks whether what ran before still runs, after a job that failed in Start before it touched anything.
    pub(super) async fn look_at_previous(&mut self) -> Result<Aftermath, JournalError> {
        self.tell(Phase::StartService, None).await?;
        // An earlier run may have announced a start that it never called.
        self.withdraw_intent().await?;
        Ok(self.untouched().await)
    }

    /// Records the job's end.
    pub(super) async fn finish(&mut self, end: End) -> Result<(), JournalError> {
        match end {
            End::Completed => {
                self.give_up_lease().await;
                self.job.completed_at = Some(now());
                self.advance(JobEvent::Completed).await
            }
            End::CompletedBefore { holder } => self.complete_before(&holder).await,
            End::TakenOver { holder, bad } => {
                if bad {
                    self.mark_bad().await?;
                }
                self.job.completed_at = Some(now());
                self.advance(JobEvent::TakenOver(holder)).await
            }
            End::Unsuccessful { aftermath, bad } => {
                if bad {
                    self.mark_bad().await?;
                }
                if let (Some(next), Some(error)) = (aftermath.next_move(), self.job.error.as_mut()) {
                    error.next = format!("{next}. {}", error.next);
                }
                self.finish_unsuccessful(aftermath).await
            }
        }
    }

    async fn finish_unsuccessful(&mut self, aftermath: Aftermath) -> Result<(), JournalError> {
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

    /// The end of a job whose release had become live when somebody else took the service over: it did what it was
    /// to do, and is not to be registered any more. The journal's releases are in line with the target before.
    async fn complete_before(&mut self, holder: &str) -> Result<(), JournalError> {
        self.say(&format!(
            "release {} was already live when {holder} took the service over",
            self.release.id
        ))
        .await?;
        self.release.promoted_by = Some(self.job.id.clone());
        self.host.journal.promote(&self.release).await?;
        // What is live now is seen with the next look; until then, this job's release was the last that is known.
        if let Err(error) = records::refresh(&self.host, &self.job.service).await? {
            self.warn(&format!("could not see what runs now: {error}")).await?;
        }
        // After that: a run that is cut off here goes on with Register, and promotes nothing any more.
        let superseded = json!({ "superseded_by": holder });
        self.phase_ended(Phase::VerifyHealth, PhaseStatus::Success, superseded, None).await?;
        let skipped =
            self.job.phase(Phase::Register).is_some_and(|phase| phase.status == PhaseStatus::Skipped);
        self.advance(JobEvent::Entered(Phase::Register)).await?;
        if !skipped {
            self.skip_register(holder).await?;
        }
        self.job.completed_at = Some(now());
        self.advance(JobEvent::Completed).await
    }

    async fn mark_bad(&mut self) -> Result<(), JournalError> {
        self.release = release::after(&self.release, ReleaseEvent::Failed);
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
            "this deployer was stopped, hung or unable to reach the target until its lease expired, and \
             {holder} took the service over: this job has changed nothing on the target since"
        ),
        next: "check what runs on the target, and deploy again if you want another version".into(),
    }
}
