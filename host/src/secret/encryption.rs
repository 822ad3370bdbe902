//! Keeps environments secret while their jobs are not over.
//!
//! The key is a file of this host's own, at mode 0600 in the data folder. It owns the key; where the encrypted
//! bytes are kept is the journal's matter.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, Generate, KeyInit, Nonce, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305};
use hmac::Mac;
use thiserror::Error;

type Environment = BTreeMap<String, String>;

const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;

#[derive(Debug, Error)]
pub enum CipherError {
    #[error("cannot {attempted} the key file {path}: {source}")]
    File { attempted: &'static str, path: PathBuf, source: std::io::Error },
    #[error(
        "the key file {path} is not a key of {KEY_BYTES} bytes; put the right one back, or remove it: \
         then jobs that were interrupted end as failed"
    )]
    NoKey { path: PathBuf },
    #[error("the key file {path} is open to others (mode {mode:o}); run: chmod 600 {path}")]
    Open { path: PathBuf, mode: u32 },
    #[error("the environment of {job} cannot be decrypted: it was encrypted with another key; deploy again")]
    OtherKey { job: String },
}

/// The key, ready to encrypt and to decrypt.
pub struct Cipher {
    cipher: XChaCha20Poly1305,
    key: Key,
}

impl Cipher {
    /// Reads the key file, and makes it when it is not there.
    ///
    /// # Errors
    /// When it cannot be read or made, is open to others, or holds no key.
    pub fn open(path: &Path) -> Result<Self, CipherError> {
        let failed =
            |attempted| move |source| CipherError::File { attempted, path: path.to_path_buf(), source };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => {
                let mode = std::fs::metadata(path).map_err(failed("read"))?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(CipherError::Open { path: path.to_path_buf(), mode });
                }
                bytes
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = Key::generate();
                let mut file = std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path)
                    .map_err(failed("make"))?;
                file.write_all(&key).and_then(|()| file.sync_all()).map_err(failed("write"))?;
                key.to_vec()
            }
            Err(error) => return Err(failed("read")(error)),
        };
        let key =
            Key::try_from(bytes.as_slice()).map_err(|_| CipherError::NoKey { path: path.to_path_buf() })?;
        Ok(Cipher { cipher: XChaCha20Poly1305::new(&key), key })
    }

    /// Encrypts a job's environment. It can be opened again for this job only.
    pub fn encrypt(&self, job: &str, environment: &Environment) -> Vec<u8> {
        let nonce = Nonce::<XChaCha20Poly1305>::generate();
        let plain = encode(environment);
        let encrypted = self.cipher.encrypt(&nonce, Payload { msg: &plain, aad: job.as_bytes() });
        // The cipher refuses only messages of more than 256 GiB; an empty answer would fail to open.
        let mut bytes = nonce.to_vec();
        bytes.extend(encrypted.unwrap_or_default());
        bytes
    }

    /// # Errors
    /// When it was encrypted with another key, or for another job.
    pub fn decrypt(&self, job: &str, encrypted: &[u8]) -> Result<Environment, CipherError> {
        let other = || CipherError::OtherKey { job: job.into() };
        let (nonce, message) = encrypted.split_at_checked(NONCE_BYTES).ok_or_else(other)?;
        let nonce = Nonce::<XChaCha20Poly1305>::try_from(nonce).map_err(|_| other())?;
        let payload = Payload { msg: message, aad: job.as_bytes() };
        let plain = self.cipher.decrypt(&nonce, payload).map_err(|_| other())?;
        serde_json::from_slice(&plain).map_err(|_| other())
    }

    /// Equal for equal environments, and of no use to guess values without the key.
    pub fn digest(&self, environment: &Environment) -> String {
        match hmac::Hmac::<sha2::Sha256>::new_from_slice(&self.key) {
            Ok(mut mac) => {
                mac.update(&encode(environment));
                hex::encode(mac.finalize().into_bytes())
            }
            // HMAC takes keys of any length.
            Err(_) => String::new(),
        }
    }
}

fn encode(environment: &Environment) -> Vec<u8> {
    serde_json::Value::from_iter(environment.clone()).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encrypted_opens_for_its_own_job_and_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let cipher = Cipher::open(&folder.path().join("key")).unwrap();
        let environment =
            Environment::from([("A".into(), "x \n'\"$(y)".into()), ("B".into(), String::new())]);
        let encrypted = cipher.encrypt("deploy-1", &environment);
        assert!(!encrypted.windows(4).any(|window| window == b"$(y)"));
        assert_eq!(cipher.decrypt("deploy-1", &encrypted).unwrap(), environment);
        assert!(cipher.decrypt("deploy-2", &encrypted).is_err());
        let again = Cipher::open(&folder.path().join("key")).unwrap();
        assert_eq!(again.decrypt("deploy-1", &encrypted).unwrap(), environment);
        assert_eq!(again.digest(&environment), cipher.digest(&environment));
        let other = Cipher::open(&folder.path().join("other")).unwrap();
        assert!(other.decrypt("deploy-1", &encrypted).is_err());
        assert_ne!(other.digest(&environment), cipher.digest(&environment));
    }

    #[test]
    fn a_key_that_is_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        Cipher::open(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Cipher::open(&path), Err(CipherError::Open { .. })));
    }
}
