//! One host call's way: is it granted, is it on record, act, record the outcome. What a call does stands in
//! the files beside this one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use serde_json::Value;
use wasmtime::component::HasData;

use super::context::StepContext;
use super::grant::{Call, refusal};
use super::limits;
use super::log::LogQueue;
use super::reach::Resolved;
use super::record::{Amount, CallEnded, Effect, Intent, Level, RecordError, Source};
use super::stop::{Stop, StopCause};
use crate::contract::{Error, Fault};
use crate::secret::Redactor;

/// How much of what a call said is kept in its record.
const TAIL: usize = 4096;
/// A command on the target is asked to leave, and killed after two seconds; the way there takes its time.
const LAST_MOMENTS: Duration = Duration::from_secs(15);
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// What a plugin's imports reach.
pub enum Host {
    /// `describe` is called: it can only answer.
    Describing { plugin: String },
    /// A step's function is called.
    Working(Box<Step>),
}

/// Tells the generated bindings where the host is in a store.
pub struct HasHost;

impl HasData for HasHost {
    type Data<'a> = &'a mut Host;
}

/// One call of a plugin's function, for as long as it takes.
pub struct Step {
    pub(super) context: StepContext,
    pub(super) log: LogQueue,
    pub(super) stop: Stop,
    progress: Mutex<Progress>,
    resolved: Mutex<Resolved>,
    calls: AtomicU64,
    refused: AtomicU64,
}

/// A plugin went past a limit that ends it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Exceeded(pub String);

#[derive(Default)]
struct Progress {
    amount: Amount,
    unsent: bool,
    sent: Option<Instant>,
}

/// What a call came to: the answer, and what of it goes into the record.
pub(super) struct Made<T> {
    pub answer: T,
    pub exit: Option<String>,
    pub output: String,
}

impl<T> Made<T> {
    pub fn plain(answer: T) -> Self {
        Self { answer, exit: None, output: String::new() }
    }
}

impl Host {
    pub fn working(context: StepContext, log: LogQueue, stop: Stop) -> Self {
        Self::Working(Box::new(Step {
            context,
            log,
            stop,
            progress: Mutex::default(),
            resolved: Mutex::default(),
            calls: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// Whether only `describe` is called.
    pub(crate) fn describes(&self) -> bool {
        match self {
            Self::Describing { .. } => true,
            Self::Working(_) => false,
        }
    }

    /// Makes a call: granted, on record before it acts, and on record when it ended.
    ///
    /// # Errors
    /// The outer error ends the plugin: what happened cannot be recorded, or it asked too often.
    pub(super) async fn make<T, A>(
        &self,
        call: Call,
        effect: Effect,
        arguments: Value,
        action: A,
    ) -> wasmtime::Result<Result<T, Error>>
    where
        T: Send,
        A: for<'s> FnOnce(&'s Step, u64) -> BoxFuture<'s, Result<Made<T>, Error>> + Send,
    {
        self.make_checked(call, effect, arguments, Ok(()), action).await
    }

    /// As `make`, where what was asked for has been looked at already: what is refused is on record as that, and small.
    pub(super) async fn make_checked<T, A>(
        &self,
        call: Call,
        effect: Effect,
        arguments: Value,
        checked: Result<(), Error>,
        action: A,
    ) -> wasmtime::Result<Result<T, Error>>
    where
        T: Send,
        A: for<'s> FnOnce(&'s Step, u64) -> BoxFuture<'s, Result<Made<T>, Error>> + Send,
    {
        let step = match self {
            Self::Working(step) => step,
            Self::Describing { plugin } => return Ok(Err(only_answers(plugin, call))),
        };
        step.make(call, effect, arguments, checked, action).await
    }

    /// Brings out what is still held back.
    pub(crate) async fn conclude(&self) -> Result<(), RecordError> {
        match self {
            Self::Describing { .. } => Ok(()),
            Self::Working(step) => step.conclude().await,
        }
    }
}

impl Step {
    async fn make<T, A>(
        &self,
        call: Call,
        effect: Effect,
        arguments: Value,
        checked: Result<(), Error>,
        action: A,
    ) -> wasmtime::Result<Result<T, Error>>
    where
        T: Send,
        A: for<'s> FnOnce(&'s Step, u64) -> BoxFuture<'s, Result<Made<T>, Error>> + Send,
    {
        let context = &self.context;
        if self.calls.fetch_add(1, Ordering::Relaxed) >= limits::CALLS {
            let many = format!("it made more than {} calls to the host", limits::CALLS);
            return Err(wasmtime::Error::new(Exceeded(many)));
        }
        let granted = context.grants.allow(call).map_err(|missing| {
            refusal(&context.plugin, &context.grants, &context.pipeline_file, call, missing)
        });
        if let Err(error) = granted.and(checked) {
            self.record_refusal(call, effect, arguments, &error).await?;
            return Ok(Err(error));
        }
        if context.only_reads && effect == Effect::Changes {
            return Ok(Err(only_reads(&context.plugin, call)));
        }
        if let Some(cause) = self.stop.cause() {
            return Ok(Err(stopped(call, &cause)));
        }
        let arguments = self.recorded_arguments(arguments, limits::RECORDED_TEXT, limits::RECORDED);
        // What the plugin said before the call stands before it in the record.
        self.log.flush().await;
        let function = call.function();
        let intent = Intent { function: function.into(), arguments, effect };
        let id = self.recorded(context.recorder.call_started(intent).await)?;

        self.stop.set_doing(Some(function));
        let begun = Instant::now();
        let result = self.until_stopped(call, action(self, id)).await;
        self.stop.set_doing(None);

        let mut ended =
            CallEnded { error: None, exit: None, output_tail: String::new(), duration: begun.elapsed() };
        let answer = match result {
            Ok(made) => {
                (ended.exit, ended.output_tail) = self.shown(made.exit, made.output).await;
                Ok(made.answer)
            }
            Err(error) => {
                let mut seen = self.context.redactor.redact(&error.seen).into_owned();
                limits::cut(&mut seen, limits::RECORDED_TEXT);
                ended.error = Some(seen);
                Err(error)
            }
        };
        self.log.flush().await;
        self.recorded(context.recorder.call_ended(id, ended).await)?;
        if let Some(StopCause::Unrecorded(error)) = self.stop.cause() {
            return Err(wasmtime::Error::new(error));
        }
        Ok(answer)
    }

    /// A call that was not made: small, and only the first ones.
    async fn record_refusal(
        &self,
        call: Call,
        effect: Effect,
        arguments: Value,
        error: &Error,
    ) -> wasmtime::Result<()> {
        if self.refused.fetch_add(1, Ordering::Relaxed) >= limits::REFUSED_ON_RECORD {
            return Ok(());
        }
        self.log.flush().await;
        let arguments = self.recorded_arguments(arguments, limits::REFUSED_TEXT, limits::REFUSED);
        let intent = Intent { function: call.function().into(), arguments, effect };
        let id = self.recorded(self.context.recorder.call_started(intent).await)?;
        let mut seen = self.context.redactor.redact_string(error.seen.clone());
        limits::cut(&mut seen, limits::REFUSED);
        let ended =
            CallEnded { error: Some(seen), exit: None, output_tail: String::new(), duration: Duration::ZERO };
        self.recorded(self.context.recorder.call_ended(id, ended).await)
    }

    /// Redacted, and no larger than this. What is cut first is still longer than what is kept, so that no part of a
    /// secret stays where it was cut.
    fn recorded_arguments(&self, arguments: Value, text: usize, all: usize) -> Value {
        let roughly = limits::recorded(arguments, text.saturating_mul(4), all.saturating_mul(4));
        limits::recorded(self.context.redactor.redact_value(roughly), text, all)
    }

    pub(super) fn resolved(&self) -> MutexGuard<'_, Resolved> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until_stopped<T>(
        &self,
        call: Call,
        action: BoxFuture<'_, Result<Made<T>, Error>>,
    ) -> Result<Made<T>, Error> {
        let stopping = async {
            self.stop.token().cancelled().await;
            if matches!(call, Call::RunReads | Call::RunChanges | Call::Alive | Call::LogTail) {
                // It ends the process on the target first, and says how that went.
                tokio::time::sleep(LAST_MOMENTS).await;
            }
            self.stop.cause().unwrap_or(StopCause::Cancelled)
        };
        tokio::select! {
            biased;
            result = action => result,
            cause = stopping => Err(stopped(call, &cause)),
        }
    }

    /// A failure to record ends the step.
    pub(super) fn recorded<T>(&self, result: Result<T, RecordError>) -> wasmtime::Result<T> {
        result.map_err(|error| {
            self.stop.stop(StopCause::Unrecorded(error.clone()));
            wasmtime::Error::new(error)
        })
    }

    pub(super) fn amount(&self) -> Amount {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).amount
    }

    /// Reports how far the step is, but not more often than anybody looks.
    pub(super) async fn advance(&self, amount: Amount) -> wasmtime::Result<()> {
        let due = {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.amount = amount;
            let whole = amount.files_done == amount.files_total && amount.bytes_done == amount.bytes_total;
            let due = whole || progress.sent.is_none_or(|sent| sent.elapsed() >= PROGRESS_EVERY);
            progress.unsent = !due;
            if due {
                progress.sent = Some(Instant::now());
            }
            due
        };
        if due {
            self.recorded(self.context.recorder.progress(amount).await)?;
        }
        Ok(())
    }

    async fn conclude(&self) -> Result<(), RecordError> {
        let unsent = {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut progress.unsent).then_some(progress.amount)
        };
        if let Some(amount) = unsent {
            self.context.recorder.progress(amount).await?;
        }
        let unrecorded = self.refused.load(Ordering::Relaxed).saturating_sub(limits::REFUSED_ON_RECORD);
        if unrecorded > 0 {
            let line = format!("{unrecorded} more refused calls are not on record");
            self.log.add(Level::Warn, Source::Host, &line);
        }
        self.log.flush().await;
        Ok(())
    }

    /// How a call ended and what it said, for the record. The plugin gets what is there, byte for byte.
    async fn shown(&self, exit: Option<String>, output: String) -> (Option<String>, String) {
        let (redactor, bytes) = (&self.context.redactor, output.len());
        let exit = exit.map(|exit| redactor.redact_string(exit));
        let tail = redactor.apart(bytes, move |redactor| tail(&redactor.redact(&output))).await;
        (exit, tail)
    }
}

pub(crate) fn redacted_error(redactor: &Redactor, error: Error) -> Error {
    Error {
        fault: error.fault,
        attempted: redactor.redact_string(error.attempted),
        seen: redactor.redact_string(error.seen),
        next: redactor.redact_string(error.next),
    }
}

fn only_answers(plugin: &str, call: Call) -> Error {
    Error {
        fault: Fault::Plugin,
        attempted: format!("call {}", call.function()),
        seen: format!("`describe` of the plugin `{plugin}` called the host"),
        next: "`describe` can only answer; make the call in a phase's function".into(),
    }
}

fn only_reads(plugin: &str, call: Call) -> Error {
    Error {
        fault: Fault::Plugin,
        attempted: format!("call {}", call.function()),
        seen: format!("`inspect` of the plugin `{plugin}` made a call that changes something"),
        next: "`inspect` may only look; run commands that read with the effect `reads`".into(),
    }
}

fn stopped(call: Call, cause: &StopCause) -> Error {
    let (fault, seen) = match cause {
        StopCause::Cancelled => (Fault::Request, "the job was cancelled".to_owned()),
        StopCause::TimedOut => (Fault::Target, "the step's time is up".to_owned()),
        StopCause::Unrecorded(error) => (Fault::Host, error.to_string()),
    };
    Error {
        fault,
        attempted: format!("call {}", call.function()),
        seen,
        next: "nothing more can be called in this step".into(),
    }
}

/// The end of a text, at a character's boundary.
fn tail(text: &str) -> String {
    let mut start = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_whole_characters() {
        assert_eq!(tail("short"), "short");
        let long = format!("{}{}", "ß".repeat(3000), "x");
        let end = tail(&long);
        assert!(end.len() <= TAIL && end.len() > TAIL - 4 && long.ends_with(&end));
    }
}
