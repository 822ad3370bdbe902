//! What requests and responses look like on the wire, for the server and for the command line. Fields stand in
//! the order that callers read them.

mod ecosystem;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::job::{CurrentJob, ReleaseOnTarget};
use crate::journal::{AuditBreak, AuditHead, AuditVerdict, time_text};
use crate::model::{
    Failure, JobKind, JobRecord, JobState, JobStatus, Phase, PhaseRecord, PhaseStatus, Registration,
    ReleaseStatus, Retention,
};

pub use ecosystem::{
    Capabilities, Dependencies, Dependency, Health, HealthDetails, Message, MessageKind, MessageReceived,
    Server, ServerLimits, State,
};

/// The largest body that is read.
pub const BODY_LIMIT: usize = 1024 * 1024;
/// The longest value of one environment variable, in bytes.
pub const VALUE_LIMIT: usize = 128 * 1024;
pub const HISTORY_DEFAULT: u32 = 50;
pub const HISTORY_LIMIT: u32 = 500;

/// The answer to `POST /deploy`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Accepted {
    pub deploy_job_id: String,
    pub service_name: String,
    pub status: JobStatus,
    pub created_at: String,
}

/// The answer to `GET /deploy/{id}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    pub deploy_job_id: String,
    pub service_name: String,
    pub service_path: String,
    pub status: JobStatus,
    pub droplet_id: Option<u64>,
    pub service_port: u16,
    pub service_url: String,
    pub deployment_method: String,
    pub phases: Vec<JobPhase>,
    pub registration: Option<JobRegistration>,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
    pub duration_seconds: Option<f64>,
    /// Null until the job is over.
    pub success: Option<bool>,
    pub error: Option<String>,

    pub kind: JobKind,
    pub release: String,
    pub previous_release: Option<String>,
    /// What runs now that the job is over, in words.
    pub outcome: Option<String>,
    /// The same for programs, where the job did not complete.
    pub aftermath: Option<String>,
    /// The longest time that callers had no answer while what runs was replaced; null where nothing ran before.
    pub outage_seconds: Option<f64>,
    /// What was removed of the service's older releases; null where there was nothing to remove.
    pub retention: Option<Retention>,
    pub failure: Option<Failure>,
    pub progress: Option<Value>,
    pub target: String,
    pub created_at: String,
    pub requested_by: String,
    pub requested_from: String,
    pub cancelled_by: Option<String>,
    pub verification_job_id: Option<String>,
    pub auto_register: bool,
    /// Names only.
    pub environment: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct JobPhase {
    pub phase: Phase,
    pub status: PhaseStatus,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
    pub duration_seconds: Option<f64>,
    pub details: Value,
    pub error: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct JobRegistration {
    pub droplet_id: Option<u64>,
    pub service_name: String,
    pub endpoint: String,
    pub registered_at: String,
    pub registry_response: Value,
}

/// One of `GET /releases/{service}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Release {
    pub release: String,
    pub service_name: String,
    pub status: ReleaseStatus,
    pub deploy_job_id: String,
    pub deployment_method: String,
    pub service_port: u16,
    pub created_at: String,
    pub target: String,
    /// Names only.
    pub environment: Vec<String>,
    pub files: Option<Value>,
    pub artifact: Option<Value>,
    pub instance: Option<Value>,
    pub plugins: Value,
    /// The pipeline and the settings that made it.
    pub pipeline: Option<Value>,
    /// A rollback that names no release takes this one.
    pub is_rollback_target: bool,
    /// False where the target could not be asked, and this is what the deployer's journal knew last.
    #[serde(default)]
    pub target_asked: bool,
    /// It ran before the live one: no other is the way back. It is none either where it is `unavailable`.
    #[serde(default)]
    pub is_predecessor: bool,
    /// Why a rollback cannot take this one; null where it can.
    #[serde(default)]
    pub unavailable: Option<String>,
    /// Why the target could not be asked whether this one can be gone back to; null where it was.
    #[serde(default)]
    pub unchecked: Option<String>,
}

/// The answer to `GET /audit/verify`.
#[derive(Debug, Serialize, Deserialize)]
pub struct AuditVerification {
    pub verified: bool,
    /// How many records are as they were written, from the first one on.
    pub records: u64,
    /// The last record; null where there is none, and where the audit is broken.
    pub head: Option<AuditHead>,
    pub broken: Option<AuditBreak>,
}

impl Accepted {
    pub fn of(job: &JobRecord) -> Self {
        Accepted {
            deploy_job_id: job.id.clone(),
            service_name: job.service.clone(),
            status: job.state.status(),
            created_at: time_text(job.created_at),
        }
    }
}

impl Job {
    pub fn of(current: CurrentJob) -> Self {
        let CurrentJob { record: job, progress } = current;
        let registered = job.registration.as_ref().and_then(|registration| registration.droplet_id);
        Job {
            service_url: service_url(&job.target, job.request.service_port),
            droplet_id: registered.or(job.request.droplet_id),
            success: success(&job.state),
            outcome: job.outcome(),
            aftermath: job.state.aftermath().map(|aftermath| aftermath.name().to_owned()),
            outage_seconds: outage_seconds(&job.phases),
            duration_seconds: seconds(job.started_at, job.completed_at),
            deploy_job_id: job.id,
            service_name: job.service,
            service_path: job.request.service_path,
            status: job.state.status(),
            service_port: job.request.service_port,
            deployment_method: job.method,
            phases: job.phases.into_iter().map(JobPhase::of).collect(),
            registration: job.registration.map(JobRegistration::of),
            started_at: job.started_at.map(time_text),
            completed_at: job.completed_at.map(time_text),
            error: job.error.as_ref().map(ToString::to_string),
            kind: job.kind,
            release: job.release,
            previous_release: job.previous.map(|release| release.id),
            retention: job.retention,
            failure: job.error,
            progress,
            target: job.target,
            created_at: time_text(job.created_at),
            requested_by: job.request.actor.name,
            requested_from: job.request.actor.from,
            cancelled_by: job.cancelled_by,
            verification_job_id: job.request.verification_job_id,
            auto_register: job.request.auto_register,
            environment: job.request.environment.into_iter().map(|variable| variable.name).collect(),
        }
    }

    pub fn of_record(record: JobRecord) -> Self {
        Job::of(CurrentJob { record, progress: None })
    }
}

impl JobPhase {
    fn of(record: PhaseRecord) -> Self {
        JobPhase {
            phase: record.phase,
            status: record.status,
            started_at: record.started_at.map(time_text),
            completed_at: record.completed_at.map(time_text),
            duration_seconds: seconds(record.started_at, record.completed_at),
            details: record.details,
            error: record.error.as_ref().map(ToString::to_string),
        }
    }
}

impl JobRegistration {
    fn of(registration: Registration) -> Self {
        JobRegistration {
            droplet_id: registration.droplet_id,
            service_name: registration.service_name,
            endpoint: registration.endpoint,
            registered_at: time_text(registration.registered_at),
            registry_response: registration.registry_response,
        }
    }
}

impl Release {
    pub fn of(release: ReleaseOnTarget) -> Self {
        let ReleaseOnTarget { record: release, is_predecessor, unavailable, unchecked, target_asked } =
            release;
        Release {
            release: release.id,
            service_name: release.service,
            status: release.status,
            deploy_job_id: release.job,
            deployment_method: release.method,
            service_port: release.port,
            created_at: time_text(release.created_at),
            target: release.target,
            environment: release.environment.into_iter().map(|variable| variable.name).collect(),
            files: release.files.map(|files| json!(files)),
            artifact: release.artifact.map(|artifact| json!(artifact)),
            instance: release.instance.map(|instance| json!(instance)),
            plugins: json!(release.plugins),
            pipeline: release.plan.map(|plan| json!(plan)),
            is_rollback_target: is_predecessor && unavailable.is_none(),
            is_predecessor,
            unavailable,
            unchecked,
            target_asked,
        }
    }
}

impl AuditVerification {
    pub fn of(verdict: AuditVerdict) -> Self {
        match verdict {
            AuditVerdict::Whole { head } => AuditVerification {
                verified: true,
                records: head.as_ref().map_or(0, |head| head.seq),
                head,
                broken: None,
            },
            AuditVerdict::Broken(broken) => AuditVerification {
                verified: false,
                records: broken.seq - 1,
                head: None,
                broken: Some(broken),
            },
        }
    }
}

/// Where a service answers on a target that is written as `user@host:22`.
fn service_url(target: &str, port: u16) -> String {
    let address = target.rsplit_once('@').map_or(target, |(_, address)| address);
    let host = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => match address.rsplit_once(':') {
            // More than one colon and no brackets: an IPv6 address without a port.
            Some((host, _)) if !host.contains(':') => host,
            _ => address,
        },
    };
    if host.contains(':') { format!("http://[{host}]:{port}") } else { format!("http://{host}:{port}") }
}

fn success(state: &JobState) -> Option<bool> {
    match state {
        JobState::Pending | JobState::Running(_) | JobState::Unwinding(_) => None,
        JobState::Completed => Some(true),
        JobState::Failed(_) | JobState::Cancelled(_) => Some(false),
    }
}

fn outage_seconds(phases: &[PhaseRecord]) -> Option<f64> {
    phases.iter().find_map(|phase| phase.details.get("outage")?.get("seconds")?.as_f64())
}

/// From one time to the other, in seconds; none while it lasts.
fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<f64> {
    let milliseconds = to?.as_millisecond().saturating_sub(from?.as_millisecond()).max(0);
    // A job's milliseconds are far below 2^52, so nothing is lost.
    #[allow(clippy::cast_precision_loss, reason = "see above")]
    Some(milliseconds as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_answers_on_the_targets_host() {
        let check = |target: &str, expect: &str| assert_eq!(service_url(target, 8001), expect, "{target}");
        check("root@203.0.113.7:22", "http://203.0.113.7:8001");
        check("deploy@example.com", "http://example.com:8001");
        check("example.com:2222", "http://example.com:8001");
        check("root@[2001:db8::1]:22", "http://[2001:db8::1]:8001");
        check("root@2001:db8::1", "http://[2001:db8::1]:8001");
    }

    #[test]
    fn durations_are_seconds_and_absent_until_the_end() {
        let at = |text: &str| text.parse::<Timestamp>().ok();
        let start = at("2026-01-01T00:00:00.250Z");
        assert_eq!(seconds(start, at("2026-01-01T00:00:01.500Z")), Some(1.25));
        assert_eq!(seconds(start, None), None);
        assert_eq!(seconds(None, start), None);
        // A clock that was set back does not give a negative duration.
        assert_eq!(seconds(at("2026-01-01T00:00:01Z"), at("2026-01-01T00:00:00Z")), Some(0.0));
    }
}
