//! The clients that all requests share, and what the deployer itself asks with them.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Method, Url};

use super::registry::Registry;
use super::url::without_user;
use super::{exchange, own};
use crate::ssh::Ssh;

/// The clients that all requests share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpClient {
    /// To the target: nothing in between.
    pub(super) direct: reqwest::Client,
    /// To anywhere else: through a proxy where the environment names one.
    pub(super) outward: reqwest::Client,
    /// Where this deployer's own API listens, if it does.
    pub(super) own: Option<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
#[error("no HTTP client could be made: {source}; check this machine's certificates")]
pub struct HttpClientError {
    #[from]
    source: reqwest::Error,
}

impl HttpClient {
    /// For a deployer whose own API listens at an address, which no request goes to.
    pub fn beside(own: SocketAddr) -> Result<Self, HttpClientError> {
        Ok(Self { own: Some(own), ..Self::new()? })
    }

    pub fn new() -> Result<Self, HttpClientError> {
        // Another part of the program may have done this: the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("deployer/", env!("CARGO_PKG_VERSION")))
        };
        Ok(Self { direct: builder().no_proxy().build()?, outward: builder().build()?, own: None })
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

    /// Whether a registry is there: any answer will do.
    pub async fn reaches(&self, registry: &Registry, limit: Duration) -> Result<(), String> {
        let url = format!("{}/health", registry.url.trim_end_matches('/'));
        let parsed = Url::parse(&url).map_err(|error| format!("{}: {error}", without_user(&url)))?;
        if own::leads_to(self.own, &parsed).await.is_some() {
            return Err(format!(
                "{} is this deployer's own API, and not a registry; check --registry",
                registry.url
            ));
        }
        let sent = self.outward.get(parsed).timeout(limit).send().await;
        sent.map(|_| ()).map_err(|error| {
            let error = error.without_url();
            format!("the registry {} does not answer: {}", registry.url, exchange::chain(&error))
        })
    }
}
