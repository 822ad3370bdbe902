//! The functions of a plugin, typed: what each is given, and what of its answer is believed.

use std::sync::Arc;

use futures::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::Instance as Component;

use super::bounds::Bounded;
use super::component::{Code, Plugin};
use super::runtime::Runtime;
use super::sandbox::{Answer, misfit};
use super::store::State;
use super::{StepError, StepFailure, answer_checks};
use crate::capability::StepContext;
use crate::contract::{self, Deployment, Publication};
use crate::model::{Artifact, Confirmation, Files, Finding, Grant, Instance, Verdict};

/// A function of a plugin that is about to be called, with all that the call has to do with.
pub struct Invocation {
    runtime: Runtime,
    plugin: Arc<Plugin>,
    context: StepContext,
}

impl Invocation {
    pub fn new(runtime: &Runtime, plugin: Arc<Plugin>, context: StepContext) -> Self {
        Self { runtime: runtime.clone(), plugin, context }
    }

    pub async fn validate(self, deployment: &Deployment) -> Result<Vec<Finding>, StepError> {
        let given = deployment.clone();
        let indices = |code: &Code| code.validate.clone();
        self.call("validate", deployment, indices, answer_checks::findings, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_validate(store, &given).await
            })
        })
        .await
        .map(|findings| findings.into_iter().map(Into::into).collect())
    }

    pub async fn transfer(self, deployment: &Deployment) -> Result<Files, StepError> {
        let given = deployment.clone();
        let indices = |code: &Code| code.transfer.clone();
        self.call("transfer", deployment, indices, answer_checks::files, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_transfer(store, &given).await
            })
        })
        .await
        .map(Into::into)
    }

    pub async fn build(self, deployment: &Deployment, files: &Files) -> Result<Artifact, StepError> {
        let (given, files) = (deployment.clone(), files.clone().into());
        let indices = |code: &Code| code.build.clone();
        self.call("build", deployment, indices, answer_checks::artifact, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_build(store, &given, &files).await
            })
        })
        .await
        .map(Into::into)
    }

    /// With calls that only read.
    pub async fn inspect(
        mut self,
        deployment: &Deployment,
        artifact: &Artifact,
    ) -> Result<Option<Artifact>, StepError> {
        self.context.only_reads = true;
        let (given, artifact) = (deployment.clone(), artifact.clone().into());
        let indices = |code: &Code| code.build.clone();
        self.call("inspect", deployment, indices, answer_checks::inspected, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_inspect(store, &given, &artifact).await
            })
        })
        .await
        .map(|found| found.map(Into::into))
    }

    pub async fn discard(self, deployment: &Deployment, artifact: &Artifact) -> Result<(), StepError> {
        let (given, artifact) = (deployment.clone(), artifact.clone().into());
        let indices = |code: &Code| code.build.clone();
        self.call("discard", deployment, indices, answer_checks::nothing, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_discard(store, &given, &artifact).await
            })
        })
        .await
    }

    pub async fn start(self, deployment: &Deployment, artifact: &Artifact) -> Result<Instance, StepError> {
        let (given, artifact) = (deployment.clone(), artifact.clone().into());
        let indices = |code: &Code| code.start.clone();
        let may_run = MayRun::of(&self.context);
        self.call("start", deployment, indices, answer_checks::instance, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_start(store, &given, &artifact).await
            })
        })
        .await
        .and_then(|started| may_run.check("start", &started).map(|()| started.into()))
    }

    pub async fn promote(self, deployment: &Deployment, started: &Instance) -> Result<(), StepError> {
        let (given, started) = (deployment.clone(), started.clone().into());
        let indices = |code: &Code| code.start.clone();
        self.call("promote", deployment, indices, answer_checks::nothing, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_promote(store, &given, &started).await
            })
        })
        .await
    }

    pub async fn restore(self, deployment: &Deployment) -> Result<Option<Instance>, StepError> {
        let given = deployment.clone();
        let indices = |code: &Code| code.start.clone();
        let may_run = MayRun::of(&self.context);
        self.call("restore", deployment, indices, answer_checks::restored, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_restore(store, &given).await
            })
        })
        .await
        .and_then(|restored| match &restored {
            Some(instance) => may_run.check("restore", instance).map(|()| restored.map(Into::into)),
            None => Ok(None),
        })
    }

    pub async fn verify(self, deployment: &Deployment, started: &Instance) -> Result<Verdict, StepError> {
        let (given, started) = (deployment.clone(), started.clone().into());
        let indices = |code: &Code| code.verify.clone();
        self.call("verify", deployment, indices, answer_checks::verdict, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_verify(store, &given, &started).await
            })
        })
        .await
        .map(Into::into)
    }

    pub async fn register(
        self,
        deployment: &Deployment,
        publication: &Publication,
    ) -> Result<Confirmation, StepError> {
        let (given, publication) = (deployment.clone(), publication.clone());
        let indices = |code: &Code| code.register.clone();
        self.call("register", deployment, indices, answer_checks::registration, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_register(store, &given, &publication).await
            })
        })
        .await
        .map(Into::into)
    }

    /// One call, from its indices to an answer that can be believed.
    async fn call<T, I, F>(
        self,
        function: &'static str,
        deployment: &Deployment,
        indices: fn(&Code) -> Option<I>,
        claim: fn(&Deployment, &T) -> Result<(), String>,
        call: F,
    ) -> Result<T, StepError>
    where
        T: Bounded + Send,
        I: Send,
        F: for<'s> FnOnce(I, &'s mut Store<State>, &'s Component) -> BoxFuture<'s, Answer<T>> + Send,
    {
        let Self { runtime, plugin, context: step } = self;
        let lacks_service = !step.grants.has(Grant::ServiceRead);
        let line = step.grants.line_with(&plugin.name, Grant::ServiceRead);
        let hint =
            format!("the plugin may miss a grant: add to `[grants]` in {}: `{line}`", step.pipeline_file);
        let outcome = match indices(&plugin.code) {
            Some(indices) => {
                runtime.sandboxed(&plugin, step, |store, instance| call(indices, store, instance)).await
            }
            None => Err(StepFailure::Missing),
        };
        let outcome = outcome.and_then(|answer| {
            let believed = answer.bounded().and_then(|answer| claim(deployment, &answer).map(|()| answer));
            believed.map_err(StepFailure::Lied)
        });
        outcome.map_err(|failure| {
            let failure = if lacks_service { with_hint(failure, &hint) } else { failure };
            StepError { plugin: plugin.name.clone(), function, failure }
        })
    }
}

/// Whether a plugin's words may become commands, which an instance's are.
struct MayRun {
    plugin: String,
    /// The line to write where they may not.
    missing: Option<String>,
}

impl MayRun {
    fn of(step: &StepContext) -> Self {
        let plugin = step.plugin.clone();
        let lacks = !step.grants.has(Grant::TargetRead);
        let missing = lacks.then(|| {
            let line = step.grants.line_with(&plugin, Grant::TargetRead);
            format!("add it to `[grants]` in {}: `{line}`", step.pipeline_file)
        });
        Self { plugin, missing }
    }

    fn check(&self, function: &'static str, instance: &contract::Instance) -> Result<(), StepError> {
        let says = !(instance.alive.is_empty() && instance.log_tail.is_empty());
        match &self.missing {
            Some(line) if says => {
                let problem = format!(
                    "an instance with commands to look at it, for which the plugin needs the grant `{}`; {line}",
                    Grant::TargetRead
                );
                Err(StepError { plugin: self.plugin.clone(), function, failure: StepFailure::Lied(problem) })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Where a file of the service was not found and the plugin may not see them, that is the likely cause: an
/// operating system's words do not say so.
fn with_hint(failure: StepFailure, hint: &str) -> StepFailure {
    let about_service =
        |text: &str| text.contains("/service") || text.contains("os error 44") || text.contains("pre-opened");
    match failure {
        StepFailure::Reported(mut error) if about_service(&error.seen) || about_service(&error.attempted) => {
            error.next = format!("{hint}; or {}", error.next);
            StepFailure::Reported(error)
        }
        StepFailure::Trapped { message, last_lines } if about_service(&last_lines) => {
            StepFailure::Trapped { message: format!("{message} ({hint})"), last_lines }
        }
        other => other,
    }
}
