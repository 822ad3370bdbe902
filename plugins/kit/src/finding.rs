//! What Validation says, in one line a check.

use crate::types::{Finding, Severity};

impl Finding {
    pub fn passed(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Passed, check, message, "")
    }

    pub fn warning(check: impl Into<String>, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Severity::Warning, check, message, next)
    }

    pub fn failed(check: impl Into<String>, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Severity::Failed, check, message, next)
    }

    fn new(
        severity: Severity,
        check: impl Into<String>,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Finding { severity, check: check.into(), message: message.into(), next: next.into() }
    }
}
