//! One host call's way: is it granted, is it on record, act, record the outcome. What a call does stands in
//! the files beside this one, each of which has a view of its own: the record of the calls, and the part that it
//! works with, and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use serde_json::Value;
use wasmtime::component::HasData;

use super::cancellation::{CancelCause, Cancellation};
use super::grant::{Call, Grants, refusal};
use super::limits;
use super::log_queue::LogQueue;
use super::record::{CallEnded, Effect, Intent, Level, RecordError, Recorder, Source};
use crate::contract::{Error, Fault};
use crate::secret::Redactor;

/// How much of what a call said is kept in its record.
const TAIL: usize = 4096;
/// A command on the target is asked to leave, and killed after two seconds; the way there takes its time.
const LAST_MOMENTS: Duration = Duration::from_secs(15);

/// The calls that a step makes, granted and on record. Nothing on the target is reached from here.
pub struct Calls {
    pub(super) plugin: String,
    pub(super) grants: Grants,
    /// The pipeline's file as people write it.
    pub(super) pipeline_file: String,
    pub(super) only_reads: bool,
    pub(super) redactor: Redactor,
    pub(super) recorder: Arc<dyn Recorder>,
    pub(super) log: LogQueue,
    pub(super) cancellation: Cancellation,
    pub(super) count: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// What one of the contract's imports sees of a step.
pub struct View<'a, P> {
    plugin: &'a str,
    /// None while `describe` is called, which can only answer.
    step: Option<(&'a Calls, &'a P)>,
}

/// Tells the generated bindings what they get.
impl<P: Sync + 'static> HasData for View<'static, P> {
    type Data<'a> = View<'a, P>;
}

/// A plugin went past a limit that ends it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Exceeded(pub String);

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

impl<'a, P: Sync> View<'a, P> {
    pub(super) fn describing(plugin: &'a str) -> Self {
        Self { plugin, step: None }
    }

    pub(super) fn of(calls: &'a Calls, part: &'a P) -> Self {
        Self { plugin: &calls.plugin, step: Some((calls, part)) }
    }

    /// What the import works with; none while `describe` is called.
    pub(super) fn part(&self) -> Option<&'a P> {
        self.step.map(|(_, part)| part)
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
        A: FnOnce(&'a P, u64) -> BoxFuture<'a, Result<Made<T>, Error>> + Send,
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
        A: FnOnce(&'a P, u64) -> BoxFuture<'a, Result<Made<T>, Error>> + Send,
    {
        let Some((calls, part)) = self.step else { return Ok(Err(only_answers(self.plugin, call))) };
        calls.make(call, effect, arguments, checked, |id| action(part, id)).await
    }
}

impl Calls {
    async fn make<'a, T, A>(
        &self,
        call: Call,
        effect: Effect,
        arguments: Value,
        checked: Result<(), Error>,
        action: A,
    ) -> wasmtime::Result<Result<T, Error>>
    where
        T: Send,
        A: FnOnce(u64) -> BoxFuture<'a, Result<Made<T>, Error>> + Send,
    {
        if self.count.fetch_add(1, Ordering::Relaxed) >= limits::CALLS {
            let many = format!("it made more than {} calls to the host", limits::CALLS);
            return Err(wasmtime::Error::new(Exceeded(many)));
        }
        let granted = self
            .grants
            .allow(call)
            .map_err(|missing| refusal(&self.plugin, &self.grants, &self.pipeline_file, call, missing));
        if let Err(error) = granted.and(checked) {
            self.record_refusal(call, effect, arguments, &error).await?;
            return Ok(Err(error));
        }
        if self.only_reads && effect == Effect::Changes {
            return Ok(Err(only_reads(&self.plugin, call)));
        }
        if let Some(cause) = self.cancellation.cause() {
            return Ok(Err(cancelled(call, &cause)));
        }
        let arguments = self.recorded_arguments(arguments, limits::RECORDED_TEXT, limits::RECORDED);
        // What the plugin said before the call stands before it in the record.
        self.log.flush().await;
        let function = call.function();
        let intent = Intent { function: function.into(), arguments, effect };
        let id = self.recorded(self.recorder.call_started(intent).await)?;

        self.cancellation.set_doing(Some(function));
        let begun = Instant::now();
        let result = self.until_cancelled(call, action(id)).await;
        self.cancellation.set_doing(None);

        let mut ended =
            CallEnded { error: None, exit: None, output_tail: String::new(), duration: begun.elapsed() };
        let answer = match result {
            Ok(made) => {
                (ended.exit, ended.output_tail) = self.shown(made.exit, made.output).await;
                Ok(made.answer)
            }
            Err(error) => {
                let mut seen = self.redactor.redact(&error.seen).into_owned();
                limits::cut(&mut seen, limits::RECORDED_TEXT);
                ended.error = Some(seen);
                Err(error)
            }
        };
        self.log.flush().await;
        self.recorded(self.recorder.call_ended(id, ended).await)?;
        if let Some(CancelCause::Unrecorded(error)) = self.cancellation.cause() {
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
        let id = self.recorded(self.recorder.call_started(intent).await)?;
        let mut seen = self.redactor.redact_string(error.seen.clone());
        limits::cut(&mut seen, limits::REFUSED);
        let ended =
            CallEnded { error: Some(seen), exit: None, output_tail: String::new(), duration: Duration::ZERO };
        self.recorded(self.recorder.call_ended(id, ended).await)
    }

    /// Redacted, and no larger than this. What is cut first is still longer than what is kept, so that no part of a
    /// secret stays where it was cut.
    fn recorded_arguments(&self, arguments: Value, text: usize, all: usize) -> Value {
        let roughly = limits::recorded(arguments, text.saturating_mul(4), all.saturating_mul(4));
        limits::recorded(self.redactor.redact_value(roughly), text, all)
    }

    async fn until_cancelled<T>(
        &self,
        call: Call,
        action: BoxFuture<'_, Result<Made<T>, Error>>,
    ) -> Result<Made<T>, Error> {
        let cancelling = async {
            self.cancellation.token().cancelled().await;
            if matches!(call, Call::RunReads | Call::RunChanges | Call::Alive | Call::LogTail) {
                // It ends the process on the target first, and says how that went.
                tokio::time::sleep(LAST_MOMENTS).await;
            }
            self.cancellation.cause().unwrap_or(CancelCause::Cancelled)
        };
        tokio::select! {
            biased;
            result = action => result,
            cause = cancelling => Err(cancelled(call, &cause)),
        }
    }

    /// A failure to record ends the step.
    fn recorded<T>(&self, result: Result<T, RecordError>) -> wasmtime::Result<T> {
        self.cancellation.unless_recorded(result).map_err(wasmtime::Error::new)
    }

    /// Brings out what is still held back.
    pub(super) async fn conclude(&self) {
        let unrecorded = self.refused.load(Ordering::Relaxed).saturating_sub(limits::REFUSED_ON_RECORD);
        if unrecorded > 0 {
            let line = format!("{unrecorded} more refused calls were not recorded");
            self.log.add(Level::Warn, Source::Host, &line);
        }
        self.log.flush().await;
    }

    /// How a call ended and what it said, for the record. The plugin gets what is there, byte for byte.
    async fn shown(&self, exit: Option<String>, output: String) -> (Option<String>, String) {
        let (redactor, bytes) = (&self.redactor, output.len());
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
        next: "`inspect` may only read; run such commands with the effect `reads`".into(),
    }
}

fn cancelled(call: Call, cause: &CancelCause) -> Error {
    let (fault, seen) = match cause {
        CancelCause::Cancelled => (Fault::Request, "the job was cancelled".to_owned()),
        CancelCause::TimedOut => (Fault::Target, "the step has reached its time limit".to_owned()),
        CancelCause::Unrecorded(error) => (Fault::Host, error.to_string()),
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
