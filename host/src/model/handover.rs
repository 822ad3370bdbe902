//! What one phase hands to the next, and what checks say. The contract has the same records; here they are as they are
//! kept.

use serde::{Deserialize, Serialize};

/// What Transfer made: the release's files on the target, whole and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    pub path: String,
    pub count: u64,
    /// Bytes in all.
    pub bytes: u64,
    pub sent_count: u64,
    pub sent_bytes: u64,
    /// SHA-256 of the manifest, in hexadecimal.
    pub digest: String,
}

/// What Build made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// `image`, `virtual-environment`, …
    pub kind: String,
    /// How the method finds it again.
    pub reference: String,
    /// What it is by its content, where the method knows.
    pub digest: String,
    /// What it takes on the target beside the release's files.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// What Start runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// `container`, `unit`, …
    pub kind: String,
    /// How the method finds it again.
    pub name: String,
    /// On the target's own loopback.
    pub port: u16,
    /// The command that tells whether it lives. Empty where there is none.
    pub alive: Vec<String>,
    /// The command that prints its last log lines. Empty where there is none.
    #[serde(alias = "last_words")]
    pub log_tail: Vec<String>,
}

/// A finding's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    Passed,
    Warning,
    Failed,
}

/// What Validation says of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    pub check: String,
    pub message: String,
    pub next: String,
}

/// One answer to one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Milliseconds since the first probe.
    pub at_ms: u64,
    /// How long the answer took, in milliseconds.
    pub took_ms: u64,
    pub asked: String,
    pub answered: String,
    pub body: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Passed,
    Failed,
}

/// What Verify says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub outcome: Outcome,
    pub summary: String,
    pub probes: Vec<Probe>,
}

/// What a register step's registry confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    pub droplet_id: Option<u64>,
    pub endpoint: String,
    /// The registry's answer, as JSON.
    pub response: String,
}

impl Severity {
    /// The name that callers see.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Passed => "passed",
            Severity::Warning => "warning",
            Severity::Failed => "failed",
        }
    }
}
