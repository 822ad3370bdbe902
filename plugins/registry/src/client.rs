//! Requests to the registry, and answers that can be used.

use deployer_plugin::http::{self, Destination, Failure, Request};
use deployer_plugin::types::Error;
use serde_json::Value;

const TIMEOUT_MS: u32 = 10_000;
/// How much of an answer that makes no sense is shown.
const SHOWN_BYTES: usize = 300;

/// The registry, as far as this plugin asks it. The tests put one of their own in its place.
pub trait Registry {
    /// # Errors
    /// When there is no answer. Any status is one.
    fn send(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, Error>;
}

/// The registry that the deployer was given, through the host.
pub struct Remote;

/// An answer: its status, and its body where that is JSON.
pub struct Answer {
    asked: String,
    pub status: u16,
    json: Option<Value>,
    text: String,
}

impl Registry for Remote {
    fn send(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        let asked = format!("{method} {path}");
        let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
        if body.is_some() {
            headers.push(("content-type".into(), "application/json".into()));
        }
        let request = Request {
            method: method.into(),
            destination: Destination::Registry,
            path: path.into(),
            headers,
            body: body.map(|body| body.to_string().into_bytes()).unwrap_or_default(),
            timeout_ms: TIMEOUT_MS,
        };
        let unreachable = |seen: &str| {
            Error::target(
                format!("send `{asked}` to the registry"),
                seen,
                "start the registry; the service runs, and registering is retried in the background",
            )
        };
        let response = http::send(&request).map_err(|failure| match failure {
            Failure::Refused => unreachable("connection refused"),
            Failure::TimedOut => unreachable("no answer within 10 s"),
            Failure::Broken(reason) => unreachable(&reason),
            Failure::Unavailable(error) => error,
        })?;
        Ok(Answer::new(asked, response.status, &response.body))
    }
}

impl Answer {
    pub fn new(asked: String, status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body).into_owned();
        Self { asked, status, json: serde_json::from_str(&text).ok(), text }
    }

    fn succeeded(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// There is nothing at this path: no such droplet, or no such call in this registry's dialect.
    pub fn is_nothing(&self) -> bool {
        matches!(self.status, 404 | 405)
    }

    /// The JSON of a successful answer; `wanted` is what it should have been.
    ///
    /// # Errors
    /// When it is another answer.
    pub fn confirmed(&self, wanted: &str) -> Result<&Value, Error> {
        self.json.as_ref().filter(|_| self.succeeded()).ok_or_else(|| self.nonsense(wanted))
    }

    /// What to say of an answer that makes no sense.
    pub fn nonsense(&self, wanted: &str) -> Error {
        let shown: String = self.text.chars().take(SHOWN_BYTES).collect();
        Error::target(
            format!("register with `{}`", self.asked),
            format!("the registry answered {} instead of {wanted}: {shown}", self.status),
            "check --registry and the registry's log; if it speaks another dialect, set `dialect` in [settings.registry]",
        )
    }
}

/// A name as a part of a path.
pub fn escape(name: &str) -> String {
    name.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_in_paths() {
        assert_eq!(super::escape("shop-1.a_b~"), "shop-1.a_b~");
        assert_eq!(super::escape("a/b c?ü"), "a%2Fb%20c%3F%C3%BC");
    }
}
