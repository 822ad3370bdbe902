//! Reads the files to send, once and exactly: never through a link, never more than was announced,
//! and with a digest that tells whether they are still what was announced.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::SshError;

/// The directory that is sent.
#[derive(Debug)]
pub(super) struct Source {
    root: File,
}

/// A file being read, part by part.
pub(super) struct Reader {
    path: String,
    file: File,
    size: u64,
    sha256: String,
    read: u64,
    digest: Sha256,
}

impl Source {
    pub(super) async fn open(path: &Path) -> Result<Arc<Self>, SshError> {
        let shown = path.display().to_string();
        let path = path.to_owned();
        blocking(move || match File::open(&path) {
            Ok(root) if root.metadata().is_ok_and(|metadata| metadata.is_dir()) => {
                Ok(Arc::new(Self { root }))
            }
            Ok(_) => Err(SshError::SourceUnreadable {
                path: shown,
                source: Arc::new(io::ErrorKind::NotADirectory.into()),
            }),
            Err(error) => Err(SshError::SourceUnreadable { path: shown, source: Arc::new(error) }),
        })
        .await
    }

    /// A whole file that is known to be small.
    pub(super) async fn read_whole(
        self: &Arc<Self>,
        path: &str,
        size: u64,
        sha256: &str,
    ) -> Result<Vec<u8>, SshError> {
        let (source, path, sha256) = (self.clone(), path.to_owned(), sha256.to_owned());
        blocking(move || {
            let mut reader = source.reader(path, size, sha256)?;
            let bytes = reader.next(usize::try_from(size).unwrap_or(usize::MAX))?;
            reader.finish()?;
            Ok(bytes)
        })
        .await
    }

    pub(super) async fn read_parts(
        self: &Arc<Self>,
        path: &str,
        size: u64,
        sha256: &str,
    ) -> Result<Reader, SshError> {
        let (source, path, sha256) = (self.clone(), path.to_owned(), sha256.to_owned());
        blocking(move || source.reader(path, size, sha256)).await
    }

    fn reader(&self, path: String, size: u64, sha256: String) -> Result<Reader, SshError> {
        let file = self.open_file(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => changed(&path, "it is gone"),
            // ELOOP and ENOTDIR: a name on the way became a link.
            _ if matches!(Errno::from_io_error(&error), Some(Errno::LOOP | Errno::NOTDIR)) => {
                changed(&path, "it became a symbolic link, or lies behind one")
            }
            _ => SshError::SourceUnreadable { path: path.clone(), source: Arc::new(error) },
        })?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(changed(&path, "it is not a file any more"));
        }
        Ok(Reader { path, file, size, sha256, read: 0, digest: Sha256::new() })
    }

    /// Opens one name after the other, so that no link on the way is followed, wherever it leads.
    fn open_file(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let (directories, name) = match path.rsplit_once('/') {
            Some((directories, name)) => (directories, name),
            None => ("", path),
        };
        let mut at: Option<File> = None;
        for directory in directories.split('/').filter(|name| !name.is_empty()) {
            let parent = at.as_ref().unwrap_or(&self.root);
            let opened = openat(parent, directory, flags | OFlags::DIRECTORY, Mode::empty())?;
            at = Some(File::from(opened));
        }
        let parent = at.as_ref().unwrap_or(&self.root);
        // A pipe without a writer would otherwise never be opened.
        Ok(File::from(openat(parent, name, flags | OFlags::NONBLOCK, Mode::empty())?))
    }
}

impl Reader {
    /// The next part, and the reader back. Shorter than `most` only at the end.
    pub(super) async fn part(mut self, most: usize) -> Result<(Self, Vec<u8>), SshError> {
        blocking(move || {
            let part = self.next(most)?;
            if self.read == self.size {
                self.finish()?;
            }
            Ok((self, part))
        })
        .await
    }

    pub(super) fn left(&self) -> u64 {
        self.size - self.read
    }

    fn next(&mut self, most: usize) -> Result<Vec<u8>, SshError> {
        let most = self.left().min(most as u64);
        let mut part = Vec::with_capacity(usize::try_from(most).unwrap_or_default());
        self.file.by_ref().take(most).read_to_end(&mut part).map_err(|error| SshError::SourceUnreadable {
            path: self.path.clone(),
            source: Arc::new(error),
        })?;
        if (part.len() as u64) < most {
            let size = self.read + part.len() as u64;
            return Err(changed(&self.path, format!("it has {size} bytes, not {}", self.size)));
        }
        self.read += most;
        self.digest.update(&part);
        Ok(part)
    }

    /// All is read; whether it was what was announced.
    fn finish(&mut self) -> Result<(), SshError> {
        let mut one = [0];
        if matches!(self.file.read(&mut one), Ok(1)) {
            return Err(changed(&self.path, format!("it has more than {} bytes", self.size)));
        }
        let digest = hex::encode(self.digest.finalize_reset());
        if digest != self.sha256.to_ascii_lowercase() {
            return Err(changed(&self.path, "its content is different"));
        }
        Ok(())
    }
}

fn changed(path: &str, how: impl Into<String>) -> SshError {
    SshError::Changed { path: path.to_owned(), how: how.into() }
}

/// File systems block; the runtime's own threads must not.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SshError> + Send + 'static,
) -> Result<T, SshError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(SshError::SourceUnreadable {
            path: "the source".into(),
            source: Arc::new(io::Error::other(error)),
        })
    })
}
