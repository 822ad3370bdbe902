//! Owns the jobs that live: a queue for each service, and going on after a restart, or after the journal could not
//! record.
//!
//! What is accepted is worked on. So recording a job and queueing it are one act, which no caller can interrupt; a
//! job that is cut off by the journal is run again from what is recorded, as after a crash; and what is in the
//! journal without a worker is looked for now and then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{RwLock, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::host::Host;
use super::live::{Fate, LiveJob, lock};
use super::retry::JournalPauses;
use super::{admission, live, registering, submission};
use crate::capability::Level;
use crate::job::{Environment, Refusal};
use crate::journal::{JournalError, now};
use crate::model::{Aftermath, Failure, Fault, JobEvent, JobRecord, NewJob, Phase, Submitted};

/// How often the journal is asked for jobs that nobody works on.
const LOOKED_FOR_EVERY: Duration = Duration::from_secs(10);
/// How long a stop waits for what is being accepted or cancelled.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// The jobs that live, and the way to them.
pub struct Supervisor {
    pub(super) host: Arc<Host>,
    live: Mutex<HashMap<String, Arc<LiveJob>>>,
    queues: Mutex<HashMap<String, mpsc::UnboundedSender<JobRecord>>>,
    pub(super) workers: Mutex<JoinSet<()>>,
    /// Held from a job's record to its place in the queue: so jobs run in the order of their acceptance.
    pub(super) accepting: tokio::sync::Mutex<()>,
    /// Held to read by what was asked for and has to come to its end.
    asked: Arc<RwLock<()>>,
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
            workers: Mutex::default(),
            accepting: tokio::sync::Mutex::default(),
            asked: Arc::default(),
            stopping: CancellationToken::new(),
        });
        supervisor.leave_those_of_other_targets().await?;
        supervisor.take_up().await?;
        let target = supervisor.host.ssh.target().to_string();
        for unregistered in supervisor.host.journal.unregistered(&target).await? {
            supervisor.queue(&unregistered.job.service);
        }
        lock(&supervisor.workers).spawn(supervisor.clone().look_for_jobs());
        Ok(supervisor)
    }

    /// Accepts nothing more, and ends the waiting for jobs that run.
    pub fn refuse(&self) {
        self.stopping.cancel();
    }

    /// Stops working, and closes the journal. Jobs that run are left where they are; the next start goes on with
    /// them.
    pub async fn stop(&self) {
        self.refuse();
        if timeout(LAST_REQUESTS, self.asked.write()).await.is_err() {
            tracing::warn!("some requests were cut off as the deployer stopped");
        }
        let mut workers = std::mem::take(&mut *lock(&self.workers));
        workers.shutdown().await;
        self.host.journal.close().await;
    }

    /// Does what was asked for in a task of its own: a caller that hangs up ends only the waiting for the answer.
    pub(super) async fn lasting<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let asked = self.asked.clone().read_owned().await;
        let task = tokio::spawn(async move {
            let answer = work.await;
            drop(asked);
            answer
        });
        match task.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(answer) => answer,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // Nobody aborts it: the whole program ends.
            Err(Err(_)) => std::future::pending().await,
        }
    }

    /// A job belongs to the target that it was accepted for: it stays as it is until the deployer is started with
    /// that one again.
    async fn leave_those_of_other_targets(&self) -> Result<(), JournalError> {
        for job in self.host.journal.unfinished().await? {
            if self.host.serves(&job.target) {
                continue;
            }
            let line = format!(
                "this job is for {}, and the deployer was started with --target {}: the job waits until the \
                 deployer is started with the job's own target again",
                job.target,
                self.host.ssh.target()
            );
            tracing::warn!(job = %job.id, service = %job.service, "{line}");
            let phase = job.state.phase().unwrap_or(Phase::Validation);
            super::recorder::say(&*self.host.journal, &job.id, phase, Level::Warn, &line).await?;
        }
        Ok(())
    }

    /// Takes up the jobs of the journal that nobody works on.
    async fn take_up(self: &Arc<Self>) -> Result<(), JournalError> {
        let _no_other = self.accepting.lock().await;
        for job in self.host.journal.unfinished().await? {
            if self.live_job(&job.id).is_some() || !self.host.serves(&job.target) {
                continue;
            }
            // It may have come to its end since it was read.
            let Some(job) = self.host.journal.job(&job.id).await?.filter(|job| !job.state.is_over()) else {
                continue;
            };
            let steps = self.host.journal.steps(&job.id).await?;
            tracing::info!(job = %job.id, service = %job.service, state = ?job.state, "taking up a job");
            let fate = live::fate(&job, &steps);
            self.enqueue(job, fate);
        }
        Ok(())
    }

    async fn look_for_jobs(self: Arc<Self>) {
        loop {
            sleep(LOOKED_FOR_EVERY).await;
            if let Err(error) = self.take_up().await {
                tracing::warn!(%error, "could not look for jobs without a worker");
            }
        }
    }

    fn enqueue(self: &Arc<Self>, job: JobRecord, fate: Fate) {
        let live = Arc::new(LiveJob::new(CancellationToken::new(), fate, job.cancelled_by.clone()));
        lock(&self.live).insert(job.id.clone(), live);
        // Workers end only with the supervisor, so the queue is open.
        self.queue(&job.service).send(job).ok();
    }

    /// The queue of a service, and a worker behind it.
    fn queue(self: &Arc<Self>, service: &str) -> mpsc::UnboundedSender<JobRecord> {
        let mut queues = lock(&self.queues);
        if let Some(queue) = queues.get(service) {
            return queue.clone();
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        queues.insert(service.to_owned(), sender.clone());
        lock(&self.workers).spawn(self.clone().work(service.to_owned(), receiver));
        sender
    }

    /// Runs one service's jobs, one after the other, and between them registers what is still to be registered.
    async fn work(self: Arc<Self>, service: String, mut queue: mpsc::UnboundedReceiver<JobRecord>) {
        // Whoever started the deployer again may have put right what was in the way of a registration.
        let mut at_once = true;
        while let Some(job) = self.next(&service, &mut queue, at_once).await {
            at_once = false;
            if self.stopping.is_cancelled() {
                return;
            }
            // Held until the job is over. One that is cancelled while it waits needs none.
            let _place = match self.live_job(&job.id) {
                Some(live) => admission::place(&self.host, &job, &live.cancel).await,
                None => None,
            };
            if let Some(live) = self.live_job(&job.id).filter(|live| live.claim()) {
                self.to_the_end(job, live).await;
            }
        }
    }

    /// The service's next job. While none comes, what is due is registered.
    async fn next(
        &self,
        service: &str,
        queue: &mut mpsc::UnboundedReceiver<JobRecord>,
        at_once: bool,
    ) -> Option<JobRecord> {
        let mut pauses = JournalPauses::new();
        let mut not_before = Instant::now();
        let mut at_once = at_once;
        loop {
            let due = match registering::due(&self.host, service).await {
                Ok(None) => return queue.recv().await,
                Ok(Some(due)) => Some(due),
                Err(error) => {
                    tracing::warn!(service, %error, "could not find out what to register; retrying");
                    not_before = Instant::now() + pauses.pause();
                    None
                }
            };
            let planned = match &due {
                Some(_) if std::mem::take(&mut at_once) => Instant::now(),
                Some(due) => due.at,
                None => not_before,
            };
            tokio::select! {
                biased;
                job = queue.recv() => return job,
                () = sleep_until(planned.max(not_before)) => {}
            }
            let Some(due) = due else { continue };
            let interrupt = CancellationToken::new();
            let attempt = due.attempt(self.host.clone(), interrupt.clone());
            tokio::pin!(attempt);
            let recorded = tokio::select! {
                biased;
                // A job does not wait for a registry that hangs.
                job = queue.recv() => {
                    interrupt.cancel();
                    if let Err(error) = attempt.await {
                        tracing::warn!(service, %error, "could not record the end of an attempt to register");
                    }
                    return job;
                }
                recorded = &mut attempt => recorded,
            };
            if let Err(error) = recorded {
                tracing::warn!(service, %error, "could not record an attempt to register; retrying");
                not_before = Instant::now() + pauses.pause();
            }
        }
    }

    pub(super) async fn end_pending(
        &self,
        mut job: JobRecord,
        cancelled_by: &str,
    ) -> Result<(), JournalError> {
        if let Err(error) = job.apply(&JobEvent::Cancelled(Aftermath::Untouched)) {
            tracing::error!(job = %job.id, %error);
            return Ok(());
        }
        job.completed_at = Some(now());
        job.error = Some(Failure {
            fault: Fault::Request,
            plugin: None,
            attempted: "start".into(),
            seen: format!("cancelled by {cancelled_by} while it waited"),
            next: String::new(),
        });
        self.host.journal.set_state(&job).await
    }

    /// The job of an idempotency key, if there is one: for the same request, whatever came of it.
    pub(super) async fn keyed(&self, key: Option<&str>, digest: &str) -> Result<Option<JobRecord>, Refusal> {
        let Some(key) = key else { return Ok(None) };
        match self.host.journal.keyed(key).await? {
            Some(job) if job.request.digest == digest => Ok(Some(job)),
            Some(job) => Err(key_taken(&job)),
            None => Ok(None),
        }
    }

    /// Records a job and gives it its place, in one act: to be called in a task that nobody drops.
    pub(super) async fn accept(
        self: &Arc<Self>,
        job: NewJob,
        environment: Option<&Environment>,
    ) -> Result<JobRecord, Refusal> {
        let _one_after_the_other = self.accepting.lock().await;
        if self.stopping.is_cancelled() {
            return Err(Refusal::Unavailable {
                detail: "the deployer is stopping".into(),
                hint: "ask again when it runs".into(),
            });
        }
        let job = submission::numbered(&self.host, job, environment);
        match self.host.journal.submit(&job).await? {
            Submitted::New(record) => {
                self.enqueue(record.clone(), Fate::Open);
                Ok(record)
            }
            Submitted::Known(record) => Ok(record),
            Submitted::KeyTaken(record) => Err(key_taken(&record)),
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
            hint: "`deployer history SERVICE`, or GET /deploy/history/{service}, lists its jobs".into(),
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

fn key_taken(job: &JobRecord) -> Refusal {
    Refusal::Conflict {
        code: "idempotency-key-reused",
        detail: format!(
            "this Idempotency-Key was sent with another request, which became {} for {}",
            job.id, job.service
        ),
        hint: "send a new key with a new request".into(),
    }
}
