//! The API's way to the jobs.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::release;
use super::state::{JobState, Phase};
use super::submission;
use super::supervisor::Supervisor;
use crate::http::{
    Capabilities, CurrentJob, DeployRequest, Deployments, FieldProblem, Health, JobLimits, Known,
    PluginSummary, Refusal, RefusedPlugin, ReleaseOnTarget,
};
use crate::journal::{
    Actor, AuditEntry, AuditHead, AuditVerdict, CallRecord, Event, JobRecord, ReleaseRecord,
};
use crate::pipeline::Keep;

#[derive(Clone)]
pub struct Jobs(pub Arc<Supervisor>);

#[async_trait]
impl Deployments for Jobs {
    async fn submit(
        &self,
        request: DeployRequest,
        idempotency_key: Option<String>,
        actor: Actor,
    ) -> Result<JobRecord, Refusal> {
        let job = submission::deployment(&self.0.host, request, idempotency_key, actor).await?;
        self.0.accept(job).await
    }

    async fn problems(&self, known: &Known) -> Vec<FieldProblem> {
        submission::feasible(&self.0.host, known).await.problems
    }

    async fn job(&self, id: &str) -> Result<Option<CurrentJob>, Refusal> {
        let Some(record) = self.0.host.journal.job(id).await? else { return Ok(None) };
        let progress = self.0.live_job(id).and_then(|live| live.progress());
        Ok(Some(CurrentJob { record, progress }))
    }

    async fn rollback(&self, id: &str, release: Option<String>, actor: Actor) -> Result<JobRecord, Refusal> {
        let of = self.0.known(id).await?;
        let job = submission::rollback(&self.0.host, &of, release.as_deref(), actor).await?;
        let accepted = self.0.accept(job).await?;
        self.0.ended(&accepted.id).await
    }

    async fn cancel(&self, id: &str, actor: Actor) -> Result<JobRecord, Refusal> {
        let job = self.0.known(id).await?;
        let live = self.0.live_job(id).filter(|_| !job.state.is_over());
        let Some(live) = live else {
            return Err(Refusal::Conflict {
                code: "job-over",
                detail: format!("{id} is {} already", job.state.status().name()),
                hint: "only a job that waits or runs can be cancelled".into(),
            });
        };
        if job.state == JobState::Running(Phase::Register) {
            return Err(Refusal::Conflict {
                code: "past-no-return",
                detail: format!("release {} of {} is verified and live", job.release, job.service),
                hint: format!("to go back: POST /deploy/{id}/rollback"),
            });
        }
        self.0.host.journal.set_cancelled_by(id, &actor).await?;
        live.cancel_by(actor.name);
        // One that waits need not wait for its turn in order to end.
        if job.state == JobState::Pending && live.claim() {
            self.0.end_pending(job, &live).await?;
            self.0.forget(id);
        }
        self.0.known(id).await
    }

    async fn history(
        &self,
        service: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Option<Vec<JobRecord>>, Refusal> {
        let journal = &self.0.host.journal;
        if !journal.knows_service(service).await? {
            return Ok(None);
        }
        Ok(Some(journal.history(service, before, limit).await?))
    }

    async fn events(&self, id: &str, after: u64, limit: u32) -> Result<Vec<Event>, Refusal> {
        Ok(self.0.host.journal.events(id, after, limit).await?)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.0.host.journal.watch()
    }

    async fn calls(&self, id: &str) -> Result<Vec<CallRecord>, Refusal> {
        Ok(self.0.host.journal.calls(id).await?)
    }

    async fn releases(&self, service: &str) -> Result<Option<Vec<ReleaseOnTarget>>, Refusal> {
        let host = &self.0.host;
        if !host.journal.knows_service(service).await? {
            return Ok(None);
        }
        let releases = host.journal.releases(service, &host.ssh.target().to_string()).await?;
        let back = release::way_back(&releases, None).ok().map(|release| release.id.clone());
        let listed = |record: ReleaseRecord| {
            let is_way_back = back.as_ref() == Some(&record.id);
            ReleaseOnTarget { record, is_way_back }
        };
        Ok(Some(releases.into_iter().map(listed).collect()))
    }

    async fn audit(
        &self,
        service: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Option<Vec<AuditEntry>>, Refusal> {
        let journal = &self.0.host.journal;
        if let Some(service) = service
            && !journal.knows_service(service).await?
        {
            return Ok(None);
        }
        Ok(Some(journal.audit(service, before, limit).await?))
    }

    async fn verify_audit(&self, known: Option<AuditHead>) -> Result<AuditVerdict, Refusal> {
        Ok(self.0.host.journal.verify_audit(known).await?)
    }

    async fn health(&self) -> Health {
        let host = &self.0.host;
        let journal = async { host.journal.counts().await.map(|_| ()).map_err(|error| error.to_string()) };
        let (ssh, registry, journal) = tokio::join!(host.ssh_condition(), host.registry_condition(), journal);
        Health { ssh, registry, journal }
    }

    async fn capabilities(&self) -> Capabilities {
        let host = &self.0.host;
        let plugins = host.catalog.snapshot().await;
        Capabilities {
            methods: plugins.methods(),
            plugins: plugins
                .plugins
                .values()
                .map(|plugin| PluginSummary {
                    name: plugin.name.clone(),
                    version: plugin.version.clone(),
                    summary: plugin.summary.clone(),
                    phases: plugin.exports.iter().map(|export| export.as_str().to_owned()).collect(),
                    digest: plugin.digest.clone(),
                })
                .collect(),
            refused: plugins
                .refused
                .iter()
                .map(|refused| RefusedPlugin { file: refused.file.clone(), reason: refused.reason.clone() })
                .collect(),
            target: host.ssh.target().to_string(),
            registry: host.registry.as_ref().map(|registry| registry.url.clone()),
            limits: JobLimits { job_timeout_seconds: 600, retention_days: Keep::default().days },
        }
    }

    async fn counts(&self) -> Result<Vec<(String, u64)>, Refusal> {
        Ok(self.0.host.journal.counts().await?)
    }
}
