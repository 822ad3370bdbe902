//! Registering again, in the background. A registry that did not answer when a release went live is told of it
//! as soon as it does. The attempts are made between the service's jobs, never beside them, so that an older
//! release is not registered after a newer one. What is to be done, and when, is `decision`'s to say.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::decision::{self, Action};
use super::host::Host;
use super::interrupt::Interrupt;
use super::live::{Fate, LiveJob};
use super::runner::Runner;
use crate::journal::{JournalError, now};
use crate::model::{Failure, JobRecord, Phase, PhaseStatus, PhaseUpdate, Retry, Unregistered};

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A release that is to be registered.
pub(super) struct Due {
    job: JobRecord,
    pub at: Instant,
}

/// The details of a Register that failed, with the time of the next attempt.
pub(super) fn scheduled(details: Value, attempts: u32) -> Value {
    let pause = pauses().nth(attempts.saturating_sub(1) as usize).unwrap_or(LONGEST_PAUSE);
    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
    let next_at = now().checked_add(pause).unwrap_or(Timestamp::MAX);
    Retry { attempts, next_at: Some(next_at), superseded_by: None }.within(details)
}

/// Registries that were down for many services are not to be asked for all of them in the same moment.
fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
        .build()
}

/// What a service has to register, if anything. Jobs that a later one has made pointless are told so.
///
/// # Errors
/// When the journal cannot be read, or cannot record.
pub(super) async fn due(host: &Host, service: &str) -> Result<Option<Due>, JournalError> {
    if host.registry.is_none() {
        return Ok(None);
    }
    let mut due = None;
    for Unregistered { job, superseded_by } in
        host.journal.unregistered(&host.ssh.target().to_string()).await?
    {
        if job.service != service {
            continue;
        }
        let pause = match decision::after_end(&job, superseded_by.as_deref(), now()) {
            Action::Register => Duration::ZERO,
            Action::RetryAfter(pause) => pause,
            Action::GiveUpRegistering { later } => {
                give_up(host, &job, &later).await?;
                continue;
            }
            // Nothing else is left to do for a job that is over.
            _ => continue,
        };
        due = Some(Due { at: Instant::now() + pause, job });
    }
    Ok(due)
}

/// Another release is live by now, and registering this one would be wrong.
async fn give_up(host: &Host, job: &JobRecord, later: &str) -> Result<(), JournalError> {
    let register = job.phase(Phase::Register);
    let attempts =
        register.and_then(|phase| Retry::of(&phase.details)).map_or(u32::MAX, |retry| retry.attempts);
    let mut update = PhaseUpdate::new(Phase::Register, PhaseStatus::Failed);
    let retry = Retry { attempts, next_at: None, superseded_by: Some(later.to_owned()) };
    update.details = Some(retry.within(json!({})));
    update.error = register.and_then(|phase| phase.error.clone());
    host.journal.set_phase(&job.id, &update).await
}

impl Due {
    /// Makes one attempt. An interrupted one counts for nothing.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn attempt(self, host: Arc<Host>, interrupt: CancellationToken) -> Result<(), JournalError> {
        let register = self.job.phase(Phase::Register);
        let made = register.and_then(|phase| Retry::of(&phase.details)).map_or(0, |retry| retry.attempts);
        let attempts = made.saturating_add(1);
        let job = self.job.clone();
        let live = Arc::new(LiveJob::new(interrupt, Fate::Open, None));
        let outcome = match Runner::prepare(host.clone(), live, self.job).await {
            Ok(mut runner) => runner.register_again(attempts).await,
            Err(interrupt) => Err(interrupt),
        };
        match outcome {
            Ok(Some(later)) => {
                tracing::info!(job = %job.id, later, "not registered: another release is live");
                give_up(&host, &job, &later).await?;
            }
            Ok(None) => tracing::info!(job = %job.id, attempts, "registered"),
            Err(Interrupt::Journal(error)) => return Err(error),
            Err(Interrupt::Cancelled | Interrupt::TakenOver(_)) => {}
            Err(Interrupt::Failed { failure, details }) => {
                tracing::info!(job = %job.id, attempts, %failure, "still not registered");
                failed(&host, &job.id, scheduled(details, attempts), *failure).await?;
            }
        }
        Ok(())
    }
}

async fn failed(host: &Host, job: &str, details: Value, failure: Failure) -> Result<(), JournalError> {
    let mut update = PhaseUpdate::new(Phase::Register, PhaseStatus::Failed);
    update.details = Some(details);
    update.error = Some(failure);
    host.journal.set_phase(job, &update).await
}

impl Runner {
    /// Registers the release of a job that is over. Answers whose release is live, if it is not this job's any more:
    /// another deployer's, which this journal may not know.
    async fn register_again(&mut self, attempts: u32) -> Result<Option<String>, Interrupt> {
        if let Some(later) = self.superseded().await? {
            return Ok(Some(later));
        }
        let mut update = PhaseUpdate::new(Phase::Register, PhaseStatus::Success);
        // The phase's time is the time that the attempt took which succeeded, not the registry's absence.
        update.started_at = Some(now());
        let details = self.register_in_time().await?;
        if let Some(registration) = &self.job.registration {
            self.host.journal.set_registration(&self.job.id, registration).await?;
        }
        update.completed_at = Some(now());
        update.details = Some(Retry { attempts, next_at: None, superseded_by: None }.within(details));
        self.set_phase(update).await?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_to_an_hour_and_do_not_end() {
        let pauses: Vec<Duration> = pauses().take(1000).collect();
        assert!(pauses[0] >= FIRST_PAUSE && pauses[0] < 2 * FIRST_PAUSE, "{:?}", pauses[0]);
        assert!(pauses[4] > pauses[0]);
        assert!(pauses[999] >= LONGEST_PAUSE && pauses[999] < 2 * LONGEST_PAUSE, "{:?}", pauses[999]);
    }

    #[test]
    fn what_comes_next_stands_in_the_details() {
        let details = scheduled(json!({ "seen": 1 }), 3);
        assert_eq!(details["seen"], 1);
        let retry = Retry::of(&details).unwrap();
        assert_eq!(retry.attempts, 3);
        assert!(retry.next_at.is_some_and(|next| next > now()));
    }
}
