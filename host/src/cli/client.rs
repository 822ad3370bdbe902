//! The API's client: requests to a server, and what comes back. It prints nothing.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::http::USER_HEADER;
use crate::http::auth::{TokenFileError, first_token};

/// For an answer that needs no waiting.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Client {
    base: Url,
    http: reqwest::Client,
    token: Option<String>,
}

#[derive(Debug, Error)]
pub enum ClientError {
    #[error("no deployer answers at {url}: start one with `deployer serve`, or give --server")]
    Unreachable { url: Url, source: reqwest::Error },
    #[error("the deployer at {url} stopped answering; the job continues: ask again")]
    Broken { url: Url, source: reqwest::Error },
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    #[error("{url} answered {status}, and not as a deployer does; check --server")]
    NotADeployer { url: Url, status: StatusCode },
    #[error("--server {value:?} is not a URL; write for example http://127.0.0.1:8007")]
    Address { value: String },
    #[error("the token cannot be sent in a header; use one of letters and digits")]
    Token,
    #[error(transparent)]
    TokenFile(#[from] TokenFileError),
    #[error("cannot set up an HTTP client: {0}; check the proxy settings of the environment")]
    Setup(reqwest::Error),
}

/// A server's problem document.
#[derive(Debug)]
pub struct Problem {
    pub status: u16,
    pub code: String,
    pub detail: String,
    pub hint: String,
    /// Each wrong field, and what is wrong with it.
    pub errors: Vec<(String, String)>,
    pub document: Value,
}

impl Client {
    /// # Errors
    /// When the address is not a URL, or the token file is not right.
    pub fn new(server: &str, token_file: Option<&Path>) -> Result<Client, ClientError> {
        let address = || ClientError::Address { value: server.to_owned() };
        let base = Url::parse(server.trim_end_matches('/')).map_err(|_| address())?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(address());
        }
        // Another part of the program may have chosen already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(ClientError::Setup)?;
        let token = token_file.map(first_token).transpose()?;
        Ok(Client { base, http, token })
    }

    pub fn address(&self) -> &Url {
        &self.base
    }

    /// Whether the server is on this machine, so that its paths are this machine's.
    pub fn is_local(&self) -> bool {
        is_loopback(&self.base)
    }

    /// Asks for a JSON answer.
    ///
    /// # Errors
    /// When there is none, or it is a problem.
    pub async fn get(&self, segments: &[&str]) -> Result<Value, ClientError> {
        self.list(segments, &[]).await
    }

    /// As `get`, with a query.
    pub async fn list(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Value, ClientError> {
        let request = self.request(Method::GET, segments, query)?.timeout(PATIENCE);
        json(self.send(request).await?).await
    }

    /// Sends a body.
    ///
    /// # Errors
    /// As `get`.
    pub async fn post(
        &self,
        segments: &[&str],
        body: &Value,
        idempotency_key: Option<&str>,
        patience: Option<Duration>,
    ) -> Result<Value, ClientError> {
        let mut request = self.request(Method::POST, segments, &[])?.json(body);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some(patience) = patience {
            request = request.timeout(patience);
        }
        json(self.send(request).await?).await
    }

    pub async fn delete(&self, segments: &[&str]) -> Result<Value, ClientError> {
        let request = self.request(Method::DELETE, segments, &[])?.timeout(PATIENCE);
        json(self.send(request).await?).await
    }

    /// A job's events after one of them, as they come, or only those that are there. None when there are no
    /// more, and will be none.
    pub async fn events(&self, job: &str, after: u64, follow: bool) -> Result<Option<Response>, ClientError> {
        let query: &[_] = if follow { &[] } else { &[("follow", "false")] };
        let request = self
            .request(Method::GET, &["deploy", job, "events"], query)?
            .header(ACCEPT, "text/event-stream")
            .header("last-event-id", after.to_string());
        let response = self.send(request).await?;
        Ok((response.status() != StatusCode::NO_CONTENT).then_some(response))
    }

    fn request(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<RequestBuilder, ClientError> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut headers = HeaderMap::new();
        match &self.token {
            Some(token) => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
                value.set_sensitive(true);
                headers.insert(reqwest::header::AUTHORIZATION, value);
            }
            None => {
                // A service manager may set neither.
                let user = ["USER", "LOGNAME"]
                    .into_iter()
                    .find_map(|name| std::env::var(name).ok())
                    .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
                if let Ok(user) = HeaderValue::from_str(&user) {
                    headers.insert(USER_HEADER, user);
                }
            }
        }
        Ok(self.http.request(method, url).headers(headers))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|source| self.failure(source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let redirected = response.headers().contains_key(LOCATION);
        let document = response.json::<Value>().await.unwrap_or(Value::Null);
        match Problem::of(document) {
            Some(problem) if !redirected => Err(ClientError::Problem(Box::new(problem))),
            _ => Err(ClientError::NotADeployer { url: self.base.clone(), status }),
        }
    }

    fn failure(&self, source: reqwest::Error) -> ClientError {
        let url = self.base.clone();
        if source.is_connect() {
            ClientError::Unreachable { url, source }
        } else {
            ClientError::Broken { url, source }
        }
    }
}

impl ClientError {
    /// Whether the same request may work in a moment: the server is away or stopping.
    pub fn may_pass(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::Broken { .. } => true,
            ClientError::Problem(problem) => problem.status == 503,
            // A proxy in front of a server that restarts.
            ClientError::NotADeployer { status, .. } => matches!(status.as_u16(), 502..=504),
            ClientError::Address { .. }
            | ClientError::Token
            | ClientError::TokenFile(_)
            | ClientError::Setup(_) => false,
        }
    }
}

impl Problem {
    fn of(document: Value) -> Option<Problem> {
        let text = |value: &Value, name: &str| value.get(name)?.as_str().map(str::to_owned);
        let errors = document.get("errors").and_then(Value::as_array);
        let errors = errors.map(|errors| {
            errors.iter().filter_map(|error| Some((text(error, "field")?, text(error, "message")?))).collect()
        });
        Some(Problem {
            status: document.get("status")?.as_u64().and_then(|status| u16::try_from(status).ok())?,
            code: text(&document, "code")?,
            detail: text(&document, "detail")?,
            hint: text(&document, "hint").unwrap_or_default(),
            errors: errors.unwrap_or_default(),
            document,
        })
    }
}

/// Reads an answer as the type that the API gives there.
///
/// # Errors
/// When it is something else: the server is of another version, or no deployer.
pub fn typed<T: DeserializeOwned>(client: &Client, value: &Value) -> Result<T, ClientError> {
    T::deserialize(value)
        .map_err(|_| ClientError::NotADeployer { url: client.base.clone(), status: StatusCode::OK })
}

async fn json(response: Response) -> Result<Value, ClientError> {
    let (url, status) = (response.url().clone(), response.status());
    response.json().await.map_err(|source| {
        if source.is_decode() {
            ClientError::NotADeployer { url, status }
        } else {
            ClientError::Broken { url, source }
        }
    })
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_is_a_url() {
        let check = |server: &str, local: Option<bool>| {
            let client = Client::new(server, None).ok();
            assert_eq!(client.map(|client| client.is_local()), local, "{server}");
        };
        check("http://127.0.0.1:8007", Some(true));
        check("http://[::1]:8007/", Some(true));
        check("http://localhost:8007", Some(true));
        check("https://deployer.example/api", Some(false));
        check("127.0.0.1:8007", None);
        check("ftp://x", None);
        check("", None);
    }

    #[test]
    fn ids_are_segments_of_the_path_and_nothing_else() {
        let client = Client::new("https://deployer.example/api/", None).unwrap();
        let request =
            client.request(Method::GET, &["deploy", "../x?y"], &[("a", "b c")]).unwrap().build().unwrap();
        assert_eq!(request.url().as_str(), "https://deployer.example/api/deploy/..%2Fx%3Fy?a=b+c");
    }

    #[test]
    fn a_problem_document_is_read() {
        let problem = Problem::of(json!({
            "status": 400, "code": "invalid-request", "detail": "d", "hint": "h",
            "errors": [{ "field": "service_port", "message": "is missing" }],
        }));
        let problem = problem.unwrap();
        assert_eq!(problem.errors, [("service_port".to_owned(), "is missing".to_owned())]);
        assert!(Problem::of(json!({ "detail": "Not Found" })).is_none());
        assert!(Problem::of(Value::Null).is_none());
    }
}
