//! Why something failed, for people.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    Request,
    Target,
    Plugin,
    Host,
}

/// Why something failed, for people: what was attempted, what was seen, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub fault: Fault,
    /// The plugin whose step it was, if it was one's.
    pub plugin: Option<String>,
    pub attempted: String,
    pub seen: String,
    pub next: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(plugin) = &self.plugin {
            write!(f, "{plugin}: ")?;
        }
        write!(f, "could not {}: {}", self.attempted, self.seen.trim_end())?;
        if !self.next.is_empty() {
            write!(f, "; next: {}", self.next)?;
        }
        Ok(())
    }
}
