//! The twin's target.

use std::collections::BTreeSet;

/// What is on the target. It stays when the deployer dies.
#[derive(Clone, Default)]
pub struct Target {
    pub running: Option<&'static str>,
    pub current: Option<&'static str>,
    /// The job's release was the live one there.
    pub own_was_live: bool,
    pub verified: BTreeSet<&'static str>,
    pub removed: BTreeSet<String>,
    pub registered: u32,
}
