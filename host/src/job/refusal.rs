//! Why something that was asked for is not done.

use thiserror::Error;

use super::request::FieldProblem;
use crate::journal::JournalError;

/// Why something that was asked for is not done.
#[derive(Debug, Error)]
pub enum Refusal {
    #[error("{}", Listed(.0))]
    Invalid(Vec<FieldProblem>),
    #[error("{detail}")]
    NotFound { detail: String, hint: String },
    /// The request is right, and what is there now speaks against it.
    #[error("{detail}")]
    Conflict {
        /// Stable, for programs: `no-previous-release`.
        code: &'static str,
        detail: String,
        hint: String,
    },
    /// It may work later: the deployer is stopping.
    #[error("{detail}")]
    Unavailable { detail: String, hint: String },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

struct Listed<'a>(&'a [FieldProblem]);

impl std::fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", problem.field, problem.message)?;
        }
        Ok(())
    }
}
