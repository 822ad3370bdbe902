//! Lets callers in, each to a seat, and takes each connection from its first byte to its end. A caller who is
//! refused, or is too slow, is told so where an answer is possible.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::bounds::{Caller, End, Room};
use super::problem::Problem;
use super::seats::{Seat, Seats};
use super::watched::{Answered, Asked, Wire};

/// A head may have as many bytes as most servers take.
const HEAD_BYTES: usize = 64 << 10;
const HEADERS: usize = 100;
/// How often it is looked whether a connection takes too long.
const SWEEP: Duration = Duration::from_millis(500);
/// How soon it is looked again whether there is room.
const AGAIN: Duration = Duration::from_millis(50);
/// What a failed `accept` waits before the next: it may fail for as long as there are no descriptors.
const NO_DESCRIPTORS: Duration = Duration::from_millis(100);
/// How long the last words to a caller may take, and how many are being told at once.
const FAREWELL: Duration = Duration::from_millis(500);
const FAREWELLS: usize = 32;

/// Answers callers until `stopping`, and then for `grace`.
pub async fn answer(
    listener: TcpListener,
    router: Router,
    seats: Arc<Seats>,
    stopping: CancellationToken,
    grace: Duration,
) {
    let mut open = JoinSet::new();
    let house =
        Arc::new(House { router, seats, stopping: stopping.clone(), farewells: Semaphore::new(FAREWELLS) });
    let mut sweep = tokio::time::interval(SWEEP);
    let mut complained: Option<Instant> = None;
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            _ = sweep.tick() => house.seats.sweep(Instant::now()),
            Some(_) = open.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => house.let_in(stream, from, &mut open).await,
                Err(error) => {
                    if no_descriptors(&error) {
                        house.seats.spare_one(Instant::now());
                        if complained.is_none_or(|when| when.elapsed() > Duration::from_secs(60)) {
                            complained = Some(Instant::now());
                            tracing::warn!(%error, "no connection can be accepted; raise the limit of open files");
                        }
                        tokio::time::sleep(NO_DESCRIPTORS).await;
                    }
                    // Any other failure is the caller's, who is gone.
                }
            },
        }
    }
    // Callers who come now go to the next deployer that listens here.
    drop(listener);
    let ending = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, ending).await.is_err() {
        tracing::info!("some answers were cut off as the server stopped");
    }
}

fn no_descriptors(error: &std::io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    errno.is_some_and(|errno| errno == rustix::io::Errno::MFILE || errno == rustix::io::Errno::NFILE)
}

/// What all connections share.
struct House {
    router: Router,
    seats: Arc<Seats>,
    stopping: CancellationToken,
    farewells: Semaphore,
}

impl House {
    async fn let_in(self: &Arc<Self>, stream: TcpStream, from: SocketAddr, open: &mut JoinSet<()>) {
        let house = self.clone();
        // Others wait meanwhile in the kernel's queue, in their order.
        match self.seat(from).await {
            Some(seat) => {
                open.spawn(async move {
                    let end = house.carry(stream, from, &seat).await;
                    house.seats.leave(&seat);
                    if let Some((stream, end)) = end {
                        house.farewell(stream, end).await;
                    }
                });
            }
            None => {
                open.spawn(async move { house.farewell(stream, End::Crowded).await });
            }
        }
    }

    async fn seat(&self, from: SocketAddr) -> Option<Arc<Seat>> {
        loop {
            match self.seats.take(Caller::at(from.ip()), Instant::now()) {
                Ok(seat) => return Some(seat),
                Err(Room::Soon) => tokio::time::sleep(AGAIN).await,
                Err(Room::Free | Room::InPlaceOf(_) | Room::Full) => return None,
            }
        }
    }

    /// Answers what comes on a connection. Gives it back when it has to end.
    async fn carry(&self, stream: TcpStream, from: SocketAddr, seat: &Arc<Seat>) -> Option<(TcpStream, End)> {
        // Events are small, and waited for.
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request: Request<Incoming>| self.serve(request, from, seat));
        let io = TokioIo::new(Wire { stream, seat: seat.clone() });
        let mut connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_headers(HEADERS)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(io, service);
        let mut is_stopping = false;
        loop {
            tokio::select! {
                // How a connection ended is the caller's affair.
                _ = &mut connection => return None,
                end = seat.ended() => {
                    let wire = connection.into_parts().io.into_inner();
                    return Some((wire.stream, end));
                }
                () = self.stopping.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    }

    async fn serve(
        &self,
        request: Request<Incoming>,
        from: SocketAddr,
        seat: &Arc<Seat>,
    ) -> Result<Response<Answered>, Infallible> {
        seat.answers();
        let mut request = request.map(|body| Body::new(Asked { body, seat: seat.clone() }));
        request.extensions_mut().insert(ConnectInfo(from));
        request.extensions_mut().insert(seat.clone());
        let response = self.router.clone().call(request).await?;
        seat.answers();
        Ok(response.map(|body| Answered { body, seat: seat.clone() }))
    }

    /// Says why a connection ends, if it can be said: no answer has begun on it.
    async fn farewell(&self, mut stream: TcpStream, end: End) {
        let problem = match end {
            End::Silent | End::Stalled => return,
            End::SlowHead => Problem::too_slow("the request's head"),
            End::SlowBody => Problem::too_slow("the request's body"),
            End::Crowded => Problem::crowded(),
        };
        let Ok(_turn) = self.farewells.try_acquire() else { return };
        let told = async {
            stream.write_all(&problem.last_words()).await?;
            stream.shutdown().await?;
            // Closed with something unread, a connection takes its last words back.
            let mut unread = [0; 4096];
            while stream.read(&mut unread).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        // A caller who is gone, or takes nothing, does not hear it.
        let _ = tokio::time::timeout(FAREWELL, told).await;
    }
}

impl Problem {
    fn too_slow(what: &str) -> Self {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request-timeout",
            format!("{what} did not arrive in time"),
            "send the whole request without pauses",
        )
    }

    fn crowded() -> Self {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-connections",
            "the deployer has reached its limit of connections, and this one was idle",
            "close connections that are not used, and ask again",
        )
    }
}
