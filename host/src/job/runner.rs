//! One job while it runs: what there is of it in memory, and how its state and its phases are recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::host::{Host, who};
use super::interrupt::{Interrupt, fail};
use super::lease_guard::LeaseGuard;
use super::live::LiveJob;
use super::reconcile::OnTarget;
use super::{outage, release};
use crate::capability::{EnvironmentSource, FolderError, ServiceFolder, Started};
use crate::journal::{JournalError, now};
use crate::model::{
    Failure, Fault, JobEvent, JobKind, JobRecord, Origin, Phase, PhaseStatus, PhaseUpdate, Plan,
    ReleaseRecord, ReleaseStatus, StepRecord,
};
use crate::plugin::Snapshot;
use crate::secret::{Redactor, Secret};

/// One job on its way.
pub(super) struct Runner {
    pub host: Arc<Host>,
    pub live: Arc<LiveJob>,
    pub job: JobRecord,
    pub plan: Plan,
    pub plugins: Arc<Snapshot>,
    /// What earlier runs of this job have done.
    pub done: Vec<StepRecord>,
    /// Whether there was an earlier run.
    pub resumed: bool,
    /// The calls of plugins that this job made, by their key and their number in the journal.
    pub calls: Vec<(String, i64)>,
    pub guard: Option<Arc<LeaseGuard>>,
    /// From Start on, where something ran before.
    pub watch: Option<outage::Watch>,
    pub environment: EnvironmentSource,
    /// Takes out of what is recorded what must not be shown.
    pub redactor: Redactor,
    /// The releases whose environments were read from the target for it.
    pub revealed: BTreeSet<String>,
    /// Releases of earlier jobs that this one has to do with, beside the one that ran before.
    pub touched_releases: Vec<ReleaseRecord>,
    /// What another deployer left half done is being undone: like bringing back what ran before, it is not interrupted.
    pub undoing: bool,
    pub release: ReleaseRecord,
    /// The service's folder, as it was when the job was accepted; or why it is not.
    pub folder: Result<ServiceFolder, FolderError>,
    /// What was on the target when the lease was taken. None in a later run of the job.
    pub seen: Option<OnTarget>,
    /// The instance that is being verified, and what may be run to look at it.
    pub started: Option<Started>,
}

impl Runner {
    pub(super) async fn prepare(
        host: Arc<Host>,
        live: Arc<LiveJob>,
        mut job: JobRecord,
    ) -> Result<Self, Interrupt> {
        let plan = job.plan.read().cloned().map_err(|why| {
            let seen = format!("it was written by another version: {why}");
            fail(Fault::Host, "read the job's plan", &seen, "deploy again")
        })?;
        let done = host.journal.steps(&job.id).await?;
        let releases = host.journal.releases(&job.service, &job.target).await?;
        if job.started_at.is_none() {
            job.previous = release::live(&releases).cloned();
            host.journal.set_previous(&job.id, job.previous.as_ref()).await?;
        }
        let values = match host.journal.encrypted_environment(&job.id).await? {
            Some(encrypted) => Some(host.cipher.decrypt(&job.id, &encrypted).map_err(|error| {
                fail(Fault::Host, "open the job's environment", &error.to_string(), "deploy again")
            })?),
            None => None,
        };
        let there =
            |release: &ReleaseRecord| release.id == job.release && release.status != ReleaseStatus::Removing;
        let release = match releases.into_iter().find(there) {
            Some(release) => release,
            // Retention may have come before this job's turn.
            None if job.kind == JobKind::Rollback => {
                return Err(fail(
                    Fault::Request,
                    &format!("roll back to release {}", job.release),
                    "it was removed from the target while this job waited",
                    "see `deployer releases SERVICE`, and roll back to one of those listed",
                ));
            }
            None => ReleaseRecord {
                service: job.service.clone(),
                target: job.target.clone(),
                id: job.release.clone(),
                job: job.id.clone(),
                status: ReleaseStatus::Candidate,
                method: job.method.clone(),
                port: job.request.service_port,
                environment: job.request.environment.clone(),
                environment_digest: host.cipher.digest(values.as_ref().unwrap_or(&BTreeMap::new())),
                files: None,
                artifact: None,
                instance: None,
                plugins: plan.steps.iter().map(|step| (step.plugin.clone(), step.digest.clone())).collect(),
                plan: Some(job.plan.clone()),
                created_at: job.created_at,
                promoted_at: None,
                promoted_by: None,
                origin: Some(Origin {
                    deployer: who(),
                    service_path: job.request.service_path.clone(),
                    droplet_id: job.request.droplet_id,
                    auto_register: job.request.auto_register,
                    verification_job_id: job.request.verification_job_id.clone(),
                }),
            },
        };
        let environment = match values {
            Some(values) => EnvironmentSource::Held(Arc::new(
                values.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
            )),
            None => EnvironmentSource::OnTarget,
        };
        let redactor = Runner::first_redactor(&host, &job, &plan, &environment).await;
        // Those of the job, and of what it may have to bring back.
        let before = job.previous.as_ref().and_then(ReleaseRecord::plan);
        let steps = plan.steps.iter().chain(before.into_iter().flat_map(|plan| &plan.steps));
        let plugins = host.catalog.with(&steps.map(|step| step.plugin.clone()).collect()).await;
        let resumed = job.started_at.is_some();
        let folder = ServiceFolder::open_marked(
            job.request.service_folder.as_ref(),
            job.request.folder_mark.as_deref(),
        );
        let calls = done.iter().map(|step| (step.step.clone(), step.id)).collect();
        Ok(Runner {
            host,
            live,
            job,
            plan,
            plugins,
            done,
            resumed,
            calls,
            guard: None,
            watch: None,
            environment,
            redactor,
            revealed: BTreeSet::new(),
            touched_releases: Vec::new(),
            undoing: false,
            release,
            folder,
            seen: None,
            started: None,
        })
    }

    pub(super) async fn enter(&mut self, phase: Phase) -> Result<(), JournalError> {
        self.advance(JobEvent::Entered(phase)).await?;
        let mut update = PhaseUpdate::new(phase, PhaseStatus::Running);
        let known = self.job.phase(phase).and_then(|record| record.started_at);
        update.started_at = known.or_else(|| Some(now()));
        self.live.clear_progress();
        self.set_phase(update).await
    }

    pub(super) async fn advance(&mut self, event: JobEvent) -> Result<(), JournalError> {
        if let Some(error) = self.job.error.take() {
            self.job.error = Some(self.redacted_failure(error).await);
        }
        // The record must stay true, so the state stays; the defect is said where it can be seen.
        if let Err(error) = self.job.apply(&event) {
            tracing::error!(job = %self.job.id, %error);
        }
        self.host.journal.set_state(&self.job).await
    }

    pub(super) async fn phase_ended(
        &mut self,
        phase: Phase,
        status: PhaseStatus,
        details: Value,
        error: Option<Failure>,
    ) -> Result<(), JournalError> {
        let mut update = PhaseUpdate::new(phase, status);
        update.completed_at = Some(now());
        update.details = Some(details);
        update.error = error;
        self.set_phase(update).await
    }

    pub(super) async fn set_phase(&mut self, update: PhaseUpdate) -> Result<(), JournalError> {
        let update = self.redacted_update(update).await;
        self.host.journal.set_phase(&self.job.id, &update).await?;
        if let Some(record) = self.job.phases.iter_mut().find(|record| record.phase == update.phase) {
            record.status = update.status;
            record.started_at = update.started_at.or(record.started_at);
            record.completed_at = update.completed_at.or(record.completed_at);
            if let Some(details) = update.details {
                record.details = details;
            }
            record.error = update.error;
        }
        Ok(())
    }
}
