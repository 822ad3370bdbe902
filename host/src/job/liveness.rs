//! Looks at an instance for the deployer itself: whether it lives, and what it said last. The commands for it are words
//! of the plugin that started it, so they are run under that plugin's grants, and are on record like any other call.

use std::sync::Arc;

use super::conversions::granted;
use super::interrupt::Interrupt;
use super::looking::Traced;
use super::outcome::Life;
use super::recorder::JournalRecorder;
use super::runner::Runner;
use crate::capability::{self, Liveness, Started, StepContext};
use crate::contract::Error;
use crate::model::{Instance, Phase, PlannedStep, ReleaseRecord};
use crate::secret::Redactor;

impl Runner {
    /// What ran before this job, as it was started.
    pub(super) fn previous_instance(&self) -> Option<Instance> {
        self.job.previous.as_ref()?.instance().cloned()
    }

    /// Whether the instance that ran before this job lives.
    pub(super) async fn life_of_previous(&mut self) -> Life {
        // What it says may have values that only the target has.
        match self.know_environments().await {
            Ok(()) => {}
            Err(Interrupt::Failed { failure, .. }) => return Life::Unseen(failure.seen),
            Err(Interrupt::Cancelled | Interrupt::TakenOver(_) | Interrupt::Journal(_)) => {
                return Life::Unseen("the job was interrupted".into());
            }
        }
        let Some(instance) = self.previous_instance() else {
            return Life::Unseen("its record does not say how to check whether it runs".into());
        };
        // What an older version deployed was started by this job's own pipeline.
        let own = self.job.previous.as_ref().and_then(ReleaseRecord::plan);
        let Some(starting) = own.unwrap_or(&self.plan).steps(Phase::StartService).next() else {
            return Life::Unseen("the pipeline that started it has no start step".into());
        };
        match self.look(started(&instance, starting), starting, capability::alive).await {
            Ok(Liveness::Alive) => Life::Lives,
            Ok(Liveness::Unknown) => Life::Unseen("its plugin provides no liveness check".into()),
            Ok(Liveness::Dead(said)) => {
                let said = self.redactor.apart(said.len(), |redactor| redactor.redact_string(said)).await;
                match said.trim() {
                    "" => Life::Dead(format!("the {} {} is gone", instance.kind, instance.name)),
                    said => Life::Dead(said.to_owned()),
                }
            }
            Err(seen) => Life::Unseen(seen),
        }
    }

    /// The last log lines of the instance that is being verified, as well as they can be had.
    pub(super) async fn log_tail(&self, planned: &PlannedStep) -> Vec<String> {
        let failed = |seen: &str| vec![format!("(its log could not be read: {seen})")];
        let Some(started) = self.started.clone() else { return failed("nothing was started") };
        match self.look(started, planned, capability::log_tail).await {
            // As a whole: a value may have several lines.
            Ok(text) => {
                let redacted = move |redactor: &Redactor| redactor.redact_string(text);
                let text = self.redactor.apart(usize::MAX, redacted).await;
                text.lines().map(str::to_owned).collect()
            }
            Err(seen) => failed(&seen),
        }
    }

    /// Looks, on record with the step that was made last. It is for the record of what became of the job, so it is
    /// done cancelled or not.
    async fn look<T, F>(
        &self,
        started: Started,
        planned: &PlannedStep,
        look: impl Fn(StepContext) -> F,
    ) -> Result<T, String>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (host, live) = (&self.host, &self.live);
        let recorder = self.calls.last().map(|(_, step)| {
            Arc::new(JournalRecorder::new(
                host.journal.clone(),
                live.clone(),
                self.job.id.clone(),
                *step,
                planned,
            ))
        });
        let context = |recorder| {
            let mut context = self.context(planned, recorder);
            context.started = Some(started);
            if let Some(guard) = &self.guard {
                context.cancel = guard.lost.clone();
            }
            context
        };
        let looked = match recorder {
            Some(recorder) => {
                recorder.flushing(look(context(recorder.clone()))).await.map_err(|error| error.to_string())?
            }
            // A rollback looks before its first step.
            None => look(context(Arc::new(Traced))).await,
        };
        match looked {
            Ok(seen) => Ok(seen),
            Err(error) => {
                let seen = error.seen;
                Err(self.redactor.apart(seen.len(), |redactor| redactor.redact_string(seen)).await)
            }
        }
    }
}

/// An instance, with what the plugin that said how to look at it may do by its own plan.
pub(super) fn started(instance: &Instance, planned: &PlannedStep) -> Started {
    Started {
        instance: instance.clone(),
        plugin: planned.plugin.clone(),
        grants: granted(planned),
        pipeline_file: planned.pipeline.clone(),
    }
}
