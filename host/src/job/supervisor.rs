//! Owns the jobs that live: a queue for each service, cancelling, and going on after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::host::Host;
use super::live::{LiveJob, lock};
use super::registering::{self, Due};
use super::runner;
use super::state::{Aftermath, JobState, Phase};
use super::submission;
use crate::capability::Level;
use crate::http::Refusal;
use crate::journal::{Actor, Failure, Fault, JobRecord, JournalError, NewJob, Submitted, now};

/// The jobs that live, and the way to them.
pub struct Supervisor {
    pub(super) host: Arc<Host>,
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
            if !supervisor.host.serves(&job.target) {
                supervisor.leave_for_its_target(&job).await?;
                continue;
            }
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

    /// A job belongs to the target that it was accepted for: it stays as it is until the deployer is started with
    /// that one again.
    async fn leave_for_its_target(&self, job: &JobRecord) -> Result<(), JournalError> {
        let line = format!(
            "this job is for {}, and the deployer was started with --target {}: it waits until it is started with \
             the job's own again",
            job.target,
            self.host.ssh.target()
        );
        tracing::warn!(job = %job.id, service = %job.service, "{line}");
        let phase = job.state.phase().unwrap_or(Phase::Validation);
        super::recorder::say(&*self.host.journal, &job.id, phase, Level::Warn, &line).await
    }

    /// Cancels a job of another target, if it has not begun: one that has must first be put right there.
    pub(super) async fn cancel_elsewhere(&self, job: JobRecord, actor: Actor) -> Result<JobRecord, Refusal> {
        if job.state != JobState::Pending {
            return Err(submission::other_target(&self.host, &job));
        }
        let id = job.id.clone();
        self.host.journal.set_cancelled_by(&id, &actor).await?;
        self.end_pending(job, &LiveJob::new(CancellationToken::new(), Some(actor.name))).await?;
        self.known(&id).await
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
                self.forget(&id);
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

    pub(super) async fn end_pending(&self, mut job: JobRecord, live: &LiveJob) -> Result<(), JournalError> {
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

    pub(super) async fn accept(self: &Arc<Self>, job: NewJob) -> Result<JobRecord, Refusal> {
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

    pub(super) fn forget(&self, id: &str) {
        lock(&self.live).remove(id);
    }

    pub(super) fn live_job(&self, id: &str) -> Option<Arc<LiveJob>> {
        lock(&self.live).get(id).cloned()
    }

    pub(super) async fn known(&self, id: &str) -> Result<JobRecord, Refusal> {
        self.host.journal.job(id).await?.ok_or_else(|| Refusal::NotFound {
            detail: format!("there is no job `{id}`"),
            hint: "GET /deploy/history/{service} lists a service's jobs".into(),
        })
    }

    pub(super) async fn ended(&self, id: &str) -> Result<JobRecord, Refusal> {
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
