//! The REST API: requests to values, values to responses. It decides nothing about deployments.

mod accept;
mod answers;
mod audit;
pub mod auth;
mod bounds;
mod ecosystem;
mod events;
mod extract;
mod guard;
mod page;
mod problem;
mod query;
mod routes;
mod seats;
mod streams;
pub mod types;
mod validate;
mod watched;

#[cfg(test)]
pub(crate) mod ledger;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::job::Deployments;
use auth::Tokens;
use bounds::Bounds;
pub use guard::USER_HEADER;
use seats::Seats;
use streams::Streams;

/// How long answers that are under way may take once the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// What the API answers with.
pub struct App {
    deployments: Arc<dyn Deployments>,
    /// None: whoever reaches the server may use it, so it listens on the loopback only.
    tokens: Option<Tokens>,
    started: Instant,
    started_at: Timestamp,
    stopping: CancellationToken,
    bounds: Bounds,
    streams: Streams,
}

#[derive(Debug, Error)]
pub enum ServeError {
    #[error(
        "refusing to listen on {address} without tokens: everyone who reaches it could deploy; give \
         --token-file FILE (DEPLOYER_TOKEN_FILE) with one token a line, or listen on 127.0.0.1"
    )]
    NoTokens { address: SocketAddr },
    #[error("the server's socket failed: {0}; start the deployer again, its jobs go on")]
    Socket(#[from] std::io::Error),
}

impl App {
    pub fn new(deployments: Arc<dyn Deployments>, tokens: Option<Tokens>) -> Self {
        let bounds = Bounds::of_this_process();
        App {
            bounds,
            streams: Streams::new(&bounds),
            deployments,
            tokens,
            started: Instant::now(),
            started_at: Timestamp::now(),
            stopping: CancellationToken::new(),
        }
    }
}

/// Answers requests until `shutdown` is there. Streams of events end then, and other answers have a few
/// seconds to end.
///
/// # Errors
/// When the listener is open to other machines and there are no tokens, or the socket fails.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    may_listen(listener.local_addr()?, app.tokens.is_some())?;
    let (stopping, seats) = (app.stopping.clone(), Arc::new(Seats::new(app.bounds)));
    let graceful = async {
        shutdown.await;
        stopping.cancel();
    };
    let answering = accept::answer(listener, routes::router(app), seats, stopping.clone(), GRACE);
    tokio::join!(graceful, answering);
    Ok(())
}

/// Whether a server may listen there: on the loopback always, elsewhere only with tokens.
///
/// # Errors
/// When it may not.
pub fn may_listen(address: SocketAddr, has_tokens: bool) -> Result<(), ServeError> {
    if has_tokens || address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(ServeError::NoTokens { address })
    }
}
