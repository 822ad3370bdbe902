//! Runs a command on the target and makes sure that it ends: when its time is up, when it is
//! cancelled, and when nobody waits for it any more.

mod remote;
mod side;

use std::sync::Arc;
use std::time::Duration;

use russh::client::Msg;
use russh::{ChannelMsg, ChannelWriteHalf, Sig};
use tokio::time::{Instant, sleep_until};

use self::remote::Remote;
use self::side::Side;
use super::lanes::Lane;
use super::lines::Marker;
use super::link::Link;
use super::{Exit, KillOutcome, Output, RemoteCommand, SshError, Stream, Watch};

/// A command has exited; how long to wait for more output from what it left running behind it.
const LAST_WORDS: Duration = Duration::from_secs(2);
const LAST_LINES: usize = 20;

impl Link {
    /// Runs a command and waits for its end. `fence` is the folder and the token of the lease under which alone it
    /// is started; none is given back when that lease was not there.
    pub(super) async fn run(
        &self,
        lane: Lane,
        command: &RemoteCommand,
        fence: Option<(&str, &str)>,
        watch: &mut dyn Watch,
    ) -> Result<Option<Output>, SshError> {
        let nonce = format!("deployer-{:032x}", rand::random::<u128>());
        let line = command.line(&nonce, fence)?;
        let started = self.on_connection(|connection| {
            let line = &line;
            async move {
                let channels = connection.channels().clone();
                let mut session = channels.session(lane).await?;
                let Some(channel) = session.channel() else {
                    return Err(channels.lost("the start of a command"));
                };
                // A message that could not even be queued has not reached the server: to try again
                // starts nothing twice.
                match channel.exec(true, line.as_str()).await {
                    Ok(()) => Ok((channels, session)),
                    Err(_) => Err(channels.lost("the start of a command")),
                }
            }
        });
        let (channels, session) = tokio::select! {
            started = started => started?,
            () = command.cancel.cancelled() => {
                return Err(SshError::Cancelled { command: command.shown(), ended: KillOutcome::Gone });
            }
        };
        let Some((channel, permit)) = session.into_parts() else {
            return Err(channels.lost("the start of a command"));
        };
        let (read, write) = channel.split();
        let mut running = Running {
            remote: Some(Remote {
                link: self.clone(),
                channels,
                read,
                write: Arc::new(write),
                process: None,
                _permit: permit,
            }),
            out: Side::new(Stream::Stdout, nonce.clone()),
            err: Side::new(Stream::Stderr, nonce),
            exit: None,
        };
        let begun = Instant::now();
        let end = running.follow(command, watch, begun).await;
        running.conclude(command, end, begun).await
    }
}

/// Why a command is not followed any more.
enum FollowEnd {
    Exited(Exit),
    Refused,
    Unmarked,
    Misplaced(Marker),
    Lost,
    TimedOut,
    Cancelled,
}

/// A command under way. Dropped before its end, it sees to the end in the background.
struct Running {
    remote: Option<Remote>,
    out: Side,
    err: Side,
    exit: Option<Exit>,
}

impl Running {
    async fn follow(&mut self, command: &RemoteCommand, watch: &mut dyn Watch, begun: Instant) -> FollowEnd {
        let Some(remote) = self.remote.as_mut() else {
            return FollowEnd::Lost;
        };
        let feeding = feed(remote.write.clone(), command.input.clone());
        tokio::pin!(feeding);
        let mut fed = false;
        let mut deadline = begun + command.timeout;

        let end = loop {
            let message = tokio::select! {
                message = remote.read.wait() => message,
                () = &mut feeding, if !fed => {
                    fed = true;
                    continue;
                }
                () = sleep_until(deadline) => match self.exit.take() {
                    // Something in the background holds the output open; the command is done.
                    Some(_) if remote.process.is_none() => break FollowEnd::Unmarked,
                    Some(exit) => break FollowEnd::Exited(exit),
                    None => break FollowEnd::TimedOut,
                },
                () = command.cancel.cancelled() => break FollowEnd::Cancelled,
            };
            match message {
                Some(ChannelMsg::Data { data }) => {
                    if let Some(marker) = self.out.feed(&data, &mut remote.process, watch) {
                        break FollowEnd::Misplaced(marker);
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    if let Some(marker) = self.err.feed(&data, &mut remote.process, watch) {
                        break FollowEnd::Misplaced(marker);
                    }
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    self.exit = Some(Exit::Code(exit_status));
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    self.exit = Some(Exit::Signal(signal_text(&signal_name)));
                }
                Some(ChannelMsg::Failure) => break FollowEnd::Refused,
                Some(ChannelMsg::Close) | None => {
                    break match self.exit.take() {
                        Some(_) if remote.process.is_none() => FollowEnd::Unmarked,
                        Some(exit) => FollowEnd::Exited(exit),
                        None => FollowEnd::Lost,
                    };
                }
                Some(_) => {}
            }
            if self.exit.is_some() {
                deadline = Instant::now() + LAST_WORDS;
            }
        };
        self.out.end(watch);
        self.err.end(watch);
        end
    }

    async fn conclude(
        mut self,
        command: &RemoteCommand,
        end: FollowEnd,
        begun: Instant,
    ) -> Result<Option<Output>, SshError> {
        let shown = command.shown();
        let path = |path: &Option<String>| path.clone().unwrap_or_default();
        match end {
            FollowEnd::Exited(exit) => {
                self.close();
                Ok(Some(Output {
                    exit,
                    stdout: std::mem::take(&mut self.out.tail).into_text(),
                    stderr: std::mem::take(&mut self.err.tail).into_text(),
                    duration: begun.elapsed(),
                }))
            }
            FollowEnd::Misplaced(marker) => {
                self.close();
                Err(match marker {
                    Marker::NoDirectory => {
                        SshError::NoDirectory { command: shown, path: path(&command.directory) }
                    }
                    Marker::NoEnvironment => {
                        SshError::NoEnvironmentFile { command: shown, path: path(&command.environment_file) }
                    }
                    Marker::Fenced => return Ok(None),
                    Marker::NoGroup | Marker::Started(_) => SshError::NotStarted {
                        command: shown,
                        said: "the server gives commands no process group of their own, and there \
                               is no setsid"
                            .into(),
                    },
                })
            }
            FollowEnd::Refused => {
                self.close();
                Err(SshError::NotStarted { command: shown, said: "the server runs no commands".into() })
            }
            FollowEnd::Unmarked => {
                let said = format!("{}\n{}", self.out.preamble.noise(), self.err.preamble.noise());
                self.close();
                Err(SshError::NotStarted { command: shown, said })
            }
            FollowEnd::Lost => {
                let Some(remote) = self.remote.take() else {
                    return Err(SshError::NotStarted { command: shown, said: String::new() });
                };
                let during = format!("`{shown}`");
                Err(match remote.channels.lost(during) {
                    SshError::Lost { target, during, cause, .. } => {
                        SshError::Lost { target, during, cause, process: remote.process }
                    }
                    other => other,
                })
            }
            FollowEnd::TimedOut => {
                let last = match self.err.tail.last_lines(LAST_LINES) {
                    lines if lines.is_empty() => self.out.tail.last_lines(LAST_LINES),
                    lines => lines,
                };
                let ended = self.end().await;
                Err(SshError::TimedOut { command: shown, limit: command.timeout, ended, last })
            }
            FollowEnd::Cancelled => {
                let ended = self.end().await;
                Err(SshError::Cancelled { command: shown, ended })
            }
        }
    }

    /// The command is over: nothing is left to be ended. In a task of its own, because the caller
    /// has nothing to wait for.
    fn close(&mut self) {
        if let Some(mut remote) = self.remote.take() {
            tokio::spawn(async move { remote.close().await });
        }
    }

    async fn end(&mut self) -> KillOutcome {
        let Some(remote) = self.remote.take() else {
            return KillOutcome::Gone;
        };
        // In a task of its own: the ending goes on even if whoever waits for it goes away.
        match tokio::spawn(remote.end(std::mem::take(&mut self.out.preamble))).await {
            Ok(ended) => ended,
            Err(error) => KillOutcome::Unknown(error.to_string()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(remote) = self.remote.take() else { return };
        // Without a runtime this process is ending; the journal has the process's name.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(remote.end(std::mem::take(&mut self.out.preamble)));
        }
    }
}

/// Gives a command its input, and then the end of it.
async fn feed(write: Arc<ChannelWriteHalf<Msg>>, input: Option<Vec<u8>>) {
    // A command may end without reading its input; its exit status tells how it went.
    if let Some(input) = input {
        let _ = write.data_bytes(input).await;
    }
    let _ = write.eof().await;
}

fn signal_text(signal: &Sig) -> String {
    match signal {
        Sig::ABRT => "ABRT".into(),
        Sig::ALRM => "ALRM".into(),
        Sig::FPE => "FPE".into(),
        Sig::HUP => "HUP".into(),
        Sig::ILL => "ILL".into(),
        Sig::INT => "INT".into(),
        Sig::KILL => "KILL".into(),
        Sig::PIPE => "PIPE".into(),
        Sig::QUIT => "QUIT".into(),
        Sig::SEGV => "SEGV".into(),
        Sig::TERM => "TERM".into(),
        Sig::USR1 => "USR1".into(),
        Sig::Custom(name) => name.clone(),
    }
}
