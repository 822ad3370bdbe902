//! What there is of a job only while this process works on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::capability::Amount;

/// A job that is queued or runs in this process.
pub(super) struct LiveJob {
    pub cancel: CancellationToken,
    /// Somebody takes it to its end: the service's worker, or who cancelled it before its turn.
    claimed: AtomicBool,
    cancelled_by: Mutex<Option<String>>,
    progress: Mutex<Option<Value>>,
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
    pub fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }

    pub fn cancel_by(&self, who: String) {
        lock(&self.cancelled_by).get_or_insert(who);
        self.cancel.cancel();
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
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
