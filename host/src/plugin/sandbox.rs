//! One call of a plugin: a fresh sandbox, its limits on memory and time, and a clear word on how it ended.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{sleep, timeout};
use wasmtime::component::{Instance as Component, InstancePre};
use wasmtime::{Store, Trap};
use wasmtime_wasi::I32Exit;

use super::StepFailure;
use super::bounds::cut;
use super::component::{Code, Plugin};
use super::output::Captured;
use super::runtime::Runtime;
use super::store::{State, store};
use crate::capability::{
    CancelCause, Cancellation, Exceeded, Host, Level, LogQueue, Source, StepContext, limits, redacted_error,
};
use crate::contract::Error;
use crate::contract::bindings::exports::deployer::pipeline::plugin::{Description, GuestIndices};
use crate::model::Grant;
use crate::secret::Redactor;

/// `describe` answers from constants; a slow interpreter has to start first. Nobody waits for it who does not need
/// this plugin.
const DESCRIBE_TIME: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 5 });
const DESCRIBE_MEMORY: u64 = 256 << 20;
/// A plugin that is told to stop may put something in order.
const LAST_MOMENTS: Duration = Duration::from_secs(2);
/// A host call ends by itself, with the process on the target, and is recorded.
const LAST_CALL: Duration = Duration::from_secs(20);

/// What a function's answer is before it is checked.
pub(super) type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Runtime {
    /// Calls a function of a step's plugin.
    pub(super) async fn sandboxed<T, F>(
        &self,
        plugin: &Plugin,
        step: StepContext,
        call: F,
    ) -> Result<T, StepFailure>
    where
        T: Send,
        F: for<'s> FnOnce(&'s mut Store<State>, &'s Component) -> BoxFuture<'s, Answer<T>> + Send,
    {
        let redactor = step.redactor.clone();
        let cancellation = Cancellation::under(&step.cancel);
        let log = LogQueue::new(step.recorder.clone(), redactor.clone(), cancellation.clone());
        let captured = Captured::new(log.clone());
        let limits = step.limits;
        let service = step.service_dir.clone().filter(|_| step.grants.has(Grant::ServiceRead));
        let host = Host::working(step, log.clone(), cancellation.clone());
        let mut store = store(self.engine(), host, limits.memory_bytes, service.as_ref(), &captured)
            .map_err(|error| {
                StepFailure::Unready(format!("the service's folder cannot be opened: {error}"))
            })?;

        let ended = within(&mut store, &plugin.code.pre, &cancellation, limits.timeout, call).await;
        captured.finish();
        if let CallOutcome::Broken(error) = &ended {
            // For the plugin's author: where in the code it was.
            for line in format!("{error:?}").lines() {
                log.add(Level::Debug, Source::Host, line);
            }
        }
        store.data().host.conclude().await?;
        let refused = store.data().memory.refused;
        judge(ended, cancellation.cause(), refused, limits.memory_bytes, limits.timeout, &captured, &redactor)
    }

    /// Asks a plugin what it is, and checks meanwhile that all its functions are the contract's.
    pub(super) async fn describe(&self, name: &str, code: &Code) -> Result<Description, StepFailure> {
        let cancellation = Cancellation::under(&Default::default());
        let captured = Captured::new(LogQueue::nowhere());
        let host = Host::Describing { plugin: name.to_owned() };
        let mut store = store(self.engine(), host, DESCRIBE_MEMORY, None, &captured)
            .map_err(|error| StepFailure::Unready(error.to_string()))?;
        let indices = GuestIndices::new(&code.pre).map_err(|error| has_no_description(&error))?;
        let code = Arc::new(code.clone());
        let pre = code.pre.clone();
        let ended = within(&mut store, &pre, &cancellation, DESCRIBE_TIME, |store, instance| {
            Box::pin(async move {
                code.fits(store, instance).map_err(incompatible)?;
                let guest = indices.load(&mut *store, instance).map_err(incompatible)?;
                Ok(Ok(guest.call_describe(store).await?))
            })
        })
        .await;
        captured.finish();
        let refused = store.data().memory.refused;
        let redactor = Redactor::default();
        judge(ended, cancellation.cause(), refused, DESCRIBE_MEMORY, DESCRIBE_TIME, &captured, &redactor)
    }
}

impl Code {
    /// Looks at every exported function's types.
    fn fits(&self, store: &mut Store<State>, instance: &Component) -> wasmtime::Result<()> {
        let Self { pre: _, validate, transfer, build, start, verify, register } = self;
        if let Some(indices) = validate {
            indices.load(&mut *store, instance)?;
        }
        if let Some(indices) = transfer {
            indices.load(&mut *store, instance)?;
        }
        if let Some(indices) = build {
            indices.load(&mut *store, instance)?;
        }
        if let Some(indices) = start {
            indices.load(&mut *store, instance)?;
        }
        if let Some(indices) = verify {
            indices.load(&mut *store, instance)?;
        }
        if let Some(indices) = register {
            indices.load(&mut *store, instance)?;
        }
        Ok(())
    }
}

/// How a call ended, as the engine sees it.
enum CallOutcome<T> {
    Answered(Result<T, Error>),
    Broken(wasmtime::Error),
    /// It did not stop when it was told to, and was dropped. With the host call that it waited in.
    Dropped(Option<&'static str>),
}

async fn within<T, F>(
    store: &mut Store<State>,
    pre: &InstancePre<State>,
    cancellation: &Cancellation,
    limit: Duration,
    call: F,
) -> CallOutcome<T>
where
    F: for<'s> FnOnce(&'s mut Store<State>, &'s Component) -> BoxFuture<'s, Answer<T>> + Send,
{
    let calling = async {
        let instance = pre.instantiate_async(&mut *store).await?;
        call(store, &instance).await
    };
    tokio::pin!(calling);
    let ended = |result: Answer<T>| match result {
        Ok(answer) => CallOutcome::Answered(answer),
        Err(error) => CallOutcome::Broken(error),
    };
    tokio::select! {
        result = &mut calling => return ended(result),
        () = sleep(limit) => {}
        () = cancellation.token().cancelled() => {}
    }
    let doing = cancellation.doing();
    // Where it was cancelled, that came first, and stays the cause.
    cancellation.cancel(if cancellation.token().is_cancelled() {
        CancelCause::Cancelled
    } else {
        CancelCause::TimedOut
    });
    let grace = match (doing, cancellation.cause()) {
        (Some(_), _) => LAST_CALL,
        (None, Some(CancelCause::Cancelled)) => LAST_MOMENTS,
        (None, Some(CancelCause::TimedOut | CancelCause::Unrecorded(_)) | None) => Duration::ZERO,
    };
    match timeout(grace, calling).await {
        Ok(result) if doing.is_none() => ended(result),
        Ok(result) => match ended(result) {
            // Its own error says only that it was stopped.
            CallOutcome::Answered(Err(_)) | CallOutcome::Broken(_) => CallOutcome::Dropped(doing),
            other => other,
        },
        Err(_) => CallOutcome::Dropped(doing),
    }
}

fn judge<T>(
    ended: CallOutcome<T>,
    cause: Option<CancelCause>,
    memory_refused: bool,
    limit_bytes: u64,
    after: Duration,
    captured: &Captured,
    redactor: &Redactor,
) -> Result<T, StepFailure> {
    let last_lines = || redactor.redact_string(captured.last_lines());
    let doing = match (&ended, cause) {
        (_, Some(CancelCause::Unrecorded(error))) => return Err(error.into()),
        // It came to its end after all.
        (CallOutcome::Answered(Ok(_)), _) => None,
        (_, Some(CancelCause::Cancelled)) => return Err(StepFailure::Cancelled),
        (CallOutcome::Dropped(doing), _) => Some(*doing),
        (CallOutcome::Answered(Err(_)) | CallOutcome::Broken(_), Some(CancelCause::TimedOut)) => Some(None),
        (CallOutcome::Answered(Err(_)) | CallOutcome::Broken(_), None) => None,
    };
    match doing {
        Some(Some(call)) => return Err(StepFailure::TimedOutIn { after, call }),
        Some(None) => return Err(StepFailure::TimedOut { after, last_lines: last_lines() }),
        None => {}
    }
    match ended {
        CallOutcome::Answered(Ok(answer)) => Ok(answer),
        CallOutcome::Answered(Err(error)) => Err(StepFailure::Reported(redacted_error(redactor, cut(error)))),
        CallOutcome::Broken(_) | CallOutcome::Dropped(_) if memory_refused => {
            Err(StepFailure::OutOfMemory { limit_bytes, last_lines: last_lines() })
        }
        CallOutcome::Broken(error) => Err(match error.downcast_ref::<Incompatible>() {
            Some(Incompatible(cause)) => StepFailure::Incompatible(cause.clone()),
            None => match exceeded(&error) {
                Some(what) => StepFailure::Exceeded(what),
                None => StepFailure::Trapped { message: trap(&error), last_lines: last_lines() },
            },
        }),
        CallOutcome::Dropped(_) => Err(StepFailure::TimedOut { after, last_lines: last_lines() }),
    }
}

/// The types of an export are not the contract's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Incompatible(String);

pub(super) fn incompatible(error: wasmtime::Error) -> wasmtime::Error {
    wasmtime::Error::new(Incompatible(format!("{error:#}")))
}

fn has_no_description(error: &wasmtime::Error) -> StepFailure {
    StepFailure::Incompatible(format!("{error:#}"))
}

/// The limit that it went past, if that is what ended it.
fn exceeded(error: &wasmtime::Error) -> Option<String> {
    if let Some(Exceeded(what)) = error.downcast_ref() {
        return Some(what.clone());
    }
    // The engine has no type for it that others can name.
    let too_much = error.root_cause().to_string().contains("fuel allocated for hostcalls");
    too_much.then(|| format!("it handed over more than {} MiB at once", limits::HANDED_OVER >> 20))
}

fn trap(error: &wasmtime::Error) -> String {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return format!("it ended itself with exit status {status}");
    }
    match error.downcast_ref::<Trap>() {
        // What panics, aborts and failed assertions of any language end in.
        Some(Trap::UnreachableCodeReached) => "it panicked, or gave up".into(),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    }
}
