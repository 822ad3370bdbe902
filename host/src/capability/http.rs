//! The contract's `http`: one request and its answer, through the network or through the SSH connection to
//! the target's own loopback. It knows no API.

mod exchange;

use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::json;

use self::exchange::{Answer, Trouble};
use super::call::{Host, Made, Step};
use super::grant::Call;
use super::record::Effect;
use crate::ssh::Ssh;
use crate::stage::bindings::deployer::pipeline::http::{self, Destination, Failure, Request, Response};
use crate::stage::{Error, Fault};

/// Whatever a request asks for, it ends with the step.
const LONGEST: Duration = Duration::from_secs(3600);

/// The clients that all requests share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpClient {
    /// To the target: nothing in between.
    direct: reqwest::Client,
    /// To anywhere else: through a proxy where the environment names one.
    outward: reqwest::Client,
}

#[derive(Debug, thiserror::Error)]
#[error("no HTTP client could be made: {source}; check this machine's certificates")]
pub struct HttpClientError {
    #[from]
    source: reqwest::Error,
}

impl HttpClient {
    pub fn new() -> Result<Self, HttpClientError> {
        // Another part of the program may have done this: the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("deployer/", env!("CARGO_PKG_VERSION")))
        };
        Ok(Self { direct: builder().no_proxy().build()?, outward: builder().build()? })
    }

    /// The status that a service answers to a GET, for a look of the host's own; none when no answer came.
    /// `ssh` is the way to a target's loopback.
    pub async fn status(&self, ssh: Option<&Ssh>, url: &str, limit: Duration) -> Option<u16> {
        let url = Url::parse(url).ok()?;
        let asked = exchange::Asked { method: Method::GET, headers: Default::default(), body: Vec::new() };
        let asking = async {
            match (ssh, url.port()) {
                (Some(ssh), Some(port)) => exchange::through_ssh(ssh, port, &url, asked).await,
                _ => exchange::through_network(&self.direct, url, asked).await,
            }
        };
        Some(tokio::time::timeout(limit, asking).await.ok()?.ok()?.status)
    }

    /// For requests of the host's own to the registry.
    pub fn outward(&self) -> &reqwest::Client {
        &self.outward
    }
}

impl http::Host for Host {
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
            "url": self.shown(&request),
            "body_bytes": request.body.len(),
        });
        let sent = self.make(call, effect, arguments, |step, _| Box::pin(send(step, request))).await?;
        // A failure of the exchange is an answer, as far as the record is concerned.
        Ok(sent.map_err(Failure::Unavailable).and_then(|answer| answer))
    }
}

impl Host {
    /// The URL for the record, as well as it is known before anything is checked.
    fn shown(&self, request: &Request) -> String {
        let origin = match (&request.destination, self) {
            (Destination::Loopback(port), _) => format!("http://127.0.0.1:{port}"),
            (Destination::Network(port), Self::Working(step)) => {
                format!("http://{}:{port}", bracketed(&step.context.target_host))
            }
            (Destination::Registry, Self::Working(step)) => match &step.context.registry {
                Some(registry) => registry.url.trim_end_matches('/').to_owned(),
                None => "registry:".into(),
            },
            (Destination::Url(origin), _) => origin.trim_end_matches('/').to_owned(),
            (Destination::Network(_) | Destination::Registry, Self::Describing { .. }) => String::new(),
        };
        format!("{}{}", without_user(&origin), request.path)
    }
}

/// A URL may hold a password.
fn without_user(origin: &str) -> String {
    match origin.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => origin.to_owned(),
    }
}

async fn send(step: &Step, request: Request) -> Result<Made<Result<Response, Failure>>, Error> {
    let context = &step.context;
    let url = url(step, &request)?;
    let mut asked = exchange::Asked {
        method: method(&request.method)?,
        headers: exchange::headers(&request.headers).map_err(|problem| unfit(&request, &problem))?,
        body: request.body,
    };
    let sending = async {
        match request.destination {
            Destination::Loopback(port) => exchange::through_ssh(&context.ssh, port, &url, asked).await,
            Destination::Network(_) => exchange::through_network(&context.http.direct, url, asked).await,
            Destination::Registry => {
                if let Some(token) = context.registry.as_ref().and_then(|registry| registry.token.as_ref()) {
                    exchange::authorize(&mut asked.headers, token);
                }
                exchange::through_network(&context.http.outward, url, asked).await
            }
            Destination::Url(_) => exchange::through_network(&context.http.outward, url, asked).await,
        }
    };
    let limit = Duration::from_millis(request.timeout_ms.max(1).into()).min(LONGEST);
    match tokio::time::timeout(limit, sending).await {
        Ok(Ok(answer)) => Ok(answered(answer)),
        Ok(Err(Trouble::Refused)) => Ok(failed(Failure::Refused, "connection refused")),
        Ok(Err(Trouble::TimedOut)) | Err(_) => Ok(failed(Failure::TimedOut, "timed out")),
        Ok(Err(Trouble::Broken(how))) => Ok(failed(Failure::Broken(how.clone()), &how)),
        Ok(Err(Trouble::Unavailable(error))) => {
            Err(super::target::ssh_error("reach the target's loopback", &error))
        }
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
fn url(step: &Step, request: &Request) -> Result<Url, Error> {
    let context = &step.context;
    let origin = match &request.destination {
        Destination::Loopback(0) | Destination::Network(0) => {
            return Err(unfit(request, "no service has the port 0"));
        }
        Destination::Loopback(port) => format!("http://127.0.0.1:{port}"),
        Destination::Network(port) => format!("http://{}:{port}", bracketed(&context.target_host)),
        Destination::Registry => match &context.registry {
            Some(registry) => registry.url.clone(),
            None => return Err(no_registry()),
        },
        Destination::Url(origin) => {
            let parsed = Url::parse(origin).map_err(|error| unfit(request, &error.to_string()))?;
            let bare = parsed.path() == "/" && parsed.query().is_none() && parsed.fragment().is_none();
            if !bare || !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(unfit(request, "a destination is a scheme, a host and a port, and no more"));
            }
            origin.clone()
        }
    };
    join(&origin, &request.path).map_err(|problem| unfit(request, &problem))
}

fn join(origin: &str, path: &str) -> Result<Url, String> {
    let base = Url::parse(origin).map_err(|error| format!("{origin}: {error}"))?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(format!("{origin} is neither http nor https"));
    }
    if !path.starts_with('/') {
        return Err(format!("the path {path:?} does not begin with `/`"));
    }
    let whole = Url::parse(&format!("{}{path}", origin.trim_end_matches('/')))
        .map_err(|error| format!("{origin}{path}: {error}"))?;
    if whole.origin() != base.origin() {
        return Err(format!("the path {path:?} leads to another host"));
    }
    Ok(whole)
}

fn method(given: &str) -> Result<Method, Error> {
    Method::from_bytes(given.as_bytes()).map_err(|_| Error {
        fault: Fault::Plugin,
        attempted: "send a request".into(),
        seen: format!("{given:?} is no HTTP method"),
        next: "the plugin should send `GET`, `POST`, …".into(),
    })
}

fn unfit(request: &Request, problem: &str) -> Error {
    Error {
        fault: Fault::Plugin,
        attempted: format!("send {} {}", request.method, request.path),
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
    fn a_path_stays_at_its_origin() {
        let check = |origin: &str, path: &str, expect: Result<&str, &str>| match (join(origin, path), expect)
        {
            (Ok(url), Ok(expect)) => assert_eq!(url.as_str(), expect),
            (Err(problem), Err(part)) => assert!(problem.contains(part), "{problem}"),
            (got, expect) => panic!("{origin} {path}: {got:?} where {expect:?} was expected"),
        };
        check("http://h:1", "/a?b=c", Ok("http://h:1/a?b=c"));
        check("http://h:1/api/", "/droplets", Ok("http://h:1/api/droplets"));
        check("https://h", "/", Ok("https://h/"));
        check("http://[::1]:8001", "/health", Ok("http://[::1]:8001/health"));
        check("http://h", "//other/x", Ok("http://h//other/x"));
        check("http://h", "/@other/", Ok("http://h/@other/"));
        check("http://h", "@other/", Err("begin"));
        check("http://h", ":99/", Err("begin"));
        check("http://h", "", Err("begin"));
        check("ftp://h", "/", Err("neither"));
        check("no url", "/", Err("no url"));
    }

    #[test]
    fn a_password_is_not_on_record() {
        let check = |origin: &str, expect: &str| assert_eq!(without_user(origin), expect);
        check("https://user:p@ss@h:1/api", "https://h:1/api");
        check("https://h/a@b", "https://h/a@b");
        check("http://[::1]:8001", "http://[::1]:8001");
        check("registry:", "registry:");
    }

    #[test]
    fn a_method_is_a_word() {
        assert_eq!(method("PATCH").unwrap(), Method::PATCH);
        assert!(method("GET /x").is_err());
        assert!(method("").is_err());
    }
}
