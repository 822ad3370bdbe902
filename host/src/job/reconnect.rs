//! What a job does when the connection to its target is lost: it waits for the target, ends what the cut-off
//! call may have left running, and makes the call again. So what became of it is settled by looking at the
//! target, which is what a call that is made twice begins with.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use super::runner::{Runner, Stop, fail};
use crate::model::Fault;

/// How long a target may stay away. The limits of the phase and the job hold beside it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bringing back what ran before is worth more patience: nothing serves meanwhile.
const UNWINDING_PATIENCE: Duration = Duration::from_secs(300);

/// How long a target is waited for, and at what intervals it is asked.
pub(super) struct Patience {
    until: Instant,
    pauses: ExponentialBackoff,
}

impl Patience {
    pub(super) fn of(time: Duration) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(250))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
            .build();
        Patience { until: Instant::now() + time, pauses }
    }

    /// How long to wait before the next attempt, if there is to be one.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        let pause = self.pauses.next().unwrap_or(Duration::from_secs(5));
        (Instant::now() + pause <= self.until).then_some(pause)
    }
}

impl Runner {
    pub(super) fn patience(&self) -> Patience {
        Patience::of(if self.unwinding() { UNWINDING_PATIENCE } else { PATIENCE })
    }

    /// Waits until the target answers again. False when it did not within the patience that is left.
    pub(super) async fn wait_for_target(&self, patience: &mut Patience, lost: &str) -> Result<bool, Stop> {
        self.say(&format!("the target is waited for: {lost}")).await?;
        loop {
            let Some(pause) = patience.pause() else { return Ok(false) };
            self.rest(pause).await?;
            let cancelled = async {
                match self.unwinding() {
                    true => std::future::pending().await,
                    false => self.live.cancel.cancelled().await,
                }
            };
            let connected = tokio::select! {
                connected = self.host.ssh.connect() => connected,
                () = cancelled => return Err(Stop::Cancelled),
            };
            if let Ok(key) = connected {
                self.keep_host_key(&key).await?;
                self.say("the target answers again").await?;
                return Ok(true);
            }
        }
    }

    /// Waits, but no longer than the job is wanted.
    pub(super) async fn rest(&self, time: Duration) -> Result<(), Stop> {
        if self.unwinding() {
            tokio::time::sleep(time).await;
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.live.cancel.cancelled() => Err(Stop::Cancelled),
        }
    }

    /// A turn that was cut off may have left a process running on the target: it is ended before the plugin is
    /// called again, so that the two never run side by side.
    pub(super) async fn settle_leftovers(&self, key: &str) -> Result<(), Stop> {
        let turns: Vec<i64> =
            self.turns.iter().filter(|(turn, _)| turn == key).map(|(_, step)| *step).collect();
        if turns.is_empty() {
            return Ok(());
        }
        for call in self.host.journal.calls(&self.job.id).await? {
            let (true, None, Some(process)) = (turns.contains(&call.step), &call.exit, &call.process) else {
                continue;
            };
            self.host.end_leftover(process).await.map_err(|error| {
                fail(Fault::Target, "end a command that was cut off", &error, "deploy again")
            })?;
            if call.outcome.is_none() {
                self.host.journal.call_ended(call.id, "cut off, and ended", None, "", 0).await?;
            }
        }
        Ok(())
    }
}
