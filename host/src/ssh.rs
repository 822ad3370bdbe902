//! SSH in our own words: run a command on the target, move files there, reach its loopback. It owns
//! the connection (one per target, made on first use, re-made when lost) and knows nothing of
//! releases, phases or plugins. No other module knows the libraries underneath.

mod command;
mod connection;
mod dial;
mod error;
mod files;
mod key;
mod kill;
mod known_hosts;
mod lanes;
mod lease;
mod lines;
mod places;
mod resolve;
mod run;
mod sftp;
mod source;
mod target;
mod upload;

use std::future::Future;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::connection::Connection;
use self::places::Places;
use self::sftp::Sftp;

pub use self::command::{Ended, Exit, Output, RemoteCommand, Stream, Watch, environment_text};
pub use self::error::{Fault, KeyProblem, OfferedKey, RefusedKey, SshError};
pub use self::lease::{Foreign, Generation, Holder, LEASE_TIME, Lease, LeaseRequest, Taken};
pub use self::places::{Asked, Order, Place, Waiting};
pub use self::target::{Credentials, Target};

/// A server, reached over one connection that many share. Cheap to clone.
#[derive(Clone)]
pub struct Ssh {
    inner: Arc<Inner>,
    /// What must be held before anything is changed through this handle.
    lease: Option<Lease>,
}

/// The key that a server showed and that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HostKey {
    /// `SHA256:…`
    pub fingerprint: String,
    pub algorithm: String,
}

/// Which connection there was at a moment, and whether it lived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionMark {
    made: u64,
    alive: bool,
}

impl ConnectionMark {
    pub fn is_alive(self) -> bool {
        self.alive
    }

    /// Whether the connection of this moment is gone by a later one. That none ever came about is no loss.
    pub fn lost_by(self, later: ConnectionMark) -> bool {
        let was_there = self.made > 0;
        was_there && (!later.alive || later.made != self.made)
    }
}

/// What is at a path on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub kind: Kind,
    /// In bytes.
    pub size: u64,
    /// Permission bits only.
    pub mode: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// One thing to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the source and to the destination, with `/` between names.
    pub path: String,
    pub kind: EntryKind,
    /// Permission bits; a link has none of its own.
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    File {
        /// In bytes.
        size: u64,
        /// In lower-case hexadecimal.
        sha256: String,
    },
    Link {
        target: String,
    },
    Directory,
}

/// What the target has acknowledged in this upload so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub files: u64,
    pub bytes: u64,
}

/// A finished upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    pub files: u64,
    pub bytes: u64,
    pub links: u64,
    /// How often the connection was lost on the way.
    pub reconnects: u32,
    pub duration: std::time::Duration,
}

struct Inner {
    target: Target,
    credentials: Credentials,
    slot: Mutex<Slot>,
    places: Arc<Places>,
}

#[derive(Default)]
struct Slot {
    connection: Option<Arc<Connection>>,
    /// How many connections there were.
    made: u64,
    /// When the last attempt failed, and how.
    failure: Option<(Instant, SshError)>,
}

impl Ssh {
    /// Nothing is connected yet.
    pub fn new(target: Target, credentials: Credentials) -> Self {
        let inner = Inner { target, credentials, slot: Mutex::default(), places: Arc::default() };
        Self { inner: Arc::new(inner), lease: None }
    }

    /// The same server, for somebody who changes it only as long as the lease is held.
    pub fn under(&self, lease: &Lease) -> Self {
        Self { inner: self.inner.clone(), lease: Some(lease.clone()) }
    }

    fn without_lease(&self) -> Self {
        Self { inner: self.inner.clone(), lease: None }
    }

    /// Whether something may be changed through this handle now.
    async fn permitted(&self) -> Result<(), SshError> {
        match &self.lease {
            Some(lease) => lease.held().await,
            None => Ok(()),
        }
    }

    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// Makes sure that there is a connection. That there is none is known within ten seconds.
    pub async fn connect(&self) -> Result<HostKey, SshError> {
        Ok(self.connection().await?.host_key().clone())
    }

    /// The connection that there is now, to find out later whether it was lost meanwhile.
    pub async fn connection_mark(&self) -> ConnectionMark {
        let slot = self.inner.slot.lock().await;
        let alive = slot.connection.as_ref().is_some_and(|connection| connection.is_alive());
        ConnectionMark { made: slot.made, alive }
    }

    /// A stream to a port on the target's own loopback, for services that are not open to the
    /// outside.
    pub async fn open_loopback(
        &self,
        port: u16,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, SshError> {
        self.on_connection(|connection| async move { connection.loopback(port).await }).await
    }

    async fn connection(&self) -> Result<Arc<Connection>, SshError> {
        let asked = Instant::now();
        let mut slot = self.inner.slot.lock().await;
        if let Some(connection) = slot.connection.as_ref().filter(|one| one.is_alive()) {
            return Ok(connection.clone());
        }
        slot.connection = None;
        let inner = &self.inner;
        // Whoever waited while an attempt failed takes its answer; else a queue of callers would
        // each wait through an attempt of its own, one after the other.
        if let Some((when, failure)) = &slot.failure
            && *when >= asked
        {
            return Err(failure.clone());
        }
        match Connection::make(&inner.target, &inner.credentials, inner.places.clone()).await {
            Ok(connection) => {
                tracing::debug!(target = %self.inner.target, "connected");
                let connection = Arc::new(connection);
                slot.connection = Some(connection.clone());
                slot.made += 1;
                slot.failure = None;
                Ok(connection)
            }
            Err(error) => {
                slot.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Does something that may be done twice, once more if the connection turns out to be gone.
    async fn on_connection<T, F, D>(&self, action: D) -> Result<T, SshError>
    where
        D: Fn(Arc<Connection>) -> F,
        F: Future<Output = Result<T, SshError>>,
    {
        match action(self.connection().await?).await {
            Err(error) if error.is_lost() => action(self.connection().await?).await,
            other => other,
        }
    }

    /// As `on_connection`, with the connection's SFTP session.
    async fn on_sftp<T, F, D>(&self, action: D) -> Result<T, SshError>
    where
        D: Fn(Arc<Sftp>) -> F,
        F: Future<Output = Result<T, SshError>>,
    {
        self.on_connection(|connection| {
            let action = &action;
            async move { action(connection.sftp().await?).await }
        })
        .await
    }
}
