//! Brings back what ran before a job that failed in Start or Verify, and verifies it before the job says how
//! it ended. What it says of what runs comes from looking at it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::interrupt::Interrupt;
use super::outcome::{self, Life, Restoring};
use super::retry::RetryBudget;
use super::runner::Runner;
use crate::journal::JournalError;
use crate::model::{Aftermath, Fault, Instance, JobState, Phase, PhaseStatus, PhaseUpdate, PlannedStep};

/// How long a target is asked again that answers, and cannot run what ran before.
const RESTORE_BUDGET: Duration = Duration::from_secs(60);
/// For one question at the service's port.
const QUESTION: Duration = Duration::from_secs(2);

impl Runner {
    /// Takes away what failed, and brings back what ran before and verifies it. Answers what runs now.
    ///
    /// # Errors
    /// When another deployer took the service over, and when the journal cannot record.
    pub(super) async fn unwind(&mut self, phase: Phase) -> Result<Aftermath, Interrupt> {
        // A crash may have come between the phase's failure and its reason's way into the job.
        if self.job.error.is_none() {
            self.job.error = self.job.phase(phase).and_then(|record| record.error.clone());
        }
        let restore_begun = self.calls.iter().any(|(key, _)| key == "restore");
        let instance = self.previous_instance();
        let before = self.life_of_previous().await;
        let (restoring, mut told) = match self.restore().await {
            Ok(end) => end,
            Err(interrupt @ (Interrupt::Journal(_) | Interrupt::TakenOver(_))) => return Err(interrupt),
            Err(Interrupt::Failed { failure, details }) => {
                let told = json!({ "error": failure.to_string(), "details": details });
                (Restoring::Failed(failure.to_string()), told)
            }
            Err(Interrupt::Cancelled) => {
                (Restoring::Failed("it was cancelled".into()), json!({ "error": "cancelled" }))
            }
        };
        let gap_seen = self.watch.as_ref().is_some_and(super::outage::Watch::gap_seen);
        let never_stopped = outcome::never_stopped(phase, restore_begun, &before, gap_seen);
        let (life, answers) = match (&restoring, &instance) {
            (Restoring::TakenAway | Restoring::ChecksFail(_) | Restoring::Failed(_), Some(instance)) => {
                (self.life_of_previous().await, self.who_answers(instance.port).await)
            }
            (Restoring::Verified, _) | (_, None) => (before, None),
        };
        let previous = self.job.previous.as_ref().map(|previous| previous.id.as_str());
        let aftermath = outcome::aftermath(previous, never_stopped, &restoring, &life, answers.as_deref());
        if let Some(told) = told.as_object_mut() {
            told.insert("outcome".into(), json!(aftermath.to_string()));
        }
        self.tell(phase, Some(told)).await?;
        Ok(aftermath)
    }

    async fn restore(&mut self) -> Result<(Restoring, Value), Interrupt> {
        debug_assert!(matches!(self.job.state, JobState::Unwinding(_)));
        let guard = self.guard().await?;
        let planned = self.one(Phase::StartService)?;
        let back = self.bring_back(&planned).await;
        let Some(previous) = self.job.previous.clone() else {
            return back.map(|_| (Restoring::TakenAway, json!({ "restored": null })));
        };
        let mut told = Map::new();
        let instance = match back {
            Ok(Some(instance)) => instance,
            Ok(None) => {
                let seen = format!("{} restored nothing", planned.plugin);
                told.insert("error".into(), json!(seen));
                return Ok((Restoring::TakenAway, Value::Object(told)));
            }
            // It may run all the same: then its own checks say how it is.
            Err(Interrupt::Failed { failure, details }) => {
                told.insert("error".into(), json!(failure.to_string()));
                told.insert("details".into(), details);
                let instance = self.previous_instance();
                match (self.life_of_previous().await, instance) {
                    (Life::Lives, Some(instance)) => {
                        self.say(&format!("restoring release {} failed, but it runs", previous.id)).await?;
                        instance
                    }
                    (Life::Lives | Life::Dead(_) | Life::Unseen(_), _) => {
                        return Ok((Restoring::Failed(failure.to_string()), Value::Object(told)));
                    }
                }
            }
            Err(interrupt) => return Err(interrupt),
        };
        let checks = match self.verdicts("restored", &instance, Some(&previous)).await {
            Ok(checks) => checks,
            Err(Interrupt::Failed { failure, details }) => {
                told.insert("checks_failed".into(), json!(failure.to_string()));
                told.insert("details".into(), details);
                return Ok((Restoring::ChecksFail(failure.seen.clone()), Value::Object(told)));
            }
            Err(interrupt) => return Err(interrupt),
        };
        let root = self.job.layout(&self.host.root).root;
        if let Err(error) = guard.point_current(&root, &previous.id).await {
            self.say(&format!("could not set {root}/current: {error}")).await?;
        }
        if let Some(holder) = self.taken_over_by() {
            return Err(Interrupt::TakenOver(holder));
        }
        told.insert("restored".into(), json!(previous.id));
        told.insert("checks".into(), checks);
        Ok((Restoring::Verified, Value::Object(told)))
    }

    /// A target that is in trouble, as while its Docker starts again, is asked again: nothing serves meanwhile.
    async fn bring_back(&mut self, planned: &PlannedStep) -> Result<Option<Instance>, Interrupt> {
        let deployment = &self.deployment(planned);
        let previous = self.job.previous.as_ref();
        let what =
            previous.map_or_else(|| "the target".to_owned(), |previous| format!("release {}", previous.id));
        let mut budget = RetryBudget::of(RESTORE_BUDGET);
        loop {
            let back = self
                .step("restore", planned, "restore", |call| async move { call.restore(deployment).await })
                .await;
            let Err(Interrupt::Failed { failure, details }) = back else { return back };
            let pause = budget.pause().filter(|_| failure.fault == Fault::Target);
            let Some(pause) = pause else { return Err(Interrupt::Failed { failure, details }) };
            self.say(&format!("restoring {what} failed; retrying in {pause:?}: {failure}")).await?;
            self.sleep(pause).await?;
        }
    }

    /// Something may answer in the place of an instance that is dead.
    async fn who_answers(&self, port: u16) -> Option<String> {
        let url = format!("http://127.0.0.1:{port}{}", super::outage::path(&self.plan));
        let status = self.host.http.status(Some(&self.host.ssh), &url, QUESTION).await?;
        Some(format!("something answers on port {port} with {status}"))
    }

    /// Adds how the restoring went, and how long callers had no answer, to the details of the phase that failed.
    pub(super) async fn tell(&mut self, phase: Phase, restoring: Option<Value>) -> Result<(), JournalError> {
        let outage = self.watch.take().map(|watch| watch.report());
        let Some(record) = self.job.phase(phase).cloned() else { return Ok(()) };
        let mut details = record.details;
        if let Some(details) = details.as_object_mut() {
            details.extend(restoring.map(|restoring| ("restoring".to_owned(), restoring)));
            details.extend(outage.map(|outage| ("outage".to_owned(), outage)));
        }
        let mut update = PhaseUpdate::new(phase, PhaseStatus::Failed);
        update.details = Some(details);
        update.error = record.error;
        self.set_phase(update).await
    }
}
