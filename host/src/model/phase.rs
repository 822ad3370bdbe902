//! The six phases, and what may be said of each in a job.

use serde::{Deserialize, Serialize};

/// The six phases, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    Validation,
    Transfer,
    Build,
    #[serde(rename = "Start Service")]
    StartService,
    #[serde(rename = "Verify Health")]
    VerifyHealth,
    Register,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseStatus {
    Pending,
    Running,
    Success,
    Failed,
    Skipped,
}

impl Phase {
    pub const ALL: [Phase; 6] = [
        Phase::Validation,
        Phase::Transfer,
        Phase::Build,
        Phase::StartService,
        Phase::VerifyHealth,
        Phase::Register,
    ];

    /// The name that callers see.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Validation => "Validation",
            Phase::Transfer => "Transfer",
            Phase::Build => "Build",
            Phase::StartService => "Start Service",
            Phase::VerifyHealth => "Verify Health",
            Phase::Register => "Register",
        }
    }

    /// The name that pipelines use.
    pub fn key(self) -> &'static str {
        match self {
            Phase::Validation => "validation",
            Phase::Transfer => "transfer",
            Phase::Build => "build",
            Phase::StartService => "start",
            Phase::VerifyHealth => "verify",
            Phase::Register => "register",
        }
    }

    pub fn from_name(name: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.name() == name)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl PhaseStatus {
    pub fn name(self) -> &'static str {
        match self {
            PhaseStatus::Pending => "pending",
            PhaseStatus::Running => "running",
            PhaseStatus::Success => "success",
            PhaseStatus::Failed => "failed",
            PhaseStatus::Skipped => "skipped",
        }
    }

    pub fn from_name(name: &str) -> Option<PhaseStatus> {
        use PhaseStatus as P;
        [P::Pending, P::Running, P::Success, P::Failed, P::Skipped].into_iter().find(|s| s.name() == name)
    }
}
