//! How a call of a plugin is ended from outside: the signal to all that wait, and why.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;

use super::record::RecordError;

/// Why a call of a plugin is ended from outside, and the signal to all that wait. Cheap to clone.
#[derive(Clone)]
pub struct Cancellation {
    token: CancellationToken,
    why: Arc<OnceLock<CancelCause>>,
    doing: Arc<Mutex<Option<&'static str>>>,
}

#[derive(Debug, Clone)]
pub enum CancelCause {
    Cancelled,
    TimedOut,
    Unrecorded(RecordError),
}

impl Cancellation {
    /// Cancelled with `parent`, at the latest.
    pub fn under(parent: &CancellationToken) -> Self {
        Self { token: parent.child_token(), why: Arc::default(), doing: Arc::default() }
    }

    /// The first cause stays.
    pub fn cancel(&self, cause: CancelCause) {
        let _ = self.why.set(cause);
        self.token.cancel();
    }

    pub fn cause(&self) -> Option<CancelCause> {
        if !self.token.is_cancelled() {
            return None;
        }
        // Only the parent's cancellation gives no cause of its own.
        Some(self.why.get().cloned().unwrap_or(CancelCause::Cancelled))
    }

    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// What could not be recorded is not done: the call ends.
    pub(super) fn unless_recorded<T>(&self, result: Result<T, RecordError>) -> Result<T, RecordError> {
        result.inspect_err(|error| self.cancel(CancelCause::Unrecorded(error.clone())))
    }

    /// The host call that the plugin waits in.
    pub fn doing(&self) -> Option<&'static str> {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_doing(&self, function: Option<&'static str>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = function;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_stays() {
        let parent = CancellationToken::new();
        let cancellation = Cancellation::under(&parent);
        assert!(cancellation.cause().is_none());
        cancellation.cancel(CancelCause::TimedOut);
        parent.cancel();
        assert!(matches!(cancellation.cause(), Some(CancelCause::TimedOut)));
        assert!(matches!(Cancellation::under(&parent).cause(), Some(CancelCause::Cancelled)));
    }
}
