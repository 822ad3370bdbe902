//! What became of a process that was to end.

use std::fmt;

/// What became of a process group that was to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KillOutcome {
    /// It was not there any more.
    Gone,
    /// It left when asked to.
    Terminated,
    /// It did not leave within two seconds, and was killed.
    Killed,
    /// Nobody could be asked.
    Unknown(String),
}

impl fmt::Display for KillOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("had ended by itself"),
            Self::Terminated => f.write_str("was ended"),
            Self::Killed => f.write_str("was killed"),
            Self::Unknown(cause) => write!(f, "may still be running ({cause})"),
        }
    }
}
