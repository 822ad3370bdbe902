//! What a job tells while it goes on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The job's state changed.
    Job,
    /// A phase's status changed.
    Phase,
    /// How far a phase is.
    Progress,
    /// A line of a step's log.
    Log,
}

#[derive(Clone, Debug)]
pub struct NewEvent {
    pub at: Timestamp,
    pub kind: EventKind,
    pub data: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Counts from 1 within the job.
    pub sequence: u64,
    pub at: Timestamp,
    pub kind: EventKind,
    pub data: Value,
}

impl EventKind {
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Job => "job",
            EventKind::Phase => "phase",
            EventKind::Progress => "progress",
            EventKind::Log => "log",
        }
    }

    pub fn from_name(name: &str) -> Option<EventKind> {
        use EventKind as K;
        [K::Job, K::Phase, K::Progress, K::Log].into_iter().find(|kind| kind.name() == name)
    }
}
