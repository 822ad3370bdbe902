//! What there is of a job only while this process works on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::capability::Amount;
use crate::model::{JobRecord, JobState, Phase, StepRecord};

/// A job that is queued or runs in this process.
pub(super) struct LiveJob {
    pub cancel: CancellationToken,
    /// Somebody takes it to its end: the service's worker, or who cancelled it before its turn.
    claimed: AtomicBool,
    /// Held while a cancelling is recorded, so that the two ways are never both taken.
    fate: tokio::sync::Mutex<Fate>,
    cancelled_by: Mutex<Option<String>>,
    progress: Mutex<Option<Value>>,
    /// Why the run before this one stopped in its middle.
    interruption: Mutex<Option<String>>,
}

/// The way that a job takes. The first to choose chooses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Cancelled,
    /// Its release is verified and becomes the live one: it cannot be cancelled any more.
    Settled,
}

impl LiveJob {
    pub fn new(cancel: CancellationToken, fate: Fate, cancelled_by: Option<String>) -> Self {
        if fate == Fate::Cancelled {
            cancel.cancel();
        }
        LiveJob {
            cancel,
            claimed: AtomicBool::new(false),
            fate: tokio::sync::Mutex::new(fate),
            cancelled_by: Mutex::new(cancelled_by),
            progress: Mutex::default(),
            interruption: Mutex::default(),
        }
    }

    /// True for the first who asks.
    pub fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }

    pub async fn fate(&self) -> Fate {
        *self.fate.lock().await
    }

    /// Cancels it, once that is recorded. False when it is too late.
    ///
    /// # Errors
    /// When it cannot be recorded. Then the job is not cancelled.
    pub async fn cancel_by<E>(
        &self,
        who: &str,
        record: impl Future<Output = Result<(), E>>,
    ) -> Result<bool, E> {
        let mut fate = self.fate.lock().await;
        match *fate {
            Fate::Settled => return Ok(false),
            Fate::Cancelled => return Ok(true),
            Fate::Open => {}
        }
        record.await?;
        *fate = Fate::Cancelled;
        lock(&self.cancelled_by).get_or_insert_with(|| who.to_owned());
        self.cancel.cancel();
        Ok(true)
    }

    /// From here on it cannot be cancelled. False when it is already.
    pub async fn settle(&self) -> bool {
        let mut fate = self.fate.lock().await;
        if *fate == Fate::Open {
            *fate = Fate::Settled;
        }
        *fate == Fate::Settled
    }

    pub fn cancelled_by(&self) -> String {
        lock(&self.cancelled_by).clone().unwrap_or_else(|| "somebody".into())
    }

    pub fn progress(&self) -> Option<Value> {
        lock(&self.progress).clone()
    }

    pub fn set_progress(&self, amount: &Amount) {
        *lock(&self.progress) = serde_json::to_value(amount).ok();
    }

    pub fn clear_progress(&self) {
        *lock(&self.progress) = None;
    }

    pub fn interrupted(&self, why: String) {
        *lock(&self.interruption) = Some(why);
    }

    /// Why this is not the first run in this process, if it is not.
    pub fn take_interruption(&self) -> Option<String> {
        lock(&self.interruption).take()
    }
}

/// The way that a job of an earlier process, or of an earlier run, has taken.
pub(super) fn fate(job: &JobRecord, steps: &[StepRecord]) -> Fate {
    let registers = job.state == JobState::Running(Phase::Register);
    if registers || steps.iter().any(|step| step.function == "promote") {
        Fate::Settled
    } else if job.cancelled_by.is_some() {
        Fate::Cancelled
    } else {
        Fate::Open
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_choice_is_for_good() {
        let check = async |begins: Fate, recorded: Result<(), ()>, cancels: Result<bool, ()>, ends: Fate| {
            let job = LiveJob::new(CancellationToken::new(), begins, None);
            assert_eq!(job.cancel_by("ci", async { recorded }).await, cancels, "{begins:?} {recorded:?}");
            assert_eq!(job.cancel.is_cancelled(), ends == Fate::Cancelled, "{begins:?} {recorded:?}");
            assert_eq!(job.fate().await, ends);
            assert_eq!(job.settle().await, ends != Fate::Cancelled, "{begins:?} {recorded:?}");
        };
        check(Fate::Open, Ok(()), Ok(true), Fate::Cancelled).await;
        check(Fate::Open, Err(()), Err(()), Fate::Open).await;
        check(Fate::Cancelled, Ok(()), Ok(true), Fate::Cancelled).await;
        // What is recorded already need not be recorded again.
        check(Fate::Cancelled, Err(()), Ok(true), Fate::Cancelled).await;
        check(Fate::Settled, Ok(()), Ok(false), Fate::Settled).await;
        check(Fate::Settled, Err(()), Ok(false), Fate::Settled).await;
    }

    #[tokio::test]
    async fn a_job_settles_only_after_a_cancelling_was_recorded() {
        let job = LiveJob::new(CancellationToken::new(), Fate::Open, None);
        let (recorded, record) = tokio::sync::oneshot::channel::<()>();
        let cancelling = job.cancel_by("ci", record);
        let settling = async {
            tokio::select! {
                biased;
                settled = job.settle() => panic!("it settled beside the record: {settled}"),
                () = tokio::task::yield_now() => {}
            }
            recorded.send(()).unwrap();
            job.settle().await
        };
        let (cancelled, settled) = tokio::join!(cancelling, settling);
        assert_eq!((cancelled, settled), (Ok(true), false));
        assert_eq!(job.cancelled_by(), "ci");
    }
}
