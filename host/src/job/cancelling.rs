//! Cancelling a job: whether it still can be, and what then becomes of it.

use std::sync::Arc;
use std::time::Duration;

use super::live::Fate;
use super::submission;
use super::supervisor::Supervisor;
use crate::job::Refusal;
use crate::model::{Actor, JobRecord, JobState, Phase};

/// How long whoever cancels a job that waits is kept for its end, which comes at once where the journal records.
const WAITING_ENDS: Duration = Duration::from_secs(2);

/// What becomes of a job that somebody asks to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancelling {
    /// It ends where it waits.
    EndsAtOnce,
    /// Its phase is stopped, and what ran before runs.
    Stops,
    /// Its release is verified and live.
    TooLate,
    Over,
}

fn cancelling(state: &JobState, fate: Fate) -> Cancelling {
    match state {
        JobState::Pending => Cancelling::EndsAtOnce,
        JobState::Running(Phase::Validation | Phase::Transfer | Phase::Build) | JobState::Unwinding(_) => {
            Cancelling::Stops
        }
        JobState::Running(Phase::StartService | Phase::VerifyHealth) => match fate {
            Fate::Open | Fate::Cancelled => Cancelling::Stops,
            // Verify passed, and what comes of it is on its way into the record.
            Fate::Settled => Cancelling::TooLate,
        },
        JobState::Running(Phase::Register) => Cancelling::TooLate,
        JobState::Completed | JobState::Failed(_) | JobState::Cancelled(_) => Cancelling::Over,
    }
}

impl Supervisor {
    /// Cancels a job, unless it is too late. It may still be ending when this returns.
    pub(super) async fn cancel(self: &Arc<Self>, id: &str, actor: &Actor) -> Result<JobRecord, Refusal> {
        let job = self.known(id).await?;
        // One that has begun must first be put right on its own target.
        if !job.state.is_over() && job.state != JobState::Pending && !self.host.serves(&job.target) {
            return Err(submission::other_target(&self.host, &job));
        }
        // One that is being recorded or taken up is given its place first.
        let accepting = self.accepting.lock().await;
        let job = self.known(id).await.unwrap_or(job);
        let live = self.live_job(id);
        let _accepting = live.is_none().then_some(accepting);
        let fate = match &live {
            Some(live) => live.fate().await,
            None => Fate::Open,
        };
        match cancelling(&job.state, fate) {
            Cancelling::Over => return Err(over(&job)),
            Cancelling::TooLate => return Err(too_late(&job)),
            Cancelling::EndsAtOnce | Cancelling::Stops => {}
        }
        let recorded = self.host.journal.set_cancelled_by(id, actor);
        let Some(live) = live else {
            // Nobody works on it here. Whoever takes it up reads that it is cancelled; that one of them which has
            // not begun has nothing to bring back.
            recorded.await?;
            if job.state == JobState::Pending {
                self.end_pending(job, &actor.name).await?;
            }
            return self.known(id).await;
        };
        if !live.cancel_by(&actor.name, recorded).await? {
            let job = self.known(id).await?;
            return Err(match cancelling(&job.state, Fate::Settled) {
                Cancelling::TooLate => too_late(&job),
                // It came to its end by itself in this moment.
                Cancelling::EndsAtOnce | Cancelling::Stops | Cancelling::Over => over(&job),
            });
        }
        // One that waits need not wait for its turn in order to end.
        if job.state == JobState::Pending && live.claim() {
            self.spawn_to_the_end(job, live);
            let _ = tokio::time::timeout(WAITING_ENDS, self.ended(id)).await;
        }
        self.known(id).await
    }
}

fn over(job: &JobRecord) -> Refusal {
    let how = if job.state.is_over() { job.state.status().name() } else { "ending" };
    Refusal::Conflict {
        code: "job-over",
        detail: format!("{} is already {how}", job.id),
        hint: "only a pending or running job can be cancelled".into(),
    }
}

fn too_late(job: &JobRecord) -> Refusal {
    Refusal::Conflict {
        code: "past-no-return",
        detail: format!("release {} of {} is verified and live", job.release, job.service),
        hint: format!("to roll back: `deployer rollback SERVICE`, or POST /deploy/{}/rollback", job.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Aftermath;

    #[test]
    fn every_moment_has_its_answer() {
        use Cancelling::{EndsAtOnce, Over, Stops, TooLate};
        let check = |state: JobState, open: Cancelling, settled: Cancelling| {
            assert_eq!(cancelling(&state, Fate::Open), open, "{state:?}");
            assert_eq!(cancelling(&state, Fate::Cancelled), open, "{state:?}, again");
            assert_eq!(cancelling(&state, Fate::Settled), settled, "{state:?}, settled");
        };
        check(JobState::Pending, EndsAtOnce, EndsAtOnce);
        for phase in [Phase::Validation, Phase::Transfer, Phase::Build] {
            check(JobState::Running(phase), Stops, Stops);
        }
        for phase in [Phase::StartService, Phase::VerifyHealth] {
            check(JobState::Running(phase), Stops, TooLate);
            check(JobState::Unwinding(phase), Stops, Stops);
        }
        check(JobState::Running(Phase::Register), TooLate, TooLate);
        for state in [
            JobState::Completed,
            JobState::Failed(Aftermath::Untouched),
            JobState::Cancelled(Aftermath::NothingBefore),
        ] {
            check(state, Over, Over);
        }
    }
}
