//! The functions of a plugin, typed: what each is given, and what of its answer is believed.

use futures::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::Instance as Component;

use super::bounds::Bounded;
use super::claims;
use super::engine::Stage;
use super::plugin::Code;
use super::sandbox::{Answer, misfit};
use super::store::State;
use super::{
    Artifact, Deployment, Files, Finding, Instance, Publication, Registration, StepError, StepFailure,
    Verdict,
};
use crate::capability::{Grant, StepContext};

impl Stage {
    pub async fn validate(
        &self,
        step: StepContext,
        deployment: &Deployment,
    ) -> Result<Vec<Finding>, StepError> {
        let given = deployment.clone();
        let indices = |code: &Code| code.validate.clone();
        self.call(step, "validate", deployment, indices, claims::findings, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_validate(store, &given).await
            })
        })
        .await
    }

    pub async fn transfer(&self, step: StepContext, deployment: &Deployment) -> Result<Files, StepError> {
        let given = deployment.clone();
        let indices = |code: &Code| code.transfer.clone();
        self.call(step, "transfer", deployment, indices, claims::files, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_transfer(store, &given).await
            })
        })
        .await
    }

    pub async fn build(
        &self,
        step: StepContext,
        deployment: &Deployment,
        files: &Files,
    ) -> Result<Artifact, StepError> {
        let (given, files) = (deployment.clone(), files.clone());
        let indices = |code: &Code| code.build.clone();
        self.call(step, "build", deployment, indices, claims::artifact, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_build(store, &given, &files).await
            })
        })
        .await
    }

    /// With calls that only read.
    pub async fn inspect(
        &self,
        step: StepContext,
        deployment: &Deployment,
        artifact: &Artifact,
    ) -> Result<Option<Artifact>, StepError> {
        let step = StepContext { only_reads: true, ..step };
        let (given, artifact) = (deployment.clone(), artifact.clone());
        let indices = |code: &Code| code.build.clone();
        self.call(step, "inspect", deployment, indices, claims::inspected, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_inspect(store, &given, &artifact).await
            })
        })
        .await
    }

    pub async fn discard(
        &self,
        step: StepContext,
        deployment: &Deployment,
        artifact: &Artifact,
    ) -> Result<(), StepError> {
        let (given, artifact) = (deployment.clone(), artifact.clone());
        let indices = |code: &Code| code.build.clone();
        self.call(step, "discard", deployment, indices, claims::nothing, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_discard(store, &given, &artifact).await
            })
        })
        .await
    }

    pub async fn start(
        &self,
        step: StepContext,
        deployment: &Deployment,
        artifact: &Artifact,
    ) -> Result<Instance, StepError> {
        let (given, artifact) = (deployment.clone(), artifact.clone());
        let indices = |code: &Code| code.start.clone();
        let may_run = MayRun::of(&step);
        self.call(step, "start", deployment, indices, claims::instance, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_start(store, &given, &artifact).await
            })
        })
        .await
        .and_then(|started| may_run.check("start", &started).map(|()| started))
    }

    pub async fn promote(
        &self,
        step: StepContext,
        deployment: &Deployment,
        started: &Instance,
    ) -> Result<(), StepError> {
        let (given, started) = (deployment.clone(), started.clone());
        let indices = |code: &Code| code.start.clone();
        self.call(step, "promote", deployment, indices, claims::nothing, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_promote(store, &given, &started).await
            })
        })
        .await
    }

    pub async fn restore(
        &self,
        step: StepContext,
        deployment: &Deployment,
    ) -> Result<Option<Instance>, StepError> {
        let given = deployment.clone();
        let indices = |code: &Code| code.start.clone();
        let may_run = MayRun::of(&step);
        self.call(step, "restore", deployment, indices, claims::restored, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_restore(store, &given).await
            })
        })
        .await
        .and_then(|restored| match &restored {
            Some(instance) => may_run.check("restore", instance).map(|()| restored),
            None => Ok(restored),
        })
    }

    pub async fn verify(
        &self,
        step: StepContext,
        deployment: &Deployment,
        started: &Instance,
    ) -> Result<Verdict, StepError> {
        let (given, started) = (deployment.clone(), started.clone());
        let indices = |code: &Code| code.verify.clone();
        self.call(step, "verify", deployment, indices, claims::verdict, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_verify(store, &given, &started).await
            })
        })
        .await
    }

    pub async fn register(
        &self,
        step: StepContext,
        deployment: &Deployment,
        publication: &Publication,
    ) -> Result<Registration, StepError> {
        let (given, publication) = (deployment.clone(), publication.clone());
        let indices = |code: &Code| code.register.clone();
        self.call(step, "register", deployment, indices, claims::registration, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(misfit)?;
                guest.call_register(store, &given, &publication).await
            })
        })
        .await
    }

    /// One call, from its indices to an answer that can be believed.
    async fn call<T, I, F>(
        &self,
        step: StepContext,
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
        let plugin = step.plugin.clone();
        let lacks_service = !step.grants.has(Grant::ServiceRead);
        let line = step.grants.line_with(&plugin.name, Grant::ServiceRead);
        let hint =
            format!("the plugin may miss a grant: add to `[grants]` in {}: `{line}`", step.pipeline_file);
        let outcome = match indices(&plugin.code) {
            Some(indices) => self.sandboxed(step, |store, instance| call(indices, store, instance)).await,
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
        let plugin = step.plugin.name.clone();
        let lacks = !step.grants.has(Grant::TargetRead);
        let missing = lacks.then(|| {
            let line = step.grants.line_with(&plugin, Grant::TargetRead);
            format!("add it to `[grants]` in {}: `{line}`", step.pipeline_file)
        });
        Self { plugin, missing }
    }

    fn check(&self, function: &'static str, instance: &Instance) -> Result<(), StepError> {
        let says = !(instance.alive.is_empty() && instance.last_words.is_empty());
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
