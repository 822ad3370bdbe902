//! The functions of a plugin, typed: what each is given, and how its answer is checked.

use std::sync::Arc;

use futures::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::Instance as Component;

use super::bounds::Bounded;
use super::component::{Code, Plugin};
use super::runtime::Runtime;
use super::sandbox::{Answer, incompatible};
use super::store::State;
use super::{StepError, StepFailure, answer_checks};
use crate::capability::StepContext;
use crate::contract::{self, Deployment, Publication};
use crate::model::{Artifact, Confirmation, Files, Finding, Grant, Instance, Verdict};

/// One call: `self`, the interface that exports the function, the function, what it is given, and the check of its
/// answer. Each interface has generated types of its own, so that no function can do this.
macro_rules! call {
    ($self:ident.$interface:ident.$function:ident($deployment:ident $(, $given:ident)?), $check:path) => {{
        let owned = $deployment.clone();
        $(let $given = $given.clone().into();)?
        let name = stringify!($function).trim_start_matches("call_");
        $self.call(name, $deployment, |code| code.$interface.clone(), $check, |indices, store, instance| {
            Box::pin(async move {
                let guest = indices.load(&mut *store, instance).map_err(incompatible)?;
                guest.$function(store, &owned $(, &$given)?).await
            })
        })
    }};
}

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
        let findings = call!(self.validate.call_validate(deployment), answer_checks::findings);
        Ok(findings.await?.into_iter().map(Into::into).collect())
    }

    pub async fn transfer(self, deployment: &Deployment) -> Result<Files, StepError> {
        let files = call!(self.transfer.call_transfer(deployment), answer_checks::files);
        Ok(files.await?.into())
    }

    pub async fn build(self, deployment: &Deployment, files: &Files) -> Result<Artifact, StepError> {
        let artifact = call!(self.build.call_build(deployment, files), answer_checks::artifact);
        Ok(artifact.await?.into())
    }

    /// With calls that only read.
    pub async fn inspect(
        mut self,
        deployment: &Deployment,
        artifact: &Artifact,
    ) -> Result<Option<Artifact>, StepError> {
        self.context.only_reads = true;
        let found = call!(self.build.call_inspect(deployment, artifact), answer_checks::inspected);
        Ok(found.await?.map(Into::into))
    }

    pub async fn discard(self, deployment: &Deployment, artifact: &Artifact) -> Result<(), StepError> {
        call!(self.build.call_discard(deployment, artifact), answer_checks::nothing).await
    }

    pub async fn start(self, deployment: &Deployment, artifact: &Artifact) -> Result<Instance, StepError> {
        let may_run = MayRun::of(&self.context);
        let started = call!(self.start.call_start(deployment, artifact), answer_checks::instance).await?;
        may_run.check("start", &started)?;
        Ok(started.into())
    }

    pub async fn promote(self, deployment: &Deployment, started: &Instance) -> Result<(), StepError> {
        call!(self.start.call_promote(deployment, started), answer_checks::nothing).await
    }

    pub async fn restore(self, deployment: &Deployment) -> Result<Option<Instance>, StepError> {
        let may_run = MayRun::of(&self.context);
        let restored = call!(self.start.call_restore(deployment), answer_checks::restored).await?;
        if let Some(instance) = &restored {
            may_run.check("restore", instance)?;
        }
        Ok(restored.map(Into::into))
    }

    pub async fn verify(self, deployment: &Deployment, started: &Instance) -> Result<Verdict, StepError> {
        let verdict = call!(self.verify.call_verify(deployment, started), answer_checks::verdict);
        Ok(verdict.await?.into())
    }

    pub async fn register(
        self,
        deployment: &Deployment,
        publication: &Publication,
    ) -> Result<Confirmation, StepError> {
        let confirmed =
            call!(self.register.call_register(deployment, publication), answer_checks::registration);
        Ok(confirmed.await?.into())
    }

    /// One call, from its indices to an answer that was checked.
    async fn call<T, I, F>(
        self,
        function: &'static str,
        deployment: &Deployment,
        indices: fn(&Code) -> Option<I>,
        check: fn(&Deployment, &T) -> Result<(), String>,
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
            format!("the plugin may lack a grant: add to `[grants]` in {}: `{line}`", step.pipeline_file);
        let outcome = match indices(&plugin.code) {
            Some(indices) => {
                runtime.sandboxed(&plugin, step, |store, instance| call(indices, store, instance)).await
            }
            None => Err(StepFailure::Missing),
        };
        let outcome = outcome.and_then(|answer| {
            let checked = answer.bounded().and_then(|answer| check(deployment, &answer).map(|()| answer));
            checked.map_err(StepFailure::InvalidAnswer)
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
                let failure = StepFailure::InvalidAnswer(problem);
                Err(StepError { plugin: self.plugin.clone(), function, failure })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Where a file of the service was not found and the plugin may not see them, that is the likely cause: an
/// operating system's words do not say so.
fn with_hint(failure: StepFailure, hint: &str) -> StepFailure {
    let about_service =
        |text: &str| names_service(text) || text.contains("os error 44") || text.contains("pre-opened");
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

/// Whether a text speaks of `/service` itself, and not of a path that only has the word in it.
fn names_service(text: &str) -> bool {
    let is_name = |next: char| next.is_alphanumeric() || matches!(next, '-' | '_' | '.' | '/');
    text.match_indices("/service").any(|(at, word)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(is_name) && !after.is_some_and(|next| next != '/' && is_name(next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_folder_is_told_from_other_paths() {
        let check = |text: &str, expect: bool| assert_eq!(names_service(text), expect, "{text}");
        check("cannot open /service/app.py", true);
        check("`/service`: not found", true);
        check("may not read /opt/fpai/services/one/env/2", false);
        check("may not read /opt/service/x", false);
        check("/services", false);
    }
}
