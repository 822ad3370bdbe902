//! A small, real droplet registry for the demo and the tests: HTTP on loopback, everything in memory.
//!
//! It speaks one of the two dialects that registries have, so that a client which finds out by asking
//! has something to find out. It checks what a registry checks; it authenticates nobody.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

mod droplets;
mod register;

/// Which API the registry has. The other one's paths answer 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `POST /droplets` and its relatives: what the registry in the field has.
    Droplets,
    /// `POST /register`: what the specification says.
    Register,
}

/// How it answers. One that is down is a stopped one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Sound,
    /// 200 and a page of HTML, whatever was asked: a proxy or a login page in the way.
    Nonsense,
}

/// A running registry. Dropped without [`Registry::stop`], it ends too, a moment later.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
}

/// Why the registry could not be started.
#[derive(Debug, thiserror::Error)]
#[error(
    "the demo's registry cannot listen on {address}: {source}; see that nothing else does, and that loopback is up"
)]
pub struct StartError {
    address: SocketAddr,
    source: io::Error,
}

impl Registry {
    /// Starts empty, on a free port of 127.0.0.1.
    pub async fn start(dialect: Dialect) -> Result<Registry, StartError> {
        Registry::start_on(dialect, 0).await
    }

    /// Starts empty, on a given port of 127.0.0.1: where one was that had been stopped.
    pub async fn start_on(dialect: Dialect, port: u16) -> Result<Registry, StartError> {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let refused = |source| StartError { address: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;

        let behaviour = Arc::new(Mutex::new(Behaviour::Sound));
        let routes = match dialect {
            Dialect::Droplets => droplets::routes(),
            Dialect::Register => register::routes(),
        };
        let app = Router::new()
            .route("/health", get(async || axum::Json(json!({"status": "healthy", "service": "registry"}))))
            .merge(routes)
            .layer(middleware::from_fn_with_state(behaviour.clone(), behave));

        let stopping = CancellationToken::new();
        let stopped = stopping.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            // An open keep-alive connection must not keep the registry from being down: no grace.
            tokio::select! {
                served = async { axum::serve(listener, app).await } => {
                    if let Err(error) = served {
                        tracing::warn!(%error, "the demo's registry ended");
                    }
                }
                () = stopped => {}
            }
        });
        Ok(Registry { address, behaviour, stopping, serving })
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it answers from the next request on.
    pub fn behave(&self, behaviour: Behaviour) {
        *lock(&self.behaviour) = behaviour;
    }

    /// Takes no more connections, and forgets everything.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        let _ = (&mut self.serving).await;
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

async fn behave(State(behaviour): State<Arc<Mutex<Behaviour>>>, request: Request, next: Next) -> Response {
    let now = *lock(&behaviour);
    match now {
        Behaviour::Sound => next.run(request).await,
        Behaviour::Nonsense => {
            Html("<html><body><h1>Welcome</h1>Please log in.</body></html>").into_response()
        }
    }
}

/// What was being written when a request panicked is whole: every change is one insertion or one field.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}
