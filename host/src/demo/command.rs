//! One command on a session channel: its process, its three streams, its signals, its end.
//!
//! Owns what OpenSSH does between `exec` and the closing of the channel. Which commands may run is not
//! decided here: whoever is logged in may run anything, as on a real server.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_buf};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const STDERR: u32 = 1;

/// Starts `/bin/sh -c COMMAND`, or a shell that reads its standard input when there is no command, in a
/// process group of its own. Gives where to send the client's signals.
pub fn start(
    command: Option<&[u8]>,
    environment: &[(String, String)],
    home: &Path,
    channel: Channel<Msg>,
    session: Handle,
    closed: CancellationToken,
) -> io::Result<UnboundedSender<Sig>> {
    let mut shell = Command::new("/bin/sh");
    if let Some(command) = command {
        shell.arg("-c").arg(OsStr::from_bytes(command));
    }
    let child = shell
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(home)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (signals, received) = unbounded_channel();
    tokio::spawn(run(child, channel, session, received, closed));
    Ok(signals)
}

async fn run(
    mut child: Child,
    channel: Channel<Msg>,
    session: Handle,
    mut signals: UnboundedReceiver<Sig>,
    closed: CancellationToken,
) {
    let (from_client, to_client) = channel.split();
    let mut output = JoinSet::new();
    if let Some(stdout) = child.stdout.take() {
        output.spawn(copy_out(stdout, to_client.make_writer()));
    }
    if let Some(stderr) = child.stderr.take() {
        output.spawn(copy_out(stderr, to_client.make_writer_ext(Some(STDERR))));
    }
    let mut input = JoinSet::new();
    input.spawn(copy_in(from_client, child.stdin.take()));

    let whole = async {
        let status = wait(&mut child, &mut signals).await;
        report(status, &to_client, &session).await;
        // As with OpenSSH, the channel stays open for as long as anyone holds the command's output: a
        // process left in the background has to let go of it.
        while output.join_next().await.is_some() {}
        let _ = to_client.eof().await;
        let _ = to_client.close().await;
    };
    tokio::select! {
        () = whole => {}
        () = closed.cancelled() => {
            // The client has left. As with OpenSSH its command is not killed: it finds its input at an
            // end and its output broken. It only has to be reaped.
            output.abort_all();
            input.abort_all();
            let _ = child.wait().await;
        }
    }
}

/// Waits for the command's end, and passes on the signals that come in the meantime.
async fn wait(child: &mut Child, signals: &mut UnboundedReceiver<Sig>) -> io::Result<ExitStatus> {
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    loop {
        tokio::select! {
            status = child.wait() => return status,
            Some(signal) = signals.recv() => {
                if let (Some(group), Some(signal)) = (group, from_ssh(&signal)) {
                    let _ = kill_process_group(group, signal);
                }
            }
        }
    }
}

async fn report(status: io::Result<ExitStatus>, to_client: &ChannelWriteHalf<Msg>, session: &Handle) {
    match status {
        Ok(status) => {
            if let Some(code) = status.code() {
                let _ = to_client.exit_status(code.cast_unsigned()).await;
            } else if let Some(signal) = status.signal() {
                let _ = session
                    .exit_signal_request(
                        to_client.id(),
                        to_ssh(signal),
                        status.core_dumped(),
                        String::new(),
                        String::new(),
                    )
                    .await;
            }
        }
        Err(error) => tracing::warn!(%error, "cannot learn how a command of the demo's SSH server ended"),
    }
}

async fn copy_out(stream: impl AsyncRead + Unpin, mut to_client: impl AsyncWrite + Unpin) {
    // The channel's window is the back pressure: a client that does not read stops the command.
    let mut stream = BufReader::with_capacity(32 * 1024, stream);
    if let Err(error) = copy_buf(&mut stream, &mut to_client).await {
        tracing::debug!(%error, "a command's output has nowhere to go");
    }
}

async fn copy_in(mut from_client: ChannelReadHalf, mut stdin: Option<ChildStdin>) {
    while let Some(message) = from_client.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                // A command that reads no more input closes it; what still comes is dropped, as in a pipe.
                if let Some(open) = &mut stdin
                    && open.write_all(&data).await.is_err()
                {
                    stdin = None;
                }
            }
            ChannelMsg::Eof => stdin = None,
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

/// The signals that have a name in SSH (RFC 4254, 6.10, and USR2, which OpenSSH adds).
fn named() -> [Sig; 13] {
    let usr2 = Sig::Custom("USR2".to_owned());
    use Sig::{ABRT, ALRM, FPE, HUP, ILL, INT, KILL, PIPE, QUIT, SEGV, TERM, USR1};
    [ABRT, ALRM, FPE, HUP, ILL, INT, KILL, PIPE, QUIT, SEGV, TERM, USR1, usr2]
}

fn from_ssh(name: &Sig) -> Option<Signal> {
    Some(match name {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(name) if name == "USR2" => Signal::USR2,
        Sig::Custom(_) => return None,
    })
}

fn to_ssh(number: i32) -> Sig {
    let known =
        named().into_iter().find(|name| from_ssh(name).is_some_and(|signal| signal.as_raw() == number));
    // What OpenSSH says of a signal that the protocol has no name for.
    known.unwrap_or_else(|| Sig::Custom("SIG@openssh.com".to_owned()))
}
