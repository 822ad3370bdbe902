//! The contract's `instance`: whether what was started lives, and its last log lines. The commands for it are words of
//! the plugin that started it, so they are run under that plugin's grants, on record and bounded, whoever asks.

use std::sync::Arc;

use serde_json::json;

use super::call::View;
use super::limits;
use super::record::Effect;
use super::started::{Look, Started};
use super::target::Target;
use crate::contract::bindings::deployer::pipeline::instance;
pub use crate::contract::bindings::deployer::pipeline::instance::Liveness;
use crate::contract::bindings::deployer::pipeline::target::{Command, Echo, Effect as Changes, Exit, Output};
use crate::contract::{Error, Fault};

/// In seconds: a look is short.
const LIMIT: u32 = 20;
/// Last lines of what a dead instance left, in its end's words.
const LAST_LINES: usize = 20;

/// What looking at an instance takes.
pub struct Looking {
    pub(super) target: Arc<Target>,
    pub(super) started: Option<Started>,
}

impl instance::Host for View<'_, Looking> {
    async fn alive(&mut self) -> wasmtime::Result<Result<Liveness, Error>> {
        let output = self.look(Look::Alive).await?;
        Ok(output.map(|output| output.map_or(Liveness::Unknown, |output| liveness(&output))))
    }

    async fn log_tail(&mut self) -> wasmtime::Result<Result<String, Error>> {
        let output = self.look(Look::LogTail).await?;
        Ok(output.map(|output| output.map_or_else(String::new, |output| tail(&output))))
    }
}

impl View<'_, Looking> {
    /// Runs the command for a look; no output where there is none.
    async fn look(&self, look: Look) -> wasmtime::Result<Result<Option<Output>, Error>> {
        let call = look.call();
        let started = self.part().and_then(|looking| looking.started.as_ref());
        let command = match started {
            Some(started) => started.command(look).map(|argv| argv.map(<[String]>::to_vec)),
            None => Err(Error {
                fault: Fault::Plugin,
                attempted: format!("call {}", call.function()),
                seen: "this step has no instance to check".into(),
                next: "call it in `verify`".into(),
            }),
        };
        let (argv, checked) = match command {
            Ok(None) => return Ok(Ok(None)),
            Ok(Some(argv)) => (argv, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        let arguments = json!({ "argv": argv });
        let output = self
            .make_checked(call, Effect::Reads, arguments, checked, |looking, id| {
                let command = Command {
                    argv,
                    directory: None,
                    environment_file: None,
                    input: None,
                    effect: Changes::Reads,
                    echo: Echo::Quiet,
                    timeout_seconds: Some(LIMIT),
                };
                Box::pin(looking.target.run(id, command))
            })
            .await?;
        Ok(output.map(Some))
    }
}

fn liveness(output: &Output) -> Liveness {
    let how = match &output.exit {
        Exit::Code(0) => return Liveness::Alive,
        // What a shell, or the one that runs commands, says of a program that it cannot run.
        Exit::Code(126 | 127) => return Liveness::Unknown,
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(name) => format!("killed by SIG{name}"),
    };
    let said = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    let mut what = if last.is_empty() { how } else { format!("{how}: {}", last.join("\n")) };
    limits::cut(&mut what, limits::TEXT);
    Liveness::Dead(what)
}

/// The last lines of both outputs.
fn tail(output: &Output) -> String {
    let mut left = limits::TAIL;
    let mut lines = Vec::new();
    for line in output.stdout.lines().chain(output.stderr.lines()).collect::<Vec<_>>().into_iter().rev() {
        if lines.len() == limits::TAIL_LINES || (line.len() + 1 > left && !lines.is_empty()) {
            break;
        }
        let line = end_of(line, left.saturating_sub(1));
        left -= line.len() + 1;
        lines.push(line);
    }
    lines.reverse();
    lines.join("\n")
}

fn end_of(line: &str, most: usize) -> &str {
    let mut start = line.len().saturating_sub(most);
    while !line.is_char_boundary(start) {
        start += 1;
    }
    line.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: u32, stdout: &str, stderr: &str) -> Output {
        Output { exit: Exit::Code(code), stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn what_an_exit_means() {
        assert!(matches!(liveness(&output(0, "", "odd")), Liveness::Alive));
        let check = |given: Output, expect: &str| match liveness(&given) {
            Liveness::Dead(what) => assert_eq!(what, expect),
            other => panic!("{other:?}"),
        };
        check(output(1, "it is gone\n\n", ""), "exit status 1: it is gone");
        check(output(2, "said", "why"), "exit status 2: why");
        check(output(3, "", ""), "exit status 3");
        let signal = Output { exit: Exit::Signal("KILL".into()), ..output(0, "", "") };
        check(signal, "killed by SIGKILL");
    }

    #[test]
    fn a_tail_has_its_bounds() {
        let long: String = (0..300).map(|number| format!("line {number}\n")).collect();
        let kept = tail(&output(0, &long, ""));
        assert_eq!(kept.lines().count(), limits::TAIL_LINES);
        assert!(kept.starts_with("line 200") && kept.ends_with("line 299"));
        let wide = format!("{}\n{}\nlast", "a".repeat(limits::TAIL), "b".repeat(limits::TAIL / 2));
        assert!(tail(&output(0, &wide, "")).len() <= limits::TAIL);
        assert!(tail(&output(0, &wide, "")).ends_with("last"));
        assert_eq!(tail(&output(1, "out", "err")), "out\nerr");
        assert_eq!(tail(&output(1, &"a".repeat(1 << 20), "")).len(), limits::TAIL - 1);
    }
}
