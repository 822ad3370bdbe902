//! Records as tests need them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{Actor, Artifact, Files, JobRequest, Keep, Plan, ReleaseRecord, ReleaseStatus, Stored};

/// A request to deploy `shop`, without variables.
pub fn request() -> JobRequest {
    JobRequest {
        service_path: "shop".into(),
        service_folder: "/srv/shop".into(),
        folder_mark: None,
        droplet_id: None,
        service_port: 8001,
        auto_register: true,
        verification_job_id: None,
        environment: Vec::new(),
        digest: String::new(),
        actor: Actor { name: "ci".into(), from: "127.0.0.1".into() },
    }
}

/// A release of `shop` that nothing was made of yet.
pub fn release(id: &str, status: ReleaseStatus) -> ReleaseRecord {
    ReleaseRecord {
        service: "shop".into(),
        target: "root@server:22".into(),
        id: id.into(),
        job: "deploy-1".into(),
        status,
        method: "docker".into(),
        port: 8001,
        environment: Vec::new(),
        environment_digest: String::new(),
        files: None,
        artifact: None,
        instance: None,
        plugins: BTreeMap::new(),
        plan: None,
        created_at: Timestamp::UNIX_EPOCH,
        promoted_at: None,
        promoted_by: None,
        origin: None,
    }
}

pub fn files(bytes: u64) -> Option<Stored<Files>> {
    let digest = String::new();
    Some(Stored::Known(Files {
        path: "/srv".into(),
        count: 1,
        bytes,
        sent_count: 1,
        sent_bytes: bytes,
        digest,
    }))
}

pub fn artifact(kind: &str, digest: &str, bytes: u64) -> Option<Stored<Artifact>> {
    let reference = format!("shop:{digest}");
    Some(Stored::Known(Artifact { kind: kind.into(), reference, digest: digest.into(), bytes: Some(bytes) }))
}

/// A plan without steps.
pub fn plan() -> Stored<Plan> {
    Stored::Known(Plan {
        job_timeout: Duration::from_secs(600),
        phase_timeouts: Vec::new(),
        steps: Vec::new(),
        keep: Keep::default(),
        public: BTreeSet::new(),
    })
}
