//! Sends a tree: many files at once over a few SFTP sessions of the one connection, and on from
//! where it was when the connection is lost. What belongs to the tree is decided by the caller.

mod entry;
mod plan;
mod sessions;
mod work;

use std::path::Path;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::Instant;

use self::plan::Plan;
use self::work::Work;
use super::source::Source;
use super::{Ssh, SshError};

pub use self::entry::{Progress, UploadEntry, UploadKind, Uploaded};

impl Ssh {
    /// Sends `entries` of the directory `source` to the directory `destination`, making it and what
    /// lies between. What is in the way is replaced; what is not among the entries stays.
    ///
    /// A file that is no longer what its entry says is `Changed`. Calling this again completes what
    /// was left.
    pub async fn upload(
        &self,
        source: &Path,
        entries: &[UploadEntry],
        destination: &str,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Uploaded, SshError> {
        let begun = Instant::now();
        let (source, plan) = (Source::open(source).await?, Plan::new(entries)?);
        let work = Work::new(self, source, plan, destination.trim_end_matches('/'), progress);
        let mut reconnects = 0;
        let mut delays = pauses();
        let mut done_before = 0;
        loop {
            let error = match work.attempt().await {
                Ok(()) => break,
                // A server that was there a moment ago may be restarting.
                Err(error) if error.is_lost() || (reconnects > 0 && error.retryable()) => error,
                Err(error) => return Err(error),
            };
            let done = work.done_count();
            if done > done_before {
                done_before = done;
                delays = pauses();
            }
            let Some(delay) = delays.next() else {
                return Err(error);
            };
            tracing::warn!(%error, ?delay, "an upload goes on after a lost connection");
            reconnects += 1;
            tokio::time::sleep(delay).await;
        }
        Ok(work.uploaded(reconnects, begun.elapsed()))
    }
}

/// Together about half a minute.
fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(8))
        .with_max_times(8)
        .build()
}
