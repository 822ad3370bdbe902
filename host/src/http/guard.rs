//! What happens to every request: who asks, whether they may, and that a defect in one answer does not reach
//! another.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use super::App;
use super::auth::{Tokens, bearer};
use super::problem::Problem;
use super::seats::Seat;
use crate::capability::PLUGIN_HEADER;
use crate::model::Actor;

/// The header in which the command line says whose it is, where there are no tokens to tell.
pub const USER_HEADER: &str = "x-deployer-user";

/// Lets a request in, with its [`Actor`], or answers it.
pub async fn admit(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    if let Some(plugin) = request.headers().get(PLUGIN_HEADER) {
        return Problem::of_plugin(plugin).into_response();
    }
    let name = match &app.tokens {
        Some(tokens) => by_token(tokens, request.headers()),
        None => by_trust(request.headers(), request.uri().host()),
    };
    match name {
        Ok(name) => {
            if let Some(seat) = request.extensions().get::<Arc<Seat>>() {
                seat.is_known();
            }
            let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
            let from = from.map_or_else(|| "unknown".to_owned(), |info| info.0.to_string());
            request.extensions_mut().insert(Actor { name, from });
            next.run(request).await
        }
        // A stranger may know how the deployer is, and no more.
        Err(_) if request.uri().path() == "/health" => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

impl Problem {
    /// The host marks what it sends for a plugin: no way around leads here.
    fn of_plugin(plugin: &HeaderValue) -> Self {
        let name: String = plugin.to_str().unwrap_or("?").chars().take(64).collect();
        Problem::forbidden(
            "plugin-refused",
            format!("the request is from the plugin `{name}`, and no plugin may use a deployer's API"),
            "ask from outside of a deployment, without the header x-deployer-plugin",
        )
    }
}

/// Answers a request whose handler panicked.
pub async fn survive(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(path, "a handler panicked; the lines above have the place");
            Problem::panicked().into_response()
        }
    }
}

fn by_token(tokens: &Tokens, headers: &HeaderMap) -> Result<String, Problem> {
    let Some(header) = headers.get(header::AUTHORIZATION) else {
        return Err(Problem::unauthorized("the request has no Authorization header"));
    };
    let Some(token) = header.to_str().ok().and_then(bearer) else {
        return Err(Problem::unauthorized("the Authorization header has no bearer token"));
    };
    let name = tokens.name_of(token);
    name.map(str::to_owned).ok_or_else(|| Problem::unauthorized("the token is not one of the server's"))
}

/// Without tokens the server trusts the programs of its own machine, but not web pages in a browser there:
/// one could send forms, or rebind its own name to the loopback.
fn by_trust(headers: &HeaderMap, uri_host: Option<&str>) -> Result<String, Problem> {
    let hint = "only a deployer with tokens accepts this: start it with --token-file, and send a token";
    if headers.contains_key(header::ORIGIN) {
        return Err(Problem::forbidden("origin-refused", "the request comes from a web page", hint));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).or(uri_host).unwrap_or_default();
    if !is_own_machine(host) {
        return Err(Problem::forbidden(
            "host-refused",
            format!("the request is for {host:?}, which is neither an address nor localhost"),
            "use http://127.0.0.1:PORT or http://localhost:PORT, or start the deployer with --token-file",
        ));
    }
    let user = headers.get(USER_HEADER).and_then(|user| user.to_str().ok()).map(str::trim);
    let user = user.filter(|user| !user.is_empty()).unwrap_or("anonymous");
    Ok(user.chars().filter(|c| !c.is_control()).take(64).collect())
}

fn is_own_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_web_page_could_own_is_refused() {
        let check = |host: &str, expect: bool| assert_eq!(is_own_machine(host), expect, "{host}");
        check("127.0.0.1:8007", true);
        check("[::1]:8007", true);
        check("localhost:8007", true);
        check("LOCALHOST", true);
        check("deployer.localhost:8007", true);
        check("", true);
        check("evil.example:8007", false);
        check("localhost.evil.example", false);
        check("127.0.0.1.evil.example:8007", false);
    }
}
