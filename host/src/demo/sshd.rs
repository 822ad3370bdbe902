//! A real SSH server for the demo and the tests: loopback only, one user, one key, made for this run.
//!
//! Owns the listener, what a login finds, and that nothing is left running when the server stops; what
//! a client may do once it is connected is in `connection`. It does what OpenSSH does for a client that deploys: commands, sftp, forwarding to
//! loopback, signals, keepalives. No terminals, no agent, no X11, no forwarding from the server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use russh::server::Config;
use russh::{Disconnect, MethodKind, MethodSet, SshId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::keys::{Folder, KeyError};
use super::leftovers::{self, Mark};
use connection::{Account, Connection};

mod connection;

/// How long a process may take to end after SIGTERM, when the server stops.
const GRACE: Duration = Duration::from_secs(3);

/// A running server. Dropped without [`Sshd::stop`], it still ends what it started, without grace.
#[derive(Debug)]
pub struct Sshd {
    address: SocketAddr,
    key_file: PathBuf,
    known_hosts: PathBuf,
    mark: Mark,
    stopping: CancellationToken,
    accepting: Option<JoinHandle<()>>,
}

/// Why the server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("the demo's SSH server cannot listen on 127.0.0.1: {0}; see that the loopback interface is up")]
    Listen(#[source] io::Error),
}

impl Sshd {
    /// Starts on a free port of 127.0.0.1, with new keys in `state/ssh`. Only `user` may log in, with
    /// the key in [`Sshd::key_file`]. What an earlier server with the same `state` left running, because
    /// it was killed, is ended first.
    pub async fn start(state: &Path, user: &str) -> Result<Sshd, StartError> {
        let folder = Folder::make(state.join("ssh"))?;
        if let Some(earlier) =
            fs::read_to_string(folder.path().join("run")).ok().and_then(|text| Mark::parse(&text))
        {
            earlier.end_all(GRACE).await;
        }
        let mark = Mark::new();
        folder.write("run", mark.value().as_bytes())?;

        let (host_key, _) = folder.make_key("ssh_host_ed25519_key", "deployer demo host")?;
        let (user_key, key_file) = folder.make_key("id_ed25519", &format!("{user}@deployer-demo"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(StartError::Listen)?;
        let address = listener.local_addr().map_err(StartError::Listen)?;
        let known_hosts = folder.trust(address, host_key.public_key())?;

        let account = Arc::new(Account {
            user: user.to_owned(),
            key: user_key.public_key().clone(),
            home: home(),
            environment: environment(user, address, &mark),
        });
        let config = Arc::new(Config {
            server_id: SshId::Standard("SSH-2.0-deployer_demo".into()),
            methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
            auth_rejection_time: Duration::from_millis(100),
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![host_key],
            inactivity_timeout: None,
            // russh grants a channel new window when data arrives, not when it is used, and a full
            // channel stops its whole connection, output included: `cat` would wait for itself. So
            // input that a command has not read yet is kept in memory. Output has real back pressure.
            channel_buffer_size: Semaphore::MAX_PERMITS,
            event_buffer_size: 64,
            ..Config::default()
        });
        let stopping = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, config, account, stopping.clone()));
        Ok(Sshd { address, key_file, known_hosts, mark, stopping, accepting: Some(accepting) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The private key to log in with, in OpenSSH's format, mode 0600.
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// A known_hosts file that holds this server's key and nothing else.
    pub fn known_hosts(&self) -> &Path {
        &self.known_hosts
    }

    /// Takes no more connections, closes the open ones, and ends every process that was started through
    /// them, also those that went to the background.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.await;
        }
        self.mark.end_all(GRACE).await;
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.mark.kill_all();
    }
}

fn home() -> PathBuf {
    std::env::home_dir().filter(|home| home.is_dir()).unwrap_or_else(|| PathBuf::from("/"))
}

/// What a login has, and no more: the deployer's own environment holds settings, and may hold secrets,
/// that a server elsewhere would not see. The tools in its PATH are this machine's, so that one stays.
fn environment(user: &str, address: SocketAddr, mark: &Mark) -> Vec<(String, String)> {
    let path =
        std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned());
    let mut environment = vec![
        ("USER", user.to_owned()),
        ("LOGNAME", user.to_owned()),
        ("HOME", home().to_string_lossy().into_owned()),
        ("SHELL", "/bin/sh".to_owned()),
        ("PATH", path),
        ("SSH_CONNECTION", format!("127.0.0.1 0 {} {}", address.ip(), address.port())),
        (leftovers::VARIABLE, mark.value().to_owned()),
    ];
    environment.extend(std::env::var("TMPDIR").ok().map(|folder| ("TMPDIR", folder)));
    environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn accept(
    listener: TcpListener,
    config: Arc<Config>,
    account: Arc<Account>,
    stopping: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if peer.ip().is_loopback() => {
                    connections.spawn(serve(stream, config.clone(), account.clone(), stopping.clone()));
                }
                Ok((_, peer)) => tracing::warn!(%peer, "the demo's SSH server refused a peer that is not on loopback"),
                Err(error) => {
                    tracing::warn!(%error, "the demo's SSH server cannot take a connection; it tries again");
                    // Most likely out of file descriptors: the next attempt would fail as fast.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, config: Arc<Config>, account: Arc<Account>, stopping: CancellationToken) {
    // Small answers are what a deployment waits for.
    let _ = stream.set_nodelay(true);
    let handler = Connection::new(account);
    let mut session = tokio::select! {
        () = stopping.cancelled() => return,
        begun = russh::server::run_stream(config, stream, handler) => match begun {
            Ok(session) => session,
            Err(error) => return tracing::debug!(%error, "a peer did not speak SSH to the end"),
        },
    };
    tokio::select! {
        () = stopping.cancelled() => {
            let handle = session.handle();
            let goodbye = async {
                let _ = handle.disconnect(Disconnect::ByApplication, "the demo has ended".to_owned(), String::new()).await;
                let _ = (&mut session).await;
            };
            // A client that does not listen must not keep the demo from ending.
            let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
        }
        ended = &mut session => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an SSH connection ended");
            }
        }
    }
}
