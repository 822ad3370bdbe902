//! What becomes of a job that is interrupted while this process lives, because the journal could not record or it met a
//! defect: it waits, and is run again from what is recorded, as after a crash.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::time::sleep;

use super::drive::{self, Interrupted};
use super::ending::end_unstarted;
use super::host::Host;
use super::live::{LiveJob, lock};
use super::retry::JournalPauses;
use super::supervisor::Supervisor;
use crate::journal::JournalError;
use crate::model::{Failure, Fault, JobRecord, JobState};

/// How often a job is run again that met a defect of the deployer.
const DEFECTS: u32 = 3;

impl Supervisor {
    pub(super) fn spawn_to_the_end(self: &Arc<Self>, job: JobRecord, live: Arc<LiveJob>) {
        let supervisor = self.clone();
        let mut workers = lock(&self.workers);
        while workers.try_join_next().is_some() {}
        workers.spawn(async move { supervisor.to_the_end(job, live).await });
    }

    /// Takes a job to its end, over as many runs as the journal makes necessary.
    pub(super) async fn to_the_end(&self, job: JobRecord, live: Arc<LiveJob>) {
        let id = job.id.clone();
        let mut pauses = JournalPauses::new();
        let mut defects = 0;
        let mut next = Some(job);
        while let Some(job) = next.take().filter(|job| !job.state.is_over()) {
            let run = AssertUnwindSafe(self.run(job, &live, defects)).catch_unwind().await;
            let interrupted = match run {
                Ok(Ok(())) => break,
                Ok(Err(interrupted)) => {
                    tracing::warn!(job = %id, error = %interrupted.error, "a job waits for the journal");
                    live.interrupted(interrupted.error.to_string());
                    Some(interrupted)
                }
                Err(_) => {
                    defects += 1;
                    tracing::error!(job = %id, "a defect of the deployer stopped a job; please report it");
                    live.interrupted("a defect of the deployer stopped it".into());
                    None
                }
            };
            next = self.read_back(&id, &mut pauses).await;
            // The lease was kept up until here, and the next run takes it again.
            drop(interrupted);
        }
        self.forget(&id);
    }

    async fn run(&self, job: JobRecord, live: &Arc<LiveJob>, defects: u32) -> Result<(), Interrupted> {
        if job.state == JobState::Pending && live.cancel.is_cancelled() {
            return Ok(self.end_pending(job, &live.cancelled_by()).await?);
        }
        if defects >= DEFECTS {
            return Ok(give_up(&self.host, job).await?);
        }
        drive::run(self.host.clone(), live.clone(), job).await
    }

    /// What is recorded of a job, as soon as the journal can record what comes next.
    async fn read_back(&self, id: &str, pauses: &mut JournalPauses) -> Option<JobRecord> {
        loop {
            sleep(pauses.pause()).await;
            let read = async {
                self.host.journal.check().await?;
                self.host.journal.job(id).await
            };
            match read.await {
                Ok(job) => return job,
                Err(error) => tracing::debug!(job = %id, %error, "the journal still cannot record"),
            }
        }
    }
}

/// Ends a job that cannot be run.
///
/// # Errors
/// When the journal cannot record.
async fn give_up(host: &Host, job: JobRecord) -> Result<(), JournalError> {
    let failure = Failure {
        fault: Fault::Host,
        plugin: None,
        attempted: "run the job".into(),
        seen: "a defect of the deployer stopped this job each time it ran".into(),
        next: "see the server's log, report the defect, and check what runs on the target".into(),
    };
    end_unstarted(host, job, failure).await
}
