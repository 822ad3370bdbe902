//! Makes a connection: from a name to a server that is trusted and that has let us in. What is done
//! on it is not known here.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::cipher;
use russh::client::{self, AuthResult, DisconnectReason};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::RefusedKey;
use super::known_hosts::KnownHosts;
use super::{Credentials, HostKey, SshError, Target, key};

/// From the first look-up to the accepted key: a caller hears of an unreachable server in ten.
const CONNECT_LIMIT: Duration = Duration::from_secs(9);
/// How long data may stay unacknowledged before the kernel gives the connection up. Keepalives do
/// not notice this: they wait behind the data.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// A connection that is open to requests.
pub(super) struct Dialled {
    pub(super) handle: client::Handle<Gate>,
    pub(super) host_key: HostKey,
    /// Holds the reason once the connection has ended.
    pub(super) ended: Arc<OnceLock<String>>,
}

pub(super) async fn dial(target: &Target, credentials: &Credentials) -> Result<Dialled, SshError> {
    let deadline = Instant::now() + CONNECT_LIMIT;
    let key = key::load(&credentials.key).await?;
    let known = KnownHosts::read(&credentials.known_hosts, target).await?;
    let stream = reach(target, deadline).await?;

    let config = Arc::new(config(&known));
    let gate = Gate { known, host_key: Arc::default(), ended: Arc::default() };
    let (host_key, ended) = (gate.host_key.clone(), gate.ended.clone());
    let mut handle = timeout_at(deadline, client::connect_stream(config, stream, gate))
        .await
        .map_err(|_| silent(target, "the port is open, but the SSH handshake did not succeed"))?
        .map_err(|error| match error {
            GateError::Refused(error) => error,
            GateError::Protocol(error) => {
                SshError::Handshake { target: target.to_string(), cause: handshake_cause(&error) }
            }
        })?;
    timeout_at(deadline, authenticate(&mut handle, target, credentials, key))
        .await
        .map_err(|_| silent(target, "the handshake succeeded, but not the authentication"))??;

    let host_key = host_key.get().cloned().ok_or_else(|| SshError::Handshake {
        target: target.to_string(),
        cause: "the server showed no host key".into(),
    })?;
    Ok(Dialled { handle, host_key, ended })
}

/// Throughput as high as OpenSSH allows, with nothing older than it needs.
fn config(known: &KnownHosts) -> client::Config {
    let ciphers = [
        // Hardware does AES faster than software does ChaCha20.
        cipher::AES_256_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ];
    client::Config {
        window_size: 4 * 1024 * 1024,
        maximum_packet_size: 65_535,
        channel_buffer_size: 64,
        nodelay: true,
        keepalive_interval: Some(Duration::from_secs(5)),
        keepalive_max: 3,
        // Keepalives are answered every few seconds; this is for a server that falls silent before
        // they begin.
        inactivity_timeout: Some(Duration::from_secs(120)),
        preferred: russh::Preferred {
            key: Cow::Owned(known.algorithms()),
            cipher: Cow::Owned(ciphers.to_vec()),
            ..russh::Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}

async fn reach(target: &Target, deadline: Instant) -> Result<TcpStream, SshError> {
    let unresolvable = |cause: String| SshError::Unresolvable { host: target.host().to_owned(), cause };
    let addresses: Vec<SocketAddr> =
        timeout_at(deadline, tokio::net::lookup_host((target.host(), target.port())))
            .await
            .map_err(|_| unresolvable("no name server answered in time".into()))?
            .map_err(|error| unresolvable(error.to_string()))?
            .collect();

    let mut last = unresolvable("the name has no addresses".into());
    let mut left = addresses.len() as u32;
    for address in addresses {
        // Each address gets its share, so that a dead first one leaves time for the others.
        let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
        left -= 1;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let socket = socket2::SockRef::from(&stream);
                // Without these a connection still works, only less well.
                let _ = socket.set_tcp_nodelay(true);
                let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
                return Ok(stream);
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                last = SshError::Refused { target: target.to_string() };
            }
            Ok(Err(error)) => {
                last = SshError::Unreachable { target: target.to_string(), source: Arc::new(error) };
            }
            Err(_) => last = silent(target, "no TCP connection could be opened"),
        }
    }
    Err(last)
}

async fn authenticate(
    handle: &mut client::Handle<Gate>,
    target: &Target,
    credentials: &Credentials,
    key: Arc<PrivateKey>,
) -> Result<(), SshError> {
    let broken = |error: russh::Error| SshError::Handshake {
        target: target.to_string(),
        cause: format!("the connection ended during authentication: {error}"),
    };
    // An RSA key signs by SHA-2 even where the server does not say what it knows; the SHA-1 kind
    // is refused everywhere by now.
    let hash = match key.algorithm().is_rsa() {
        true => handle.best_supported_rsa_hash().await.map_err(broken)?.flatten().or(Some(HashAlg::Sha512)),
        false => None,
    };
    let public = key.public_key().clone();
    let answer = handle
        .authenticate_publickey(target.user(), PrivateKeyWithHashAlg::new(key, hash))
        .await
        .map_err(broken)?;
    let reason = match answer {
        AuthResult::Success => return Ok(()),
        // The library reports a closed connection as a refusal without alternatives.
        AuthResult::Failure { remaining_methods, .. }
            if remaining_methods.is_empty() && handle.is_closed() =>
        {
            return Err(broken(russh::Error::Disconnect));
        }
        AuthResult::Failure { remaining_methods, partial_success } => {
            let methods: Vec<String> = remaining_methods.iter().map(String::from).collect();
            match partial_success {
                true => format!("the server accepted the key, but also requires {}", methods.join(" or ")),
                false => format!("the server refused it (it accepts {})", methods.join(", ")),
            }
        }
    };
    Err(SshError::AuthenticationRefused(Box::new(RefusedKey {
        target: target.to_string(),
        user: target.user().to_owned(),
        key: credentials.key.clone(),
        fingerprint: public.fingerprint(HashAlg::Sha256).to_string(),
        line: public.to_openssh().unwrap_or_default(),
        reason,
    })))
}

fn silent(target: &Target, stage: &'static str) -> SshError {
    SshError::Silent { target: target.to_string(), stage, limit: CONNECT_LIMIT }
}

fn handshake_cause(error: &russh::Error) -> String {
    match error {
        russh::Error::Disconnect | russh::Error::HUP => {
            "the server closed the connection; it may limit or ban this machine's address".into()
        }
        russh::Error::Version => "what answered does not speak SSH".into(),
        russh::Error::IO(error) => format!("the connection broke: {error}"),
        other => other.to_string(),
    }
}

/// Lets a server in or not, and remembers why the connection ended.
pub(super) struct Gate {
    known: KnownHosts,
    host_key: Arc<OnceLock<HostKey>>,
    ended: Arc<OnceLock<String>>,
}

#[derive(Debug)]
pub(super) enum GateError {
    Refused(SshError),
    Protocol(russh::Error),
}

impl From<russh::Error> for GateError {
    fn from(error: russh::Error) -> Self {
        Self::Protocol(error)
    }
}

impl client::Handler for Gate {
    type Error = GateError;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, GateError> {
        let key = offered.public_key();
        self.known.check(&key).map_err(GateError::Refused)?;
        // A second call is a re-exchange, which showed a trusted key as well.
        let _ = self.host_key.set(HostKey {
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            algorithm: key.algorithm().to_string(),
        });
        Ok(true)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<GateError>) -> Result<(), GateError> {
        let text = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                format!("the server ended it: {}", info.message)
            }
            DisconnectReason::Error(GateError::Protocol(russh::Error::KeepaliveTimeout)) => {
                "the server stopped answering".into()
            }
            DisconnectReason::Error(GateError::Protocol(russh::Error::Disconnect | russh::Error::HUP)) => {
                "the server closed it".into()
            }
            DisconnectReason::Error(GateError::Protocol(error)) => error.to_string(),
            DisconnectReason::Error(GateError::Refused(error)) => error.problem(),
        };
        let _ = self.ended.set(text);
        Ok(())
    }
}
