//! The API's way to the jobs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::promise::Availability;
use super::supervisor::Supervisor;
use super::{looking, records, release, submission};
use crate::job::{
    Capabilities, CurrentJob, DeployRequest, Deployments, FieldProblem, Health, JobLimits, Known,
    PluginSummary, Refusal, RefusedPlugin, ReleaseOnTarget,
};
use crate::journal::{AuditEntry, AuditHead, AuditVerdict};
use crate::model::{Actor, CallRecord, Event, JobRecord, Keep, ReleaseRecord};

/// How long an answer about the plugins waits for those that are still being loaded.
const LOADING: Duration = Duration::from_secs(10);

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
        let supervisor = self.0.clone();
        self.0
            .lasting(async move {
                let (host, key) = (&supervisor.host, idempotency_key.as_deref());
                let digest = submission::digest(host, &request);
                if let Some(job) = supervisor.keyed(key, &digest).await? {
                    return Ok(job);
                }
                let asked = submission::deployment(host, request, idempotency_key, actor).await?;
                supervisor.accept(asked.0, Some(&asked.1)).await
            })
            .await
    }

    async fn problems(&self, known: &Known) -> Vec<FieldProblem> {
        submission::feasible(&self.0.host, known).await.problems
    }

    async fn job(&self, id: &str) -> Result<Option<CurrentJob>, Refusal> {
        let Some(record) = self.0.host.journal.job(id).await? else { return Ok(None) };
        let progress = self.0.live_job(id).and_then(|live| live.progress());
        Ok(Some(CurrentJob { record, progress }))
    }

    async fn rollback(
        &self,
        id: &str,
        release: Option<String>,
        idempotency_key: Option<String>,
        actor: Actor,
    ) -> Result<JobRecord, Refusal> {
        let (supervisor, id) = (self.0.clone(), id.to_owned());
        let accepted = self
            .0
            .lasting(async move {
                let (host, key) = (&supervisor.host, idempotency_key.as_deref());
                let service = submission::service_of(host, &id).await?;
                let digest = submission::rollback_digest(host, &id, release.as_deref());
                // Before the release is chosen: once the first one went back, the choice is another.
                if let Some(job) = supervisor.keyed(key, &digest).await? {
                    return Ok(job);
                }
                match submission::rollback(host, &service, release.as_deref(), actor).await {
                    Ok(mut job) => {
                        job.idempotency_key = idempotency_key;
                        job.request.digest = digest;
                        supervisor.accept(job, None).await
                    }
                    // The same request may have gone back meanwhile, and left nothing to go back to.
                    Err(refusal) => supervisor.keyed(key, &digest).await?.ok_or(refusal),
                }
            })
            .await?;
        self.0.ended(&accepted.id).await
    }

    async fn cancel(&self, id: &str, actor: Actor) -> Result<JobRecord, Refusal> {
        let (supervisor, id) = (self.0.clone(), id.to_owned());
        self.0.lasting(async move { supervisor.cancel(&id, &actor).await }).await
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
        if crate::model::service_name_problem(service).is_some() {
            return Ok(None);
        }
        let asked = records::refresh(host, service).await?;
        if let Err(error) = &asked {
            tracing::warn!(service, %error, "could not ask the target; listing the releases from the journal");
        }
        let releases = host.journal.releases(service, &host.ssh.target().to_string()).await?;
        if releases.is_empty() && !host.journal.knows_service(service).await? {
            return match asked {
                Ok(_) => Ok(None),
                Err(error) => Err(Refusal::Unavailable {
                    detail: format!(
                        "the journal has no release of {service}, and the target could not be asked: {}",
                        error.problem()
                    ),
                    hint: error.next_move(),
                }),
            };
        }
        let back = release::rollback_target(&releases, None).ok().map(|release| release.id.clone());
        let availability = looking::availability(host, &releases).await?;
        let listed = |(record, availability): (ReleaseRecord, Availability)| ReleaseOnTarget {
            is_predecessor: back.as_ref() == Some(&record.id),
            unavailable: availability.unavailable(),
            unchecked: availability.unchecked(),
            target_asked: asked.is_ok(),
            record,
        };
        Ok(Some(releases.into_iter().zip(availability).map(listed).collect()))
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
        let journal = async { host.journal.check().await.map_err(|error| error.to_string()) };
        let (ssh, registry, journal) = tokio::join!(
            host.conditions.ssh(&host.ssh),
            host.conditions.registry(&host.http, host.registry.as_ref()),
            journal
        );
        Health { ssh, registry, journal }
    }

    async fn capabilities(&self) -> Capabilities {
        let host = &self.0.host;
        let plugins = host.catalog.snapshot_within(LOADING).await;
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
                .chain(plugins.loading.iter().map(|name| RefusedPlugin {
                    file: format!("{name}.wasm"),
                    reason: "it is still being loaded".into(),
                }))
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
