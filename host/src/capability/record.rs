//! What a step leaves in the record while it runs. The journal implements it; nothing is stored here.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::RemoteProcess;
pub use crate::model::{Amount, Level, Source};

/// Keeps what one step does. All texts that reach it are redacted already; what the plugin gets is not.
///
/// An error from any of these ends the step: what cannot be recorded is not done.
#[async_trait]
pub trait Recorder: Send + Sync {
    /// One line, without its end.
    async fn log(&self, level: Level, source: Source, line: &str) -> Result<(), RecordError>;

    /// How far the step is. Called a few times a second at most.
    async fn progress(&self, amount: Amount) -> Result<(), RecordError>;

    /// Durable before the call acts. The answer names the call in what follows.
    async fn call_started(&self, intent: Intent) -> Result<u64, RecordError>;

    /// The process exists on the target: whoever finds this call unended after a crash can end it.
    async fn call_running(&self, call: u64, process: &RemoteProcess) -> Result<(), RecordError>;

    /// A call that was cut off has no end on record.
    async fn call_ended(&self, call: u64, ended: CallEnded) -> Result<(), RecordError>;
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{what} could not be recorded: {cause}; check the disk under the data folder")]
pub struct RecordError {
    pub what: String,
    pub cause: String,
}

/// A call that is about to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// `target.run`
    pub function: String,
    /// The argument list of a command; the path and the size for files; method and URL for HTTP; only the
    /// names of an environment.
    pub arguments: Value,
    pub effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Reads,
    Changes,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallEnded {
    /// The error in words, if it could not be made.
    pub error: Option<String>,
    /// A command's exit (`exit status 0`, `SIGKILL`), or an answer's status (`200`).
    pub exit: Option<String>,
    /// The last 4 KiB of what it said.
    pub output_tail: String,
    pub duration: Duration,
}
