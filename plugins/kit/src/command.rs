//! Running a program on the target, with an argument list and no shell.

use crate::target::{self, Command, Echo, Effect, Exit, Output};
use crate::types::{Error, Fault};

/// A program that only reads.
pub fn read<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Command {
    command(argv, Effect::Reads)
}

/// A program that changes the target.
pub fn change<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Command {
    command(argv, Effect::Changes)
}

fn command<S: Into<String>>(argv: impl IntoIterator<Item = S>, effect: Effect) -> Command {
    Command {
        argv: argv.into_iter().map(Into::into).collect(),
        directory: None,
        environment_file: None,
        input: None,
        effect,
        echo: Echo::Quiet,
        timeout_seconds: None,
    }
}

/// The rest of a command, written as a chain.
pub trait Run: Sized {
    fn directory(self, path: impl Into<String>) -> Self;
    fn environment_file(self, path: impl Into<String>) -> Self;
    fn input(self, bytes: impl Into<Vec<u8>>) -> Self;
    /// Each line of output goes into the step's log as it arrives.
    fn echo(self) -> Self;
    fn timeout_seconds(self, seconds: u32) -> Self;
    /// Any exit is an answer.
    fn output(&self) -> Result<Output, Error>;
    /// Any exit but 0 is an error of the target: what was attempted, the last lines, and what to do next.
    fn checked(&self, attempted: &str, next: &str) -> Result<Output, Error>;
}

impl Run for Command {
    fn directory(mut self, path: impl Into<String>) -> Self {
        self.directory = Some(path.into());
        self
    }

    fn environment_file(mut self, path: impl Into<String>) -> Self {
        self.environment_file = Some(path.into());
        self
    }

    fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    fn echo(mut self) -> Self {
        self.echo = Echo::Lines;
        self
    }

    fn timeout_seconds(mut self, seconds: u32) -> Self {
        self.timeout_seconds = Some(seconds);
        self
    }

    fn output(&self) -> Result<Output, Error> {
        target::run(self)
    }

    fn checked(&self, attempted: &str, next: &str) -> Result<Output, Error> {
        let output = self.output()?;
        if output.succeeded() {
            return Ok(output);
        }
        Err(Error {
            fault: Fault::Target,
            attempted: attempted.into(),
            seen: output.ending(),
            next: next.into(),
        })
    }
}

/// How many of a command's last lines an error shows.
const LAST_LINES: usize = 20;

impl Output {
    pub fn succeeded(&self) -> bool {
        matches!(self.exit, Exit::Code(0))
    }

    /// How it ended, and its last lines.
    pub fn ending(&self) -> String {
        let how = match &self.exit {
            Exit::Code(code) => format!("exit status {code}"),
            Exit::Signal(name) => format!("killed by SIG{name}"),
        };
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
        if last.is_empty() { how } else { format!("{how}: {}", last.join("\n")) }
    }

    /// Standard output without the white space around it.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }
}
