//! Following a job: its events to the end, across lost connections and restarts of the server.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use eventsource_stream::Eventsource;
use futures::{Stream, StreamExt};
use reqwest::Response;
use serde_json::{Value, json};

use super::client::{Client, ClientError, typed};
use super::display::Display;
use super::output::line;
use super::show::{self, Seen};
use crate::http::types::Job;
use crate::model::{EventKind, JobStatus};

/// How long a server may be away.
const PATIENCE: Duration = Duration::from_secs(60);
/// A stream without a byte for so long is lost: the server sends a comment every 15 seconds.
const SILENCE: Duration = Duration::from_secs(45);
/// As a shell has it for a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Shows a job until it is over, or until Ctrl-C, which leaves the job running.
///
/// # Errors
/// When the server stays away, or does not know the job.
pub async fn to_the_end(client: &Client, job: &str, json: bool, verbose: bool) -> anyhow::Result<ExitCode> {
    let mut display = Display::new(json, io::stdout().is_terminal(), verbose);
    tokio::select! {
        result = async {
            watch(client, job, &mut display).await?;
            patiently(async || client.get(&["deploy", job]).await, |_| {}).await
        } => {
            display.clear();
            finish(client, result?, json, &display.last_words())
        }
        _ = tokio::signal::ctrl_c() => {
            display.clear();
            detached(client, job, json);
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// Prints the result of a job that is over. The exit status is 1 unless it completed.
pub fn finish(client: &Client, value: Value, json: bool, last_words: &[String]) -> anyhow::Result<ExitCode> {
    let job: Job = typed(client, &value)?;
    if json {
        line(&json!({ "event": "result", "data": value }).to_string());
    } else {
        let mut text = show::result(&job);
        if job.status == JobStatus::Failed && !last_words.is_empty() {
            text.push_str("last log lines:\n");
            for words in last_words {
                text.push_str(&format!("  {words}\n"));
            }
        }
        line(text.trim_end());
    }
    Ok(exit_status(job.status))
}

pub fn exit_status(status: JobStatus) -> ExitCode {
    match status {
        JobStatus::Completed => ExitCode::SUCCESS,
        JobStatus::Pending | JobStatus::Running | JobStatus::Failed | JobStatus::Cancelled => {
            ExitCode::FAILURE
        }
    }
}

/// The events that there are now.
pub async fn so_far(client: &Client, job: &str, mut see: impl FnMut(&Seen)) -> Result<(), ClientError> {
    let Some(response) = client.events(job, 0, false).await? else { return Ok(()) };
    let mut events = Box::pin(read(response));
    while let Some(seen) = events.next().await {
        see(&seen);
    }
    Ok(())
}

/// All events until the job is over.
async fn watch(client: &Client, job: &str, display: &mut Display) -> Result<(), ClientError> {
    let mut after = 0;
    loop {
        let ask = async || client.events(job, after, true).await;
        let response = patiently(ask, |waited| display.waiting(client.address(), waited)).await?;
        let Some(response) = response else { return Ok(()) };
        let mut events = Box::pin(read(response));
        let mut is_over = false;
        while let Some(seen) = events.next().await {
            after = seen.id.max(after);
            is_over |= seen.ends_the_job();
            display.see(&seen);
        }
        if is_over {
            return Ok(());
        }
        // The stream was lost, and the job is not over. It goes on from the last event.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// A stream's events. It ends when the connection does, for whatever reason.
fn read(response: Response) -> impl Stream<Item = Seen> {
    let bytes = tokio_stream::StreamExt::timeout(response.bytes_stream(), SILENCE);
    let bytes = bytes.map(|chunk| match chunk {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(io::Error::other(error)),
        Err(elapsed) => Err(io::Error::other(elapsed)),
    });
    let whole = bytes.eventsource().take_while(|event| std::future::ready(event.is_ok()));
    whole.filter_map(async |event| {
        let event = event.ok()?;
        let id = event.id.parse().ok()?;
        let data = serde_json::from_str(&event.data).ok()?;
        // A newer deployer may tell of more than this one knows.
        let kind = EventKind::from_name(&event.event)?;
        Some(Seen { id, kind, data })
    })
}

/// Asks until there is an answer, as long as the server may only be away for a moment.
async fn patiently<T>(
    mut ask: impl AsyncFnMut() -> Result<T, ClientError>,
    mut waiting: impl FnMut(Duration),
) -> Result<T, ClientError> {
    let since = Instant::now();
    let mut pause = Duration::from_millis(250);
    loop {
        match ask().await {
            Err(error) if error.may_pass() && since.elapsed() < PATIENCE => {
                waiting(since.elapsed());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            result => return result,
        }
    }
}

fn detached(client: &Client, job: &str, json: bool) {
    if json {
        line(&json!({ "event": "detached", "data": { "deploy_job_id": job } }).to_string());
        return;
    }
    let server = match client.address().as_str().trim_end_matches('/') {
        super::SERVER => String::new(),
        other => format!(" --server {other}"),
    };
    line(&format!(
        "{job} continues\n  follow it: deployer logs {job} --follow{server}\n  \
         cancel it: deployer cancel {job}{server}"
    ));
}

#[cfg(test)]
mod tests;
