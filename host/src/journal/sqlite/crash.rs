//! A crash on demand, for the tests: it kills this process at a chosen record, so that a test can see what the
//! next start makes of what is left. Without the variable, nothing is counted and nothing is asked.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use crate::journal::JournalError;

/// `12:before` is the moment before the twelfth record since the start of the process is made durable,
/// `12:after` the one right after it. `0:after` never comes, and leaves the count in the log.
const VARIABLE: &str = "DEPLOYER_CRASH_AT";

pub struct Crash {
    record: u64,
    side: Side,
    /// How many records this process has begun to write.
    begun: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

impl Crash {
    /// The crash that the environment asks for.
    ///
    /// # Errors
    /// When the variable says no such moment.
    pub fn from_environment() -> Result<Option<Self>, JournalError> {
        let Some(text) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let text = text.to_string_lossy();
        let (record, side) =
            parse(&text).ok_or_else(|| JournalError::CrashPoint(format!("{VARIABLE}={text}")))?;
        Ok(Some(Crash { record, side, begun: AtomicU64::new(0) }))
    }

    /// Makes a change durable, unless this is where the process ends.
    pub async fn around<T>(
        &self,
        what: &str,
        change: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        let record = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!("record {record}: {what}");
        self.end_if(record, Side::Before);
        let outcome = change.await;
        self.end_if(record, Side::After);
        outcome
    }

    /// A signal that cannot be caught, as from an out-of-memory killer: nothing is flushed, closed or undone.
    fn end_if(&self, record: u64, side: Side) {
        if (record, side) == (self.record, self.side) {
            tracing::warn!("killed {side:?} record {record}, as {VARIABLE} asks");
            // A process may always end itself, and does not come back from this.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}

fn parse(text: &str) -> Option<(u64, Side)> {
    let (record, side) = text.split_once(':')?;
    let side = match side {
        "before" => Side::Before,
        "after" => Side::After,
        _ => return None,
    };
    Some((record.parse().ok()?, side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_number_and_a_side() {
        let check = |text: &str, expect| assert_eq!(parse(text), expect, "{text}");
        check("12:before", Some((12, Side::Before)));
        check("1:after", Some((1, Side::After)));
        check("0:after", Some((0, Side::After)));
        for wrong in ["", "12", "before", "12:between", "x:after", "-1:after"] {
            check(wrong, None);
        }
    }
}
