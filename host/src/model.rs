//! What the deployer speaks of: phases, jobs, releases, plans, and how their states change. Values and pure functions:
//! everything may know them, and they know nothing.

mod aftermath;
mod event;
mod failure;
mod grant;
mod handover;
mod job;
mod layout;
mod log;
mod name;
mod path_grant;
mod phase;
mod plan;
mod process;
mod release;
mod release_status;
mod retention;
mod retry;
#[cfg(test)]
pub mod samples;
mod state;
mod step;
mod stored;
mod variable;

pub use aftermath::Aftermath;
pub use event::{Event, EventData, EventKind, NewEvent};
pub use failure::{Failure, Fault};
pub use grant::{Grant, UnknownGrant};
pub use handover::{Artifact, Confirmation, Files, Finding, Instance, Outcome, Probe, Severity, Verdict};
pub use job::{
    Actor, JobKind, JobRecord, JobRequest, NewJob, PhaseRecord, PhaseUpdate, Registration, Submitted,
    Unregistered,
};
pub use layout::Layout;
pub use log::{Amount, Level, Source};
pub use name::{is_variable_name, service_name_problem};
pub use path_grant::{BadPathGrant, PathGrant};
pub use phase::{Phase, PhaseStatus};
pub use plan::{Keep, Plan, PlannedStep};
pub use process::RemoteProcess;
pub use release::{Origin, ReleaseRecord};
pub use release_status::{IllegalReleaseEvent, ReleaseEvent, ReleaseStatus};
pub use retention::{Left, Removed, Retention};
pub use retry::Retry;
pub use state::{IllegalEvent, JobEvent, JobState, JobStatus, next};
pub use step::{CallRecord, CallStart, StepRecord, StepStart};
pub use stored::Stored;
pub use variable::Variable;
