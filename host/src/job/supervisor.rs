//! Owns the jobs that live: a queue for each service, cancelling, and going on after a restart.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::registering::{self, Due};
use super::release::ReleaseIds;
use super::runner;
use super::state::{Aftermath, JobState, Phase};
use super::submission;
use crate::capability::{Amount, HttpClient, Registry};
use crate::http::{
    Capabilities, CurrentJob, DeployRequest, Deployments, FieldProblem, Health, JobLimits, Known,
    PluginSummary, Refusal, RefusedPlugin,
};
use crate::journal::{
    Actor, AuditEntry, AuditHead, AuditVerdict, CallRecord, Event, Failure, Fault, JobRecord, Journal,
    JournalError, NewJob, ReleaseRecord, Submitted, now,
};
use crate::pipeline::Keep;
use crate::seal::Seal;
use crate::ssh::{Ended, RemoteCommand, RemoteProcess, Ssh};
use crate::stage::{Catalog, Stage};

/// What every job works with.
pub struct Host {
    pub journal: Arc<dyn Journal>,
    pub seal: Seal,
    pub stage: Stage,
    pub catalog: Catalog,
    pub ssh: Ssh,
    pub http: HttpClient,
    pub registry: Option<Registry>,
    /// The services root on this machine.
    pub services: PathBuf,
    pub pipelines: PathBuf,
    /// The services root on the target.
    pub root: String,
    /// This deployer's id in its leases. It is the data folder's, so that it stays after a restart.
    pub owner: String,
    pub release_ids: ReleaseIds,
}

/// A job that is queued or runs in this process.
pub(super) struct LiveJob {
    pub cancel: CancellationToken,
    /// Somebody takes it to its end: the service's worker, or who cancelled it before its turn.
    claimed: AtomicBool,
    cancelled_by: Mutex<Option<String>>,
    progress: Mutex<Option<Value>>,
}

/// The jobs that live, and the way to them.
pub struct Supervisor {
    host: Arc<Host>,
    live: Mutex<HashMap<String, Arc<LiveJob>>>,
    queues: Mutex<HashMap<String, mpsc::UnboundedSender<JobRecord>>>,
    workers: tokio::sync::Mutex<JoinSet<()>>,
    stopping: CancellationToken,
}

impl Supervisor {
    /// Takes up the jobs that an earlier process left, in their order.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn start(host: Host) -> Result<Arc<Self>, JournalError> {
        let supervisor = Arc::new(Supervisor {
            host: Arc::new(host),
            live: Mutex::default(),
            queues: Mutex::default(),
            workers: tokio::sync::Mutex::default(),
            stopping: CancellationToken::new(),
        });
        for job in supervisor.host.journal.unfinished().await? {
            tracing::info!(job = %job.id, service = %job.service, state = ?job.state, "taking up a job");
            supervisor.enqueue(job).await;
        }
        let target = supervisor.host.ssh.target().to_string();
        for unregistered in supervisor.host.journal.unregistered(&target).await? {
            supervisor.queue(&unregistered.job.service).await;
        }
        Ok(supervisor)
    }

    /// Stops working, and closes the journal. Jobs that run are left where they are; the next start goes on with
    /// them.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.workers.lock().await.shutdown().await;
        self.host.journal.close().await;
    }

    async fn enqueue(self: &Arc<Self>, job: JobRecord) {
        let live = Arc::new(LiveJob::new(CancellationToken::new(), job.cancelled_by.clone()));
        // A job whose cancelling was recorded before a crash is still to be cancelled.
        if job.cancelled_by.is_some() {
            live.cancel.cancel();
        }
        lock(&self.live).insert(job.id.clone(), live);
        // Workers end only with the supervisor, so the queue is open.
        self.queue(&job.service).await.send(job).ok();
    }

    /// The queue of a service, and a worker behind it.
    async fn queue(self: &Arc<Self>, service: &str) -> mpsc::UnboundedSender<JobRecord> {
        let (sender, new) = {
            let mut queues = lock(&self.queues);
            match queues.get(service) {
                Some(queue) => (queue.clone(), None),
                None => {
                    let (sender, receiver) = mpsc::unbounded_channel();
                    queues.insert(service.to_owned(), sender.clone());
                    (sender, Some(receiver))
                }
            }
        };
        if let Some(queue) = new {
            self.workers.lock().await.spawn(self.clone().work(service.to_owned(), queue));
        }
        sender
    }

    /// Runs one service's jobs, one after the other, and between them registers what is still to be registered.
    async fn work(self: Arc<Self>, service: String, mut queue: mpsc::UnboundedReceiver<JobRecord>) {
        let mut due = self.due(&service).await;
        if let Some(due) = &mut due {
            // Whoever started the deployer again may have mended what was in the way.
            due.at = Instant::now();
        }
        while let Some(job) = self.next(&service, &mut queue, due).await {
            let id = job.id.clone();
            if let Some(live) = self.live_job(&id).filter(|live| live.claim()) {
                let end = if job.state == JobState::Pending && live.cancel.is_cancelled() {
                    self.end_pending(job, &live).await
                } else {
                    runner::run(self.host.clone(), live, job).await
                };
                if let Err(error) = end {
                    tracing::error!(job = %id, %error, "the job stopped: nothing can be recorded");
                }
                lock(&self.live).remove(&id);
            }
            due = self.due(&service).await;
        }
    }

    /// The service's next job. While none comes, what is due is registered.
    async fn next(
        &self,
        service: &str,
        queue: &mut mpsc::UnboundedReceiver<JobRecord>,
        mut due: Option<Due>,
    ) -> Option<JobRecord> {
        while let Some(planned) = due {
            tokio::select! {
                biased;
                job = queue.recv() => return job,
                () = tokio::time::sleep_until(planned.at) => {}
            }
            let interrupt = CancellationToken::new();
            let attempt = planned.attempt(self.host.clone(), interrupt.clone());
            tokio::pin!(attempt);
            let recorded = tokio::select! {
                biased;
                // A job does not wait for a registry that hangs.
                job = queue.recv() => {
                    interrupt.cancel();
                    if let Err(error) = attempt.await {
                        tracing::error!(service, %error, "the end of an attempt to register is not recorded");
                    }
                    return job;
                }
                recorded = &mut attempt => recorded,
            };
            due = match recorded {
                Ok(()) => self.due(service).await,
                Err(error) => {
                    tracing::error!(service, %error, "registering is given up: nothing can be recorded");
                    None
                }
            };
        }
        queue.recv().await
    }

    async fn due(&self, service: &str) -> Option<Due> {
        match registering::due(&self.host, service).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(service, %error, "cannot tell what is to be registered");
                None
            }
        }
    }

    async fn end_pending(&self, mut job: JobRecord, live: &LiveJob) -> Result<(), JournalError> {
        job.state = JobState::Cancelled(Aftermath::Untouched);
        job.completed_at = Some(now());
        job.error = Some(Failure {
            fault: Fault::Request,
            plugin: None,
            attempted: "start".into(),
            seen: format!("cancelled by {} while it waited", live.cancelled_by()),
            next: String::new(),
        });
        self.host.journal.set_state(&job).await
    }

    async fn accept(self: &Arc<Self>, job: NewJob) -> Result<JobRecord, Refusal> {
        if self.stopping.is_cancelled() {
            return Err(Refusal::Unavailable {
                detail: "the deployer is stopping".into(),
                hint: "ask again when it runs".into(),
            });
        }
        match self.host.journal.submit(&job).await? {
            Submitted::New(record) => {
                self.enqueue(record.clone()).await;
                Ok(record)
            }
            Submitted::Known(record) => Ok(record),
            Submitted::KeyTaken(record) => Err(Refusal::Conflict {
                code: "idempotency-key-reused",
                detail: format!(
                    "this Idempotency-Key was sent with another request, which became {} for {}",
                    record.id, record.service
                ),
                hint: "send a new key with a new request".into(),
            }),
        }
    }

    fn live_job(&self, id: &str) -> Option<Arc<LiveJob>> {
        lock(&self.live).get(id).cloned()
    }

    async fn known(&self, id: &str) -> Result<JobRecord, Refusal> {
        self.host.journal.job(id).await?.ok_or_else(|| Refusal::NotFound {
            detail: format!("there is no job `{id}`"),
            hint: "GET /deploy/history/{service} lists a service's jobs".into(),
        })
    }

    async fn ended(&self, id: &str) -> Result<JobRecord, Refusal> {
        let mut changes = self.host.journal.watch();
        loop {
            changes.mark_unchanged();
            let job = self.known(id).await?;
            if job.state.is_over() {
                return Ok(job);
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return Ok(job) },
                () = self.stopping.cancelled() => return Ok(job),
            }
        }
    }
}

/// The API's way to the jobs.
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
        let progress = self.0.live_job(id).and_then(|live| lock(&live.progress).clone());
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
        lock(&live.cancelled_by).get_or_insert(actor.name);
        live.cancel.cancel();
        // One that waits need not wait for its turn in order to end.
        if job.state == JobState::Pending && live.claim() {
            self.0.end_pending(job, &live).await?;
            lock(&self.0.live).remove(id);
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

    async fn releases(&self, service: &str) -> Result<Option<Vec<ReleaseRecord>>, Refusal> {
        let host = &self.0.host;
        if !host.journal.knows_service(service).await? {
            return Ok(None);
        }
        Ok(Some(host.journal.releases(service, &host.ssh.target().to_string()).await?))
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
        let ssh = async { host.ssh.connect().await.map(|_| ()).map_err(|error| error.to_string()) };
        let registry = async {
            match &host.registry {
                Some(registry) => Some(host.reach(registry).await),
                None => None,
            }
        };
        let journal = async { host.journal.counts().await.map(|_| ()).map_err(|error| error.to_string()) };
        let (ssh, registry, journal) = tokio::join!(ssh, registry, journal);
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

impl LiveJob {
    pub fn new(cancel: CancellationToken, cancelled_by: Option<String>) -> Self {
        LiveJob {
            cancel,
            claimed: AtomicBool::new(false),
            cancelled_by: Mutex::new(cancelled_by),
            progress: Mutex::default(),
        }
    }

    /// True for the first who asks.
    fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }

    pub fn cancelled_by(&self) -> String {
        lock(&self.cancelled_by).clone().unwrap_or_else(|| "somebody".into())
    }

    pub fn set_progress(&self, amount: &Amount) {
        *lock(&self.progress) = serde_json::to_value(amount).ok();
    }

    pub fn clear_progress(&self) {
        *lock(&self.progress) = None;
    }
}

impl Host {
    /// The URL at which callers reach a service.
    pub fn service_url(&self, port: u16) -> String {
        let host = self.ssh.target().host();
        if host.contains(':') { format!("http://[{host}]:{port}") } else { format!("http://{host}:{port}") }
    }

    /// Runs a command that only reads, for the host's own use, and gives its output.
    pub(super) async fn run_reading(&self, argv: &[String], timeout: Duration) -> Result<String, String> {
        let command = RemoteCommand::new(argv.iter().cloned()).timeout(timeout);
        let output = self.ssh.run(&command, &mut ()).await.map_err(|error| error.to_string())?;
        Ok(format!("{}{}", output.stdout, output.stderr))
    }

    /// Ends a process group that a command of an earlier run left on the target, if it still is that one.
    pub(super) async fn end_leftover(&self, process: &RemoteProcess) -> Result<(), String> {
        match self.ssh.kill_group(process).await {
            Ok(Ended::Gone | Ended::Terminated | Ended::Killed) => Ok(()),
            Ok(Ended::Unknown(reason)) => Err(reason),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Any answer of the registry will do: it is there.
    async fn reach(&self, registry: &Registry) -> Result<(), String> {
        self.http
            .outward()
            .get(format!("{}/health", registry.url.trim_end_matches('/')))
            .timeout(Duration::from_secs(5))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| {
                format!("the registry {} does not answer: {}", registry.url, error.without_url())
            })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
