//! Decides whether a host key is trusted, from a known_hosts file. It never writes one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

use super::error::OfferedKey;
use super::{SshError, Target};

/// What a known_hosts file says about one host.
#[derive(Debug, Clone)]
pub(super) struct KnownHosts {
    path: PathBuf,
    target: Target,
    trusted: Vec<(usize, PublicKey)>,
    revoked: Vec<(usize, PublicKey)>,
}

impl KnownHosts {
    /// Reads the file; one that is not there knows nobody.
    pub(super) async fn read(path: &Path, target: &Target) -> Result<Self, SshError> {
        match tokio::fs::read(path).await {
            Ok(bytes) => Ok(Self::parse(path, target, &String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::parse(path, target, "")),
            Err(error) => {
                Err(SshError::KnownHostsUnreadable { path: path.to_owned(), source: Arc::new(error) })
            }
        }
    }

    fn parse(path: &Path, target: &Target, text: &str) -> Self {
        let name = target.known_hosts_name();
        let mut known =
            Self { path: path.to_owned(), target: target.clone(), trusted: Vec::new(), revoked: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            // OpenSSH separates fields by spaces and tabs; the parser knows single spaces only.
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Ok(entry) = line.parse::<Entry>() else {
                tracing::warn!(file = %path.display(), line = index + 1, "not a known_hosts line");
                continue;
            };
            if !names(entry.host_patterns(), &name) {
                continue;
            }
            let key = (index + 1, entry.public_key().clone());
            match entry.marker() {
                None => known.trusted.push(key),
                Some(Marker::Revoked) => known.revoked.push(key),
                // Certificates are not asked for, so an authority's own key vouches for nothing.
                Some(Marker::CertAuthority) => {}
            }
        }
        known
    }

    /// Whether this key may be the host's. The error says how to trust it.
    pub(super) fn check(&self, key: &PublicKey) -> Result<(), SshError> {
        let holds = |lines: &[(usize, PublicKey)]| {
            lines.iter().find(|(_, known)| known.key_data() == key.key_data()).map(|(line, _)| *line)
        };
        if let Some(line) = holds(&self.revoked) {
            return Err(SshError::HostRevoked { offered: self.offered(key), line });
        }
        if holds(&self.trusted).is_some() {
            return Ok(());
        }
        if self.trusted.is_empty() {
            return Err(SshError::HostUnknown(self.offered(key)));
        }
        // A key of another kind is a mismatch as well: the known kinds were asked for first, so
        // the server no longer has the key that it was known by.
        Err(SshError::HostMismatch {
            offered: self.offered(key),
            lines: self.trusted.iter().map(|(line, _)| *line).collect(),
        })
    }

    /// The host-key algorithms to ask for: those that the file can vouch for come first, so that a
    /// host known by one kind of key is not refused for showing another.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let mut algorithms = vec![
            Algorithm::Ed25519,
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
            Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
            Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
        ];
        algorithms.sort_by_key(|offered| {
            !self.trusted.iter().any(|(_, key)| match (key.algorithm(), offered) {
                (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
                (known, offered) => known == *offered,
            })
        });
        algorithms
    }

    fn offered(&self, key: &PublicKey) -> Box<OfferedKey> {
        let text = key.to_openssh().unwrap_or_default();
        Box::new(OfferedKey {
            target: self.target.to_string(),
            known_hosts: self.path.clone(),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            line: format!("{} {}", self.target.known_hosts_name(), text.trim()),
        })
    }
}

/// Whether a line's host field means this host.
fn names(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => Hmac::<sha1::Sha1>::new_from_slice(salt)
            .is_ok_and(|hmac| hmac.chain_update(name).verify_slice(hash).is_ok()),
        HostPatterns::Patterns(patterns) => {
            let mut named = false;
            for pattern in patterns {
                let pattern = pattern.to_ascii_lowercase();
                match pattern.strip_prefix('!') {
                    // One matching negation takes the whole line out.
                    Some(not) if glob(not.as_bytes(), name.as_bytes()) => return false,
                    Some(_) => {}
                    None => named |= glob(pattern.as_bytes(), name.as_bytes()),
                }
            }
            named
        }
    }
}

/// OpenSSH's patterns: `*` is any text, `?` any one character, all else itself.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => glob(rest, text),
        (Some((b'*', rest)), Some((_, later))) => glob(rest, text) || glob(pattern, later),
        (Some((b'?', rest)), Some((_, later))) => glob(rest, later),
        (Some((p, rest)), Some((t, later))) => p == t && glob(rest, later),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGBkS9kquUMbeM0I4dzqPkGOi+hJ8GKF8lnldSLHgEgcmlAIZXrkanPJ9XJuoq6F5Kdy2vznv6SsyuZU105VLCo=";
    const HASHED: &str = "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak=";

    /// What a file says of a host that shows the first key.
    fn check(file: &str, target: &str, expect: &str) {
        let file = file.replace("ONE", ONE).replace("TWO", TWO).replace("HASHED", HASHED);
        let known = KnownHosts::parse(Path::new("hosts"), &target.parse().unwrap(), &file);
        let got = match known.check(&ONE.parse().unwrap()) {
            Ok(()) => "trusted".to_owned(),
            Err(SshError::HostUnknown(offered)) => format!("unknown: {}", offered.line),
            Err(SshError::HostMismatch { lines, .. }) => format!("mismatch: {lines:?}"),
            Err(SshError::HostRevoked { line, .. }) => format!("revoked: {line}"),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(got, expect.replace("ONE", ONE), "{file}");
    }

    #[test]
    fn a_key_is_trusted_unknown_another_or_revoked() {
        check("", "host", "unknown: host ONE");
        check("", "host:2222", "unknown: [host]:2222 ONE");
        check("host ONE", "host", "trusted");
        check("HOST ONE comment # words", "Host", "trusted");
        check("# host\n\n\tother,host\tONE", "host", "trusted");
        check("host ONE", "host:2222", "unknown: [host]:2222 ONE");
        check("[host]:2222 ONE", "host:2222", "trusted");
        check("[host]:2222 ONE", "host", "unknown: host ONE");
        check("::1 ONE", "[::1]:22", "trusted");
        check("# first\nhost TWO", "host", "mismatch: [2]");
        check("host TWO\nhost ONE", "host", "trusted");
        check("*.example.org ONE", "a.example.org", "trusted");
        check("*.example.org,!a.example.org ONE", "a.example.org", "unknown: a.example.org ONE");
        check("10.0.0.? ONE", "10.0.0.7", "trusted");
        check("host ONE\n@revoked * ONE", "host", "revoked: 2");
        check("@revoked * TWO\nhost ONE", "host", "trusted");
        check("@cert-authority * ONE", "host", "unknown: host ONE");
        check("HASHED ONE", "example.com", "trusted");
        check("HASHED TWO", "example.com", "mismatch: [1]");
        check("HASHED ONE", "example.net", "unknown: example.net ONE");
        check("host nonsense\nhost ONE", "host", "trusted");
    }

    #[test]
    fn the_kinds_that_the_file_knows_are_asked_for_first() {
        let target: Target = "host".parse().unwrap();
        let known = KnownHosts::parse(Path::new("hosts"), &target, &format!("host {ECDSA}"));
        let nistp256 = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
        assert_eq!(known.algorithms().first(), Some(&nistp256));
        let known = KnownHosts::parse(Path::new("hosts"), &target, &format!("host {ONE}"));
        assert_eq!(known.algorithms().first(), Some(&Algorithm::Ed25519));
        assert!(!known.algorithms().contains(&Algorithm::Rsa { hash: None }));
    }
}
