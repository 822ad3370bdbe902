//! Running the server: its log, and its end.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::journal::Observer;
use crate::server::Server;
use crate::settings::Settings;

/// Runs the server until it is told to stop.
pub async fn run(settings: Settings, observer: Option<Arc<dyn Observer>>) -> anyhow::Result<ExitCode> {
    log_to_stderr("info");
    let told = told_to_stop()?;
    let mut server = Server::start(&settings, observer).await?;
    let answered = tokio::select! {
        () = told => Ok(()),
        end = server.ended() => end,
    };
    server.stop().await?;
    answered?;
    tracing::info!("stopped; running jobs continue when the deployer starts again");
    Ok(ExitCode::SUCCESS)
}

/// Resolves at SIGINT or SIGTERM.
pub(super) fn told_to_stop() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    })
}

/// The server's own log; `DEPLOYER_LOG` says how much, as in `debug` or `deployer::job=trace`.
pub(super) fn log_to_stderr(usual: &str) {
    let filter = EnvFilter::try_from_env("DEPLOYER_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    // A program around this one may log already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
