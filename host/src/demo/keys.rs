//! The keys of one run of the demo's SSH server, and the folder they lie in.
//!
//! Owns what is written to disk and with which mode; who may log in is `sshd`'s to decide.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Algorithm, PrivateKey, PublicKey};

/// Where the demo's SSH server keeps its files, readable by the owner alone.
#[derive(Debug)]
pub struct Folder(PathBuf);

/// Why a key could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot write {path}: {source}; give the demo a folder that this user may write to", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "cannot make an ed25519 key for the demo's SSH server: {0}; see that the system's random source works"
    )]
    Make(#[from] ssh_key::Error),
}

impl Folder {
    /// Makes the folder, or takes the one that is there and closes it to others.
    pub fn make(path: PathBuf) -> Result<Folder, KeyError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)));
        match made {
            Ok(()) => Ok(Folder(path)),
            Err(source) => Err(KeyError::Write { path, source }),
        }
    }

    /// Makes a key and writes both halves as `ssh-keygen` would: `name` and `name.pub`.
    pub fn make_key(&self, name: &str, comment: &str) -> Result<(PrivateKey, PathBuf), KeyError> {
        let mut key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        key.set_comment(comment);
        let path = self.write(name, key.to_openssh(LineEnding::LF)?.as_bytes())?;
        let public = format!("{}\n", key.public_key().to_openssh()?);
        self.write(&format!("{name}.pub"), public.as_bytes())?;
        Ok((key, path))
    }

    /// Writes the known_hosts file that makes a client trust exactly this server.
    pub fn trust(&self, address: SocketAddr, host: &PublicKey) -> Result<PathBuf, KeyError> {
        let key = PublicKey::from(host.key_data().clone()).to_openssh()?;
        let line = format!("[{}]:{} {}\n", address.ip(), address.port(), key.trim_end());
        self.write("known_hosts", line.as_bytes())
    }

    /// Replaces a file, mode 0600 from its first byte on.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, KeyError> {
        let path = self.0.join(name);
        // The mode only counts for a file that is made, so one from an earlier run has to go first.
        let cleared = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
        let written = cleared
            .and_then(|()| fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path))
            .and_then(|mut file| file.write_all(content));
        match written {
            Ok(()) => Ok(path),
            Err(source) => Err(KeyError::Write { path, source }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}
