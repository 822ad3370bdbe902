//! What a job did: its steps, and the host calls of each.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::failure::Failure;
use super::process::RemoteProcess;

#[derive(Clone, Debug)]
pub struct StepStart {
    pub job: String,
    /// The step's place in the job: `build/0`, `restore`.
    pub step: String,
    pub plugin: String,
    pub function: String,
    pub digest: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    pub id: i64,
    pub step: String,
    pub plugin: String,
    pub function: String,
    pub digest: String,
    pub started_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    pub result: Option<Value>,
    pub error: Option<Failure>,
}

#[derive(Clone, Debug)]
pub struct CallStart {
    pub job: String,
    pub step: i64,
    pub call: String,
    pub arguments: Value,
    pub changes_target: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallRecord {
    pub id: i64,
    pub step: i64,
    pub call: String,
    pub arguments: Value,
    pub effect: String,
    /// The process on the target, when the call was a command.
    pub process: Option<RemoteProcess>,
    pub started_at: Timestamp,
    pub duration_ms: Option<u64>,
    /// `ok`, or the error's text; none while it runs, and for one that was cut off.
    pub outcome: Option<String>,
    pub exit: Option<String>,
    pub output_tail: Option<String>,
}
