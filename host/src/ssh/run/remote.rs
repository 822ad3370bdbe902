//! The far end of a command under way: what is needed to end it, and how it is ended.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::time::timeout;

use crate::model::RemoteProcess;
use crate::ssh::KillOutcome;
use crate::ssh::channels::{Channels, SessionPermit};
use crate::ssh::lines::{Marker, Preamble};
use crate::ssh::link::Link;

/// A command is to end, and the wrapper has not yet said which process it is.
const NAME_LIMIT: Duration = Duration::from_secs(5);
/// A command is to end, and others may be ended before it.
const ENDING_LIMIT: Duration = Duration::from_secs(45);

/// What is needed to end a command.
pub(super) struct Remote {
    pub(super) link: Link,
    pub(super) channels: Arc<Channels>,
    pub(super) read: ChannelReadHalf,
    pub(super) write: Arc<ChannelWriteHalf<Msg>>,
    pub(super) process: Option<RemoteProcess>,
    pub(super) _permit: Option<SessionPermit>,
}

impl Remote {
    pub(super) async fn close(&mut self) {
        self.channels.close(&mut self.read, &self.write).await;
    }

    /// `preamble` is where the process's name is to come from, if it has not come yet.
    pub(super) async fn end(mut self, mut preamble: Preamble) -> KillOutcome {
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
            pending::<KillOutcome>().await
        };
        let ending = async {
            match &self.process {
                Some(process) => match timeout(ENDING_LIMIT, self.link.kill_group(process)).await {
                    Ok(Ok(ended)) => ended,
                    Ok(Err(error)) => KillOutcome::Unknown(error.problem()),
                    Err(_) => KillOutcome::Unknown("the target does not answer".into()),
                },
                None => KillOutcome::Unknown("it had not said which process it is".into()),
            }
        };
        let ended = tokio::select! {
            ended = draining => ended,
            ended = ending => ended,
        };
        self.close().await;
        tracing::debug!(process = ?self.process, ?ended, "ended a command");
        ended
    }
}
