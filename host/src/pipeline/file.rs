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
use crate::model::Phase;

/// A pipeline file. Everything may be absent: a service's file says only what differs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineFile {
    pub phases: Phases,
    pub grants: BTreeMap<String, Vec<Spanned<String>>>,
    pub settings: BTreeMap<String, Value>,
    pub timeouts: Timeouts,
    pub limits: BTreeMap<String, StepLimits>,
    pub retention: Retention,
    pub environment: Environment,
    #[serde(skip)]
    pub name: String,
    #[serde(skip)]
    pub text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phases {
    validation: Option<Vec<Spanned<StepEntry>>>,
    transfer: Option<Vec<Spanned<StepEntry>>>,
    build: Option<Vec<Spanned<StepEntry>>>,
    start: Option<Vec<Spanned<StepEntry>>>,
    verify: Option<Vec<Spanned<StepEntry>>>,
    register: Option<Vec<Spanned<StepEntry>>>,
}

/// A step: a plugin's name, or a table with settings of this step's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum StepEntry {
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
pub struct StepLimits {
    /// The plugin's memory, in MiB.
    pub memory_mib: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    pub days: Option<Days>,
    pub storage: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Environment {
    /// The names of variables whose values are not secret.
    pub public: Option<Vec<Spanned<String>>>,
}

/// A number of whole days, which may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Days(pub u32);

/// A number of bytes as people write it: `500MB`, `2GB`, `1.5GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

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
            .ok_or_else(|| format!("`{text}` is not a length of time; write it like `90s`, `10m` or `1h30m`"))
    }
}

impl TryFrom<i64> for Days {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        u32::try_from(number)
            .map(Days)
            .map_err(|_| format!("`{number}` is not a number of days; write it like `7`, or `0` for none"))
    }
}

/// The units of sizes: thousands, and where an `i` says so, 1024s.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        size(&text)
            .map(Size)
            .ok_or_else(|| format!("`{text}` is not a size; write it like `500MB`, `2GB` or `1.5GiB`"))
    }
}

/// None of the dependencies reads sizes. Fractions are kept to the thousandth, in whole numbers.
fn size(text: &str) -> Option<u64> {
    let (number, bytes) = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))?;
    let (whole, fraction) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let thousandths = format!("{whole}{fraction:0<3}").parse::<u128>().ok()?;
    u64::try_from(thousandths.checked_mul(u128::from(bytes))? / 1000).ok()
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
    pub fn steps(&self, phase: Phase) -> Option<&Vec<Spanned<StepEntry>>> {
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

impl StepEntry {
    pub fn plugin(&self) -> &str {
        match self {
            StepEntry::Name(name) => name,
            StepEntry::Table(table) => &table.plugin,
        }
    }
}
