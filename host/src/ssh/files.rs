//! Single files and paths on the target. Whole trees are sent by `upload`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::lanes::Lane;
use super::sftp::{Sftp, SftpError};
use super::{Exit, Kind, RemoteCommand, Ssh, SshError, Stat};

/// Removing a large tree takes its time.
const REMOVE_LIMIT: Duration = Duration::from_secs(300);
const READ_SIZE: u32 = 64 * 1024;

impl Ssh {
    /// A file's content. One of more than `max_bytes` is refused.
    pub async fn read_file(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>, SshError> {
        absolute(path)?;
        self.link
            .on_sftp(|sftp| async move {
                let fail = |error| sftp.error(error, "reading", path);
                let handle = sftp.open_to_read(path).await.map_err(fail)?;
                let mut bytes: Vec<u8> = Vec::new();
                let read = loop {
                    match sftp.read(&handle, bytes.len() as u64, READ_SIZE).await {
                        Ok(part) if part.is_empty() => break Ok(()),
                        Ok(part) if (bytes.len() + part.len()) as u64 > max_bytes => {
                            break Err(SshError::TooLarge { path: path.to_owned(), limit: max_bytes });
                        }
                        Ok(part) => bytes.extend(part),
                        Err(error) => break Err(fail(error)),
                    }
                };
                // The content is here; a failing close of a file that was only read changes nothing.
                let _ = sftp.close(&handle).await;
                read.map(|()| bytes)
            })
            .await
    }

    /// Puts a file in place, whole or not at all, replacing what was there. It never exists with
    /// wider permissions than `mode`. Its directory must exist.
    pub async fn write_file(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), SshError> {
        removable(path)?;
        self.permitted().await?;
        self.link
            .on_sftp(|sftp| async move {
                let mut temporary = Temporary::beside(self, path);
                let written = write_through(&sftp, &temporary.path, bytes, mode).await;
                if let Err(error) = written {
                    return Err(self.explain(&sftp, error, "writing", path, bytes.len() as u64).await);
                }
                self.replace(&sftp, &temporary.path, path).await?;
                temporary.placed();
                Ok(())
            })
            .await
    }

    /// Makes `path` a symbolic link to `to`, replacing what was there in one step.
    pub async fn write_link(&self, path: &str, to: &str) -> Result<(), SshError> {
        removable(path)?;
        self.permitted().await?;
        self.link
            .on_sftp(|sftp| async move {
                let mut temporary = Temporary::beside(self, path);
                if let Err(error) = sftp.make_link(&temporary.path, to).await {
                    return Err(self.explain(&sftp, error, "linking", path, 0).await);
                }
                self.replace(&sftp, &temporary.path, path).await?;
                temporary.placed();
                Ok(())
            })
            .await
    }

    /// A directory and those above it; one that exists already keeps its mode.
    pub async fn make_directory(&self, path: &str, mode: u32) -> Result<(), SshError> {
        absolute(path)?;
        self.permitted().await?;
        self.link
            .on_sftp(|sftp| async move {
                // From the deepest that exists: those above it may not even be readable.
                let mut missing = Vec::new();
                let mut at = path.trim_end_matches('/');
                while !at.is_empty() {
                    match sftp.stat(at).await.map_err(|error| sftp.error(error, "looking at", at))? {
                        Some(stat) if stat.kind == Kind::Directory => break,
                        Some(_) => {
                            return Err(SshError::Remote {
                                doing: "making the directory",
                                path: path.to_owned(),
                                said: format!("{at} is not a directory"),
                            });
                        }
                        None => missing.push(at),
                    }
                    at = parent(at);
                }
                for directory in missing.into_iter().rev() {
                    let made = sftp.make_directory(directory, mode).await;
                    if let Err(error) = made {
                        // Another upload may have made it meanwhile.
                        let there = matches!(sftp.stat(directory).await, Ok(Some(_)));
                        if !there {
                            return Err(self.explain(&sftp, error, "making", directory, 0).await);
                        }
                    }
                }
                Ok(())
            })
            .await
    }

    /// Renames in one step, replacing what is at `to`.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), SshError> {
        removable(from)?;
        removable(to)?;
        self.permitted().await?;
        let again = &AtomicBool::new(false);
        self.link
            .on_sftp(|sftp| async move {
                let again = again.swap(true, Ordering::Relaxed);
                match self.replace(&sftp, from, to).await {
                    // The first try may have done it before the connection was lost.
                    Err(SshError::NotFound { .. })
                        if again
                            && matches!(sftp.lstat(from).await, Ok(None))
                            && matches!(sftp.lstat(to).await, Ok(Some(_))) =>
                    {
                        Ok(())
                    }
                    other => other,
                }
            })
            .await
    }

    /// Takes away a file or a whole tree. That it is gone already is success.
    pub async fn remove(&self, path: &str) -> Result<(), SshError> {
        self.remove_in(Lane::Command, path).await
    }

    /// As `remove`, in a channel that is kept for this.
    pub(super) async fn remove_in(&self, lane: Lane, path: &str) -> Result<(), SshError> {
        removable(path)?;
        self.permitted().await?;
        let file = self
            .link
            .on_sftp(|sftp| async move {
                match sftp.remove_file(path).await {
                    Ok(()) | Err(SftpError::NotFound) => Ok(true),
                    Err(SftpError::Lost(error)) => Err(error),
                    Err(_) => Ok(false),
                }
            })
            .await?;
        if file {
            return Ok(());
        }
        let command = RemoteCommand::new(["rm", "-rf", "--", path]).timeout(REMOVE_LIMIT);
        let output = self.run_in(lane, &command, &mut ()).await?;
        match output.exit {
            Exit::Code(0) => Ok(()),
            _ => Err(SshError::Remote {
                doing: "removing",
                path: path.to_owned(),
                said: output.stderr.trim().to_owned(),
            }),
        }
    }

    /// What is at a path, without following a link; nothing may be there.
    pub async fn stat(&self, path: &str) -> Result<Option<Stat>, SshError> {
        absolute(path)?;
        self.link
            .on_sftp(|sftp| async move {
                sftp.lstat(path).await.map_err(|error| sftp.error(error, "looking at", path))
            })
            .await
    }

    /// The bytes that may still be written where `path` is or will be.
    pub async fn free_bytes(&self, path: &str) -> Result<u64, SshError> {
        absolute(path)?;
        let (at, room) = self
            .link
            .on_sftp(|sftp| async move {
                let mut at = path;
                loop {
                    match sftp.stat(at).await.map_err(|error| sftp.error(error, "looking at", at))? {
                        Some(_) => break,
                        None => at = parent(at),
                    }
                }
                match sftp.room(at).await {
                    Ok(room) => Ok((at, Some(room))),
                    Err(SftpError::Lost(error)) => Err(error),
                    Err(_) => Ok((at, None)),
                }
            })
            .await?;
        if let Some(room) = room {
            return Ok(room.bytes);
        }
        let output = self.run(&RemoteCommand::new(["df", "-Pk", "--", at]), &mut ()).await?;
        available(&output.stdout).ok_or_else(|| SshError::Remote {
            doing: "asking for free space at",
            path: at.to_owned(),
            said: format!("df says {:?} {:?}", output.stdout.trim(), output.stderr.trim()),
        })
    }

    /// Renames over what is there, by the server's SFTP or else by `mv`.
    async fn replace(&self, sftp: &Sftp, from: &str, to: &str) -> Result<(), SshError> {
        // Once more, right before what was prepared takes effect: writing it may have taken long.
        self.permitted().await?;
        match sftp.rename(from, to).await {
            Ok(()) => Ok(()),
            Err(SftpError::Unsupported) => {
                let output = self.run(&RemoteCommand::new(["mv", "-fT", "--", from, to]), &mut ()).await?;
                match output.exit {
                    Exit::Code(0) => Ok(()),
                    _ => Err(SshError::Remote {
                        doing: "renaming to",
                        path: to.to_owned(),
                        said: output.stderr.trim().to_owned(),
                    }),
                }
            }
            Err(error) => Err(sftp.error(error, "renaming to", to)),
        }
    }

    /// An SFTP error as the caller's. A plain "failure" is asked about: the disk may be full.
    pub(super) async fn explain(
        &self,
        sftp: &Sftp,
        error: SftpError,
        doing: &'static str,
        path: &str,
        wanted: u64,
    ) -> SshError {
        if let SftpError::Failed(said) = &error {
            let no_space = said.to_ascii_lowercase().contains("space");
            if let Ok(room) = sftp.room(parent(path)).await {
                let full = |cause| SshError::DiskFull { path: path.to_owned(), free: room.bytes, cause };
                if no_space || room.bytes < wanted.max(4096) {
                    return full("no space");
                }
                if room.files == 0 {
                    return full("no room for more files");
                }
            }
        }
        sftp.error(error, doing, path)
    }
}

/// A file on its way to its name; what never got there is removed.
struct Temporary<'a> {
    ssh: &'a Ssh,
    path: String,
    placed: bool,
}

impl<'a> Temporary<'a> {
    fn beside(ssh: &'a Ssh, path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        // A name may have 255 bytes, and this one adds to it.
        let name: String = name.chars().take(48).collect();
        let path = format!("{}/.{name}.{:016x}", parent(path).trim_end_matches('/'), rand::random::<u64>());
        Self { ssh, path, placed: false }
    }

    fn placed(&mut self) {
        self.placed = true;
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.placed {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (ssh, path) = (self.ssh.clone(), std::mem::take(&mut self.path));
            runtime.spawn(async move {
                if let Err(error) = ssh.remove(&path).await {
                    tracing::warn!(%path, %error, "a temporary file is left on the target");
                }
            });
        }
    }
}

async fn write_through(sftp: &Sftp, path: &str, bytes: &[u8], mode: u32) -> Result<(), SftpError> {
    let handle = sftp.create(path, mode).await?;
    let mut offset = 0;
    for part in bytes.chunks(sftp.write_size()) {
        sftp.write(&handle, offset, part.to_vec()).await?;
        offset += part.len() as u64;
    }
    // The server's umask may have taken bits away.
    sftp.set_mode(&handle, mode).await?;
    sftp.sync(&handle).await?;
    sftp.close(&handle).await
}

fn absolute(path: &str) -> Result<(), SshError> {
    let problem = if path.contains('\0') {
        "it has a NUL character"
    } else if !path.starts_with('/') {
        "it is not absolute"
    } else {
        return Ok(());
    };
    Err(SshError::BadPath { path: path.to_owned(), problem })
}

/// A path that may be replaced or taken away.
fn removable(path: &str) -> Result<(), SshError> {
    absolute(path)?;
    let names = || path.split('/').filter(|name| !name.is_empty());
    let problem = if names().any(|name| name == ".." || name == ".") {
        "it goes through '.' or '..'"
    } else if names().next().is_none() {
        "it is the root"
    } else {
        return Ok(());
    };
    Err(SshError::BadPath { path: path.to_owned(), problem })
}

/// The directory that holds a path; the root's is the root.
pub(super) fn parent(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some((parent, _)) if !parent.is_empty() => parent,
        _ => "/",
    }
}

/// The available kilobytes in what `df -Pk` printed, as bytes.
fn available(df: &str) -> Option<u64> {
    let line = df.lines().nth(1)?;
    // The file system's name may hold spaces; the numbers before the percentage do not.
    let words: Vec<&str> = line.split_whitespace().collect();
    let percent = words.iter().position(|word| word.ends_with('%'))?;
    words.get(percent.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_safe_paths_are_removed() {
        for path in ["/a", "/opt/fpai/services/x", "/a/..b", "/a b/c"] {
            removable(path).unwrap();
        }
        for path in ["", "/", "//", "a", "./a", "/a/../b", "/..", "/a/./b", "/.", "/a\0b"] {
            removable(path).unwrap_err();
        }
    }

    #[test]
    fn parents_end_at_the_root() {
        for (path, expect) in [("/a/b/c", "/a/b"), ("/a/b/", "/a"), ("/a", "/"), ("/", "/")] {
            assert_eq!(parent(path), expect);
        }
    }

    #[test]
    fn df_is_read() {
        let df = "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                  //nas/my share 100 40 60 40% /srv\n";
        assert_eq!(available(df), Some(60 * 1024));
        assert_eq!(available("df: /x: No such file or directory\n"), None);
    }
}
