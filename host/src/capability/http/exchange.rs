//! Sends a request that was checked, and reads the answer up to a limit.

use std::error::Error as _;
use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::uri::Authority;
use hyper_util::rt::TokioIo;
use reqwest::{Method, Url};
use tokio::task::JoinSet;

use super::own::PLUGIN_HEADER;
use crate::secret::Secret;
use crate::ssh::{Ssh, SshError};

/// The most of a body that a plugin gets.
const MOST: usize = 1 << 20;

pub(super) struct Asked {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Trouble {
    Refused,
    TimedOut,
    Broken(String),
    /// The way to the target's loopback is not there.
    Unavailable(SshError),
}

/// Headers about the connection and the body's length: the host's own affair. One of them can make a proxy drop
/// another header, or take a body for the next request.
const OF_THE_CONNECTION: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Headers by which a server may take a request for another path or another site than its line says: the
/// registry's credentials are for the registry only.
const OF_THE_WAY: [&str; 7] = [
    "forwarded",
    "host",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-http-method-override",
    "x-original-url",
    "x-rewrite-url",
];
/// Headers of the deployer's own, such as the one that its API refuses.
const OF_THE_DEPLOYER: &str = "x-deployer-";
/// As most servers allow.
const MOST_HEADERS: usize = 64;
const MOST_HEADER_BYTES: usize = 32 << 10;

/// What a plugin gave, if it may be sent.
pub(super) fn headers(given: &[(String, String)], to_registry: bool) -> Result<HeaderMap, String> {
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if given.len() > MOST_HEADERS || bytes > MOST_HEADER_BYTES {
        return Err(format!(
            "{} headers of {bytes} bytes; the limit is {MOST_HEADERS} headers of {MOST_HEADER_BYTES} bytes",
            given.len()
        ));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let known = HeaderName::from_bytes(name.as_bytes());
        let known = known.map_err(|_| format!("{name:?} is not a header's name"))?;
        if OF_THE_CONNECTION.contains(&known.as_str()) || known.as_str().starts_with(OF_THE_DEPLOYER) {
            return Err(format!("the header {known} is the host's to set; leave it out"));
        }
        if to_registry && OF_THE_WAY.contains(&known.as_str()) {
            return Err(format!("the header {known} cannot be sent to the registry; leave it out"));
        }
        if known == HOST && (headers.contains_key(HOST) || value.parse::<Authority>().is_err()) {
            return Err(format!(
                "the header `host` must be a name, with or without a port, and is {value:?}"
            ));
        }
        let value = HeaderValue::from_str(value);
        let value = value.map_err(|_| format!("the header {name} has a value that cannot be sent"))?;
        headers.append(known, value);
    }
    Ok(headers)
}

/// Says in a request which plugin it is from.
pub(super) fn mark(headers: &mut HeaderMap, plugin: &str) {
    let name = HeaderValue::from_str(plugin).unwrap_or(HeaderValue::from_static("unnamed"));
    headers.insert(HeaderName::from_static(PLUGIN_HEADER), name);
}

/// In place of what the plugin may have put there.
pub(super) fn authorize(headers: &mut HeaderMap, authorization: &Secret) {
    match HeaderValue::from_str(authorization.expose()) {
        Ok(mut value) => {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // A token with a line break in it: the registry will say that none came.
        Err(_) => tracing::warn!("the registry's token cannot be sent in a header; check its file"),
    }
}

pub(super) async fn through_network(
    client: &reqwest::Client,
    url: Url,
    asked: Asked,
) -> Result<Answer, Trouble> {
    let request = client.request(asked.method, url).headers(asked.headers).body(asked.body);
    let mut response = request.send().await.map_err(|error| trouble(&error))?;
    let status = response.status().as_u16();
    let headers = shown(response.headers());
    let mut body = Vec::new();
    while body.len() < MOST {
        match response.chunk().await.map_err(|error| trouble(&error))? {
            Some(part) => body.extend_from_slice(&part),
            None => break,
        }
    }
    body.truncate(MOST);
    Ok(Answer { status, headers, body })
}

pub(super) async fn through_ssh(ssh: &Ssh, port: u16, url: &Url, asked: Asked) -> Result<Answer, Trouble> {
    let stream = ssh.open_loopback(port).await.map_err(|error| match error {
        // A server that forbids forwarding says nothing about the service.
        SshError::PortClosed { cause, .. } if cause.starts_with("nothing accepts") => Trouble::Refused,
        other => Trouble::Unavailable(other),
    })?;
    over_stream(TokioIo::new(stream), url, asked).await
}

async fn over_stream<I>(io: I, url: &Url, asked: Asked) -> Result<Answer, Trouble>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| Trouble::Broken(chain(&error));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(broken)?;
    // Dropped with this exchange, and the connection with it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);

    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = hyper::Request::new(Full::new(Bytes::from(asked.body)));
    *request.method_mut() = asked.method;
    *request.uri_mut() = path.parse().map_err(|error| Trouble::Broken(format!("{path}: {error}")))?;
    *request.headers_mut() = asked.headers;
    if !request.headers().contains_key(HOST) {
        let host = format!("127.0.0.1:{}", url.port().unwrap_or(80));
        let host = HeaderValue::from_str(&host).map_err(|error| Trouble::Broken(error.to_string()))?;
        request.headers_mut().insert(HOST, host);
    }
    let agent = HeaderValue::from_static(concat!("deployer/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().entry(USER_AGENT).or_insert(agent);

    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status().as_u16();
    let headers = shown(response.headers());
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while body.len() < MOST {
        match incoming.frame().await {
            Some(frame) => {
                if let Ok(part) = frame.map_err(broken)?.into_data() {
                    body.extend_from_slice(&part);
                }
            }
            None => break,
        }
    }
    body.truncate(MOST);
    Ok(Answer { status, headers, body })
}

fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn trouble(error: &reqwest::Error) -> Trouble {
    if error.is_timeout() {
        return Trouble::TimedOut;
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        match inner.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return Trouble::Refused,
            Some(io::ErrorKind::TimedOut) => return Trouble::TimedOut,
            _ => cause = inner.source(),
        }
    }
    Trouble::Broken(chain(error))
}

/// An error with all its causes: the first alone says only that something was being done.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::capability::HttpClient;

    fn asked() -> Asked {
        let headers = headers(&[("x-probe".into(), "1".into())], false).unwrap();
        Asked { method: Method::POST, headers, body: b"hello".to_vec() }
    }

    /// Answers one request with `answer`, and returns what was asked.
    async fn server(answer: Vec<u8>) -> (Url, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/path?q=1", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            let mut part = [0; 4096];
            while !seen.ends_with(b"hello") {
                let count = stream.read(&mut part).await.unwrap();
                assert_ne!(count, 0, "the request is cut off: {}", String::from_utf8_lossy(&seen));
                seen.extend_from_slice(part.get(..count).unwrap());
            }
            // The client may hang up before a long answer is written.
            let _ = stream.write_all(&answer).await;
            String::from_utf8(seen).unwrap()
        });
        (url.parse().unwrap(), task)
    }

    async fn over(url: &Url, asked: Asked) -> Result<Answer, Trouble> {
        let address = format!("127.0.0.1:{}", url.port().unwrap());
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        over_stream(TokioIo::new(stream), url, asked).await
    }

    const ANSWER: &[u8] = b"HTTP/1.1 503 Busy\r\nContent-Length: 3\r\nX-Why: load\r\n\r\nbad";

    #[tokio::test]
    async fn both_ways_ask_and_answer_alike() {
        let client = HttpClient::new().unwrap();
        for through_stream in [false, true] {
            let (url, task) = server(ANSWER.to_vec()).await;
            let answer = if through_stream {
                over(&url, asked()).await.unwrap()
            } else {
                through_network(&client.direct, url.clone(), asked()).await.unwrap()
            };
            assert_eq!((answer.status, answer.body.as_slice()), (503, b"bad".as_slice()));
            assert!(answer.headers.contains(&("x-why".into(), "load".into())), "{:?}", answer.headers);
            let seen = task.await.unwrap().to_ascii_lowercase();
            assert!(seen.starts_with("post /path?q=1 http/1.1\r\n"), "{seen}");
            let host = format!("\r\nhost: 127.0.0.1:{}\r\n", url.port().unwrap());
            for part in ["\r\nx-probe: 1\r\n", host.as_str(), "\r\nuser-agent: deployer/"] {
                assert!(seen.contains(part), "{part} is missing in {seen}");
            }
        }
    }

    #[tokio::test]
    async fn redirects_are_answers() {
        let answer = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
        let (url, task) = server(answer.to_vec()).await;
        let client = HttpClient::new().unwrap();
        assert_eq!(through_network(&client.direct, url, asked()).await.unwrap().status, 302);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_long_body_is_cut() {
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n".to_vec();
        answer.resize(answer.len() + 3_000_000, b'x');
        let client = HttpClient::new().unwrap();
        let (url, _) = server(answer.clone()).await;
        assert_eq!(through_network(&client.direct, url, asked()).await.unwrap().body.len(), MOST);
        let (url, _) = server(answer).await;
        assert_eq!(over(&url, asked()).await.unwrap().body.len(), MOST);
    }

    #[tokio::test]
    async fn nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let client = HttpClient::new().unwrap();
        let trouble = through_network(&client.direct, url.parse().unwrap(), asked()).await.unwrap_err();
        assert!(matches!(trouble, Trouble::Refused), "{trouble:?}");
    }

    #[tokio::test]
    async fn somebody_hangs_up() {
        let (url, _) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()).await;
        let client = HttpClient::new().unwrap();
        let trouble = through_network(&client.direct, url, asked()).await.unwrap_err();
        assert!(matches!(trouble, Trouble::Broken(_)), "{trouble:?}");
    }

    #[test]
    fn headers_cannot_carry_line_breaks() {
        for (name, value) in [
            ("x", "a\r\nb: c"),
            ("x", "a\nb: c"),
            ("x", "a\0"),
            ("x y", "a"),
            ("x:", "a"),
            ("x\r\nhost", "a"),
            ("", "a"),
        ] {
            assert!(headers(&[(name.into(), value.into())], false).is_err(), "{name:?}: {value:?}");
        }
    }

    #[test]
    fn a_plugin_sets_no_header_of_the_connection_nor_of_the_deployer() {
        let check = |name: &str, value: &str, to_registry: bool, expect: bool| {
            let given = headers(&[(name.into(), value.into())], to_registry);
            assert_eq!(given.is_ok(), expect, "{name}: {value}");
        };
        for name in
            ["Connection", "Content-Length", "TRANSFER-ENCODING", "Upgrade", "Te", "Proxy-Authorization"]
        {
            check(name, "x-deployer-plugin", false, false);
        }
        check("X-Deployer-Plugin", "health", false, false);
        check("x-deployer-user", "ann", false, false);
        check("Host", "shop.example.com:8001", false, true);
        check("Host", "a b", false, false);
        check("Host", "", false, false);
        check("Host", "shop.example.com", true, false);
        check("X-Original-URL", "/admin", false, true);
        check("X-Original-URL", "/admin", true, false);
        check("Authorization", "Bearer own", true, true);
        let two = [("host".into(), "a".into()), ("Host".into(), "b".into())];
        assert!(headers(&two, false).is_err());
        assert!(headers(&vec![("x".into(), "y".into()); 65], false).is_err());
        assert!(headers(&[("x".into(), "y".repeat(40_000))], false).is_err());
    }

    #[test]
    fn a_request_says_which_plugin_it_is_from() {
        let mut headers = HeaderMap::new();
        mark(&mut headers, "health");
        mark(&mut headers, "smoke\n");
        let values: Vec<_> = headers.get_all(PLUGIN_HEADER).iter().collect();
        assert_eq!(values, ["unnamed"]);
    }

    #[test]
    fn a_token_takes_the_place_of_a_plugins_own() {
        let mut headers = headers(&[("authorization".into(), "Bearer forged".into())], true).unwrap();
        authorize(&mut headers, &Secret::new("Bearer real"));
        let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
        assert_eq!(values, ["Bearer real"]);
    }
}
