//! What a job does when the connection to its target is lost: it waits for the target, ends what the cut-off
//! call may have left running, and makes the call again. So what became of it is settled by looking at the
//! target, which is what a call that is made twice begins with.

use std::time::Duration;

use super::interrupt::{Interrupt, fail};
use super::retry::RetryBudget;
use super::runner::Runner;
use crate::model::Fault;

/// How long a target may stay away. The limits of the phase and the job hold beside it.
const RETRY_BUDGET: Duration = Duration::from_secs(120);
/// Bringing back what ran before is worth more time: nothing serves meanwhile.
const UNWINDING_BUDGET: Duration = Duration::from_secs(300);

impl Runner {
    pub(super) fn retry_budget(&self) -> RetryBudget {
        RetryBudget::of(if self.unwinding() { UNWINDING_BUDGET } else { RETRY_BUDGET })
    }

    /// Waits until the target is reachable again. False when it did not before the budget was used up.
    pub(super) async fn wait_for_target(
        &self,
        budget: &mut RetryBudget,
        lost: &str,
    ) -> Result<bool, Interrupt> {
        self.say(&format!("waiting for the target: {lost}")).await?;
        loop {
            let Some(pause) = budget.pause() else { return Ok(false) };
            self.sleep(pause).await?;
            let cancelled = async {
                match self.unwinding() {
                    true => std::future::pending().await,
                    false => self.live.cancel.cancelled().await,
                }
            };
            let connected = tokio::select! {
                connected = self.host.ssh.connect() => connected,
                () = cancelled => return Err(Interrupt::Cancelled),
            };
            if let Ok(key) = connected {
                self.keep_host_key(&key).await?;
                self.say("the target is reachable again").await?;
                return Ok(true);
            }
        }
    }

    /// Sleeps, but no longer than the job is wanted.
    pub(super) async fn sleep(&self, time: Duration) -> Result<(), Interrupt> {
        if self.unwinding() {
            tokio::time::sleep(time).await;
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.live.cancel.cancelled() => Err(Interrupt::Cancelled),
        }
    }

    /// A call that was cut off may have left a process running on the target: it is ended before the plugin is
    /// called again, so that the two never run side by side.
    pub(super) async fn end_leftovers(&self, key: &str) -> Result<(), Interrupt> {
        let calls: Vec<i64> =
            self.calls.iter().filter(|(called, _)| called == key).map(|(_, step)| *step).collect();
        if calls.is_empty() {
            return Ok(());
        }
        for call in self.host.journal.calls(&self.job.id).await? {
            let (true, None, Some(process)) = (calls.contains(&call.step), &call.exit, &call.process) else {
                continue;
            };
            self.host
                .end_leftover(process)
                .await
                .map_err(|error| fail(Fault::Target, "end an interrupted command", &error, "deploy again"))?;
            if call.outcome.is_none() {
                self.host.journal.call_ended(call.id, "interrupted, and ended", None, "", 0).await?;
            }
        }
        Ok(())
    }
}
