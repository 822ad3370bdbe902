//! Runs a command on the target and makes sure that it ends: when its time is up, when it is
//! cancelled, and when nobody waits for it any more.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{Connection, SessionPermit, close};
use super::lanes::Lane;
use super::lines::{Lines, Marker, Preamble, Tail};
use super::{Ended, Exit, Lease, Output, RemoteCommand, Ssh, SshError, Stream, Watch};
use crate::model::RemoteProcess;

/// A command has exited; how long to wait for more output from what it left running behind it.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A command is to end, and the wrapper has not yet said which process it is.
const NAME_LIMIT: Duration = Duration::from_secs(5);
/// A command is to end, and others may be ended before it.
const ENDING_LIMIT: Duration = Duration::from_secs(45);
const LAST_LINES: usize = 20;

impl Ssh {
    /// Runs a command and waits for its end. A command that could not be started is an error; one
    /// that ran and failed is not.
    ///
    /// Its time begins when it has a channel. If this future is dropped, the remote process group is
    /// ended in the background.
    pub async fn run(&self, command: &RemoteCommand, watch: &mut dyn Watch) -> Result<Output, SshError> {
        self.run_in(Lane::Command, command, watch).await
    }

    /// As `run`, for a short command that only reads: it does not wait for those that take as long as a build does.
    pub async fn ask(&self, command: &RemoteCommand) -> Result<Output, SshError> {
        self.run_in(Lane::Aside, command, &mut ()).await
    }

    /// As `run`, in a channel that is kept for this.
    pub(super) async fn run_in(
        &self,
        lane: Lane,
        command: &RemoteCommand,
        watch: &mut dyn Watch,
    ) -> Result<Output, SshError> {
        let nonce = format!("deployer-{:032x}", rand::random::<u128>());
        let line = command.line(&nonce, self.lease.as_ref().map(Lease::fence))?;
        self.permitted().await?;
        let started = self.on_connection(|connection| {
            let line = &line;
            async move {
                let mut session = connection.session(lane).await?;
                let Some(channel) = session.channel() else {
                    return Err(connection.lost("the start of a command"));
                };
                // A message that could not even be queued has not reached the server: to try again
                // starts nothing twice.
                match channel.exec(true, line.as_str()).await {
                    Ok(()) => Ok((connection, session)),
                    Err(_) => Err(connection.lost("the start of a command")),
                }
            }
        });
        let (connection, session) = tokio::select! {
            started = started => started?,
            () = command.cancel.cancelled() => {
                return Err(SshError::Cancelled { command: command.shown(), ended: Ended::Gone });
            }
        };
        let Some((channel, permit)) = session.into_parts() else {
            return Err(connection.lost("the start of a command"));
        };
        let (read, write) = channel.split();
        let mut running = Running {
            rest: Some(Rest {
                ssh: self.clone(),
                connection,
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
        let stop = running.follow(command, watch, begun).await;
        running.conclude(command, stop, begun).await
    }
}

/// Why the following of a command stopped.
enum Stop {
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
    rest: Option<Rest>,
    out: Side,
    err: Side,
    exit: Option<Exit>,
}

/// One stream of a command's output.
struct Side {
    stream: Stream,
    preamble: Preamble,
    lines: Lines,
    tail: Tail,
}

/// What is needed to end a command.
struct Rest {
    ssh: Ssh,
    connection: Arc<Connection>,
    read: ChannelReadHalf,
    write: Arc<ChannelWriteHalf<Msg>>,
    process: Option<RemoteProcess>,
    _permit: Option<SessionPermit>,
}

impl Running {
    async fn follow(&mut self, command: &RemoteCommand, watch: &mut dyn Watch, begun: Instant) -> Stop {
        let Some(rest) = self.rest.as_mut() else {
            return Stop::Lost;
        };
        let feeding = feed(rest.write.clone(), command.input.clone());
        tokio::pin!(feeding);
        let mut fed = false;
        let mut deadline = begun + command.timeout;

        let stop = loop {
            let message = tokio::select! {
                message = rest.read.wait() => message,
                () = &mut feeding, if !fed => {
                    fed = true;
                    continue;
                }
                () = sleep_until(deadline) => match self.exit.take() {
                    // Something in the background holds the output open; the command is done.
                    Some(_) if rest.process.is_none() => break Stop::Unmarked,
                    Some(exit) => break Stop::Exited(exit),
                    None => break Stop::TimedOut,
                },
                () = command.cancel.cancelled() => break Stop::Cancelled,
            };
            match message {
                Some(ChannelMsg::Data { data }) => {
                    if let Some(marker) = self.out.feed(&data, &mut rest.process, watch) {
                        break Stop::Misplaced(marker);
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    if let Some(marker) = self.err.feed(&data, &mut rest.process, watch) {
                        break Stop::Misplaced(marker);
                    }
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    self.exit = Some(Exit::Code(exit_status));
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    self.exit = Some(Exit::Signal(signal_text(&signal_name)));
                }
                Some(ChannelMsg::Failure) => break Stop::Refused,
                Some(ChannelMsg::Close) | None => {
                    break match self.exit.take() {
                        Some(_) if rest.process.is_none() => Stop::Unmarked,
                        Some(exit) => Stop::Exited(exit),
                        None => Stop::Lost,
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
        stop
    }

    async fn conclude(
        mut self,
        command: &RemoteCommand,
        stop: Stop,
        begun: Instant,
    ) -> Result<Output, SshError> {
        let shown = command.shown();
        let path = |path: &Option<String>| path.clone().unwrap_or_default();
        match stop {
            Stop::Exited(exit) => {
                self.close();
                Ok(Output {
                    exit,
                    stdout: std::mem::take(&mut self.out.tail).into_text(),
                    stderr: std::mem::take(&mut self.err.tail).into_text(),
                    duration: begun.elapsed(),
                })
            }
            Stop::Misplaced(marker) => {
                let fenced = marker == Marker::Fenced;
                let lease = self.rest.as_ref().and_then(|rest| rest.ssh.lease.clone());
                self.close();
                if let (true, Some(lease)) = (fenced, lease) {
                    // Who has it now is asked for the message.
                    lease.renew().await?;
                }
                Err(match marker {
                    Marker::NoDirectory => {
                        SshError::NoDirectory { command: shown, path: path(&command.directory) }
                    }
                    Marker::NoEnvironment => {
                        SshError::NoEnvironmentFile { command: shown, path: path(&command.environment_file) }
                    }
                    // The lease is there again: only whoever took the file away by hand can say why.
                    Marker::Fenced => SshError::NotStarted {
                        command: shown,
                        said: "the lease was not there when it was to start".into(),
                    },
                    Marker::NoGroup | Marker::Started(_) => SshError::NotStarted {
                        command: shown,
                        said: "the server gives commands no process group of their own, and there \
                               is no setsid"
                            .into(),
                    },
                })
            }
            Stop::Refused => {
                self.close();
                Err(SshError::NotStarted { command: shown, said: "the server runs no commands".into() })
            }
            Stop::Unmarked => {
                let said = format!("{}\n{}", self.out.preamble.noise(), self.err.preamble.noise());
                self.close();
                Err(SshError::NotStarted { command: shown, said })
            }
            Stop::Lost => {
                let Some(rest) = self.rest.take() else {
                    return Err(SshError::NotStarted { command: shown, said: String::new() });
                };
                let during = format!("`{shown}`");
                Err(match rest.connection.lost(during) {
                    SshError::Lost { target, during, cause, .. } => {
                        SshError::Lost { target, during, cause, process: rest.process }
                    }
                    other => other,
                })
            }
            Stop::TimedOut => {
                let last = match self.err.tail.last_lines(LAST_LINES) {
                    lines if lines.is_empty() => self.out.tail.last_lines(LAST_LINES),
                    lines => lines,
                };
                let ended = self.end().await;
                Err(SshError::TimedOut { command: shown, limit: command.timeout, ended, last })
            }
            Stop::Cancelled => {
                let ended = self.end().await;
                Err(SshError::Cancelled { command: shown, ended })
            }
        }
    }

    /// The command is over: nothing is left to be ended. In a task of its own, because the caller
    /// has nothing to wait for.
    fn close(&mut self) {
        if let Some(mut rest) = self.rest.take() {
            tokio::spawn(async move { close(&mut rest.read, &rest.write).await });
        }
    }

    async fn end(&mut self) -> Ended {
        let Some(rest) = self.rest.take() else {
            return Ended::Gone;
        };
        // In a task of its own: the ending goes on even if whoever waits for it goes away.
        match tokio::spawn(rest.end(std::mem::take(&mut self.out.preamble))).await {
            Ok(ended) => ended,
            Err(error) => Ended::Unknown(error.to_string()),
        }
    }
}

impl Side {
    fn new(stream: Stream, nonce: String) -> Self {
        Self { stream, preamble: Preamble::new(nonce), lines: Lines::default(), tail: Tail::default() }
    }

    /// Takes a packet. Whichever stream is first to tell the process's name, the watcher hears the
    /// name before any line. What the wrapper says instead of a name is given back.
    fn feed(
        &mut self,
        data: &[u8],
        process: &mut Option<RemoteProcess>,
        watch: &mut dyn Watch,
    ) -> Option<Marker> {
        if self.preamble.is_over() {
            self.keep(data, watch);
            return None;
        }
        match self.preamble.feed(data)? {
            (Marker::Started(named), after) => {
                if process.is_none() {
                    watch.started(&named);
                    *process = Some(named);
                }
                self.keep(&after, watch);
                None
            }
            (other, _) => Some(other),
        }
    }

    fn keep(&mut self, data: &[u8], watch: &mut dyn Watch) {
        self.tail.feed(data);
        self.lines.feed(data, |line| watch.line(self.stream, line));
    }

    fn end(&mut self, watch: &mut dyn Watch) {
        self.lines.end(|line| watch.line(self.stream, line));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(rest) = self.rest.take() else { return };
        // Without a runtime this process is ending; the journal has the process's name.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(rest.end(std::mem::take(&mut self.out.preamble)));
        }
    }
}

impl Rest {
    /// `preamble` is where the process's name is to come from, if it has not come yet.
    async fn end(mut self, mut preamble: Preamble) -> Ended {
        if self.process.is_none() {
            let named = timeout(NAME_LIMIT, async {
                while let Some(message) = self.read.wait().await {
                    if let ChannelMsg::Data { data } = message
                        && let Some((Marker::Started(process), _)) = preamble.feed(&data)
                    {
                        return Some(process);
                    }
                }
                None
            });
            self.process = named.await.ok().flatten();
        }
        // What the command still prints must not fill the connection while it is being ended.
        let draining = async {
            while self.read.wait().await.is_some() {}
            pending::<Ended>().await
        };
        let ending = async {
            match &self.process {
                Some(process) => match timeout(ENDING_LIMIT, self.ssh.kill_group(process)).await {
                    Ok(Ok(ended)) => ended,
                    Ok(Err(error)) => Ended::Unknown(error.problem()),
                    Err(_) => Ended::Unknown("the target does not answer".into()),
                },
                None => Ended::Unknown("it had not said which process it is".into()),
            }
        };
        let ended = tokio::select! {
            ended = draining => ended,
            ended = ending => ended,
        };
        close(&mut self.read, &self.write).await;
        tracing::debug!(process = ?self.process, ?ended, "ended a command");
        ended
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
