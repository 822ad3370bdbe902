//! A job's place on the target, for its whole life there. Before it has one, nothing of its time has begun: it
//! waits as `pending`, in the order of acceptance, and says so.

use tokio_util::sync::CancellationToken;

use super::host::Host;
use super::recorder;
use crate::capability::Level;
use crate::model::{JobRecord, JobState, Phase};
use crate::ssh::{Slot, SlotRequest};

/// Waits for the job's place. None when the job was cancelled before it began: it needs none then.
pub(super) async fn place(host: &Host, job: &JobRecord, cancel: &CancellationToken) -> Option<Slot> {
    // A job that an earlier process began comes before those that nobody has begun, and has to come to an
    // end on the target, cancelled or not.
    let fresh = job.state == JobState::Pending;
    let waiting = async {
        match host.ssh.request_slot((fresh, job.id.clone())).await {
            SlotRequest::Granted(place) => place,
            SlotRequest::Queued(waiting) => {
                let line = line(waiting.workers());
                let phase = job.state.phase().unwrap_or(Phase::Validation);
                if let Err(error) = recorder::say(&*host.journal, &job.id, phase, Level::Info, &line).await {
                    tracing::warn!(job = %job.id, %error, "could not log that a job waits");
                }
                waiting.slot().await
            }
        }
    };
    tokio::select! {
        place = waiting => Some(place),
        () = cancel.cancelled(), if fresh => None,
    }
}

fn line(jobs: usize) -> String {
    let (jobs, run) = if jobs == 1 { ("1 job".to_owned(), "runs") } else { (format!("{jobs} jobs"), "run") };
    format!("waiting: {jobs} {run} on the target, which allows no more SSH sessions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_said() {
        assert_eq!(line(1), "waiting: 1 job runs on the target, which allows no more SSH sessions");
        assert_eq!(line(7), "waiting: 7 jobs run on the target, which allows no more SSH sessions");
    }
}
