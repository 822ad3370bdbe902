//! One pipeline file, as it is written, with the places of its parts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use crate::job::state::Phase;

/// A pipeline file. Everything may be absent: a service's file says only what differs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineFile {
    pub phases: Phases,
    pub grants: BTreeMap<String, Vec<Spanned<String>>>,
    pub settings: BTreeMap<String, Value>,
    pub timeouts: Timeouts,
    pub limits: BTreeMap<String, Limits>,
    #[serde(skip)]
    pub name: String,
    #[serde(skip)]
    pub text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phases {
    validation: Option<Vec<Spanned<Entry>>>,
    transfer: Option<Vec<Spanned<Entry>>>,
    build: Option<Vec<Spanned<Entry>>>,
    start: Option<Vec<Spanned<Entry>>>,
    verify: Option<Vec<Spanned<Entry>>>,
    register: Option<Vec<Spanned<Entry>>>,
}

/// A step: a plugin's name, or a table with settings of this step's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    Name(String),
    Table(StepTable),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepTable {
    pub plugin: String,
    #[serde(default)]
    pub settings: Option<Value>,
    #[serde(default)]
    pub timeout: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    pub job: Option<Span>,
    validation: Option<Span>,
    transfer: Option<Span>,
    build: Option<Span>,
    start: Option<Span>,
    verify: Option<Span>,
    register: Option<Span>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The plugin's memory, in MiB.
    pub memory_mib: Option<u32>,
}

/// A length of time as people write it: `90s`, `10m`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse::<SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .filter(|duration| !duration.is_zero())
            .map(Span)
            .ok_or_else(|| format!("`{text}` is no length of time; write it like `90s`, `10m` or `1h30m`"))
    }
}

/// Reads a file's text.
pub fn parse(path: &Path, text: String) -> Result<PipelineFile, Problem> {
    let name = path.display().to_string();
    match toml::from_str::<PipelineFile>(&text) {
        Ok(file) => Ok(PipelineFile { name, text, ..file }),
        Err(error) => {
            Err(Problem::new(&name, &text, error.span(), error.message().trim_end().replace('\n', "; "), ""))
        }
    }
}

impl PipelineFile {
    pub fn steps(&self, phase: Phase) -> Option<&Vec<Spanned<Entry>>> {
        let phases = &self.phases;
        match phase {
            Phase::Validation => phases.validation.as_ref(),
            Phase::Transfer => phases.transfer.as_ref(),
            Phase::Build => phases.build.as_ref(),
            Phase::StartService => phases.start.as_ref(),
            Phase::VerifyHealth => phases.verify.as_ref(),
            Phase::Register => phases.register.as_ref(),
        }
    }

    pub fn timeout(&self, phase: Phase) -> Option<Duration> {
        let timeouts = &self.timeouts;
        match phase {
            Phase::Validation => timeouts.validation,
            Phase::Transfer => timeouts.transfer,
            Phase::Build => timeouts.build,
            Phase::StartService => timeouts.start,
            Phase::VerifyHealth => timeouts.verify,
            Phase::Register => timeouts.register,
        }
        .map(|span| span.0)
    }

    pub fn problem(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> Problem {
        Problem::new(&self.name, &self.text, span, message, next)
    }

    /// Where a value stands: `place(&["settings", "docker", "memory"])`. The nearest part that is there.
    pub fn place(&self, keys: &[&str]) -> Option<Range<usize>> {
        let table = DeTable::parse(&self.text).ok()?;
        let mut place = None;
        let mut here: Option<&DeTable> = Some(table.get_ref());
        for key in keys {
            let Some((found, value)) = here.and_then(|here| here.get_key_value(*key)) else { break };
            place = Some(found.span());
            here = match value.get_ref() {
                DeValue::Table(inner) => Some(inner),
                _ => None,
            };
        }
        place
    }
}

impl Entry {
    pub fn plugin(&self) -> &str {
        match self {
            Entry::Name(name) => name,
            Entry::Table(table) => &table.plugin,
        }
    }
}
