//! One step: what the journal already has is taken from there; otherwise the intent is recorded, the
//! plugin called, and the outcome recorded.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::conversions::{self, granted};
use super::decision;
use super::interrupt::{Interrupt, fail};
use super::recorder::JournalRecorder;
use super::redaction::Answer;
use super::runner::Runner;
use crate::capability::{Boundary, EnvironmentSource, Limits, Recorder, StepContext};
use crate::contract;
use crate::contract::Deployment;
use crate::journal::JournalError;
use crate::model::{Failure, Fault, JobState, Layout, Phase, PlannedStep, StepStart, Stored};
use crate::plugin::{Invocation, Plugin, StepError};

/// What a call of a plugin came to.
enum Called<T> {
    Conclusive(T),
    /// An answer whose end is not recorded yet.
    Inconclusive {
        step: i64,
        value: T,
    },
}

impl Runner {
    pub(in crate::job) fn planned(&self, phase: Phase) -> Vec<PlannedStep> {
        self.plan.steps(phase).cloned().collect()
    }

    pub(in crate::job) fn one(&self, phase: Phase) -> Result<PlannedStep, Interrupt> {
        self.plan.steps(phase).next().cloned().ok_or_else(|| {
            fail(Fault::Host, &format!("find the step of {phase}"), "the job's plan has none", "deploy again")
        })
    }

    pub(in crate::job) fn deployment(&self, planned: &PlannedStep) -> Deployment {
        conversions::deployment(&self.host.root, &self.job, &planned.settings)
    }

    pub(in crate::job) fn made<T: Clone>(
        &self,
        kept: Option<&Stored<T>>,
        what: &str,
    ) -> Result<T, Interrupt> {
        let missing = |seen: &str| {
            let attempted = format!("find the {what} of release {}", self.release.id);
            fail(Fault::Host, &attempted, seen, "deploy again")
        };
        match kept.map(Stored::read) {
            Some(Ok(value)) => Ok(value.clone()),
            Some(Err(why)) => Err(missing(&format!("this version cannot read what the journal has: {why}"))),
            None => Err(missing("the journal has none")),
        }
    }

    /// One plugin's step. What the journal has as done is taken from there.
    pub(in crate::job) async fn step<T, F>(
        &mut self,
        key: &str,
        planned: &PlannedStep,
        function: &str,
        call: impl Fn(Invocation) -> F,
    ) -> Result<T, Interrupt>
    where
        T: Answer + Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T, StepError>> + Send,
    {
        self.conclusive_step(key, planned, function, |_| true, call).await
    }

    /// As `step`. An answer that is not conclusive, because the plugin could not see the target, is
    /// worth as little as an error when the connection was lost meanwhile.
    pub(in crate::job) async fn conclusive_step<T, F>(
        &mut self,
        key: &str,
        planned: &PlannedStep,
        function: &str,
        is_conclusive: impl Fn(&T) -> bool,
        call: impl Fn(Invocation) -> F,
    ) -> Result<T, Interrupt>
    where
        T: Answer + Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T, StepError>> + Send,
    {
        if let Some(result) = decision::recorded_answer(&self.done, key, function)
            && let Ok(result) = T::deserialize(result)
        {
            return Ok(result);
        }
        let mut budget = self.retry_budget();
        loop {
            let before = self.host.ssh.connection_mark().await;
            let outcome = self.call_once(key, planned, function, &is_conclusive, &call).await;
            let failure = match outcome {
                Ok(Called::Conclusive(value)) => return Ok(value),
                Ok(Called::Inconclusive { step, value }) => {
                    if !before.lost_by(self.host.ssh.connection_mark().await) {
                        self.host.journal.step_ended(step, Ok(&json!(value))).await?;
                        return Ok(value);
                    }
                    let lost = lost_during(planned, function);
                    self.host.journal.step_ended(step, Err(&lost)).await?;
                    Box::new(lost)
                }
                Err(Interrupt::Failed { failure, details }) => {
                    if !before.lost_by(self.host.ssh.connection_mark().await) {
                        return Err(Interrupt::Failed { failure, details });
                    }
                    failure
                }
                Err(interrupt) => return Err(interrupt),
            };
            if !self.wait_for_target(&mut budget, &failure.seen).await? {
                return Err(Interrupt::Failed { failure, details: json!({}) });
            }
        }
    }

    /// One call of the plugin: the intent is recorded, the call made, the outcome recorded.
    async fn call_once<T, F>(
        &mut self,
        key: &str,
        planned: &PlannedStep,
        function: &str,
        is_conclusive: &impl Fn(&T) -> bool,
        call: &impl Fn(Invocation) -> F,
    ) -> Result<Called<T>, Interrupt>
    where
        T: Answer + Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T, StepError>> + Send,
    {
        if self.live.cancel.is_cancelled() && !self.unwinding() {
            return Err(Interrupt::Cancelled);
        }
        self.end_leftovers(key).await?;
        self.know_environments().await?;
        let Some(plugin) = self.plugin(&planned.plugin).await else {
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
        self.calls.push((key.to_owned(), id));
        let recorder = Arc::new(JournalRecorder::new(
            self.host.journal.clone(),
            self.live.clone(),
            self.job.id.clone(),
            id,
            planned,
        ));
        let context = self.context(planned, recorder.clone());
        let outcome = recorder.flushing(call(Invocation::new(&self.host.runtime, plugin, context))).await?;
        let outcome = match outcome {
            // How much an answer holds is not known before it is looked at.
            Ok(value) => Ok(self.redactor.apart(usize::MAX, move |redactor| value.redacted(redactor)).await),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(value) if is_conclusive(&value) => {
                self.host.journal.step_ended(id, Ok(&json!(value))).await?;
                Ok(Called::Conclusive(value))
            }
            Ok(value) => Ok(Called::Inconclusive { step: id, value }),
            Err(error) => Err(self.ended_in_error(id, planned, error).await?),
        }
    }

    /// A plugin by its name; also one that came into the folder since the job began, or that the job's own plan does
    /// not name, as when an older release is removed.
    pub(in crate::job) async fn plugin(&self, name: &str) -> Option<Arc<Plugin>> {
        match self.plugins.plugin(name) {
            Some(plugin) => Some(plugin.clone()),
            None => self.host.catalog.with(&[name.to_owned()].into()).await.plugin(name).cloned(),
        }
    }

    pub(in crate::job) fn context(&self, planned: &PlannedStep, recorder: Arc<dyn Recorder>) -> StepContext {
        let unwinding = self.unwinding();
        StepContext {
            plugin: planned.plugin.clone(),
            grants: granted(planned),
            boundary: self.boundary(),
            started: self.started.clone(),
            pipeline_file: planned.pipeline.clone(),
            limits: Limits { memory_bytes: u64::from(planned.memory_mib) << 20, timeout: planned.timeout },
            redactor: self.redactor.clone(),
            service_dir: self.folder.as_ref().ok().cloned(),
            ssh: self.guard.as_ref().map_or(&self.host.ssh, |guard| &guard.ssh).clone(),
            http: self.host.http.clone(),
            registry: self.host.registry.clone(),
            target_host: self.host.ssh.target().host().to_owned(),
            // What comes back comes back with its own environment, which is on the target.
            environment: if unwinding { EnvironmentSource::OnTarget } else { self.environment.clone() },
            only_reads: false,
            recorder,
            cancel: match &self.guard {
                // What ran before is brought back, cancelled or not.
                Some(guard) if unwinding => guard.lost.clone(),
                Some(guard) => guard.abort.clone(),
                None if unwinding => Default::default(),
                None => self.live.cancel.clone(),
            },
        }
    }

    async fn ended_in_error(
        &self,
        id: i64,
        planned: &PlannedStep,
        error: StepError,
    ) -> Result<Interrupt, JournalError> {
        if error.is_unrecorded() {
            return Err(JournalError::Unrecorded(error.to_string()));
        }
        let cancelled = error.is_cancelled();
        let failure = self.redacted_failure(contract::failure(&planned.plugin, error.into_error())).await;
        self.host.journal.step_ended(id, Err(&failure)).await?;
        Ok(match self.taken_over_by() {
            Some(holder) => Interrupt::TakenOver(holder),
            None if cancelled => Interrupt::Cancelled,
            None => Interrupt::Failed { failure: Box::new(failure), details: json!({}) },
        })
    }

    /// What is sent and built is the folder that the job was accepted for. What comes after works with what is on
    /// the target, and goes on without.
    pub(in crate::job) fn needs_folder(&self, phase: Phase) -> Result<(), Interrupt> {
        match (phase, &self.folder) {
            (Phase::Validation | Phase::Transfer | Phase::Build, Err(error)) => Err(fail(
                Fault::Request,
                "read the service's folder",
                &error.to_string(),
                "deploy again, and leave the service's folder in its place until the job is over",
            )),
            (Phase::Validation | Phase::Transfer | Phase::Build, Ok(_))
            | (Phase::StartService | Phase::VerifyHealth | Phase::Register, Ok(_) | Err(_)) => Ok(()),
        }
    }

    /// Whether what ran before is being brought back, cancelled or not.
    pub(in crate::job) fn unwinding(&self) -> bool {
        self.undoing || matches!(self.job.state, JobState::Unwinding(_))
    }

    /// What a step may change on the target: what belongs to this job's release, or to the one before it.
    fn boundary(&self) -> Boundary {
        let previous = self.job.previous.as_ref().map(|previous| previous.id.as_str());
        let releases = [Some(self.job.release.as_str()), previous].into_iter().flatten();
        let environment =
            |release: &str| Layout::new(&self.host.root, &self.job.service, release).environment;
        Boundary::new(&self.host.root, &self.job.service, releases.map(environment))
    }
}

fn lost_during(planned: &PlannedStep, function: &str) -> Failure {
    Failure {
        fault: Fault::Target,
        plugin: Some(planned.plugin.clone()),
        attempted: format!("call `{function}`"),
        seen: "the connection to the target was lost during this call".into(),
        next: "it is called again when the target is reachable".into(),
    }
}
