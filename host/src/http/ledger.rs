//! What stands behind the API in its tests: a real journal, and nobody who runs the jobs in it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::watch;

use crate::job::{
    Capabilities, CurrentJob, DeployRequest, Deployments, FieldProblem, Health, Known, Refusal,
    ReleaseOnTarget, Trouble,
};
use crate::journal::{Audit, AuditEntry, AuditHead, AuditVerdict, JobLog, Releases, Sqlite, now};
use crate::model::{
    Actor, Aftermath, CallRecord, Event, Failure, JobKind, JobRecord, JobRequest, JobState, NewJob, Phase,
    Submitted,
};

/// Jobs that are accepted and recorded, and that nobody runs.
pub struct Ledger {
    pub journal: Sqlite,
    target: String,
    _folder: tempfile::TempDir,
}

impl Ledger {
    pub async fn open() -> Ledger {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.db");
        Ledger::of(&file, folder, "root@203.0.113.7:22").await
    }

    /// With a journal that is in that folder already, of jobs on that target.
    pub async fn of(file: &std::path::Path, folder: tempfile::TempDir, target: &str) -> Ledger {
        let journal = Sqlite::open(file).await.unwrap();
        Ledger { journal, target: target.into(), _folder: folder }
    }

    /// Ends a job as if it had been run.
    pub async fn finish(&self, id: &str, state: JobState, error: Option<Failure>) {
        let mut job = self.journal.job(id).await.unwrap().unwrap();
        job.started_at = Some(job.created_at);
        job.completed_at = Some(job.created_at + jiff::SignedDuration::from_millis(1500));
        job.state = state;
        job.error = error;
        self.journal.set_state(&job).await.unwrap();
    }
}

#[async_trait]
impl Deployments for Ledger {
    async fn submit(
        &self,
        request: DeployRequest,
        key: Option<String>,
        actor: Actor,
    ) -> Result<JobRecord, Refusal> {
        let job = NewJob {
            id: format!("deploy-{}", uuid::Uuid::now_v7()),
            kind: JobKind::Deploy,
            service: request.service_name,
            target: self.target.clone(),
            method: request.deployment_method,
            release: "r1".into(),
            request: JobRequest {
                service_path: request.service_path,
                service_folder: "/srv".into(),
                folder_mark: None,
                droplet_id: request.droplet_id,
                service_port: request.service_port,
                auto_register: request.auto_register,
                verification_job_id: request.verification_job_id,
                environment: Vec::new(),
                digest: String::new(),
                actor,
            },
            plan: crate::model::samples::plan(),
            created_at: now(),
            idempotency_key: key,
            encrypted_environment: None,
            skipped: vec![(Phase::Register, "no registry is set".into())],
        };
        match self.journal.submit(&job).await? {
            Submitted::New(job) | Submitted::Known(job) | Submitted::KeyTaken(job) => Ok(job),
        }
    }

    async fn problems(&self, known: &Known) -> Vec<FieldProblem> {
        let unknown = known.deployment_method.iter().filter(|method| *method != "docker");
        unknown.map(|method| FieldProblem::new("deployment_method", format!("no `{method}`"))).collect()
    }

    async fn job(&self, id: &str) -> Result<Option<CurrentJob>, Refusal> {
        assert_ne!(id, "deploy-panic", "a defect");
        let record = self.journal.job(id).await?;
        Ok(record.map(|record| CurrentJob { record, progress: Some(json!({ "files_done": 1 })) }))
    }

    async fn rollback(
        &self,
        id: &str,
        _: Option<String>,
        _: Option<String>,
        _: Actor,
    ) -> Result<JobRecord, Refusal> {
        match self.journal.job(id).await? {
            Some(job) if job.state.is_over() => Ok(job),
            None => Err(Refusal::NotFound { detail: format!("there is no job {id}"), hint: String::new() }),
            Some(_) => Err(Refusal::Conflict {
                code: "no-previous-release",
                detail: "there is none".into(),
                hint: "deploy twice".into(),
            }),
        }
    }

    async fn cancel(&self, id: &str, actor: Actor) -> Result<JobRecord, Refusal> {
        self.journal.set_cancelled_by(id, &actor).await?;
        let mut job = self.journal.job(id).await?.ok_or_else(|| Refusal::NotFound {
            detail: format!("there is no job {id}"),
            hint: String::new(),
        })?;
        job.state = JobState::Cancelled(Aftermath::Untouched);
        job.completed_at = Some(now());
        self.journal.set_state(&job).await?;
        Ok(job)
    }

    async fn history(
        &self,
        service: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Option<Vec<JobRecord>>, Refusal> {
        if !self.journal.knows_service(service).await? {
            return Ok(None);
        }
        Ok(Some(self.journal.history(service, before, limit).await?))
    }

    async fn events(&self, id: &str, after: u64, limit: u32) -> Result<Vec<Event>, Refusal> {
        Ok(self.journal.events(id, after, limit).await?)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.journal.watch()
    }

    async fn calls(&self, id: &str) -> Result<Vec<CallRecord>, Refusal> {
        Ok(self.journal.calls(id).await?)
    }

    async fn releases(&self, service: &str) -> Result<Option<Vec<ReleaseOnTarget>>, Refusal> {
        if !self.journal.knows_service(service).await? {
            return Ok(None);
        }
        let releases = self.journal.releases(service, &self.target).await?;
        let listed = |record| ReleaseOnTarget {
            record,
            is_predecessor: false,
            unavailable: None,
            unchecked: None,
            target_asked: false,
        };
        Ok(Some(releases.into_iter().map(listed).collect()))
    }

    async fn audit(
        &self,
        service: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Option<Vec<AuditEntry>>, Refusal> {
        if let Some(service) = service
            && !self.journal.knows_service(service).await?
        {
            return Ok(None);
        }
        Ok(Some(self.journal.audit(service, before, limit).await?))
    }

    async fn verify_audit(&self, known: Option<AuditHead>) -> Result<AuditVerdict, Refusal> {
        Ok(self.journal.verify_audit(known).await?)
    }

    async fn health(&self) -> Health {
        let detail = "203.0.113.7:22 does not answer".into();
        Health { ssh: Err(Trouble { status: "unreachable", detail }), registry: None, journal: Ok(()) }
    }

    async fn capabilities(&self) -> Capabilities {
        Capabilities { methods: vec!["docker".into()], ..Capabilities::default() }
    }

    async fn counts(&self) -> Result<Vec<(String, u64)>, Refusal> {
        Ok(self.journal.counts().await?)
    }
}
