//! The channels on one authenticated connection: who may open one, and when it counts as closed. How the
//! connection came about, and what is sent through a channel, is decided elsewhere.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::client::{self, Msg};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelStream, ChannelWriteHalf};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, OwnedSemaphorePermit};
use tokio::time::{Instant, timeout};

use super::dial::Gate;
use super::lanes::{FEWEST_SESSIONS, Lane, Lanes, MOST_SESSIONS, Shares};
use super::slots::Slots;
use super::{SshError, Target};

/// An open connection answers at once or not at all.
const CHANNEL_LIMIT: Duration = Duration::from_secs(10);
/// How long a server may say that it has no room for a session before it is believed, and how often
/// it is asked.
const FULL_LIMIT: Duration = Duration::from_secs(5);
const FULL_PAUSE: Duration = Duration::from_millis(50);
/// How long it may say so while it has other sessions of ours, which end some time.
const BUSY_LIMIT: Duration = Duration::from_secs(600);

/// The channels of one connection.
pub(super) struct Channels {
    handle: client::Handle<Gate>,
    target: Target,
    ended: Arc<OnceLock<String>>,
    given_up: AtomicBool,
    lanes: OnceCell<Lanes>,
    slots: Arc<Slots>,
    /// As many as there are sessions, and one.
    sessions: Arc<()>,
}

/// A channel for a command or a subsystem, closed when dropped. It counts against the server's limit
/// as long as its permit lives.
pub(super) struct Session {
    channels: Arc<Channels>,
    channel: Option<Channel<Msg>>,
    permit: Option<SessionPermit>,
}

/// What a session takes of the server's room.
pub(super) struct SessionPermit {
    _lane: Option<OwnedSemaphorePermit>,
    _counted: Arc<()>,
}

impl Session {
    /// There is one until `into_parts` takes it.
    pub(super) fn channel(&mut self) -> Option<&mut Channel<Msg>> {
        self.channel.as_mut()
    }

    pub(super) fn into_parts(mut self) -> Option<(Channel<Msg>, Option<SessionPermit>)> {
        Some((self.channel.take()?, self.permit.take()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (channel, permit) = (self.channel.take(), self.permit.take());
        if let (Some(channel), Ok(runtime)) = (channel, Handle::try_current()) {
            let channels = self.channels.clone();
            runtime.spawn(async move {
                let (mut read, write) = channel.split();
                channels.close(&mut read, &write).await;
                drop(permit);
            });
        }
    }
}

impl Channels {
    pub(super) fn new(
        handle: client::Handle<Gate>,
        target: Target,
        ended: Arc<OnceLock<String>>,
        slots: Arc<Slots>,
    ) -> Self {
        Self {
            handle,
            target,
            ended,
            given_up: AtomicBool::new(false),
            lanes: OnceCell::new(),
            slots,
            sessions: Arc::default(),
        }
    }

    /// Closes a channel and waits until the server has closed it too: until then it counts there.
    pub(super) async fn close(&self, read: &mut ChannelReadHalf, write: &ChannelWriteHalf<Msg>) {
        if write.close().await.is_err() {
            return;
        }
        // What still comes must not fill the connection meanwhile.
        let draining = async { while !matches!(read.wait().await, Some(ChannelMsg::Close) | None) {} };
        tokio::select! {
            () = draining => {}
            _ = self.has_caught_up() => {}
        }
    }

    /// Whether the server has read all that was sent to it so far. The library tells nobody of the server's word
    /// that a channel is closed which was closed here; but a server answers in order, so that its answer to a
    /// question comes after that word.
    async fn has_caught_up(&self) -> bool {
        let answered = timeout(CHANNEL_LIMIT, self.handle.send_ping()).await;
        answered.is_ok_and(|asked| asked.is_ok())
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.handle.is_closed() && !self.given_up.load(Ordering::Relaxed)
    }

    /// Nobody new uses this connection; what runs on it may end on it.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// The error for something that the connection's end interrupted.
    pub(super) fn lost(&self, during: impl Into<String>) -> SshError {
        let cause = match self.ended.get() {
            Some(cause) => cause.clone(),
            None => "the server closed it".to_owned(),
        };
        SshError::Lost { target: self.target.to_string(), during: during.into(), cause, process: None }
    }

    /// A channel for this, once there is one.
    pub(super) async fn session(self: &Arc<Self>, lane: Lane) -> Result<Session, SshError> {
        let permit = self.lanes().await?.enter(lane).await;
        self.open_session(permit, BUSY_LIMIT).await
    }

    /// A channel for commands if there is room now.
    pub(super) async fn session_if_free(self: &Arc<Self>) -> Option<Session> {
        let permit = self.lanes().await.ok()?.enter_if_free()?;
        self.open_session(Some(permit), Duration::ZERO).await.ok()
    }

    /// What the sessions are kept for. How many there are is found out first.
    pub(super) async fn lanes(self: &Arc<Self>) -> Result<Lanes, SshError> {
        if let Some(lanes) = self.lanes.get() {
            return Ok(lanes.clone());
        }
        let channels = self.clone();
        // In a task of its own: counted again while the first count's sessions close, they would be fewer.
        let counting =
            tokio::spawn(
                async move { channels.lanes.get_or_try_init(|| channels.divide_room()).await.cloned() },
            );
        counting.await.unwrap_or_else(|_| Err(self.lost("the opening of a channel")))
    }

    async fn divide_room(&self) -> Result<Lanes, SshError> {
        let room = self.count_room().await?;
        let Some(shares) = Shares::of(room) else {
            // A server whose setting was raised uses it for new connections.
            self.give_up();
            return Err(SshError::TooFewSessions {
                target: self.target.to_string(),
                room,
                needed: FEWEST_SESSIONS,
            });
        };
        if room < MOST_SESSIONS {
            tracing::warn!(
                server = %self.target,
                "the server's MaxSessions allows {room} sessions on a connection, so that at most {} jobs \
                 run at the same time; raise it to {MOST_SESSIONS} or more in its sshd_config",
                shares.commands
            );
        }
        self.slots.learn(shares.commands);
        Ok(Lanes::new(shares))
    }

    /// Opens as many sessions as would be used, and closes them again: in no other way does a server say how
    /// many it allows.
    async fn count_room(&self) -> Result<usize, SshError> {
        let opening = (0..MOST_SESSIONS).map(|_| self.open(self.handle.channel_open_session()));
        let (mut room, mut refused) = (Vec::new(), None);
        for opened in futures::future::join_all(opening).await {
            match opened? {
                Ok(channel) => room.push(channel),
                Err(reason) => refused = Some(reason),
            }
        }
        if let (true, Some(reason)) = (room.is_empty(), refused) {
            return Err(self.refused(&reason));
        }
        let count = room.len();
        for channel in &room {
            channel.close().await.map_err(|_| self.lost("the opening of a channel"))?;
        }
        if !self.has_caught_up().await {
            self.give_up();
            return Err(self.lost("the opening of a channel"));
        }
        Ok(count)
    }

    async fn open_session(
        self: &Arc<Self>,
        lane: Option<OwnedSemaphorePermit>,
        limit: Duration,
    ) -> Result<Session, SshError> {
        let mut lane = Some(lane);
        let begun = Instant::now();
        let (mut alone, mut told) = (None, false);
        loop {
            let channels = self.clone();
            // In a task of its own: if the caller goes away meanwhile, the channel that the server
            // has opened is closed again.
            let opening = tokio::spawn(async move {
                let opened = channels.open(channels.handle.channel_open_session()).await?;
                Ok(opened.map(|channel| Session { channels, channel: Some(channel), permit: None }))
            });
            let opened = match opening.await {
                Ok(opened) => opened?,
                Err(_) => return Err(self.lost("the opening of a channel")),
            };
            let reason = match opened {
                Ok(mut session) => {
                    let _lane = lane.take().flatten();
                    session.permit = Some(SessionPermit { _lane, _counted: self.sessions.clone() });
                    return Ok(session);
                }
                Err(reason) => reason,
            };
            // A server counts a session until its processes are gone, which may be long after the channel is.
            if Arc::strong_count(&self.sessions) > 1 {
                alone = None;
            }
            let since = *alone.get_or_insert_with(Instant::now);
            let waits = reason == ChannelOpenFailure::ConnectFailed
                && begun.elapsed() < limit
                && (Arc::strong_count(&self.sessions) > 1 || since.elapsed() < FULL_LIMIT);
            if !waits {
                return Err(self.refused(&reason));
            }
            if !told && begun.elapsed() > FULL_LIMIT {
                told = true;
                // Or for good, where a process cannot be ended: the reserve must stay one.
                if let Some(lanes) = self.lanes.get() {
                    let left = lanes.lose_one();
                    self.slots.learn(left);
                    tracing::warn!(
                        server = %self.target,
                        "the server allows fewer sessions than before; {left} are left for commands"
                    );
                }
            }
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }

    fn refused(&self, reason: &ChannelOpenFailure) -> SshError {
        SshError::ChannelRefused { target: self.target.to_string(), cause: reason_text(reason) }
    }

    /// A stream to a port on the server's own loopback.
    pub(super) async fn loopback(&self, port: u16) -> Result<ChannelStream<Msg>, SshError> {
        let opening = self.handle.channel_open_direct_tcpip("127.0.0.1", u32::from(port), "127.0.0.1", 0);
        let channel = self.open(opening).await?.map_err(|reason| SshError::PortClosed {
            target: self.target.to_string(),
            port,
            cause: match reason {
                ChannelOpenFailure::ConnectFailed => "nothing accepts connections there".into(),
                other => reason_text(&other),
            },
        })?;
        Ok(channel.into_stream())
    }

    async fn open(
        &self,
        opening: impl Future<Output = Result<Channel<Msg>, russh::Error>>,
    ) -> Result<Result<Channel<Msg>, ChannelOpenFailure>, SshError> {
        match timeout(CHANNEL_LIMIT, opening).await {
            Ok(Ok(channel)) => Ok(Ok(channel)),
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => Ok(Err(reason)),
            Ok(Err(_)) => Err(self.lost("the opening of a channel")),
            Err(_) => {
                self.give_up();
                Err(SshError::Lost {
                    target: self.target.to_string(),
                    during: "the opening of a channel".into(),
                    cause: format!("no answer within {} s", CHANNEL_LIMIT.as_secs()),
                    process: None,
                })
            }
        }
    }

    /// Why the connection ended, once it has.
    pub(super) fn end_note(&self) -> Arc<OnceLock<String>> {
        self.ended.clone()
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Asks for something on a channel and waits until the server said yes or no.
    pub(super) async fn answer(&self, session: &mut Session) -> Result<bool, SshError> {
        let Some(channel) = session.channel() else {
            return Err(self.lost("the opening of a channel"));
        };
        let answered = timeout(CHANNEL_LIMIT, async {
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Success) => return Some(true),
                    Some(ChannelMsg::Failure) => return Some(false),
                    Some(_) => {}
                    None => return None,
                }
            }
        });
        match answered.await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.lost("the opening of a channel")),
            Err(_) => {
                self.give_up();
                Err(self.lost("the opening of a channel"))
            }
        }
    }
}

fn reason_text(reason: &ChannelOpenFailure) -> String {
    match reason {
        ChannelOpenFailure::AdministrativelyProhibited => "the server's settings forbid it".into(),
        ChannelOpenFailure::ConnectFailed => "the server has reached its limit of sessions".into(),
        ChannelOpenFailure::UnknownChannelType => "the server does not know this kind of channel".into(),
        ChannelOpenFailure::ResourceShortage => "the server is short of resources".into(),
        ChannelOpenFailure::Other { reason, .. } => reason.clone(),
    }
}
