//! What a job removed of its service's older releases.

use serde::{Deserialize, Serialize};

/// What a job removed of its service's older releases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    pub removed: Vec<Removed>,
    /// By the sizes that were recorded when the releases were made.
    pub freed_bytes: u64,
    /// What should have gone, and is tried again after the next deployment.
    pub left: Vec<Left>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    pub release: String,
    pub because: String,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Left {
    pub release: String,
    pub because: String,
}

impl Retention {
    /// Whether it says what became of a release.
    pub fn names(&self, release: &str) -> bool {
        self.removed.iter().any(|removed| removed.release == release)
            || self.left.iter().any(|left| left.release == release)
    }
}
