//! Ends process groups on the target. Which ones, and when, is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use russh::ChannelMsg;
use tokio::time::timeout;

use super::channels::Channels;
use super::command::KILL;
use super::lanes::Lane;
use super::lines::Tail;
use super::link::Link;
use super::{KillOutcome, SshError};
use crate::model::RemoteProcess;

/// Ending a group takes two seconds at most, and the way there and back.
const KILL_LIMIT: Duration = Duration::from_secs(15);

impl Link {
    /// Ends a process group that an earlier command left, if it is still that one. For recovery
    /// after a crash; `run` does this itself.
    pub(super) async fn kill_group(&self, process: &RemoteProcess) -> Result<KillOutcome, SshError> {
        let group = process.group.to_string();
        let words = ["exec", "sh", "-c", KILL, "sh", &group, &process.started];
        let line = shlex::try_join(words).map_err(|_| SshError::BadCommand {
            command: format!("kill {group}"),
            problem: "the process's start has a NUL character".into(),
        })?;
        let said = self
            .on_connection(|connection| {
                let line = &line;
                async move { ask(connection.channels(), line).await }
            })
            .await?;
        match said.trim() {
            "gone" => Ok(KillOutcome::Gone),
            "terminated" => Ok(KillOutcome::Terminated),
            "killed" => Ok(KillOutcome::Killed),
            other => Err(SshError::NotStarted { command: format!("kill {group}"), said: other.to_owned() }),
        }
    }
}

/// Runs one short line in a reserved channel, for what it prints. Its time begins when it has the channel.
async fn ask(channels: &Arc<Channels>, line: &str) -> Result<String, SshError> {
    let mut session = channels.session(Lane::Ending).await?;
    let answer = timeout(KILL_LIMIT, async {
        let channel = session.channel()?;
        channel.exec(true, line).await.ok()?;
        let _ = channel.eof().await;
        let (mut said, mut exited) = (Tail::default(), false);
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Data { data }) => said.feed(&data),
                Some(ChannelMsg::ExitStatus { .. }) => exited = true,
                Some(ChannelMsg::Close) | None => return exited.then(|| said.into_text()),
                Some(_) => {}
            }
        }
    });
    match answer.await {
        Ok(Some(said)) => Ok(said),
        Ok(None) => Err(channels.lost("the ending of a process")),
        Err(_) => {
            channels.give_up();
            Err(channels.lost("the ending of a process"))
        }
    }
}
