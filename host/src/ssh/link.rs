//! The way to one server: one connection that many share, made on first use and re-made when it is lost. What is
//! sent over it, and under which lease, is decided elsewhere.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connection::Connection;
use super::sftp::Sftp;
use super::slots::Slots;
use super::{Credentials, SshError, Target};

/// A server and the connection to it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    inner: Arc<Inner>,
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

    /// Whether the connection of this moment is gone by a later one. One that was never made is not lost.
    pub fn lost_by(self, later: ConnectionMark) -> bool {
        let was_there = self.made > 0;
        was_there && (!later.alive || later.made != self.made)
    }
}

struct Inner {
    target: Target,
    credentials: Credentials,
    current: Mutex<Current>,
    slots: Arc<Slots>,
}

#[derive(Default)]
struct Current {
    connection: Option<Arc<Connection>>,
    /// How many connections there were.
    made: u64,
    /// When the last attempt failed, and how.
    failure: Option<(Instant, SshError)>,
}

impl Link {
    /// Nothing is connected yet.
    pub(super) fn new(target: Target, credentials: Credentials) -> Self {
        let inner = Inner { target, credentials, current: Mutex::default(), slots: Arc::default() };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn target(&self) -> &Target {
        &self.inner.target
    }

    pub(super) fn slots(&self) -> &Arc<Slots> {
        &self.inner.slots
    }

    /// The connection that there is now, to find out later whether it was lost meanwhile.
    pub(super) async fn mark(&self) -> ConnectionMark {
        let current = self.inner.current.lock().await;
        let alive = current.connection.as_ref().is_some_and(|connection| connection.is_alive());
        ConnectionMark { made: current.made, alive }
    }

    pub(super) async fn connection(&self) -> Result<Arc<Connection>, SshError> {
        let asked = Instant::now();
        let mut current = self.inner.current.lock().await;
        if let Some(connection) = current.connection.as_ref().filter(|one| one.is_alive()) {
            return Ok(connection.clone());
        }
        current.connection = None;
        let inner = &self.inner;
        // Whoever waited while an attempt failed takes its answer; else a queue of callers would
        // each wait through an attempt of its own, one after the other.
        if let Some((when, failure)) = &current.failure
            && *when >= asked
        {
            return Err(failure.clone());
        }
        match Connection::make(&inner.target, &inner.credentials, inner.slots.clone()).await {
            Ok(connection) => {
                tracing::debug!(target = %self.inner.target, "connected");
                let connection = Arc::new(connection);
                current.connection = Some(connection.clone());
                current.made += 1;
                current.failure = None;
                Ok(connection)
            }
            Err(error) => {
                current.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Does something that may be done twice, once more if the connection turns out to be gone.
    pub(super) async fn on_connection<T, F, D>(&self, action: D) -> Result<T, SshError>
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
    pub(super) async fn on_sftp<T, F, D>(&self, action: D) -> Result<T, SshError>
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
