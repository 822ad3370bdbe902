//! Errors in one line.

use std::fmt::Display;

use crate::types::{Error, Fault};

impl Error {
    pub fn new(fault: Fault, attempted: impl Display, seen: impl Display, next: impl Display) -> Self {
        Error { fault, attempted: attempted.to_string(), seen: seen.to_string(), next: next.to_string() }
    }

    /// The request, the service's files or its settings are wrong.
    pub fn request(attempted: impl Display, seen: impl Display, next: impl Display) -> Self {
        Self::new(Fault::Request, attempted, seen, next)
    }

    /// The server cannot do it.
    pub fn target(attempted: impl Display, seen: impl Display, next: impl Display) -> Self {
        Self::new(Fault::Target, attempted, seen, next)
    }
}
