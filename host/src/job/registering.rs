//! Registering again, in the background. A registry that did not answer when a release went live is told of it
//! as soon as it does. The attempts are made between the service's jobs, never beside them, so that an older
//! release is not registered after a newer one. When the next one is due stands in the phase's details, so it
//! survives a restart, and callers see it.

use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::host::Host;
use super::live::{Fate, LiveJob};
use super::runner::{Runner, Stop};
use crate::journal::{JournalError, now, time_text};
use crate::model::{Failure, JobRecord, Phase, PhaseStatus, PhaseUpdate, Unregistered};

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A release that is to be registered.
pub(super) struct Due {
    job: JobRecord,
    attempts: u32,
    pub at: Instant,
}

/// The details of a Register that failed, with the time of the next attempt.
pub(super) fn scheduled(mut details: Value, attempts: u32) -> Value {
    let pause = pauses().nth(attempts.saturating_sub(1) as usize).unwrap_or(LONGEST_PAUSE);
    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
    let next = now().checked_add(pause).unwrap_or(Timestamp::MAX);
    if let Some(details) = details.as_object_mut() {
        details.insert("retry".into(), json!({ "attempts": attempts, "next_at": time_text(next) }));
    }
    details
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
        let Some(phase) = job.phase(Phase::Register) else { continue };
        let attempts = phase
            .details
            .pointer("/retry/attempts")
            .and_then(|count| u32::deserialize(count).ok())
            .unwrap_or(u32::MAX);
        let Some(later) = superseded_by else {
            let at = phase.details.pointer("/retry/next_at").and_then(|at| Timestamp::deserialize(at).ok());
            let at = at.unwrap_or_else(now);
            let pause = Duration::try_from(at.duration_since(now())).unwrap_or_default();
            due = Some(Due { attempts, at: Instant::now() + pause, job });
            continue;
        };
        given_up(host, &job.id, attempts, &later).await?;
    }
    Ok(due)
}

/// Another release is live by now, and registering this one would be wrong.
async fn given_up(host: &Host, job: &str, attempts: u32, later: &str) -> Result<(), JournalError> {
    let record = host.journal.job(job).await?;
    let mut update = PhaseUpdate::new(Phase::Register, PhaseStatus::Failed);
    update.details = Some(json!({ "retry": { "attempts": attempts, "superseded_by": later } }));
    update.error = record.and_then(|record| record.phase(Phase::Register)?.error.clone());
    host.journal.set_phase(job, &update).await
}

impl Due {
    /// Makes one attempt. An interrupted one counts for nothing.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn attempt(self, host: Arc<Host>, interrupt: CancellationToken) -> Result<(), JournalError> {
        let (id, attempts) = (self.job.id.clone(), self.attempts.saturating_add(1));
        let live = Arc::new(LiveJob::new(interrupt, Fate::Open, None));
        let outcome = match Runner::prepare(host.clone(), live, self.job).await {
            Ok(mut runner) => runner.register_again(attempts).await,
            Err(stop) => Err(stop),
        };
        match outcome {
            Ok(Some(later)) => {
                tracing::info!(job = %id, later, "not registered: another release is live");
                given_up(&host, &id, attempts, &later).await?;
            }
            Ok(None) => tracing::info!(job = %id, attempts, "registered"),
            Err(Stop::Journal(error)) => return Err(error),
            Err(Stop::Cancelled | Stop::TakenOver(_)) => {}
            Err(Stop::Failed { failure, details }) => {
                tracing::info!(job = %id, attempts, %failure, "still not registered");
                failed(&host, &id, scheduled(details, attempts), *failure).await?;
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
    /// The phase Register of a job that is over. Answers whose release is live, if it is not this job's any more:
    /// another deployer's, which this journal may not know.
    async fn register_again(&mut self, attempts: u32) -> Result<Option<String>, Stop> {
        if let Some(later) = self.superseded().await? {
            return Ok(Some(later));
        }
        let mut update = PhaseUpdate::new(Phase::Register, PhaseStatus::Success);
        // The phase's time is the time that the attempt took which succeeded, not the registry's absence.
        update.started_at = Some(now());
        let mut details = self.limited(Phase::Register, Instant::now()).await?;
        if let Some(registration) = &self.job.registration {
            self.host.journal.set_registration(&self.job.id, registration).await?;
        }
        if let Some(details) = details.as_object_mut() {
            details.insert("retry".into(), json!({ "attempts": attempts }));
        }
        update.completed_at = Some(now());
        update.details = Some(details);
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
        assert_eq!(details["retry"]["attempts"], 3);
        let next: Timestamp =
            details["retry"]["next_at"].as_str().and_then(|at| at.parse().ok()).expect("a time");
        assert!(next > now());
    }
}
