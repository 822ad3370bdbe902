//! What a job tells while it goes on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::log::{Amount, Level, Source};
use super::phase::{Phase, PhaseStatus};
use super::state::{JobState, JobStatus};

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

/// What an event says. As JSON, it is what callers see.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EventData {
    Accepted {
        status: JobStatus,
        service_name: String,
        release: String,
    },
    State {
        status: JobStatus,
        state: JobState,
        error: Option<String>,
    },
    Phase {
        phase: Phase,
        status: PhaseStatus,
        #[serde(serialize_with = "in_milliseconds")]
        started_at: Option<Timestamp>,
        #[serde(serialize_with = "in_milliseconds")]
        completed_at: Option<Timestamp>,
        details: Value,
        error: Option<String>,
    },
    Progress {
        phase: Phase,
        #[serde(flatten)]
        amount: Amount,
    },
    Log {
        phase: Phase,
        /// None for a line of the deployer's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        plugin: Option<String>,
        level: Level,
        source: Source,
        line: String,
    },
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
    /// As an `EventData` was written, perhaps by another version.
    pub data: Value,
}

impl NewEvent {
    pub fn new(at: Timestamp, data: &EventData) -> Self {
        Self { at, kind: data.kind(), data: json!(data) }
    }
}

impl EventData {
    fn kind(&self) -> EventKind {
        match self {
            EventData::Accepted { .. } | EventData::State { .. } => EventKind::Job,
            EventData::Phase { .. } => EventKind::Phase,
            EventData::Progress { .. } => EventKind::Progress,
            EventData::Log { .. } => EventKind::Log,
        }
    }
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

    /// Whether an event of this kind, with this data, is the last change of its job.
    pub fn ends_the_job(self, data: &Value) -> bool {
        let status = data.get("status").and_then(|status| JobStatus::deserialize(status).ok());
        match (self, status) {
            (EventKind::Job, Some(JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled)) => true,
            (EventKind::Job, Some(JobStatus::Pending | JobStatus::Running) | None) => false,
            (EventKind::Phase | EventKind::Progress | EventKind::Log, _) => false,
        }
    }
}

/// RFC 3339 in UTC, as all times that callers see.
fn in_milliseconds<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(|at| format!("{at:.3}")).serialize(serializer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn events_are_what_callers_know() {
        let check = |data: EventData, kind: EventKind, expect: Value| {
            let event = NewEvent::new(Timestamp::UNIX_EPOCH, &data);
            assert_eq!((event.kind, event.data), (kind, expect));
        };
        let accepted = EventData::Accepted {
            status: JobStatus::Pending,
            service_name: "shop".into(),
            release: "r1".into(),
        };
        check(
            accepted,
            EventKind::Job,
            json!({ "status": "pending", "service_name": "shop", "release": "r1" }),
        );
        let state =
            EventData::State { status: JobStatus::Completed, state: JobState::Completed, error: None };
        check(
            state,
            EventKind::Job,
            json!({ "status": "completed", "state": JobState::Completed, "error": null }),
        );
        let phase = EventData::Phase {
            phase: Phase::StartService,
            status: PhaseStatus::Running,
            started_at: Some("2026-01-01T00:00:00.5Z".parse().unwrap()),
            completed_at: None,
            details: Value::Null,
            error: None,
        };
        let expect = json!({
            "phase": "Start Service", "status": "running", "started_at": "2026-01-01T00:00:00.500Z",
            "completed_at": null, "details": null, "error": null,
        });
        check(phase, EventKind::Phase, expect);
        let amount = Amount { files_done: 1, files_total: 2, bytes_done: 3, bytes_total: 4 };
        let expect = json!({
            "phase": "Transfer", "files_done": 1, "files_total": 2, "bytes_done": 3, "bytes_total": 4,
        });
        check(EventData::Progress { phase: Phase::Transfer, amount }, EventKind::Progress, expect);
        let log = |plugin: Option<&str>| EventData::Log {
            phase: Phase::Build,
            plugin: plugin.map(Into::into),
            level: Level::Info,
            source: Source::Target,
            line: "x".into(),
        };
        let of = json!({ "phase": "Build", "level": "info", "source": "target", "line": "x" });
        check(log(None), EventKind::Log, of.clone());
        let mut by = of;
        by.as_object_mut().unwrap().insert("plugin".into(), "docker".into());
        check(log(Some("docker")), EventKind::Log, by);
    }

    #[test]
    fn the_end_is_a_job_event_with_a_final_status() {
        let check = |kind: EventKind, data, expect| assert_eq!(kind.ends_the_job(&data), expect);
        check(EventKind::Job, json!({ "status": "completed" }), true);
        check(EventKind::Job, json!({ "status": "failed" }), true);
        check(EventKind::Job, json!({ "status": "cancelled" }), true);
        check(EventKind::Job, json!({ "status": "running" }), false);
        check(EventKind::Job, json!({}), false);
        check(EventKind::Phase, json!({ "status": "failed" }), false);
    }
}
