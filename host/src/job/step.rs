//! One plugin's turn: what the journal already has is taken from there; otherwise the intent is recorded, the
//! plugin called, and the outcome recorded.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::flow;
use super::recorder::JournalRecorder;
use super::runner::{Runner, Stop, fail};
use super::state::{JobState, Phase};
use crate::capability::{EnvironmentSource, Limits};
use crate::journal::{Fault, JournalError, StepRecord, StepStart};
use crate::pipeline::PlannedStep;
use crate::stage::{Deployment, Instance, Stage, StepContext, StepError};

impl Runner {
    pub(in crate::job) fn planned(&self, phase: Phase) -> Vec<PlannedStep> {
        self.plan.steps(phase).cloned().collect()
    }

    pub(in crate::job) fn one(&self, phase: Phase) -> Result<PlannedStep, Stop> {
        self.plan.steps(phase).next().cloned().ok_or_else(|| {
            fail(Fault::Host, &format!("find the step of {phase}"), "the job's plan has none", "deploy again")
        })
    }

    pub(in crate::job) fn deployment(&self, planned: &PlannedStep) -> Deployment {
        flow::deployment(&self.host.root, &self.job, &planned.settings)
    }

    pub(in crate::job) fn made<T: DeserializeOwned>(
        &self,
        value: Option<&Value>,
        what: &str,
    ) -> Result<T, Stop> {
        value.and_then(flow::value).ok_or_else(|| {
            fail(
                Fault::Host,
                &format!("find what release {} has as {what}", self.release.id),
                "the journal has none",
                "deploy again",
            )
        })
    }

    /// One plugin's turn. What the journal has as done is taken from there.
    pub(in crate::job) async fn step<T, F>(
        &mut self,
        key: &str,
        planned: &PlannedStep,
        function: &str,
        call: impl FnOnce(Stage, StepContext) -> F,
    ) -> Result<T, Stop>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, StepError>> + Send,
    {
        let earlier = |step: &&StepRecord| step.step == key && step.function == function;
        if let Some(result) = self.done.iter().filter(earlier).find_map(|step| step.result.as_ref())
            && let Some(result) = flow::value(result)
        {
            return Ok(result);
        }
        if self.live.cancel.is_cancelled() && !self.unwinding() {
            return Err(Stop::Cancelled);
        }
        self.settle_leftovers(key).await?;
        let Some(plugin) = self.plugins.plugin(&planned.plugin).cloned() else {
            return Err(fail(
                Fault::Plugin,
                &format!("run the step {key}"),
                &format!("the plugin `{}` is no longer in the plugins folder", planned.plugin),
                "put it back, and deploy again",
            ));
        };
        let start = StepStart {
            job: self.job.id.clone(),
            step: key.into(),
            plugin: planned.plugin.clone(),
            function: function.into(),
            digest: plugin.digest.clone(),
        };
        let id = self.host.journal.step_started(&start).await?;
        let recorder = Arc::new(JournalRecorder::new(
            self.host.journal.clone(),
            self.live.clone(),
            self.job.id.clone(),
            id,
            planned,
        ));
        let context = StepContext {
            plugin,
            grants: planned.grants.iter().copied().collect(),
            pipeline_file: planned.pipeline.clone(),
            limits: Limits { memory_bytes: u64::from(planned.memory_mib) << 20, timeout: planned.timeout },
            public: self.public(),
            service_dir: Some(self.job.request.service_folder.clone().into()),
            ssh: self.host.ssh.clone(),
            http: self.host.http.clone(),
            registry: self.host.registry.clone(),
            target_host: self.host.ssh.target().host().to_owned(),
            // What comes back comes back with its own environment, which is on the target.
            environment: if self.unwinding() {
                EnvironmentSource::OnTarget
            } else {
                self.environment.clone()
            },
            recorder: recorder.clone(),
            cancel: if self.unwinding() { Default::default() } else { self.live.cancel.clone() },
        };
        let outcome = recorder.flushing(call(self.host.stage.clone(), context)).await?;
        self.record_step(id, planned, outcome).await
    }

    pub(in crate::job) async fn record_step<T: Serialize>(
        &self,
        id: i64,
        planned: &PlannedStep,
        outcome: Result<T, StepError>,
    ) -> Result<T, Stop> {
        match outcome {
            Ok(value) => {
                self.host.journal.step_ended(id, Ok(&json!(value))).await?;
                Ok(value)
            }
            Err(error) => {
                if error.is_unrecorded() {
                    return Err(Stop::Journal(JournalError::Unrecorded(error.to_string())));
                }
                let cancelled = error.is_cancelled();
                let failure = flow::failure(&planned.plugin, error.into_error());
                self.host.journal.step_ended(id, Err(&failure)).await?;
                if cancelled {
                    return Err(Stop::Cancelled);
                }
                Err(Stop::Failed { failure: Box::new(failure), details: json!({}) })
            }
        }
    }

    pub(in crate::job) fn unwinding(&self) -> bool {
        matches!(self.job.state, JobState::Unwinding(_))
    }

    /// What a release is called, and where it lives.
    pub(in crate::job) fn public(&self) -> Vec<String> {
        let mut texts = vec![self.job.service.clone(), self.job.method.clone(), self.job.id.clone()];
        let previous = self.job.previous.as_ref().map(|previous| previous.id.as_str());
        for release in [Some(self.job.release.as_str()), previous].into_iter().flatten() {
            let layout = flow::layout(&self.host.root, &self.job.service, release);
            texts.extend([layout.files, layout.environment]);
        }
        texts
    }

    /// A step that was cut off may have left a process running on the target: it is ended before the step is
    /// called again, so that the two never run side by side.
    pub(in crate::job) async fn settle_leftovers(&self, key: &str) -> Result<(), Stop> {
        let cut_off: Vec<i64> = self
            .done
            .iter()
            .filter(|step| step.step == key && step.completed_at.is_none())
            .map(|step| step.id)
            .collect();
        if cut_off.is_empty() {
            return Ok(());
        }
        for call in self.host.journal.calls(&self.job.id).await? {
            if let (true, None, Some(process)) = (cut_off.contains(&call.step), &call.outcome, &call.process)
            {
                self.host.end_leftover(process).await.map_err(|error| {
                    fail(Fault::Target, "end a command that was cut off", &error, "deploy again")
                })?;
                self.host.journal.call_ended(call.id, "cut off, and ended", None, "", 0).await?;
            }
        }
        Ok(())
    }

    /// `current` points at the live release, and changes in one step.
    pub(in crate::job) async fn switch_current(&self) -> Result<(), String> {
        let layout = flow::layout(&self.host.root, &self.job.service, &self.job.release);
        self.host
            .point(&layout.root, &format!("releases/{}", self.job.release))
            .await
            .map_err(|error| format!("could not switch {}/current: {error}", layout.root))
    }

    /// The instance's last log lines, as well as they can be had.
    pub(in crate::job) async fn last_words(&self, instance: &Instance) -> Vec<String> {
        match self.host.run_reading(&instance.last_words, Duration::from_secs(20)).await {
            Ok(text) => text.lines().map(|line| self.redactor.redact(line).into_owned()).collect(),
            Err(error) => vec![format!("(its log could not be read: {error})")],
        }
    }
}
