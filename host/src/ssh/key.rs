//! Reads the private key that a connection is made with. Nothing else is done with it here.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use russh::keys::{PrivateKey, decode_secret_key};

use super::SshError;
use super::error::KeyProblem;

/// The key in `path`, if it is one that can be used without asking anyone.
pub(super) async fn load(path: &Path) -> Result<Arc<PrivateKey>, SshError> {
    read(path).await.map(Arc::new).map_err(|problem| SshError::Key { path: path.to_owned(), problem })
}

async fn read(path: &Path) -> Result<PrivateKey, KeyProblem> {
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => KeyProblem::Missing,
        _ => KeyProblem::Unreadable(Arc::new(error)),
    };
    let metadata = tokio::fs::metadata(path).await.map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(KeyProblem::NotAKey("it is not a file".into()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyProblem::OpenToOthers(mode));
    }
    let bytes = tokio::fs::read(path).await.map_err(unreadable)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| KeyProblem::NotAKey("it holds bytes that are not text".into()))?;
    decode(&text)
}

fn decode(text: &str) -> Result<PrivateKey, KeyProblem> {
    let start = text.trim_start();
    if start.starts_with("ssh-") || start.starts_with("ecdsa-") {
        return Err(KeyProblem::PublicHalf);
    }
    // The decoder tells an OpenSSH key's encryption, but reports a PEM one's as broken data.
    if start.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || start.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(KeyProblem::Encrypted);
    }
    match decode_secret_key(text, None) {
        Ok(key) if key.is_encrypted() => Err(KeyProblem::Encrypted),
        Ok(key) => Ok(key),
        Err(russh::keys::Error::KeyIsEncrypted) => Err(KeyProblem::Encrypted),
        Err(error) => Err(KeyProblem::NotAKey(error.to_string())),
    }
}
