//! Brings back what ran before a job that failed in Start or Verify, and verifies it before the job says how
//! it ended. What it says of what runs comes from looking at it.

use crate::model::Layout;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::outcome::{self, Life, Restoring};
use super::reconnect::Patience;
use super::runner::{Runner, Stop};
use super::step::point;
use crate::journal::JournalError;
use crate::model::{Fault, Instance, JobKind, JobState, Phase, PhaseStatus, PhaseUpdate, PlannedStep};

/// How long a target is asked again that answers, and cannot run what ran before.
const RESTORE_PATIENCE: Duration = Duration::from_secs(60);
/// For one question at the service's port.
const QUESTION: Duration = Duration::from_secs(2);

impl Runner {
    /// Ends the job: what failed is taken away, and the previous release runs and is verified.
    pub(super) async fn unwind(&mut self, phase: Phase) -> Result<(), JournalError> {
        // A crash may have come between the phase's failure and its reason's way into the job.
        if self.job.error.is_none() {
            self.job.error = self.job.phase(phase).and_then(|record| record.error.clone());
        }
        let restore_begun = self.turns.iter().any(|(key, _)| key == "restore");
        let instance = self.previous_instance();
        let before = self.life_of_previous().await;
        let (restoring, mut told) = match self.restore().await {
            Ok(end) => end,
            Err(Stop::Journal(error)) => return Err(error),
            Err(Stop::TakenOver(holder)) => return self.leave_to(phase, holder).await,
            Err(Stop::Failed { failure, details }) => {
                let told = json!({ "error": failure.to_string(), "details": details });
                (Restoring::Failed(failure.to_string()), told)
            }
            Err(Stop::Cancelled) => {
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
        // A rollback that fails leaves its release as it was: it served before, and may again.
        if self.job.kind == JobKind::Deploy {
            self.mark_bad().await?;
        }
        if let (Some(next), Some(error)) = (aftermath.next_move(), self.job.error.as_mut()) {
            error.next = format!("{next}. {}", error.next);
        }
        self.finish(aftermath).await
    }

    async fn restore(&mut self) -> Result<(Restoring, Value), Stop> {
        debug_assert!(matches!(self.job.state, JobState::Unwinding(_)));
        let hold = self.hold().await?;
        let planned = self.one(Phase::StartService)?;
        let back = self.bring_back(&planned).await;
        let Some(previous) = self.job.previous.clone() else {
            return back.map(|_| (Restoring::TakenAway, json!({ "restored": null })));
        };
        let mut told = Map::new();
        let instance = match back {
            Ok(Some(instance)) => instance,
            Ok(None) => {
                let seen = format!("{} brought nothing back", planned.plugin);
                told.insert("error".into(), json!(seen));
                return Ok((Restoring::TakenAway, Value::Object(told)));
            }
            // It may run all the same: then its own checks say how it is.
            Err(Stop::Failed { failure, details }) => {
                told.insert("error".into(), json!(failure.to_string()));
                told.insert("details".into(), details);
                let instance = self.previous_instance();
                match (self.life_of_previous().await, instance) {
                    (Life::Lives, Some(instance)) => {
                        self.say(&format!("restoring failed, and release {} runs all the same", previous.id))
                            .await?;
                        instance
                    }
                    (Life::Lives | Life::Dead(_) | Life::Unseen(_), _) => {
                        return Ok((Restoring::Failed(failure.to_string()), Value::Object(told)));
                    }
                }
            }
            Err(stop) => return Err(stop),
        };
        let checks = match self.verdicts("restored", &instance, Some(&previous)).await {
            Ok(checks) => checks,
            Err(Stop::Failed { failure, details }) => {
                told.insert("checks_failed".into(), json!(failure.to_string()));
                told.insert("details".into(), details);
                return Ok((Restoring::ChecksFail(failure.seen.clone()), Value::Object(told)));
            }
            Err(stop) => return Err(stop),
        };
        let root = Layout::new(&self.host.root, &self.job.service, &previous.id).root;
        if let Err(error) = point(&hold, &root, &format!("releases/{}", previous.id)).await {
            self.say(&format!("{root}/current could not be set: {error}")).await?;
        }
        if let Some(holder) = self.taken_over_by() {
            return Err(Stop::TakenOver(holder));
        }
        told.insert("restored".into(), json!(previous.id));
        told.insert("checks".into(), checks);
        Ok((Restoring::Verified, Value::Object(told)))
    }

    /// A target that is in trouble, as while its Docker starts again, is asked again: nothing serves meanwhile.
    async fn bring_back(&mut self, planned: &PlannedStep) -> Result<Option<Instance>, Stop> {
        let deployment = &self.deployment(planned);
        let mut patience = Patience::of(RESTORE_PATIENCE);
        loop {
            let back = self
                .step("restore", planned, "restore", |call| async move { call.restore(deployment).await })
                .await;
            let Err(Stop::Failed { failure, details }) = back else { return back };
            let pause = patience.pause().filter(|_| failure.fault == Fault::Target);
            let Some(pause) = pause else { return Err(Stop::Failed { failure, details }) };
            self.say(&format!("restoring what ran before failed, and is tried again: {failure}")).await?;
            self.rest(pause).await?;
        }
    }

    /// Something may answer in the place of an instance that is dead.
    async fn who_answers(&self, port: u16) -> Option<String> {
        let url = format!("http://127.0.0.1:{port}{}", super::outage::path(&self.plan));
        let status = self.host.http.status(Some(&self.host.ssh), &url, QUESTION).await?;
        Some(format!("something answers at port {port} with {status}"))
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
