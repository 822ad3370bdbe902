//! One client's connection: who may log in, which channels are opened, and what runs on them.
//!
//! Answers each of the protocol's requests at once, in a line or two; what takes time goes to a task of
//! its own (`command`, `sftp`, `forward`), because this one is what carries every channel's bytes.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty, Sig};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::demo::{command, forward, sftp};

/// Who may log in, and what they find.
pub struct Account {
    pub user: String,
    pub key: PublicKey,
    pub home: PathBuf,
    pub environment: Vec<(String, String)>,
}

impl Account {
    fn admits(&self, user: &str, key: &PublicKey) -> Auth {
        if user == self.user && key.key_data() == self.key.key_data() { Auth::Accept } else { Auth::reject() }
    }
}

/// One client's connection: its channels, from opening to closing.
pub struct Connection {
    account: Arc<Account>,
    /// Session channels that have not been told yet what to run.
    opened: HashMap<ChannelId, Opened>,
    /// Session channels that run something.
    running: HashMap<ChannelId, Running>,
    gone: CancellationToken,
    _when_dropped: DropGuard,
}

struct Opened {
    channel: Channel<Msg>,
    environment: Vec<(String, String)>,
}

struct Running {
    signals: Option<UnboundedSender<Sig>>,
    closed: CancellationToken,
}

impl Connection {
    pub fn new(account: Arc<Account>) -> Connection {
        let gone = CancellationToken::new();
        let _when_dropped = gone.clone().drop_guard();
        Connection { account, opened: HashMap::new(), running: HashMap::new(), gone, _when_dropped }
    }

    fn run(&mut self, id: ChannelId, text: Option<&[u8]>, session: &mut Session) -> Result<(), russh::Error> {
        let Some(Opened { channel, environment }) = self.opened.remove(&id) else {
            return session.channel_failure(id);
        };
        let closed = self.gone.child_token();
        let started =
            command::start(text, &environment, &self.account.home, channel, session.handle(), closed.clone());
        match started {
            Ok(signals) => {
                self.running.insert(id, Running { signals: Some(signals), closed });
                session.channel_success(id)
            }
            Err(error) => {
                tracing::warn!(%error, "the demo's SSH server cannot start /bin/sh");
                session.channel_failure(id)
            }
        }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.account.admits(user, offer.public_key))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(self.account.admits(user, key.public_key))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        let environment = self.account.environment.clone();
        self.opened.insert(channel.id(), Opened { channel, environment });
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        let port = match (host, u16::try_from(port)) {
            ("127.0.0.1" | "localhost", Ok(port)) => port,
            _ => {
                reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
                return Ok(());
            }
        };
        // Connecting may take its time; the connection's other channels go on.
        tokio::spawn(async move {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    reply.accept().await;
                    forward::run(channel, stream).await;
                }
                Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
            }
        });
        Ok(())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        // What Debian's sshd accepts; anything else a client has to write into its command.
        match self.opened.get_mut(&id) {
            Some(opened) if name == "LANG" || name.starts_with("LC_") => {
                opened.environment.push((name.to_owned(), value.to_owned()));
                session.channel_success(id)
            }
            Some(_) | None => session.channel_failure(id),
        }
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        text: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.run(id, Some(text), session)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.run(id, None, session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if name != "sftp" {
            return session.channel_failure(id);
        }
        let Some(Opened { channel, .. }) = self.opened.remove(&id) else {
            return session.channel_failure(id);
        };
        let closed = self.gone.child_token();
        self.running.insert(id, Running { signals: None, closed: closed.clone() });
        let home = self.account.home.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = sftp::run(channel, home) => {}
                () = closed.cancelled() => {}
            }
        });
        session.channel_success(id)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn signal(
        &mut self,
        id: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        if let Some(Running { signals: Some(signals), .. }) = self.running.get(&id) {
            let _ = signals.send(signal);
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), russh::Error> {
        self.opened.remove(&id);
        if let Some(running) = self.running.remove(&id) {
            running.closed.cancel();
        }
        Ok(())
    }
}
