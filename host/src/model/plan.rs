//! Which steps a job has, with their settings, grants and limits. A job keeps the plan that it began with.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::grant::Grant;
use super::path_grant::PathGrant;
use super::phase::Phase;

/// Everything that a job's runner needs to know of its pipeline. A job keeps the plan it began with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub job_timeout: Duration,
    pub phase_timeouts: Vec<(Phase, Duration)>,
    pub steps: Vec<PlannedStep>,
    /// Plans that are older than this setting keep by the default.
    #[serde(default)]
    pub keep: Keep,
    /// The variables whose values are not secret.
    #[serde(default)]
    pub public: BTreeSet<String>,
}

/// Which releases are kept besides the one that runs and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// No older ones than this.
    pub days: u32,
    /// No more than this many bytes on the target, of all services together.
    pub storage_bytes: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Keep { days: 7, storage_bytes: 2_000_000_000 }
    }
}

/// One plugin's step in a phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    pub phase: Phase,
    pub plugin: String,
    /// The plugin's digest when the plan was made.
    pub digest: String,
    pub settings: Value,
    pub grants: BTreeSet<Grant>,
    /// Outside of the service's folder. Plans that are older than these have what the shipped plugins need.
    #[serde(default = "PathGrant::of_older_plans")]
    pub paths: Vec<PathGrant>,
    /// For the whole step. The phase's and the job's limits hold beside it.
    pub timeout: Duration,
    pub memory_mib: u32,
    /// The file to change, when a grant is missing.
    pub pipeline: String,
}

impl Plan {
    pub fn phase_timeout(&self, phase: Phase) -> Duration {
        self.phase_timeouts
            .iter()
            .find(|(named, _)| *named == phase)
            .map_or(self.job_timeout, |(_, timeout)| *timeout)
    }

    pub fn steps(&self, phase: Phase) -> impl Iterator<Item = &PlannedStep> {
        self.steps.iter().filter(move |step| step.phase == phase)
    }
}
