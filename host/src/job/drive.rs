//! Takes one job to its end: asks what is to be done next, and does it. Intent before effect: what begins is in the
//! journal before it begins, and what the journal has as done is not done again. So a first run and one that goes on
//! after a crash are the same code.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::decision::{self, Action, Cause, End, Facts, Last};
use super::ending::{end_unstarted, taken_over};
use super::host::Host;
use super::interrupt::Interrupt;
use super::lease_guard::LeaseGuard;
use super::live::LiveJob;
use super::runner::Runner;
use super::{phases, release};
use crate::journal::{JournalError, now};
use crate::model::{Failure, JobEvent, JobRecord, JobState, Phase, PhaseStatus, ReleaseEvent};

/// The journal could not record, so nothing more happened. The job stays as it is recorded, for another run.
pub(super) struct Interrupted {
    pub error: JournalError,
    /// Kept up for as long as this lives, so that nobody takes the service meanwhile.
    _guard: Option<Arc<LeaseGuard>>,
}

impl Interrupted {
    pub fn under(guard: Option<Arc<LeaseGuard>>, error: JournalError) -> Self {
        Interrupted { error, _guard: guard }
    }
}

impl From<JournalError> for Interrupted {
    fn from(error: JournalError) -> Self {
        Interrupted::under(None, error)
    }
}

/// What an action leaves for the one that records it.
#[derive(Default)]
struct Left {
    details: Value,
    failure: Option<Failure>,
}

/// Runs a job to its end, from its beginning or from where it was cut off.
///
/// # Errors
/// When the journal cannot record.
pub(super) async fn run(host: Arc<Host>, live: Arc<LiveJob>, job: JobRecord) -> Result<(), Interrupted> {
    match Runner::prepare(host.clone(), live, job.clone()).await {
        Ok(mut runner) => {
            // Boxed, as the larger parts of it are: their types together are more than the compiler looks into.
            let driven = Box::pin(runner.drive()).await;
            driven.map_err(|error| Interrupted::under(runner.guard.take(), error))
        }
        Err(Interrupt::Journal(error)) => Err(error.into()),
        Err(Interrupt::Failed { failure, .. }) => Ok(end_unstarted(&host, job, *failure).await?),
        Err(Interrupt::Cancelled | Interrupt::TakenOver(_)) => Ok(()),
    }
}

impl Runner {
    async fn drive(&mut self) -> Result<(), JournalError> {
        self.begin().await?;
        let until = Instant::now() + self.plan.job_timeout;
        let mut left = Left::default();
        let mut last = Last::Begins;
        loop {
            let facts = Facts { last, start_begun: self.start_begun(), has_lease: self.guard.is_some() };
            let action = decision::next(&self.job, &facts);
            match Box::pin(self.perform(action, until, &mut left)).await? {
                Some(result) => last = result,
                None => return Ok(()),
            }
        }
    }

    /// Says what kind of run this is, and records the release that it makes.
    async fn begin(&mut self) -> Result<(), JournalError> {
        if self.job.started_at.is_none() {
            self.job.started_at = Some(now());
        }
        if let Some(why) = self.live.take_interruption() {
            let line = format!("this job was interrupted; continuing from what is recorded: {why}");
            // Said again should this be cut off, too.
            self.say(&line).await.inspect_err(|_| self.live.interrupted(why))?;
        } else if self.resumed {
            self.say("the deployer was stopped in the middle of this job; continuing").await?;
        }
        if self.makes() && !matches!(self.job.state, JobState::Unwinding(_)) {
            self.release = release::after(&self.release, ReleaseEvent::Attempted);
            self.host.journal.put_release(&self.release).await?;
        }
        Ok(())
    }

    /// Does one action. None when the job is over.
    async fn perform(
        &mut self,
        action: Action,
        until: Instant,
        left: &mut Left,
    ) -> Result<Option<Last>, JournalError> {
        let last = match action {
            Action::CheckRollbackTarget => match self.check_rollback_target().await {
                Ok(()) => Last::Done,
                Err(interrupt) => self.interrupted(Phase::StartService, interrupt, left)?,
            },
            Action::Enter(phase) => {
                self.enter(phase).await?;
                Last::Entered(phase)
            }
            Action::LookForSuccessor => match self.superseded().await {
                Ok(None) => Last::NoSuccessor,
                Ok(Some(live)) => Last::Successor(live),
                Err(interrupt) => self.interrupted(Phase::Register, interrupt, left)?,
            },
            Action::RunSteps(phase) => match self.run_steps(phase, until).await {
                Ok(details) => {
                    left.details = details;
                    Last::Ran(phase)
                }
                Err(interrupt) => self.interrupted(phase, interrupt, left)?,
            },
            Action::Promote => match self.make_live(std::mem::take(&mut left.details)).await {
                Ok(details) => {
                    left.details = details;
                    Last::Promoted
                }
                Err(interrupt) => self.interrupted(Phase::VerifyHealth, interrupt, left)?,
            },
            Action::Pass(phase) => {
                let details = std::mem::take(&mut left.details);
                self.phase_ended(phase, PhaseStatus::Success, details, None).await?;
                Last::Done
            }
            Action::SkipRegister { live } => {
                self.skip_register(&live).await?;
                Last::Done
            }
            Action::Fail(phase, cause) => {
                let Left { details, failure } = std::mem::take(left);
                self.record_failure(phase, details, failure).await?;
                Last::FailureRecorded(phase, cause)
            }
            Action::LookWhetherLive { holder } => {
                let live = self.was_live_before().await?;
                Last::WasLive { holder, live }
            }
            Action::LookAtPrevious => Last::Seen(self.look_at_previous().await?),
            Action::BeginUnwinding => {
                self.advance(JobEvent::UnwindingBegan).await?;
                Last::Done
            }
            Action::Unwind(phase) => match Box::pin(self.unwind(phase)).await {
                Ok(aftermath) => Last::Seen(aftermath),
                Err(interrupt) => self.interrupted(phase, interrupt, left)?,
            },
            Action::PassOverRegister => {
                self.advance(JobEvent::Entered(Phase::Register)).await?;
                Last::Done
            }
            Action::Retain => {
                self.remove_expired().await?;
                Last::Retained
            }
            Action::Finish(end) => {
                match &end {
                    End::Unsuccessful { .. } | End::TakenOver { .. } => {
                        self.job.error = left.failure.take().or(self.job.error.take());
                    }
                    End::Completed | End::CompletedBefore { .. } => {}
                }
                self.finish(end).await?;
                return Ok(None);
            }
            Action::Register | Action::RetryAfter(_) | Action::GiveUpRegistering { .. } | Action::Nothing => {
                return Ok(None);
            }
        };
        Ok(Some(last))
    }

    /// Calls a phase's steps within its own limit of time and the job's.
    async fn run_steps(&mut self, phase: Phase, job_until: Instant) -> Result<Value, Interrupt> {
        self.needs_folder(phase)?;
        // Before the clock begins: a lease of another deployer may have to end, and what that one left half done be
        // settled. Nothing after Verify changes the target.
        if phase != Phase::Register {
            Box::pin(self.guard()).await?;
        }
        let limit = phases::Limit::of_phase(&self.plan, phase).or_job(&self.plan, job_until);
        match phase {
            Phase::Validation => phases::in_time(phase, limit, self.validation()).await,
            Phase::Transfer => phases::in_time(phase, limit, self.transfer()).await,
            Phase::Build => phases::in_time(phase, limit, self.build()).await,
            Phase::StartService => phases::in_time(phase, limit, self.start()).await,
            Phase::VerifyHealth => phases::in_time(phase, limit, self.probe()).await,
            // Past the point of no return, only the phase's own limit counts: a slow registry is not a reason to call a
            // healthy deployment failed.
            Phase::Register => self.register_in_time().await,
        }
    }

    /// What kept a phase from its end, as the decision needs it; what is to be recorded of it is left.
    fn interrupted(&self, phase: Phase, interrupt: Interrupt, left: &mut Left) -> Result<Last, JournalError> {
        let (failure, details, cause) = match interrupt {
            Interrupt::Failed { failure, details } => (*failure, details, Cause::Failed),
            Interrupt::Cancelled => (self.cancelled(phase), json!({ "cancelled": true }), Cause::Cancelled),
            Interrupt::TakenOver(holder) => (taken_over(phase, &holder), json!({}), Cause::TakenOver(holder)),
            Interrupt::Journal(error) => return Err(error),
        };
        *left = Left { details, failure: Some(failure) };
        Ok(Last::Interrupted(phase, cause))
    }
}
