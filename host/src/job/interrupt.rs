//! Why a step or a phase did not come to its end.

use serde_json::{Value, json};

use crate::journal::JournalError;
use crate::model::{Failure, Fault};

/// Why a step or a phase did not come to its end.
pub(super) enum Interrupt {
    Failed {
        failure: Box<Failure>,
        details: Value,
    },
    Cancelled,
    /// Another deployer has the service now, so nothing more must happen.
    TakenOver(String),
    /// What happens cannot be recorded, so nothing more must happen.
    Journal(JournalError),
}

impl From<JournalError> for Interrupt {
    fn from(error: JournalError) -> Self {
        Interrupt::Journal(error)
    }
}

pub(super) fn fail(fault: Fault, attempted: &str, seen: &str, next: &str) -> Interrupt {
    let failure =
        Failure { fault, plugin: None, attempted: attempted.into(), seen: seen.into(), next: next.into() };
    Interrupt::Failed { failure: Box::new(failure), details: json!({}) }
}
