//! Requests that a plugin should not send.

use deployer_plugin::http::{self, Destination, Failure, Request};
use deployer_plugin::types::Error;

/// What asks the deployer for a deployment.
const DEPLOYMENT: &[u8] = br#"{"service_path": "hello", "service_name": "hello", "service_port": 8001}"#;

/// Sends what the text says, and tells the answer: `POST loopback 8001 /deploy`, and then a header a line. In
/// place of the destination and its port may stand `registry` or `http://host:1`.
pub fn ask(text: &str) -> Result<String, Error> {
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut word = || words.next().unwrap_or_default();
    let method = word();
    let destination = match word() {
        "loopback" => Destination::Loopback(word().parse().unwrap_or(0)),
        "network" => Destination::Network(word().parse().unwrap_or(0)),
        "registry" => Destination::Registry,
        url => Destination::Url(url.into()),
    };
    let path = word();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let answer = http::send(&Request {
        method: method.into(),
        destination,
        path: path.into(),
        headers: headers.map(|(name, value)| (name.into(), value.into())).collect(),
        body: if method == "POST" { DEPLOYMENT.into() } else { vec![] },
        timeout_ms: 5000,
    });
    match answer {
        Ok(response) => Ok(format!("{} {}", response.status, String::from_utf8_lossy(&response.body))),
        Err(Failure::Unavailable(error)) => Err(error),
        Err(failure) => Ok(format!("{failure:?}")),
    }
}
