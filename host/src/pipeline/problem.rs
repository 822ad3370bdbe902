//! What is wrong with a pipeline: the file, the line, and what to write instead.

use std::fmt;
use std::ops::Range;

use serde::Serialize;
use thiserror::Error;

/// One thing to fix in a pipeline file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: String,
    /// Counts from 1.
    pub line: usize,
    pub message: String,
    /// What to write instead.
    pub next: String,
}

/// Everything that is wrong with a service's pipeline, all at once.
#[derive(Debug, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PipelineError(pub Vec<Problem>);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)?;
        if !self.next.is_empty() {
            write!(f, "; {}", self.next)?;
        }
        Ok(())
    }
}

impl Problem {
    pub fn new(
        file: &str,
        text: &str,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        let line = span.map_or(1, |span| line_of(text, span.start));
        Problem { file: file.into(), line, message: message.into(), next: next.into() }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
