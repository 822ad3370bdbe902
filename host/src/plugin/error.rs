//! What can come of calling a plugin, other than its answer.

use std::fmt;
use std::time::Duration;

use crate::capability::RecordError;
use crate::contract::{Error, Fault};

/// A call of a plugin's function that gave no answer to go on with.
#[derive(Debug, Clone, PartialEq)]
pub struct StepError {
    pub plugin: String,
    pub function: &'static str,
    pub failure: StepFailure,
}

#[derive(Debug, Clone, PartialEq)]
pub enum StepFailure {
    /// The plugin's own error.
    Reported(Error),
    /// The plugin came to an end in the middle: a panic, an exception, an exit.
    Trapped {
        message: String,
        last_lines: String,
    },
    /// The time was up while it computed, or slept.
    TimedOut {
        after: Duration,
        last_lines: String,
    },
    /// The time was up while it waited for a host call.
    TimedOutIn {
        after: Duration,
        call: &'static str,
    },
    OutOfMemory {
        limit_bytes: u64,
        last_lines: String,
    },
    Cancelled,
    /// What it did could not be recorded, so it was ended.
    Unrecorded(String),
    /// It has no such function.
    Missing,
    /// Its types are not the contract's.
    Incompatible(String),
    /// Its answer fails a check.
    InvalidAnswer(String),
    /// It said or asked for more than a plugin may.
    Exceeded(String),
    /// The host could not give it what it runs on.
    Unready(String),
}

impl StepError {
    pub fn is_cancelled(&self) -> bool {
        self.failure == StepFailure::Cancelled
    }

    pub fn is_unrecorded(&self) -> bool {
        matches!(self.failure, StepFailure::Unrecorded(_))
    }

    /// The contract's error, which says whose fault it is and what to do.
    pub fn into_error(self) -> Error {
        let Self { plugin, function, failure } = self;
        let next = failure.next(&plugin);
        let fault = match &failure {
            StepFailure::Reported(error) => return error.clone(),
            StepFailure::Cancelled => Fault::Request,
            // The plugin waited for the server, for as long as it was allowed to.
            StepFailure::TimedOutIn { .. } => Fault::Target,
            StepFailure::Unrecorded(_) | StepFailure::Unready(_) => Fault::Host,
            StepFailure::Trapped { .. }
            | StepFailure::TimedOut { .. }
            | StepFailure::OutOfMemory { .. }
            | StepFailure::Missing
            | StepFailure::Incompatible(_)
            | StepFailure::InvalidAnswer(_)
            | StepFailure::Exceeded(_) => Fault::Plugin,
        };
        Error {
            fault,
            attempted: format!("call `{function}` of the plugin `{plugin}`"),
            seen: format!("it {failure}"),
            next,
        }
    }
}

impl From<RecordError> for StepFailure {
    fn from(error: RecordError) -> Self {
        Self::Unrecorded(error.to_string())
    }
}

impl StepFailure {
    fn next(&self, plugin: &str) -> String {
        match self {
            Self::Reported(error) => error.next.clone(),
            Self::Trapped { .. } => format!("fix the plugin `{plugin}`; its whole output is in the step's log"),
            Self::TimedOut { .. } => {
                format!("give the step more time in the pipeline, or fix the plugin `{plugin}`")
            }
            Self::TimedOutIn { .. } => {
                "see in the step's calls what the target was doing, or give the step more time in the pipeline"
                    .into()
            }
            Self::OutOfMemory { .. } => {
                format!("give the step more memory in the pipeline, or fix the plugin `{plugin}`")
            }
            Self::Cancelled => "deploy again if you still want to".into(),
            Self::Unrecorded(_) => "free space on the deployer's disk, and restart the deployer".into(),
            Self::Missing => format!("remove the plugin `{plugin}` from this phase, or use a build that has it"),
            Self::Incompatible(_) => format!("rebuild the plugin `{plugin}` against this host's contract"),
            Self::InvalidAnswer(_) => format!("fix the plugin `{plugin}`"),
            Self::Exceeded(_) => format!("fix the plugin `{plugin}`: it says or asks for more than a plugin may"),
            Self::Unready(_) => "check the service's folder, on the deployer's machine".into(),
        }
    }
}

impl fmt::Display for StepFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported(error) => {
                write!(f, "could not {}: {}", error.attempted, error.seen)
            }
            Self::Trapped { message, last_lines } => {
                write!(f, "crashed: {message}{}", Said(last_lines))
            }
            Self::TimedOut { after, last_lines } => write!(
                f,
                "did not end within {} s, and called nothing meanwhile: it may be in a loop{}",
                after.as_secs_f32(),
                Said(last_lines)
            ),
            Self::TimedOutIn { after, call } => {
                write!(f, "did not end within {} s: it was waiting in {call}", after.as_secs_f32())
            }
            Self::OutOfMemory { limit_bytes, last_lines } => {
                write!(f, "needs more than its {} MiB of memory{}", limit_bytes >> 20, Said(last_lines))
            }
            Self::Cancelled => f.write_str("was cancelled"),
            Self::Unrecorded(cause) => write!(f, "was ended: {cause}"),
            Self::Missing => f.write_str("has no such function"),
            Self::Incompatible(cause) => write!(f, "does not fit the contract: {cause}"),
            Self::InvalidAnswer(what) => write!(f, "gave an invalid answer: {what}"),
            Self::Exceeded(what) => write!(f, "was ended: {what}"),
            Self::Unready(cause) => write!(f, "could not be started: {cause}"),
        }
    }
}

/// What the plugin said last, if it said anything.
struct Said<'a>(&'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.trim() {
            "" => Ok(()),
            said => write!(f, "; it said last:\n{said}"),
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, function, failure } = self;
        write!(f, "`{function}` of the plugin `{plugin}` {failure}; {}", failure.next(plugin))
    }
}

impl std::error::Error for StepError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_is() {
        let check = |failure: StepFailure, fault: Fault| {
            let error = StepError { plugin: "docker".into(), function: "build", failure };
            let told = error.clone().into_error();
            assert_eq!(told.fault, fault, "{error}");
            assert!(!told.attempted.is_empty() && !told.seen.is_empty() && !told.next.is_empty(), "{told:?}");
        };
        let after = Duration::from_secs(600);
        let own = Error { fault: Fault::Target, attempted: "a".into(), seen: "b".into(), next: "c".into() };
        check(StepFailure::Reported(own), Fault::Target);
        check(StepFailure::Trapped { message: "m".into(), last_lines: String::new() }, Fault::Plugin);
        check(StepFailure::TimedOut { after, last_lines: String::new() }, Fault::Plugin);
        check(StepFailure::TimedOutIn { after, call: "target.run" }, Fault::Target);
        check(StepFailure::OutOfMemory { limit_bytes: 1 << 27, last_lines: String::new() }, Fault::Plugin);
        check(StepFailure::Cancelled, Fault::Request);
        check(StepFailure::Unrecorded("disk full".into()), Fault::Host);
        check(StepFailure::Missing, Fault::Plugin);
        check(StepFailure::Incompatible("x".into()), Fault::Plugin);
        check(StepFailure::InvalidAnswer("port 0".into()), Fault::Plugin);
        check(StepFailure::Exceeded("too much".into()), Fault::Plugin);
        check(StepFailure::Unready("no folder".into()), Fault::Host);
    }

    #[test]
    fn a_panic_is_shown_with_what_was_said() {
        let failure =
            StepFailure::Trapped { message: "unreachable".into(), last_lines: "panicked at x.rs".into() };
        let error = StepError { plugin: "smoke".into(), function: "verify", failure };
        assert_eq!(
            error.to_string(),
            "`verify` of the plugin `smoke` crashed: unreachable; it said last:\npanicked at x.rs; fix the \
             plugin `smoke`; its whole output is in the step's log"
        );
    }
}
