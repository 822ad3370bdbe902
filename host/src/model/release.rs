//! A release of a service on a target, and its status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::handover::{Artifact, Files, Instance};
use super::layout::Layout;
use super::plan::Plan;
use super::stored::Stored;
use super::variable::Variable;

/// What a release is to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseStatus {
    /// A job is making it.
    Candidate,
    /// It runs, and was verified.
    Live,
    /// It was live before, and can be again.
    Retired,
    /// It failed. It is never gone back to.
    Bad,
    /// Its removal has begun. Some of it may still be there, so it is not gone back to.
    Removing,
    /// Nothing of it is on the target. Its record stays for the history.
    Removed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    pub service: String,
    pub target: String,
    pub id: String,
    pub job: String,
    #[serde(alias = "standing")]
    pub status: ReleaseStatus,
    pub method: String,
    pub port: u16,
    pub environment: Vec<Variable>,
    /// Keyed with this host's own key, so that values cannot be guessed from it.
    pub environment_digest: String,
    pub files: Option<Stored<Files>>,
    pub artifact: Option<Stored<Artifact>>,
    pub instance: Option<Stored<Instance>>,
    /// The plugins' digests, by name.
    pub plugins: BTreeMap<String, String>,
    /// The pipeline with its settings. None where an older version made the release.
    #[serde(default)]
    pub plan: Option<Stored<Plan>>,
    pub created_at: Timestamp,
    /// When it last became the live one.
    #[serde(default)]
    pub promoted_at: Option<Timestamp>,
    /// The job that made it the live one then.
    #[serde(default)]
    pub promoted_by: Option<String>,
    /// None where an older version made the release.
    #[serde(default)]
    pub origin: Option<Origin>,
}

/// Who deployed a release, and what was asked for then: so that a deployer whose journal does not have the job
/// can go back to the release as the one that made it would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The deployer, for people.
    pub deployer: String,
    /// As the caller wrote it.
    pub service_path: String,
    pub droplet_id: Option<u64>,
    pub auto_register: bool,
    pub verification_job_id: Option<String>,
}

impl ReleaseRecord {
    pub fn files(&self) -> Option<&Files> {
        self.files.as_ref()?.read().ok()
    }

    pub fn artifact(&self) -> Option<&Artifact> {
        self.artifact.as_ref()?.read().ok()
    }

    pub fn instance(&self) -> Option<&Instance> {
        self.instance.as_ref()?.read().ok()
    }

    /// The pipeline that it was deployed by, as far as this version can read it.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()?.read().ok()
    }

    /// Where it lives under the target's services root.
    pub fn layout(&self, services_root: &str) -> Layout {
        Layout::new(services_root, &self.service, &self.id)
    }
}

impl ReleaseStatus {
    pub fn name(self) -> &'static str {
        match self {
            ReleaseStatus::Candidate => "candidate",
            ReleaseStatus::Live => "live",
            ReleaseStatus::Retired => "retired",
            ReleaseStatus::Bad => "bad",
            ReleaseStatus::Removing => "removing",
            ReleaseStatus::Removed => "removed",
        }
    }

    pub fn from_name(name: &str) -> Option<ReleaseStatus> {
        use ReleaseStatus as S;
        [S::Candidate, S::Live, S::Retired, S::Bad, S::Removing, S::Removed]
            .into_iter()
            .find(|status| status.name() == name)
    }
}
