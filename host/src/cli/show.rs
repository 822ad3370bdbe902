//! Jobs, phases and events as text. Pure: it neither asks nor prints.

use indicatif::{HumanBytes, HumanCount};
use jiff::Timestamp;
use serde_json::Value;

use crate::http::types::{Job, JobPhase};
use crate::model::{EventKind, Failure, JobStatus, PhaseStatus};

/// How many of a failed instance's log lines are shown; the job has up to a hundred.
const LAST_WORDS: usize = 20;

/// One event of a job, as the server sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Counts from 1 within the job.
    pub id: u64,
    pub kind: EventKind,
    pub data: Value,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub files_done: u64,
    pub files_total: u64,
    pub bytes_done: u64,
    pub bytes_total: u64,
}

/// A phase that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseEnd {
    pub name: String,
    pub status: PhaseStatus,
    pub seconds: Option<f64>,
    /// What there is to say of it, in a few words.
    pub note: String,
}

impl Seen {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.data.get(name)?.as_str()
    }

    /// Whether this is the last change of a job.
    pub fn ends_the_job(&self) -> bool {
        self.kind.ends_the_job(&self.data)
    }

    /// The name of the phase that begins with this.
    pub fn begun(&self) -> Option<&str> {
        let begins = self.kind == EventKind::Phase && self.text("status") == Some("running");
        if begins { self.text("phase") } else { None }
    }

    /// The phase that ended with this.
    pub fn ended(&self) -> Option<PhaseEnd> {
        if self.kind != EventKind::Phase {
            return None;
        }
        let status = PhaseStatus::from_name(self.text("status")?)?;
        let time = |name| self.text(name)?.parse::<Timestamp>().ok();
        let seconds = match (time("started_at"), time("completed_at")) {
            (Some(from), Some(to)) => Some(to.duration_since(from).as_secs_f64().max(0.0)),
            _ => None,
        };
        ended(self.text("phase")?, status, seconds, self.data.get("details"), self.text("error"))
    }

    pub fn amount(&self) -> Option<Amount> {
        if self.kind != EventKind::Progress {
            return None;
        }
        let number = |name| self.data.get(name).and_then(Value::as_u64);
        Some(Amount {
            files_done: number("files_done")?,
            files_total: number("files_total")?,
            bytes_done: number("bytes_done")?,
            bytes_total: number("bytes_total")?,
        })
    }

    /// A log's line, with where it is from: `Build: Step 3/7`.
    pub fn log(&self) -> Option<String> {
        if self.kind != EventKind::Log {
            return None;
        }
        let message = plain(self.text("line")?.trim_end());
        let from = self.text("phase").or_else(|| self.text("plugin"));
        let level = match self.text("level") {
            Some("warn" | "warning") => "warning: ",
            Some("error") => "error: ",
            _ => "",
        };
        Some(match from {
            Some(from) => format!("{from}: {level}{message}"),
            None => format!("{level}{message}"),
        })
    }

    /// A line of a job's log, with its time of day in UTC. Progress has none.
    pub fn dated(&self) -> Option<String> {
        let text = match self.kind {
            EventKind::Log => self.log()?,
            EventKind::Phase => match (self.ended(), self.begun()) {
                (Some(ended), _) => ended.line(),
                (None, Some(name)) => format!("{name}: running"),
                (None, None) => return None,
            },
            EventKind::Job => match (self.text("status")?, self.text("error")) {
                (status, Some(error)) => format!("{status}: {error}"),
                (status, None) => status.to_owned(),
            },
            EventKind::Progress => return None,
        };
        let time = self.text("at").and_then(|at| at.get(11..19)).unwrap_or("        ");
        Some(format!("{time} {text}"))
    }
}

impl PhaseEnd {
    /// `Transfer: success in 1.2 s (20 of 5,000 files sent)`
    pub fn line(&self) -> String {
        let time = self.seconds.map(|seconds| format!(" in {}", duration(seconds))).unwrap_or_default();
        let note = if self.note.is_empty() { String::new() } else { format!(" ({})", self.note) };
        format!("{}: {}{time}{note}", self.name, self.status.name())
    }

    /// For a terminal: `✓ Transfer         1.2 s  20 of 5,000 files sent`
    pub fn row(&self, colours: bool) -> String {
        let (mark, colour) = match self.status {
            PhaseStatus::Success => ("\u{2713}", "32"),
            PhaseStatus::Failed => ("\u{2717}", "31"),
            PhaseStatus::Skipped => ("-", "2"),
            PhaseStatus::Pending | PhaseStatus::Running => ("\u{b7}", "2"),
        };
        let mark = if colours { format!("\u{1b}[{colour}m{mark}\u{1b}[0m") } else { mark.to_owned() };
        let time = self.seconds.map(duration).unwrap_or_default();
        let row = format!("{mark} {:<14} {time:>9}  {}", self.name, self.note);
        row.trim_end().to_owned()
    }
}

/// A job for `deployer status`.
pub fn job(job: &Job) -> String {
    let mut text = format!("{}: {} {}\n", job.deploy_job_id, job.service_name, job.status.name());
    let mut field = |name: &str, value: &str| text.push_str(&format!("  {name:<9} {value}\n"));
    field("release", &job.release);
    field("method", &job.deployment_method);
    field("address", &job.service_url);
    field("asked", &format!("{} by {} ({})", moment(&job.created_at), job.requested_by, job.requested_from));
    if let Some(seconds) = job.duration_seconds {
        field("took", &duration(seconds));
    }
    if let Some(who) = &job.cancelled_by {
        field("cancelled", &format!("by {who}"));
    }
    if let Some(outcome) = &job.outcome {
        field("outcome", outcome);
    }
    if let Some(retention) = job.retention.as_ref().filter(|retention| !retention.removed.is_empty()) {
        let releases: Vec<&str> = retention.removed.iter().map(|removed| removed.release.as_str()).collect();
        field("removed", &format!("{} ({})", releases.join(", "), HumanBytes(retention.freed_bytes)));
    }
    text.push('\n');
    for phase in &job.phases {
        text.push_str(&format!("  {}\n", row_of(phase)));
    }
    if let Some(error) = error_of(job) {
        text.push('\n');
        text.push_str(&error);
    }
    text
}

/// What there is to say once a job is over.
pub fn result(job: &Job) -> String {
    let time = job.duration_seconds.map(|seconds| format!(", {}", duration(seconds))).unwrap_or_default();
    let mut text = match job.status {
        JobStatus::Completed => {
            format!("{} serves at {} (release {}{time})\n", job.service_name, job.service_url, job.release)
        }
        JobStatus::Cancelled => {
            let who = job.cancelled_by.as_ref().map(|who| format!(" by {who}")).unwrap_or_default();
            format!("{} was cancelled{who}\n", job.deploy_job_id)
        }
        JobStatus::Failed => format!("{} failed{time}\n", job.deploy_job_id),
        JobStatus::Pending | JobStatus::Running => {
            format!("{} is {}\n", job.deploy_job_id, job.status.name())
        }
    };
    if let Some(error) = error_of(job) {
        text.push_str(&error);
    }
    match job.status {
        JobStatus::Failed | JobStatus::Cancelled => {
            if let Some(outcome) = &job.outcome {
                text.push_str(&format!("outcome: {outcome}\n"));
            }
        }
        JobStatus::Completed | JobStatus::Pending | JobStatus::Running => {}
    }
    for warning in warnings(job) {
        text.push_str(&format!("warning: {warning}\n"));
    }
    let words = last_words(job);
    if job.status == JobStatus::Failed && !words.is_empty() {
        text.push_str("the service's last log lines:\n");
        for words in words {
            text.push_str(&format!("  {words}\n"));
        }
    }
    text
}

pub fn row_of(phase: &JobPhase) -> String {
    let known = ended(
        phase.phase.name(),
        phase.status,
        phase.duration_seconds,
        Some(&phase.details),
        phase.error.as_deref(),
    );
    match known {
        Some(ended) => ended.row(false),
        None => format!("\u{b7} {:<14} {:>9}", phase.phase.name(), phase.status.name()),
    }
}

/// `0.4 s`, `12.3 s`, `2 min 5 s`
pub fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = std::time::Duration::from_secs_f64(seconds.min(1e9)).as_secs();
    format!("{} min {} s", whole / 60, whole % 60)
}

/// A time without its fraction: `2026-01-01 00:00:00 UTC`
pub fn moment(time: &str) -> String {
    match (time.get(..10), time.get(11..19)) {
        (Some(date), Some(clock)) => format!("{date} {clock} UTC"),
        _ => time.to_owned(),
    }
}

pub fn amount(amount: Amount) -> String {
    format!(
        "{} of {} files, {} of {}",
        HumanCount(amount.files_done),
        HumanCount(amount.files_total),
        HumanBytes(amount.bytes_done),
        HumanBytes(amount.bytes_total)
    )
}

fn ended(
    name: &str,
    status: PhaseStatus,
    seconds: Option<f64>,
    details: Option<&Value>,
    error: Option<&str>,
) -> Option<PhaseEnd> {
    let reason = || details?.get("reason")?.as_str();
    let note = match status {
        PhaseStatus::Pending | PhaseStatus::Running => return None,
        PhaseStatus::Skipped => reason().unwrap_or_default().to_owned(),
        PhaseStatus::Failed => error.map(in_short).unwrap_or_default().to_owned(),
        PhaseStatus::Success => details.map(achieved).unwrap_or_default(),
    };
    Some(PhaseEnd { name: plain(name), status, seconds, note: plain(&note) })
}

/// What happened, without what to do next: cut, that would be half an instruction. The whole error stands at the
/// end of the job.
fn in_short(error: &str) -> &str {
    let happened = error.split_once("; next: ").map_or(error, |(happened, _)| happened);
    happened.lines().next().unwrap_or_default()
}

/// What a phase has made or found, by the shape of its details: each phase has its own.
fn achieved(details: &Value) -> String {
    let number = |name: &str| details.get(name).and_then(Value::as_u64);
    let words = |name: &str| details.get(name).and_then(Value::as_str);
    let list = |name: &str| details.get(name).and_then(Value::as_array);
    if let (Some(sent), Some(all)) = (number("sent_count"), number("count")) {
        return format!("{} of {} files sent", HumanCount(sent), HumanCount(all));
    }
    if let Some(findings) = list("findings") {
        let warnings = findings.iter().filter(|finding| is_warning(finding)).count();
        let all =
            if findings.len() == 1 { "1 check".to_owned() } else { format!("{} checks", findings.len()) };
        return if warnings == 0 { all } else { format!("{all}, {warnings} with a warning") };
    }
    if let Some(checks) = list("checks") {
        let summaries = checks.iter().filter_map(|check| check.get("summary")?.as_str());
        return summaries.collect::<Vec<_>>().join("; ");
    }
    match (words("kind"), words("reference").or(words("name"))) {
        (Some(kind), Some(name)) => format!("{kind} {name}"),
        _ => words("endpoint").unwrap_or_default().to_owned(),
    }
}

/// What did not stop the job, and should be seen.
fn warnings(job: &Job) -> Vec<String> {
    let left = job.retention.iter().flat_map(|retention| &retention.left);
    let mut texts: Vec<String> =
        left.map(|left| format!("release {} was not removed: {}", left.release, left.because)).collect();
    for phase in &job.phases {
        let list = |name: &str| phase.details.get(name).and_then(Value::as_array).into_iter().flatten();
        for finding in list("findings").filter(|finding| is_warning(finding)) {
            let part = |name: &str| finding.get(name).and_then(Value::as_str).unwrap_or_default();
            let next = match part("next") {
                "" => String::new(),
                next => format!("; next: {next}"),
            };
            texts.push(format!("{}: {}{next}", part("check"), part("message")));
        }
        texts.extend(list("warnings").filter_map(Value::as_str).map(str::to_owned));
        // Nothing that fails after Verify takes a release down.
        if job.status == JobStatus::Completed && phase.status == PhaseStatus::Failed {
            let error = phase.error.as_deref().unwrap_or("no reason was given");
            texts.push(format!("{} failed: {error}{}", phase.phase, another_try(&phase.details)));
        }
    }
    texts
}

/// When a phase that failed is tried again, in the background.
fn another_try(details: &Value) -> String {
    let retry = |name: &str| details.get("retry")?.get(name)?.as_str();
    match (retry("next_at"), retry("superseded_by")) {
        (Some(next), _) => format!("; next try at {}", moment(next)),
        (None, Some(later)) => format!("; not retried, because {later} is newer"),
        (None, None) => String::new(),
    }
}

fn is_warning(finding: &Value) -> bool {
    finding.get("severity").and_then(Value::as_str) == Some("warning")
}

/// The last words of an instance that failed, as the job has them.
fn last_words(job: &Job) -> Vec<String> {
    let known = job.phases.iter().find_map(|phase| phase.details.get("last_log_lines"));
    let lines: Vec<&str> = match known {
        Some(Value::String(text)) => text.lines().collect(),
        Some(Value::Array(lines)) => lines.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let first = lines.len().saturating_sub(LAST_WORDS);
    lines.into_iter().skip(first).map(plain).collect()
}

fn error_of(job: &Job) -> Option<String> {
    let Some(failure) = &job.failure else {
        return job.error.as_ref().map(|error| format!("error: {error}\n"));
    };
    Some(failure_text(failure))
}

fn failure_text(failure: &Failure) -> String {
    let plugin = failure.plugin.as_ref().map(|plugin| format!("{plugin} ")).unwrap_or_default();
    let mut text = format!("error: {plugin}could not {}\n", failure.attempted);
    let seen = failure.seen.trim_end();
    if !seen.is_empty() {
        text.push_str("seen:\n");
        for line in seen.lines() {
            text.push_str(&format!("  {}\n", plain(line)));
        }
    }
    if !failure.next.is_empty() {
        text.push_str(&format!("next: {}\n", failure.next));
    }
    text
}

/// What a remote program prints must not move the cursor here.
fn plain(text: &str) -> String {
    text.chars().filter(|character| !character.is_control() || matches!(character, '\t' | '\n')).collect()
}

#[cfg(test)]
mod tests;
