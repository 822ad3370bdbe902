//! The contract's `http`: one request and its answer, through the network or through the SSH connection to
//! the target's own loopback. It knows no API.

pub(super) mod client;
mod exchange;
mod own;
pub(super) mod registry;
mod url;

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::json;

use self::client::HttpClient;
use self::exchange::{Answer, Trouble};
use self::registry::Registry;
use super::call::{Made, View};
use super::grant::Call;
use super::record::Effect;
use super::ssh_error::ssh_error;
use crate::contract::bindings::deployer::pipeline::http::{self, Destination, Failure, Request, Response};
use crate::contract::{Error, Fault};
use crate::ssh::Ssh;

pub use self::own::PLUGIN_HEADER;
pub use self::url::{split_login, without_user};

/// Whatever a request asks for, it ends with the step.
const LONGEST: Duration = Duration::from_secs(3600);
/// How much of a path is on record, in characters.
const LONGEST_SHOWN: usize = 2048;

/// What a request takes.
pub struct Network {
    pub(super) plugin: String,
    pub(super) client: HttpClient,
    /// The way to the target's loopback.
    pub(super) ssh: Ssh,
    pub(super) registry: Option<Registry>,
    /// The target's name or address in the network, without brackets.
    pub(super) target_host: String,
}

impl http::Host for View<'_, Network> {
    async fn send(&mut self, request: Request) -> wasmtime::Result<Result<Response, Failure>> {
        let call = match &request.destination {
            Destination::Loopback(_) => Call::HttpLoopback,
            Destination::Network(_) => Call::HttpNetwork,
            Destination::Registry => Call::HttpRegistry,
            Destination::Url(_) => Call::HttpUrl,
        };
        let effect = match request.method.to_ascii_uppercase().as_str() {
            "GET" | "HEAD" | "OPTIONS" => Effect::Reads,
            _ => Effect::Changes,
        };
        let arguments = json!({
            "method": request.method,
            "url": shown(self.part(), &request),
            "body_bytes": request.body.len(),
        });
        let sent = self.make(call, effect, arguments, |network, _| Box::pin(send(network, request))).await?;
        // A failure of the exchange is an answer, as far as the record is concerned.
        Ok(sent.map_err(Failure::Unavailable).and_then(|answer| answer))
    }
}

/// The URL for the record, as well as it is known before anything is checked.
fn shown(network: Option<&Network>, request: &Request) -> String {
    let origin = match (&request.destination, network) {
        (Destination::Loopback(port), _) => format!("http://127.0.0.1:{port}"),
        (Destination::Network(port), Some(network)) => {
            format!("http://{}:{port}", bracketed(&network.target_host))
        }
        (Destination::Registry, Some(network)) => match &network.registry {
            Some(registry) => registry.url.trim_end_matches('/').to_owned(),
            None => "registry:".into(),
        },
        (Destination::Url(origin), _) => origin.trim_end_matches('/').to_owned(),
        (Destination::Network(_) | Destination::Registry, None) => String::new(),
    };
    // Whatever is refused is on record, too.
    let path: String = request.path.chars().take(LONGEST_SHOWN).collect();
    format!("{}{path}", without_user(&origin))
}

async fn send(network: &Network, request: Request) -> Result<Made<Result<Response, Failure>>, Error> {
    let url = url(network, &request)?;
    if let Some(own) = own::leads_to(network.client.own.filter(|_| by_address(&request)), &url).await {
        return Err(own_api(&network.plugin, &request, own));
    }
    let to_registry = matches!(request.destination, Destination::Registry);
    let mut headers =
        exchange::headers(&request.headers, to_registry).map_err(|problem| unfit(&request, &problem))?;
    exchange::mark(&mut headers, &network.plugin);
    let mut asked = exchange::Asked { method: method(&request.method)?, headers, body: request.body };
    let sending = async {
        match request.destination {
            Destination::Loopback(port) => exchange::through_ssh(&network.ssh, port, &url, asked).await,
            Destination::Network(_) => exchange::through_network(&network.client.direct, url, asked).await,
            Destination::Registry => {
                let registry = network.registry.as_ref();
                if let Some(authorization) = registry.and_then(|registry| registry.authorization()) {
                    exchange::authorize(&mut asked.headers, &authorization);
                }
                exchange::through_network(&network.client.outward, url, asked).await
            }
            Destination::Url(_) => exchange::through_network(&network.client.outward, url, asked).await,
        }
    };
    let limit = Duration::from_millis(request.timeout_ms.max(1).into()).min(LONGEST);
    match tokio::time::timeout(limit, sending).await {
        Ok(Ok(answer)) => Ok(answered(answer)),
        Ok(Err(Trouble::Refused)) => Ok(failed(Failure::Refused, "connection refused")),
        Ok(Err(Trouble::TimedOut)) | Err(_) => Ok(failed(Failure::TimedOut, "timed out")),
        Ok(Err(Trouble::Broken(how))) => Ok(failed(Failure::Broken(how.clone()), &how)),
        Ok(Err(Trouble::Unavailable(error))) => Err(ssh_error("reach the target's loopback", &error)),
    }
}

fn answered(answer: Answer) -> Made<Result<Response, Failure>> {
    let Answer { status, headers, body } = answer;
    let output = String::from_utf8_lossy(&body).into_owned();
    Made { answer: Ok(Response { status, headers, body }), exit: Some(status.to_string()), output }
}

fn failed(failure: Failure, shown: &str) -> Made<Result<Response, Failure>> {
    Made { answer: Err(failure), exit: Some(shown.to_owned()), output: String::new() }
}

/// Where a request goes, checked: a path cannot lead to another host.
fn url(network: &Network, request: &Request) -> Result<Url, Error> {
    let origin = match &request.destination {
        Destination::Loopback(0) | Destination::Network(0) => {
            return Err(unfit(request, "no service has the port 0"));
        }
        Destination::Loopback(port) => format!("http://127.0.0.1:{port}"),
        Destination::Network(port) => format!("http://{}:{port}", bracketed(&network.target_host)),
        Destination::Registry => match &network.registry {
            Some(registry) => registry.url.clone(),
            None => return Err(no_registry()),
        },
        Destination::Url(origin) => {
            let parsed = Url::parse(origin).map_err(|error| unfit(request, &error.to_string()))?;
            let bare = parsed.path() == "/" && parsed.query().is_none() && parsed.fragment().is_none();
            if !bare || !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(unfit(
                    request,
                    "a destination has a scheme, a host and a port, and nothing else",
                ));
            }
            origin.clone()
        }
    };
    url::join(&origin, &request.path).map_err(|problem| unfit(request, &problem))
}

/// Whether it connects to the address itself. Through SSH, an address is another machine's.
fn by_address(request: &Request) -> bool {
    match request.destination {
        Destination::Loopback(_) => false,
        Destination::Network(_) | Destination::Registry | Destination::Url(_) => true,
    }
}

fn own_api(plugin: &str, request: &Request, own: SocketAddr) -> Error {
    let (fault, next) = match request.destination {
        Destination::Registry => {
            (Fault::Host, "start the deployer with the registry's own address: --registry URL")
        }
        Destination::Loopback(_) | Destination::Network(_) | Destination::Url(_) => {
            (Fault::Plugin, "no plugin may use the deployer's API; send the request to another service")
        }
    };
    Error {
        fault,
        attempted: "call http.send".into(),
        seen: format!("plugin `{plugin}` asked {own}, which is the deployer's own API"),
        next: next.into(),
    }
}

fn method(given: &str) -> Result<Method, Error> {
    // CONNECT would make a tunnel of a proxy, and TRACE show what the host added.
    let known = Method::from_bytes(given.as_bytes()).ok();
    known.filter(|method| *method != Method::CONNECT && *method != Method::TRACE).ok_or_else(|| Error {
        fault: Fault::Plugin,
        attempted: "send a request".into(),
        seen: format!(
            "{:?} is not an HTTP method that can be sent",
            given.chars().take(32).collect::<String>()
        ),
        next: "the plugin should send `GET`, `POST`, …".into(),
    })
}

fn unfit(request: &Request, problem: &str) -> Error {
    Error {
        fault: Fault::Plugin,
        attempted: format!("send {:.32} {:.200}", request.method, request.path),
        seen: problem.into(),
        next: "check the plugin's settings in the pipeline, and the plugin".into(),
    }
}

fn no_registry() -> Error {
    Error {
        fault: Fault::Request,
        attempted: "reach the registry".into(),
        seen: "the deployer was given no registry".into(),
        next: "start it with --registry URL (or DEPLOYER_REGISTRY), or deploy with auto_register false"
            .into(),
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_a_word() {
        assert_eq!(method("PATCH").unwrap(), Method::PATCH);
        for wrong in ["GET /x", "", "CONNECT", "TRACE", "GET\r\nX: y"] {
            assert!(method(wrong).is_err(), "{wrong:?}");
        }
    }
}
