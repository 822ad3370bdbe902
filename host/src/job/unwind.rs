//! Brings back what ran before a job that failed in Start or Verify, and verifies it before the job says how
//! it ended.

use std::time::Duration;

use serde_json::{Value, json};

use super::flow;
use super::reconnect::Patience;
use super::runner::{Runner, Stop};
use super::state::{Aftermath, JobState, Phase, PhaseStatus};
use super::step::point;
use crate::journal::{Fault, JobKind, JournalError, PhaseUpdate};
use crate::pipeline::PlannedStep;
use crate::stage::Instance;

/// How long a target is asked again that answers, and cannot run what ran before.
const RESTORE_PATIENCE: Duration = Duration::from_secs(60);

impl Runner {
    /// Ends the job: what failed is taken away, and the previous release runs and is verified.
    pub(super) async fn unwind(&mut self, phase: Phase) -> Result<(), JournalError> {
        // A crash may have come between the phase's failure and its reason's way into the job.
        if self.job.error.is_none() {
            self.job.error = self.job.phase(phase).and_then(|record| record.error.clone());
        }
        let (aftermath, restoring) = match self.restore().await {
            Ok(end) => end,
            Err(Stop::Journal(error)) => return Err(error),
            Err(Stop::TakenOver(holder)) => return self.leave_to(phase, holder).await,
            Err(Stop::Failed { failure, details }) => {
                let seen = json!({ "error": failure.to_string(), "details": details });
                (self.not_restored(), seen)
            }
            Err(Stop::Cancelled) => (self.not_restored(), json!({ "error": "cancelled" })),
        };
        self.tell(phase, restoring).await?;
        // A rollback that fails leaves its release as it was: it served before, and may again.
        if self.job.kind == JobKind::Deploy {
            self.mark_bad().await?;
        }
        if let (Aftermath::NotRestored(release), Some(error)) = (&aftermath, self.job.error.as_mut()) {
            error.next = format!(
                "release {release} could not be brought back, and everything was kept as it is: look at the \
                 target now. {}",
                error.next
            );
        }
        self.finish(aftermath).await
    }

    async fn restore(&mut self) -> Result<(Aftermath, Value), Stop> {
        debug_assert!(matches!(self.job.state, JobState::Unwinding(_)));
        let hold = self.hold().await?;
        let planned = self.one(Phase::StartService)?;
        let back = self.bring_back(&planned).await?;
        let Some(previous) = self.job.previous.clone() else {
            return Ok((Aftermath::NothingBefore, json!({ "restored": null })));
        };
        let Some(instance) = back else {
            let seen = json!({ "error": format!("{} brought nothing back", planned.plugin) });
            return Ok((self.not_restored(), seen));
        };
        let checks = self.verdicts("restored", &instance, Some(&previous)).await?;
        let root = flow::layout(&self.host.root, &self.job.service, &previous.id).root;
        if let Err(error) = point(&hold, &root, &format!("releases/{}", previous.id)).await {
            self.say(&format!("{root}/current could not be set: {error}")).await?;
        }
        if let Some(holder) = self.taken_over_by() {
            return Err(Stop::TakenOver(holder));
        }
        Ok((Aftermath::Restored(previous.id.clone()), json!({ "restored": previous.id, "checks": checks })))
    }

    /// A target that is in trouble, as while its Docker starts again, is asked again: nothing serves meanwhile.
    async fn bring_back(&mut self, planned: &PlannedStep) -> Result<Option<Instance>, Stop> {
        let deployment = &self.deployment(planned);
        let mut patience = Patience::of(RESTORE_PATIENCE);
        loop {
            let back = self
                .step("restore", planned, "restore", |stage, context| async move {
                    stage.restore(context, deployment).await
                })
                .await;
            let Err(Stop::Failed { failure, details }) = back else { return back };
            let pause = patience.pause().filter(|_| failure.fault == Fault::Target);
            let Some(pause) = pause else { return Err(Stop::Failed { failure, details }) };
            self.say(&format!("what ran before is not back, and is tried again: {failure}")).await?;
            self.rest(pause).await?;
        }
    }

    fn not_restored(&self) -> Aftermath {
        match &self.job.previous {
            Some(previous) => Aftermath::NotRestored(previous.id.clone()),
            None => Aftermath::NotRestored("(none: what failed may still be there)".into()),
        }
    }

    /// Adds how the restoring went, and how long callers had no answer, to the details of the phase that failed.
    async fn tell(&mut self, phase: Phase, restoring: Value) -> Result<(), JournalError> {
        let outage = self.watch.take().map(|watch| watch.report());
        let Some(record) = self.job.phase(phase).cloned() else { return Ok(()) };
        let mut details = record.details;
        if let Some(details) = details.as_object_mut() {
            details.insert("restoring".into(), restoring);
            if let Some(outage) = outage {
                details.insert("outage".into(), outage);
            }
        }
        let mut update = PhaseUpdate::new(phase, PhaseStatus::Failed);
        update.details = Some(details);
        update.error = record.error;
        self.set_phase(update).await
    }
}
