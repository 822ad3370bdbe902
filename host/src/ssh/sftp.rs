//! One SFTP session in our words: requests, OpenSSH's extensions, and what its answers mean. Which
//! requests make up an operation is decided elsewhere.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use russh_sftp::client::error::Error;
use russh_sftp::client::{Config, RawSftpSession};
use russh_sftp::protocol::{FileAttributes, OpenFlags, Packet, StatusCode};

use super::channels::{Channels, Session, SessionPermit};
use super::{Kind, SshError, Stat};

/// A request may wait behind megabytes of others on a slow line; a dead line is noticed sooner, by
/// the connection.
const REQUEST_LIMIT_SECONDS: u64 = 120;
/// What every server takes in one write. OpenSSH's takes more, and says so.
const SMALL_WRITE: usize = 32 * 1024;
/// Larger writes than this gain nothing, and cost memory.
const LARGE_WRITE: usize = 128 * 1024;

const POSIX_RENAME: &str = "posix-rename@openssh.com";
const STATVFS: &str = "statvfs@openssh.com";
const FSYNC: &str = "fsync@openssh.com";
const LIMITS: &str = "limits@openssh.com";

pub(super) struct Sftp {
    raw: RawSftpSession,
    target: String,
    ended: Arc<OnceLock<String>>,
    closed: AtomicBool,
    extensions: HashMap<String, String>,
    write_size: usize,
    _permit: Option<SessionPermit>,
}

/// How a request went, when it did not go well.
#[derive(Debug)]
pub(super) enum SftpError {
    NotFound,
    Denied,
    /// The request is not one that the server knows.
    Unsupported,
    /// "Failure", which OpenSSH says for most errors: it exists, it is a directory, the disk is
    /// full.
    Failed(String),
    Lost(SshError),
}

/// The room on a file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

impl Sftp {
    pub(super) async fn open(channels: &Channels, mut session: Session) -> Result<Self, SshError> {
        let target = channels.target().to_string();
        let none = |cause: &str| SshError::NoSftp { target: target.clone(), cause: cause.to_owned() };
        let asked = match session.channel() {
            Some(channel) => channel.request_subsystem(true, "sftp").await.is_ok(),
            None => false,
        };
        if !asked {
            return Err(channels.lost("the opening of an SFTP session"));
        }
        if !channels.answer(&mut session).await? {
            return Err(none("the server has no sftp subsystem"));
        }
        let Some((channel, permit)) = session.into_parts() else {
            return Err(channels.lost("the opening of an SFTP session"));
        };
        let config = Config { request_timeout_secs: REQUEST_LIMIT_SECONDS, ..Config::default() };
        let raw = RawSftpSession::new_with_config(channel.into_stream(), config);
        let version = match raw.init().await {
            Ok(version) => version,
            Err(_) if !channels.is_alive() => {
                return Err(channels.lost("the opening of an SFTP session"));
            }
            Err(_) => return Err(none("its sftp subsystem ended without a word")),
        };
        let mut write_size = SMALL_WRITE;
        if version.extensions.contains_key(LIMITS)
            && let Ok(limits) = raw.limits().await
        {
            let most = usize::try_from(limits.max_write_len).unwrap_or(usize::MAX);
            write_size = most.clamp(SMALL_WRITE, LARGE_WRITE);
        }
        Ok(Self {
            raw,
            target,
            ended: channels.end_note(),
            closed: AtomicBool::new(false),
            extensions: version.extensions,
            write_size,
            _permit: permit,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed) && self.ended.get().is_none()
    }

    /// How many bytes one write carries at most.
    pub(super) fn write_size(&self) -> usize {
        self.write_size
    }

    /// A new file, which must not exist, with this mode (less the server's umask).
    pub(super) async fn create(&self, path: &str, mode: u32) -> Result<String, SftpError> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        let handle = self.raw.open(path, flags, permissions(mode)).await;
        handle.map(|handle| handle.handle).map_err(|error| self.sftp_error(error))
    }

    pub(super) async fn open_to_read(&self, path: &str) -> Result<String, SftpError> {
        let handle = self.raw.open(path, OpenFlags::READ, FileAttributes::empty()).await;
        handle.map(|handle| handle.handle).map_err(|error| self.sftp_error(error))
    }

    /// The next bytes, or none at the file's end.
    pub(super) async fn read(&self, handle: &str, offset: u64, most: u32) -> Result<Vec<u8>, SftpError> {
        match self.raw.read(handle, offset, most).await {
            Ok(data) => Ok(data.data),
            Err(Error::Status(status)) if status.status_code == StatusCode::Eof => Ok(Vec::new()),
            Err(error) => Err(self.sftp_error(error)),
        }
    }

    /// Must be at most `write_size` bytes.
    pub(super) async fn write(&self, handle: &str, offset: u64, data: Vec<u8>) -> Result<(), SftpError> {
        self.done(self.raw.write(handle, offset, data).await)
    }

    pub(super) async fn set_mode(&self, handle: &str, mode: u32) -> Result<(), SftpError> {
        self.done(self.raw.fsetstat(handle, permissions(mode)).await)
    }

    pub(super) async fn set_path_mode(&self, path: &str, mode: u32) -> Result<(), SftpError> {
        self.done(self.raw.setstat(path, permissions(mode)).await)
    }

    /// Onto the disk, where the server offers it.
    pub(super) async fn sync(&self, handle: &str) -> Result<(), SftpError> {
        if !self.extensions.contains_key(FSYNC) {
            return Ok(());
        }
        self.done(self.raw.fsync(handle).await)
    }

    pub(super) async fn close(&self, handle: &str) -> Result<(), SftpError> {
        self.done(self.raw.close(handle).await)
    }

    pub(super) async fn make_directory(&self, path: &str, mode: u32) -> Result<(), SftpError> {
        self.done(self.raw.mkdir(path, permissions(mode)).await)
    }

    /// OpenSSH takes the link's two paths in the other order than the draft it implements.
    pub(super) async fn make_link(&self, path: &str, to: &str) -> Result<(), SftpError> {
        self.done(self.raw.symlink(to, path).await)
    }

    pub(super) async fn remove_file(&self, path: &str) -> Result<(), SftpError> {
        self.done(self.raw.remove(path).await)
    }

    /// Replaces what is at `to`, if the server can.
    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<(), SftpError> {
        if !self.extensions.contains_key(POSIX_RENAME) {
            return Err(SftpError::Unsupported);
        }
        let mut data = Vec::with_capacity(from.len() + to.len() + 8);
        for text in [from, to] {
            data.extend_from_slice(&(text.len() as u32).to_be_bytes());
            data.extend_from_slice(text.as_bytes());
        }
        match self.raw.extended(POSIX_RENAME, data).await {
            Ok(Packet::Status(status)) if status.status_code == StatusCode::Ok => Ok(()),
            Ok(Packet::Status(status)) => Err(self.sftp_error(Error::Status(status))),
            Ok(_) => Err(self.sftp_error(Error::UnexpectedPacket)),
            Err(error) => Err(self.sftp_error(error)),
        }
    }

    /// Without following a link.
    pub(super) async fn lstat(&self, path: &str) -> Result<Option<Stat>, SftpError> {
        self.found(self.raw.lstat(path).await.map(|attrs| attrs.attrs))
    }

    /// Following links.
    pub(super) async fn stat(&self, path: &str) -> Result<Option<Stat>, SftpError> {
        self.found(self.raw.stat(path).await.map(|attrs| attrs.attrs))
    }

    /// The path without links. OpenSSH's server resolves a path whose last name is missing, too.
    pub(super) async fn real_path(&self, path: &str) -> Result<String, SftpError> {
        let name = self.raw.realpath(path).await.map_err(|error| self.sftp_error(error))?;
        let first = name.files.into_iter().next();
        first
            .map(|file| file.filename)
            .ok_or_else(|| SftpError::Failed("it gave no name for the path".to_owned()))
    }

    pub(super) async fn room(&self, path: &str) -> Result<Room, SftpError> {
        if !self.extensions.contains_key(STATVFS) {
            return Err(SftpError::Unsupported);
        }
        match self.raw.statvfs(path).await {
            Ok(vfs) => Ok(Room {
                bytes: vfs.blocks_avail.saturating_mul(vfs.fragment_size),
                // Some file systems count no inodes at all.
                files: if vfs.inodes == 0 { u64::MAX } else { vfs.inodes_avail },
            }),
            Err(error) => Err(self.sftp_error(error)),
        }
    }

    /// As the caller's error.
    pub(super) fn error(&self, error: SftpError, doing: &'static str, path: &str) -> SshError {
        let path = path.to_owned();
        match error {
            SftpError::NotFound => SshError::NotFound { path },
            SftpError::Denied => SshError::Denied { doing, path },
            SftpError::Unsupported => {
                SshError::Remote { doing, path, said: "the server's SFTP cannot do this".into() }
            }
            SftpError::Failed(said) => SshError::Remote { doing, path, said },
            SftpError::Lost(SshError::Lost { target, cause, process, .. }) => {
                SshError::Lost { target, during: format!("{doing} {path}"), cause, process }
            }
            SftpError::Lost(error) => error,
        }
    }

    fn done<T>(&self, result: Result<T, Error>) -> Result<(), SftpError> {
        result.map(|_| ()).map_err(|error| self.sftp_error(error))
    }

    fn found(&self, result: Result<FileAttributes, Error>) -> Result<Option<Stat>, SftpError> {
        match result.map_err(|error| self.sftp_error(error)) {
            Ok(attributes) => {
                let mode = attributes.permissions.unwrap_or_default();
                Ok(Some(Stat {
                    kind: match mode & 0o170_000 {
                        0o100_000 => Kind::File,
                        0o040_000 => Kind::Directory,
                        0o120_000 => Kind::Link,
                        _ => Kind::Other,
                    },
                    size: attributes.size.unwrap_or_default(),
                    mode: mode & 0o7777,
                }))
            }
            Err(SftpError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sftp_error(&self, error: Error) -> SftpError {
        let cause = match error {
            Error::Status(status) => match status.status_code {
                StatusCode::NoSuchFile => return SftpError::NotFound,
                StatusCode::PermissionDenied => return SftpError::Denied,
                StatusCode::OpUnsupported => return SftpError::Unsupported,
                StatusCode::NoConnection | StatusCode::ConnectionLost => status.error_message,
                _ => return SftpError::Failed(status.error_message),
            },
            Error::Limited(said) => return SftpError::Failed(said),
            Error::UnexpectedPacket => {
                return SftpError::Failed("an answer that does not match the request".into());
            }
            Error::Timeout => format!("no answer within {REQUEST_LIMIT_SECONDS} s"),
            // All else is the library's word for a session that has ended.
            Error::IO(_) | Error::UnexpectedBehavior(_) => "the SFTP session ended".into(),
        };
        self.closed.store(true, Ordering::Relaxed);
        SftpError::Lost(SshError::Lost {
            target: self.target.clone(),
            during: "a file operation".into(),
            cause: self.ended.get().cloned().unwrap_or(cause),
            process: None,
        })
    }
}

fn permissions(mode: u32) -> FileAttributes {
    FileAttributes { permissions: Some(mode & 0o7777), ..FileAttributes::empty() }
}
