//! What a job looks at before anything that runs is stopped: whether its release can be started, and whether what
//! runs could be brought back if it fails.

use super::interrupt::{Interrupt, fail};
use super::outcome::Life;
use super::promise::{self, Because};
use super::runner::Runner;
use super::{conversions, decision, looking};
use crate::model::{
    Aftermath, Artifact, Fault, Finding, JobKind, Phase, Plan, PlannedStep, ReleaseRecord, Severity,
};

impl Runner {
    /// Makes sure that what Start needs is there. Only before Start was called for the first time: afterwards,
    /// what ran may be stopped, and Start itself says what it lacks.
    pub(super) async fn startable(&mut self) -> Result<(), Interrupt> {
        if self.start_begun() {
            return Ok(());
        }
        let Some(because) = self.unstartable().await? else { return Ok(()) };
        let (fault, next) = match &because {
            Because::NoPlugin { .. }
            | Because::PluginRefused { .. }
            | Because::NoExport { .. }
            | Because::Settings { .. } => {
                (Fault::Plugin, "put back the plugin that the release was made with, and try again")
            }
            Because::ReleaseStatus(_)
            | Because::Unfinished
            | Because::NoPlan
            | Because::NoFiles { .. }
            | Because::NoEnvironment { .. }
            | Because::EnvironmentMode { .. }
            | Because::NoArtifact { .. }
            | Because::Lacks(_) => (Fault::Target, "deploy that version again"),
        };
        Err(fail(fault, &format!("start release {}", self.release.id), &because.to_string(), next))
    }

    async fn unstartable(&mut self) -> Result<Option<Because>, Interrupt> {
        let (plan, release) = (self.plan.clone(), self.release.clone());
        if let Some(because) = promise::lacks_plugin(&plan, self.plugins.as_ref(), &self.plugins.refused) {
            return Ok(Some(because));
        }
        let found = self.inspect("start/inspect", Phase::StartService, &release, &plan).await?;
        match self.job.kind {
            // Its environment may not be in its place yet.
            JobKind::Deploy => Ok(promise::lacks_artifact(release.artifact(), &found)),
            JobKind::Rollback => self.lacks_there(&release, found).await,
        }
    }

    /// Whether the release that runs could be brought back if this job fails: a warning where it could not.
    pub(super) async fn previous_at_risk(
        &mut self,
        key: &str,
        phase: Phase,
    ) -> Result<Option<Finding>, Interrupt> {
        let Some(previous) = self.job.previous.clone().filter(|_| !self.start_begun()) else {
            return Ok(None);
        };
        // What an older version deployed is brought back by this job's own pipeline.
        let own = looking::plan_of(&self.host, &previous).await?;
        let plan = own.unwrap_or_else(|| self.plan.clone());
        let because = match promise::lacks_plugin(&plan, self.plugins.as_ref(), &self.plugins.refused) {
            Some(because) => Some(because),
            None => {
                let found = self.inspect(key, phase, &previous, &plan).await?;
                self.lacks_there(&previous, found).await?
            }
        };
        let check = "restoring the running release".to_owned();
        Ok(Some(match because {
            None => Finding {
                severity: Severity::Passed,
                check,
                message: format!("release {}", previous.id),
                next: String::new(),
            },
            Some(because) => Finding {
                severity: Severity::Warning,
                check,
                message: format!("if this job fails, release {} cannot be restored: {because}", previous.id),
                next: "if it fails, deploy a version that works".into(),
            },
        }))
    }

    /// Whether Start was called in this job, in this run or an earlier one: what ran may have been touched.
    pub(super) fn start_begun(&self) -> bool {
        decision::start_begun(self.calls.iter().map(|(key, _)| key.as_str()))
    }

    /// What runs after a job that failed in Start before it called anything that could have touched it.
    pub(super) async fn untouched(&mut self) -> Aftermath {
        let previous = self.job.previous.as_ref().map(|previous| previous.id.clone());
        match (previous, self.previous_instance()) {
            (Some(previous), Some(_)) => match self.life_of_previous().await {
                Life::Lives => Aftermath::StillRuns(previous),
                Life::Dead(_) | Life::Unseen(_) => Aftermath::Untouched,
            },
            (Some(_) | None, _) => Aftermath::Untouched,
        }
    }

    async fn lacks_there(
        &self,
        release: &ReleaseRecord,
        found: Result<Option<Artifact>, String>,
    ) -> Result<Option<Because>, Interrupt> {
        let layout = release.layout(&self.host.root);
        let mut budget = self.retry_budget();
        loop {
            let found = found.clone();
            match looking::on_target(&self.host.ssh, &layout, async { found }).await {
                Ok(seen) => return Ok(promise::lacks_there(release, &layout, &seen)),
                Err(error)
                    if error.retryable() && self.wait_for_target(&mut budget, &error.problem()).await? => {}
                Err(error) => return Ok(Some(Because::Lacks(error.problem()))),
            }
        }
    }

    /// What a release's plugin finds of its artifact, as a step of this job; an error in the plugin's words.
    async fn inspect(
        &mut self,
        key: &str,
        phase: Phase,
        release: &ReleaseRecord,
        plan: &Plan,
    ) -> Result<Result<Option<Artifact>, String>, Interrupt> {
        let built = plan.steps(Phase::Build).next();
        let artifact = release.artifact();
        let (Some(built), Some(artifact)) = (built, &artifact) else {
            return Ok(Err("its artifact is not on record".into()));
        };
        let planned = &PlannedStep { phase, ..built.clone() };
        let deployment = &conversions::of_release(&self.host.root, release, &self.job.id, &planned.settings);
        // What an earlier run saw may be gone by now.
        self.done.retain(|step| step.step != key);
        let found = self
            .step(key, planned, "inspect", |call| async move { call.inspect(deployment, artifact).await })
            .await;
        match found {
            Ok(found) => Ok(Ok(found)),
            Err(Interrupt::Failed { failure, .. }) => Ok(Err(failure.seen)),
            Err(interrupt) => Err(interrupt),
        }
    }
}
