//! Writes down what a step's plugin says and asks for.
//!
//! Host calls are recorded one by one, before they act. Log lines and progress come by the thousand, so they
//! are gathered for a moment and written together.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::live::LiveJob;
use crate::capability::{Amount, CallEnded, Effect, Intent, Level, RecordError, Recorder, Source};
use crate::journal::{Journal, JournalError, now};
use crate::model::{CallStart, EventData, NewEvent, Phase, PlannedStep, RemoteProcess};

/// How long lines are gathered.
const GATHER: Duration = Duration::from_millis(100);
/// How many lines are gathered at most: a step that says more waits for the disk.
const GATHER_LINES: usize = 500;

pub(super) struct JournalRecorder {
    journal: Arc<dyn Journal>,
    live: Arc<LiveJob>,
    job: String,
    step: i64,
    phase: Phase,
    plugin: String,
    gathered: Mutex<Vec<NewEvent>>,
    progress: Mutex<Option<Amount>>,
}

impl JournalRecorder {
    pub fn new(
        journal: Arc<dyn Journal>,
        live: Arc<LiveJob>,
        job: String,
        step: i64,
        planned: &PlannedStep,
    ) -> Self {
        JournalRecorder {
            journal,
            live,
            job,
            step,
            phase: planned.phase,
            plugin: planned.plugin.clone(),
            gathered: Mutex::default(),
            progress: Mutex::default(),
        }
    }

    /// Waits for a step, and writes down meanwhile what it says. The two go on side by side: a step that
    /// waited for its own line in the journal while this waits for another would never be woken.
    ///
    /// # Errors
    /// When that cannot be recorded even at the step's end.
    pub async fn flushing<T>(&self, step: impl Future<Output = T>) -> Result<T, JournalError> {
        let over = CancellationToken::new();
        let working = async {
            let outcome = step.await;
            over.cancel();
            Ok(outcome)
        };
        let writing = async {
            let mut tick = tokio::time::interval(GATHER);
            loop {
                let last = tokio::select! {
                    () = over.cancelled() => true,
                    _ = tick.tick() => false,
                };
                match self.flush().await {
                    Ok(()) if last => return Ok(()),
                    Err(error) if last => return Err(error),
                    // Lines can wait for a disk that is full for a moment. A step that has more of them than are
                    // gathered, or a call to record, is ended by that.
                    Ok(()) | Err(_) => {}
                }
            }
        };
        let (outcome, ()) = tokio::try_join!(working, writing)?;
        Ok(outcome)
    }

    async fn flush(&self) -> Result<(), JournalError> {
        let mut events = std::mem::take(&mut *lock(&self.gathered));
        if let Some(amount) = lock(&self.progress).take() {
            events.push(NewEvent::new(now(), &EventData::Progress { phase: self.phase, amount }));
        }
        if events.is_empty() {
            return Ok(());
        }
        let appended = self.journal.append(&self.job, &events).await;
        if appended.is_err() {
            let mut gathered = lock(&self.gathered);
            events.append(&mut gathered);
            *gathered = events;
        }
        appended
    }
}

/// Writes one line of the deployer's own into a job's log.
pub(super) async fn say(
    journal: &dyn Journal,
    job: &str,
    phase: Phase,
    level: Level,
    line: &str,
) -> Result<(), JournalError> {
    let line = EventData::Log { phase, plugin: None, level, source: Source::Host, line: line.to_owned() };
    journal.append(job, &[NewEvent::new(now(), &line)]).await
}

#[async_trait]
impl Recorder for JournalRecorder {
    async fn log(&self, level: Level, source: Source, line: &str) -> Result<(), RecordError> {
        let line = EventData::Log {
            phase: self.phase,
            plugin: Some(self.plugin.clone()),
            level,
            source,
            line: line.to_owned(),
        };
        let full = {
            let mut gathered = lock(&self.gathered);
            gathered.push(NewEvent::new(now(), &line));
            gathered.len() >= GATHER_LINES
        };
        if full { self.flush().await.map_err(unrecorded("log lines")) } else { Ok(()) }
    }

    async fn progress(&self, amount: Amount) -> Result<(), RecordError> {
        self.live.set_progress(&amount);
        *lock(&self.progress) = Some(amount);
        Ok(())
    }

    async fn call_started(&self, intent: Intent) -> Result<u64, RecordError> {
        let call = CallStart {
            job: self.job.clone(),
            step: self.step,
            call: intent.function,
            arguments: intent.arguments,
            changes_target: intent.effect == Effect::Changes,
        };
        let id = self.journal.call_started(&call).await.map_err(unrecorded("a call"))?;
        Ok(id.unsigned_abs())
    }

    async fn call_running(&self, call: u64, process: &RemoteProcess) -> Result<(), RecordError> {
        self.journal.call_running(call.cast_signed(), process).await.map_err(unrecorded("a remote process"))
    }

    async fn call_ended(&self, call: u64, ended: CallEnded) -> Result<(), RecordError> {
        let outcome = ended.error.as_deref().unwrap_or("ok");
        let duration = u64::try_from(ended.duration.as_millis()).unwrap_or(u64::MAX);
        self.journal
            .call_ended(call.cast_signed(), outcome, ended.exit.as_deref(), &ended.output_tail, duration)
            .await
            .map_err(unrecorded("a call's end"))
    }
}

fn unrecorded(what: &'static str) -> impl Fn(JournalError) -> RecordError {
    move |error| RecordError { what: what.into(), cause: error.to_string() }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
