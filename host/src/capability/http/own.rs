//! Whether a request would go to the deployer's own API, which no plugin may use: deploying is for callers with
//! a token, not for what runs inside a deployment.
//!
//! Two walls. Here, by the address that a name leads to, with a message that says so. And in the API itself,
//! which answers no request with the header that the host adds to each request of a plugin: no proxy, no name
//! that leads elsewhere a moment later, and no port that is forwarded gets around that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use reqwest::Url;

/// Names the plugin that a request is from. The API refuses whatever carries it.
pub const PLUGIN_HEADER: &str = "x-deployer-plugin";

/// A name that takes longer is looked up once more by the request itself, and fails there.
const LOOK_UP: Duration = Duration::from_secs(5);

/// The address of this deployer's own API, if a URL leads to it.
pub(super) async fn leads_to(own: Option<SocketAddr>, url: &Url) -> Option<SocketAddr> {
    let own = own?;
    let port = url.port_or_known_default().filter(|port| *port == own.port())?;
    let host = url.host_str()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((host, port))).await.ok()?.ok()?;
    let mut found = found.into_iter();
    found.any(|address| answers_at(own.ip(), address.ip(), &is_this_machine)).then_some(own)
}

/// Whether a server that listens at one address answers at another.
fn answers_at(listens: IpAddr, asked: IpAddr, is_this_machine: &dyn Fn(IpAddr) -> bool) -> bool {
    let (listens, asked) = (listens.to_canonical(), asked.to_canonical());
    if listens.is_unspecified() {
        return asked.is_unspecified() || asked.is_loopback() || is_this_machine(asked);
    }
    // Connecting to "no address" is connecting to this machine's loopback.
    let reached = match asked {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    listens == reached
}

/// Only an address of this machine can be bound to.
fn is_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_at_its_own_addresses() {
        let check = |listens: &str, asked: &str, expect: bool| {
            let mine = |address: IpAddr| address == "192.0.2.7".parse::<IpAddr>().unwrap();
            let answers = answers_at(listens.parse().unwrap(), asked.parse().unwrap(), &mine);
            assert_eq!(answers, expect, "{listens} at {asked}");
        };
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "::ffff:127.0.0.1", true);
        check("127.0.0.1", "0.0.0.0", true);
        check("::1", "::", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("127.0.0.1", "192.0.2.7", false);
        check("0.0.0.0", "127.0.0.1", true);
        check("0.0.0.0", "127.9.9.9", true);
        check("0.0.0.0", "192.0.2.7", true);
        check("::", "::ffff:192.0.2.7", true);
        check("::", "::1", true);
        check("0.0.0.0", "192.0.2.8", false);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "127.0.0.1", false);
    }

    #[tokio::test]
    async fn a_name_counts_by_the_address_that_it_leads_to() {
        let own: SocketAddr = "127.0.0.1:8007".parse().unwrap();
        let check = async |url: &str, expect: bool| {
            let found = leads_to(Some(own), &url.parse().unwrap()).await;
            assert_eq!(found.is_some(), expect, "{url}");
        };
        check("http://127.0.0.1:8007/deploy", true).await;
        check("https://127.0.0.1:8007", true).await;
        check("http://localhost:8007", true).await;
        check("http://0.0.0.0:8007", true).await;
        check("http://[::ffff:127.0.0.1]:8007", true).await;
        check("http://2130706433:8007", true).await;
        check("http://0x7f.1:8007", true).await;
        check("http://127.0.0.1:8008", false).await;
        check("http://127.0.0.1", false).await;
        assert!(leads_to(None, &"http://127.0.0.1:8007".parse().unwrap()).await.is_none());
        let port_80: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert!(leads_to(Some(port_80), &"http://localhost".parse().unwrap()).await.is_some());
    }

    #[test]
    fn only_this_machines_addresses_can_be_bound_to() {
        assert!(is_this_machine("127.0.0.1".parse().unwrap()));
        assert!(!is_this_machine("203.0.113.7".parse().unwrap()));
    }
}
