//! The contract's `instance`: whether what was started lives, and its last log lines. The commands for it are words of
//! the plugin that started it, so they are run under that plugin's grants, on record and bounded, whoever asks.

use serde_json::json;

use super::call::Host;
use super::context::StepContext;
use super::grant::{Call, Grants};
use super::limits;
use super::log::LogQueue;
use super::record::Effect;
use super::stop::Stop;
use super::target::run;
use crate::contract::bindings::deployer::pipeline::instance;
pub use crate::contract::bindings::deployer::pipeline::instance::Liveness;
use crate::contract::bindings::deployer::pipeline::target::{Command, Echo, Effect as Changes, Exit, Output};
use crate::contract::{Error, Fault};
use crate::model::{Grant, Instance};

/// In seconds: a look is short.
const LIMIT: u32 = 20;
/// Last lines of what a dead instance left, in its end's words.
const LAST_LINES: usize = 20;

/// An instance, and what the plugin that said how to look at it may do.
#[derive(Debug, Clone)]
pub struct Started {
    pub instance: Instance,
    pub plugin: String,
    pub grants: Grants,
    /// The pipeline's file as people write it.
    pub pipeline_file: String,
}

/// What is asked of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Alive,
    LogTail,
}

impl Look {
    fn call(self) -> Call {
        match self {
            Self::Alive => Call::Alive,
            Self::LogTail => Call::LogTail,
        }
    }
}

impl Started {
    /// The command for a look; none where there is none.
    ///
    /// # Errors
    /// When the plugin that said it may not run it.
    pub fn command(&self, look: Look) -> Result<Option<&[String]>, Error> {
        let argv = match look {
            Look::Alive => &self.instance.alive,
            Look::LogTail => &self.instance.log_tail,
        };
        if argv.is_empty() {
            return Ok(None);
        }
        if self.grants.has(Grant::TargetRead) {
            return Ok(Some(argv));
        }
        Err(missing(&self.plugin, &self.grants, &self.pipeline_file, look.call().function()))
    }
}

/// Commands were said by a plugin that may run none.
fn missing(plugin: &str, grants: &Grants, pipeline_file: &str, function: &str) -> Error {
    let line = grants.line_with(plugin, Grant::TargetRead);
    Error {
        fault: Fault::Request,
        attempted: format!("call {function}"),
        seen: format!(
            "plugin `{plugin}`, which started the instance, needs the grant `{}` for its command",
            Grant::TargetRead
        ),
        next: format!("add it to `[grants]` in {pipeline_file}: `{line}`"),
    }
}

/// Whether an instance lives, as the deployer itself wants to know it.
///
/// # Errors
/// When it cannot be asked.
pub async fn alive(context: StepContext) -> Result<Liveness, Error> {
    let mut host = own(context);
    let looked = instance::Host::alive(&mut host).await;
    concluded(&host, looked).await
}

/// An instance's last log lines, as the deployer itself keeps them.
///
/// # Errors
/// When they cannot be read.
pub async fn log_tail(context: StepContext) -> Result<String, Error> {
    let mut host = own(context);
    let looked = instance::Host::log_tail(&mut host).await;
    concluded(&host, looked).await
}

fn own(context: StepContext) -> Host {
    let stop = Stop::under(&context.cancel);
    let log = LogQueue::new(context.recorder.clone(), context.redactor.clone(), stop.clone());
    Host::working(context, log, stop)
}

async fn concluded<T>(host: &Host, looked: wasmtime::Result<Result<T, Error>>) -> Result<T, Error> {
    let failed = |seen: String| Error {
        fault: Fault::Host,
        attempted: "look at the instance".into(),
        seen,
        next: "see the deployer's own log".into(),
    };
    let looked = looked.map_err(|error| failed(error.to_string()))?;
    host.conclude().await.map_err(|error| failed(error.to_string()))?;
    looked
}

impl instance::Host for Host {
    async fn alive(&mut self) -> wasmtime::Result<Result<Liveness, Error>> {
        let output = self.look(Look::Alive).await?;
        Ok(output.map(|output| output.map_or(Liveness::Unknown, |output| liveness(&output))))
    }

    async fn log_tail(&mut self) -> wasmtime::Result<Result<String, Error>> {
        let output = self.look(Look::LogTail).await?;
        Ok(output.map(|output| output.map_or_else(String::new, |output| tail(&output))))
    }
}

impl Host {
    /// Runs the command for a look; no output where there is none.
    async fn look(&self, look: Look) -> wasmtime::Result<Result<Option<Output>, Error>> {
        let call = look.call();
        let started = match self {
            Self::Describing { .. } => None,
            Self::Working(step) => step.context.started.as_ref(),
        };
        let command = match started {
            Some(started) => started.command(look).map(|argv| argv.map(<[String]>::to_vec)),
            None => Err(Error {
                fault: Fault::Plugin,
                attempted: format!("call {}", call.function()),
                seen: "this step does not have an instance to look at".into(),
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
            .make_checked(call, Effect::Reads, arguments, checked, |step, id| {
                let command = Command {
                    argv,
                    directory: None,
                    environment_file: None,
                    input: None,
                    effect: Changes::Reads,
                    echo: Echo::Quiet,
                    timeout_seconds: Some(LIMIT),
                };
                Box::pin(run(step, id, command))
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
        Exit::Signal(name) => format!("ended by SIG{name}"),
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

    fn started(grants: &[Grant], alive: &[&str]) -> Started {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Started {
            instance: Instance {
                kind: "container".into(),
                name: "one-1".into(),
                port: 8001,
                alive: argv(alive),
                log_tail: argv(&["tail", "log"]),
            },
            plugin: "docker".into(),
            grants: grants.iter().copied().collect(),
            pipeline_file: "pipelines/default.toml".into(),
        }
    }

    #[test]
    fn a_command_needs_the_grant_of_who_said_it() {
        let granted = started(&[Grant::TargetRead], &["true"]);
        assert_eq!(granted.command(Look::Alive).unwrap(), Some(&["true".to_owned()][..]));
        assert_eq!(granted.command(Look::LogTail).unwrap().map(<[String]>::len), Some(2));
        assert_eq!(started(&[], &[]).command(Look::Alive).unwrap(), None);
        // What changes the target is another grant.
        for grants in [&[][..], &[Grant::TargetRun, Grant::TargetWrite]] {
            let error = started(grants, &["rm", "-rf", "/"]).command(Look::Alive).unwrap_err();
            assert!(error.seen.contains("`docker`") && error.seen.contains("`target.read`"), "{error:?}");
            assert!(error.next.contains("docker = ["), "{error:?}");
        }
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
        check(signal, "ended by SIGKILL");
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
