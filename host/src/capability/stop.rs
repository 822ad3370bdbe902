//! How a call of a plugin is ended from outside: the signal to all that wait, and why.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;

use super::record::RecordError;

/// Why a call of a plugin is ended from outside, and the signal to all that wait. Cheap to clone.
#[derive(Clone)]
pub struct Stop {
    token: CancellationToken,
    why: Arc<OnceLock<StopCause>>,
    doing: Arc<Mutex<Option<&'static str>>>,
}

#[derive(Debug, Clone)]
pub enum StopCause {
    Cancelled,
    TimedOut,
    Unrecorded(RecordError),
}

impl Stop {
    /// Stops when `parent` is cancelled, at the latest.
    pub fn under(parent: &CancellationToken) -> Self {
        Self { token: parent.child_token(), why: Arc::default(), doing: Arc::default() }
    }

    /// The first cause stays.
    pub fn stop(&self, cause: StopCause) {
        let _ = self.why.set(cause);
        self.token.cancel();
    }

    pub fn cause(&self) -> Option<StopCause> {
        if !self.token.is_cancelled() {
            return None;
        }
        // Only the parent's cancellation gives no cause of its own.
        Some(self.why.get().cloned().unwrap_or(StopCause::Cancelled))
    }

    pub fn token(&self) -> &CancellationToken {
        &self.token
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
        let stop = Stop::under(&parent);
        assert!(stop.cause().is_none());
        stop.stop(StopCause::TimedOut);
        parent.cancel();
        assert!(matches!(stop.cause(), Some(StopCause::TimedOut)));
        assert!(matches!(Stop::under(&parent).cause(), Some(StopCause::Cancelled)));
    }
}
