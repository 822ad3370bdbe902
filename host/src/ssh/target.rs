//! Which server: `user@host:port`, and the two files that prove who we are and who it is.
//! Whether the server answers is not known here.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use super::SshError;

/// A server to deploy to, as `user@host:port`. The user defaults to `root`, the port to 22; an IPv6
/// address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    user: String,
    host: String,
    port: u16,
}

/// The files that a connection is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// An unencrypted private key that only its owner may read.
    pub key: PathBuf,
    /// The host keys that are trusted, in OpenSSH's format.
    pub known_hosts: PathBuf,
}

impl Target {
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The host's name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How OpenSSH writes this host in a known_hosts file.
    pub(super) fn known_hosts_name(&self) -> String {
        let host = self.host.to_ascii_lowercase();
        match self.port {
            22 => host,
            port => format!("[{host}]:{port}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port } = self;
        if host.contains(':') {
            write!(f, "{user}@[{host}]:{port}")
        } else {
            write!(f, "{user}@{host}:{port}")
        }
    }
}

impl FromStr for Target {
    type Err = SshError;

    fn from_str(given: &str) -> Result<Self, SshError> {
        let bad = |problem: String| SshError::BadTarget { given: given.to_owned(), problem };
        let (user, address) = match given.rsplit_once('@') {
            Some((user, address)) => (user, address),
            None => ("root", given),
        };
        if user.is_empty() {
            return Err(bad("there is no user before the '@'".into()));
        }
        if let Some(wrong) = user.chars().find(|c| !allowed_in_user(*c)) {
            return Err(bad(format!("a user's name cannot hold {wrong:?}")));
        }

        let (host, port) = if let Some(rest) = address.strip_prefix('[') {
            let (host, rest) =
                rest.split_once(']').ok_or_else(|| bad("the '[' has no ']' after it".into()))?;
            let plain = host.split('%').next().unwrap_or(host);
            if plain.parse::<Ipv6Addr>().is_err() {
                return Err(bad(format!("{host:?} in the brackets is not an IPv6 address")));
            }
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(bad(format!("{rest:?} after the ']' is not a ':port'"))),
            }
        } else {
            match address.split_once(':') {
                Some((_, rest)) if rest.contains(':') => {
                    return Err(bad("an IPv6 address needs brackets, as in [::1]:22".into()));
                }
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            }
        };
        if host.is_empty() {
            return Err(bad("there is no host".into()));
        }
        if let Some(wrong) = host.chars().find(|c| !allowed_in_host(*c)) {
            return Err(bad(format!("a host's name cannot hold {wrong:?}")));
        }
        if host.starts_with('-') {
            return Err(bad("a host's name cannot begin with '-'".into()));
        }
        let port = match port {
            None => 22,
            Some(text) => match text.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(bad(format!("{text:?} is not a port between 1 and 65535"))),
            },
        };
        Ok(Self { user: user.to_owned(), host: canonical(host), port })
    }
}

impl TryFrom<String> for Target {
    type Error = SshError;

    fn try_from(text: String) -> Result<Self, SshError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.to_string()
    }
}

/// One way of writing a host, so that targets that mean the same are equal.
fn canonical(host: &str) -> String {
    let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
    match (address.parse::<Ipv6Addr>(), zone) {
        (Ok(address), Some(zone)) => format!("{address}%{zone}"),
        (Ok(address), None) => address.to_string(),
        (Err(_), _) => host.to_ascii_lowercase(),
    }
}

fn allowed_in_user(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !"/:@'\"\\".contains(c)
}

fn allowed_in_host(c: char) -> bool {
    c.is_alphanumeric() || ".-_:%".contains(c)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn check(given: &str, expect: Result<&str, &str>) {
        match (given.parse::<Target>(), expect) {
            (Ok(target), Ok(expect)) => {
                assert_eq!(target.to_string(), expect);
                assert_eq!(expect.parse::<Target>().unwrap(), target);
            }
            (Err(error), Err(part)) => {
                let text = error.to_string();
                assert!(text.contains(part), "{given}: {text}");
                assert!(text.contains(given), "{given}: {text}");
            }
            (got, expect) => panic!("{given}: got {got:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn targets_are_read_and_written() {
        check("root@example.org:22", Ok("root@example.org:22"));
        check("example.org", Ok("root@example.org:22"));
        check("deploy@10.0.0.7:2222", Ok("deploy@10.0.0.7:2222"));
        check("deploy@[fe80::1%eth0]:2222", Ok("deploy@[fe80::1%eth0]:2222"));
        check("[::1]", Ok("root@[::1]:22"));
        check("Example.ORG", Ok("root@example.org:22"));
        check("[0:0::0:1]", Ok("root@[::1]:22"));
        check("[FE80::1%Eth0]:22", Ok("root@[fe80::1%Eth0]:22"));
        check("", Err("there is no host"));
        check("@host", Err("no user"));
        check("a b@host", Err("' '"));
        check("host:", Err("\"\" is not a port"));
        check("host:0", Err("\"0\" is not a port"));
        check("host:70000", Err("70000"));
        check("::1", Err("brackets"));
        check("[::1", Err("no ']'"));
        check("[host]:22", Err("not an IPv6"));
        check("[::1]22", Err("':port'"));
        check("ho st", Err("' '"));
        check("-oProxyCommand=x", Err("'='"));
        check("-host", Err("begin with '-'"));
    }

    #[test]
    fn what_means_the_same_is_equal() {
        let same = |one: &str, other: &str| {
            assert_eq!(one.parse::<Target>().unwrap(), other.parse::<Target>().unwrap(), "{one} {other}");
        };
        same("root@host", "root@host:22");
        same("host", "root@HOST:22");
        same("root@[::1]", "root@[0:0:0:0:0:0:0:1]:22");
    }

    #[test]
    fn a_target_is_a_string_in_json() {
        let target: Target = "deploy@host:2222".parse().unwrap();
        let json = serde_json::to_string(&target).unwrap();
        assert_eq!(json, r#""deploy@host:2222""#);
        assert_eq!(serde_json::from_str::<Target>(&json).unwrap(), target);
    }

    #[test]
    fn known_hosts_names_are_openssh_s() {
        let name = |text: &str| text.parse::<Target>().unwrap().known_hosts_name();
        assert_eq!(name("Example.org"), "example.org");
        assert_eq!(name("example.org:2222"), "[example.org]:2222");
        assert_eq!(name("[::1]:22"), "::1");
        assert_eq!(name("[::1]:2222"), "[::1]:2222");
    }
}
