//! How long something is tried again, and at what intervals.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// The longest pause before the target is asked again.
const LONGEST_FOR_TARGET: Duration = Duration::from_secs(5);
/// The longest pause before the journal is asked again.
const LONGEST_FOR_JOURNAL: Duration = Duration::from_secs(4);

/// How long the target is tried again, and at what intervals.
pub(super) struct RetryBudget {
    until: Instant,
    pauses: ExponentialBackoff,
}

impl RetryBudget {
    pub fn of(time: Duration) -> Self {
        RetryBudget { until: Instant::now() + time, pauses: exponential(LONGEST_FOR_TARGET) }
    }

    /// How long to wait before the next attempt, if there is to be one.
    pub fn pause(&mut self) -> Option<Duration> {
        let pause = self.pauses.next().unwrap_or(LONGEST_FOR_TARGET);
        (Instant::now() + pause <= self.until).then_some(pause)
    }
}

/// How long the journal is left alone before it is asked again. They do not end.
pub(super) struct JournalPauses(ExponentialBackoff);

impl JournalPauses {
    pub fn new() -> Self {
        JournalPauses(exponential(LONGEST_FOR_JOURNAL))
    }

    pub fn pause(&mut self) -> Duration {
        self.0.next().unwrap_or(LONGEST_FOR_JOURNAL)
    }
}

fn exponential(longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(longest)
        .without_max_times()
        .build()
}
