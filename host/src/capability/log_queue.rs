//! The step's log: lines from the plugin and from the target, in one order, on their way to the recorder.
//! It keeps no line: the recorder does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::cancellation::{CancelCause, Cancellation};
use super::limits;
use super::record::{Level, Recorder, Source};
use crate::secret::Redactor;

/// Lines on their way. A plugin that writes faster waits; a command that does loses lines.
const WAITING: usize = 4096;
/// Lines of one call of a plugin. More are counted only.
const MOST: u64 = 20_000;
/// Bytes of one line.
const LONGEST: usize = 4096;
/// Bytes of a line that are looked at: values that are taken out of it make it shorter.
const LOOKED_AT: usize = 64 << 10;

/// Cheap to clone.
#[derive(Clone)]
pub struct LogQueue {
    sender: mpsc::Sender<Item>,
    redactor: Redactor,
    taken: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

enum Item {
    Line(Level, Source, String),
    Flush(oneshot::Sender<()>),
}

impl LogQueue {
    /// A queue, and a task that empties it until the last clone is dropped.
    pub fn new(recorder: Arc<dyn Recorder>, redactor: Redactor, cancellation: Cancellation) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        tokio::spawn(record(receiver, recorder, cancellation, lost.clone()));
        Self { sender, redactor, taken: Arc::default(), bytes: Arc::default(), lost }
    }

    /// A queue for `describe`, whose log nobody keeps.
    pub fn nowhere() -> Self {
        let (sender, _) = mpsc::channel(1);
        let (redactor, lost) = (Redactor::default(), Arc::default());
        Self { sender, redactor, taken: Arc::default(), bytes: Arc::default(), lost }
    }

    /// How many lines can be added without a loss.
    pub fn room(&self) -> usize {
        // Nobody reads: nothing is lost that somebody wanted.
        if self.sender.is_closed() { WAITING } else { self.sender.capacity() }
    }

    pub async fn wait_for_room(&self) {
        let _ = self.sender.reserve_many(WAITING / 4).await;
    }

    /// Adds a line; where there is no room for it, it is counted as lost.
    pub fn add(&self, level: Level, source: Source, line: &str) {
        let bytes = line.len().min(LONGEST) as u64;
        let many = self.taken.fetch_add(1, Ordering::Relaxed) >= MOST;
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) >= limits::LOG || many {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let looked_at = cut(line, LOOKED_AT);
        // A line that is so long was cut here, or by who had it.
        let redacted = if line.len() < LONGEST {
            self.redactor.redact(looked_at)
        } else {
            self.redactor.redact_cut(looked_at)
        };
        let line = cut(&redacted, LONGEST).to_owned();
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(Item::Line(level, source, line))
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All that was added before is recorded when this returns.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.sender.send(Item::Flush(done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

async fn record(
    mut receiver: mpsc::Receiver<Item>,
    recorder: Arc<dyn Recorder>,
    cancellation: Cancellation,
    lost: Arc<AtomicU64>,
) {
    while let Some(item) = receiver.recv().await {
        let result = match item {
            Item::Line(level, source, line) => recorder.log(level, source, &line).await,
            Item::Flush(done) => {
                let result = match lost.swap(0, Ordering::Relaxed) {
                    0 => Ok(()),
                    lost => {
                        let line = format!("{lost} lines are left out: they came too fast, or were too many");
                        recorder.log(Level::Warn, Source::Host, &line).await
                    }
                };
                let _ = done.send(());
                result
            }
        };
        if let Err(error) = result {
            cancellation.cancel(CancelCause::Unrecorded(error));
        }
    }
}

fn cut(line: &str, bytes: usize) -> &str {
    line.get(..line.floor_char_boundary(bytes)).unwrap_or_default()
}
