//! The key by which a server proved who it is.

/// The key that a server showed and that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HostKey {
    /// `SHA256:…`
    pub fingerprint: String,
    pub algorithm: String,
}
