//! An upload under way: what of it is on the target, and how each entry gets there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::entry::{Progress, UploadEntry, UploadKind, Uploaded};
use super::plan::{Plan, SMALL};
use super::sessions::{Sessions, sessions};
use crate::ssh::lanes::Lane;
use crate::ssh::sftp::{Sftp, SftpError};
use crate::ssh::source::{Reader, Source};
use crate::ssh::{Kind, Ssh, SshError};

/// Small files are all waiting for answers: as many at once as hide a long way to the server.
const SMALL_AT_ONCE: usize = 128;
/// Large files are sent in parts, many of them on the way at once; few files fill the line.
const LARGE_AT_ONCE: usize = 4;
/// What may be sent and not yet acknowledged, and so has to be in memory. In KiB.
const IN_FLIGHT: usize = 4 * 1024;
/// Directories that nobody named.
const DIRECTORY_MODE: u32 = 0o755;

/// An upload under way, over however many connections it takes.
pub(super) struct Work<'a> {
    ssh: &'a Ssh,
    source: Arc<Source>,
    destination: &'a str,
    plan: Plan<'a>,
    window: Arc<Semaphore>,
    /// Which entries are there, whole.
    done: Vec<AtomicBool>,
    files: AtomicU64,
    bytes: AtomicU64,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl<'a> Work<'a> {
    pub(super) fn new(
        ssh: &'a Ssh,
        source: Arc<Source>,
        plan: Plan<'a>,
        destination: &'a str,
        progress: &'a (dyn Fn(Progress) + Sync),
    ) -> Self {
        Self {
            ssh,
            source,
            destination,
            window: Arc::new(Semaphore::new(IN_FLIGHT)),
            done: plan.entries.iter().map(|_| AtomicBool::new(false)).collect(),
            plan,
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            progress,
        }
    }

    /// What is there now, if all of it is.
    pub(super) fn uploaded(&self, reconnects: u32, duration: Duration) -> Uploaded {
        Uploaded {
            files: self.files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            links: self.plan.links.len() as u64,
            reconnects,
            duration,
        }
    }
}

impl Work<'_> {
    /// Sends what is not yet acknowledged, over the connection that there is.
    pub(super) async fn attempt(&self) -> Result<(), SshError> {
        self.ssh.permitted().await?;
        self.ssh.make_directory(self.destination, DIRECTORY_MODE).await?;
        let Sessions { sftp: sessions, _extra } = sessions(self.ssh, &self.plan).await?;
        let Some(first) = sessions.first() else {
            return Ok(());
        };

        for level in &self.plan.levels {
            // By number: a stream over borrowed items is not seen to be `Send`.
            stream::iter(0..level.len())
                .map(|nth| async move {
                    match level.get(nth) {
                        Some((path, mode)) => self.directory(first, path, *mode).await,
                        None => Ok(()),
                    }
                })
                .buffer_unordered(SMALL_AT_ONCE)
                .try_collect::<()>()
                .await?;
        }
        futures::try_join!(
            self.each(&self.plan.small, &sessions, SMALL_AT_ONCE),
            self.each(&self.plan.large, &sessions, LARGE_AT_ONCE),
            self.each(&self.plan.links, &sessions, SMALL_AT_ONCE),
        )?;
        // Last and deepest first: a directory that may not be written to had to be filled before.
        for (path, mode) in self.plan.levels.iter().rev().flatten() {
            if let Some(mode) = mode {
                let path = self.path(path);
                first
                    .set_path_mode(&path, *mode)
                    .await
                    .map_err(|error| first.error(error, "setting the mode of", &path))?;
            }
        }
        Ok(())
    }

    async fn each(&self, entries: &[usize], sessions: &[Arc<Sftp>], at_once: usize) -> Result<(), SshError> {
        stream::iter(0..entries.len())
            .map(|nth| async move {
                match (entries.get(nth), sessions.get(nth % sessions.len().max(1))) {
                    (Some(index), Some(sftp)) => self.entry(*index, sftp).await,
                    _ => Ok(()),
                }
            })
            .buffer_unordered(at_once)
            .try_collect::<()>()
            .await
    }

    async fn entry(&self, index: usize, sftp: &Arc<Sftp>) -> Result<(), SshError> {
        let (Some(entry), Some(done)) = (self.plan.entries.get(index), self.done.get(index)) else {
            return Ok(());
        };
        if done.load(Ordering::Relaxed) {
            return Ok(());
        }
        let path = self.path(&entry.path);
        match &entry.kind {
            UploadKind::File { size, sha256 } if *size <= SMALL => {
                self.small_file(sftp, entry, &path, *size, sha256).await?;
                self.advance(*size, 1);
            }
            UploadKind::File { size, sha256 } => {
                let mut sent = Sent { work: self, bytes: 0 };
                self.large_file(sftp, entry, &path, *size, sha256, &mut sent).await?;
                sent.bytes = 0;
                self.advance(0, 1);
            }
            UploadKind::Link { target } => self.link(sftp, &path, target).await?,
            UploadKind::Directory => {}
        }
        done.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Two round trips: the requests after the first need not wait for each other, because a server
    /// handles those for one file in order.
    async fn small_file(
        &self,
        sftp: &Sftp,
        entry: &UploadEntry,
        path: &str,
        size: u64,
        sha256: &str,
    ) -> Result<(), SshError> {
        let _room = self.room(size).await;
        let bytes = self.source.read_whole(&entry.path, size, sha256).await?;
        let handle = self.create(sftp, path, entry.mode).await?;
        let writing = async {
            match bytes.is_empty() {
                true => Ok(()),
                false => sftp.write(&handle, 0, bytes).await,
            }
        };
        let (written, set, closed) =
            futures::join!(writing, sftp.set_mode(&handle, entry.mode), sftp.close(&handle));
        match written.and(set).and(closed) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.ssh.explain(sftp, error, "writing", path, size).await),
        }
    }

    async fn large_file(
        &self,
        sftp: &Arc<Sftp>,
        entry: &UploadEntry,
        path: &str,
        size: u64,
        sha256: &str,
        sent: &mut Sent<'_>,
    ) -> Result<(), SshError> {
        let reader = self.source.read_parts(&entry.path, size, sha256).await?;
        let handle: Arc<str> = self.create(sftp, path, entry.mode).await?.into();
        let mut writes = JoinSet::new();
        let written = self.send_parts(sftp, reader, &handle, &mut writes, sent).await;
        let finished = match written {
            Ok(()) => {
                let (set, closed) = futures::join!(sftp.set_mode(&handle, entry.mode), sftp.close(&handle));
                set.and(closed).map_err(Stopped::There)
            }
            Err(stopped) => Err(stopped),
        };
        match finished {
            Ok(()) => Ok(()),
            Err(Stopped::Here(error)) => Err(error),
            Err(Stopped::There(error)) => {
                let left = size.saturating_sub(sent.bytes);
                Err(self.ssh.explain(sftp, error, "writing", path, left).await)
            }
        }
    }

    async fn send_parts(
        &self,
        sftp: &Arc<Sftp>,
        mut reader: Reader,
        handle: &Arc<str>,
        writes: &mut JoinSet<Result<u64, SftpError>>,
        sent: &mut Sent<'_>,
    ) -> Result<(), Stopped> {
        let mut offset = 0;
        while reader.left() > 0 {
            let room = self.room(sftp.write_size() as u64);
            tokio::pin!(room);
            // Answers make the room, so they are taken while waiting for it.
            let room = loop {
                tokio::select! {
                    room = &mut room => break room,
                    Some(answer) = writes.join_next() => self.acknowledge(answer, sent)?,
                }
            };
            let (rest, part) = reader.part(sftp.write_size()).await.map_err(Stopped::Here)?;
            reader = rest;
            let (sftp, handle, length) = (sftp.clone(), handle.clone(), part.len() as u64);
            writes.spawn(async move {
                let written = sftp.write(&handle, offset, part).await;
                drop(room);
                written.map(|()| length)
            });
            offset += length;
        }
        while let Some(answer) = writes.join_next().await {
            self.acknowledge(answer, sent)?;
        }
        Ok(())
    }

    fn acknowledge(
        &self,
        answer: Result<Result<u64, SftpError>, tokio::task::JoinError>,
        sent: &mut Sent<'_>,
    ) -> Result<(), Stopped> {
        match answer {
            Ok(Ok(length)) => {
                sent.bytes += length;
                self.advance(length, 0);
                Ok(())
            }
            Ok(Err(error)) => Err(Stopped::There(error)),
            Err(error) => Err(Stopped::There(SftpError::Failed(error.to_string()))),
        }
    }

    async fn link(&self, sftp: &Sftp, path: &str, to: &str) -> Result<(), SshError> {
        let error = match sftp.make_link(path, to).await {
            Ok(()) => return Ok(()),
            Err(error @ SftpError::Failed(_)) => error,
            Err(error) => return Err(sftp.error(error, "linking", path)),
        };
        // What is in the way is from an earlier try.
        match sftp.lstat(path).await {
            Ok(Some(_)) => {
                self.ssh.remove_in(Lane::Aside, path).await?;
                let made = sftp.make_link(path, to).await;
                made.map_err(|error| sftp.error(error, "linking", path))
            }
            _ => Err(self.ssh.explain(sftp, error, "linking", path, 0).await),
        }
    }

    /// A new file, in place of what is there: one that is written to where it lies may be shared
    /// with another release by a hard link, or be a link that leads elsewhere.
    async fn create(&self, sftp: &Sftp, path: &str, mode: u32) -> Result<String, SshError> {
        let error = match sftp.create(path, mode).await {
            Ok(handle) => return Ok(handle),
            Err(error @ SftpError::Failed(_)) => error,
            Err(error) => return Err(sftp.error(error, "making", path)),
        };
        match sftp.lstat(path).await {
            Ok(Some(_)) => {
                self.ssh.remove_in(Lane::Aside, path).await?;
                match sftp.create(path, mode).await {
                    Ok(handle) => Ok(handle),
                    Err(error) => Err(self.ssh.explain(sftp, error, "making", path, 0).await),
                }
            }
            _ => Err(self.ssh.explain(sftp, error, "making", path, 0).await),
        }
    }

    /// Writable until all is in it, whatever its mode will be.
    async fn directory(&self, sftp: &Sftp, path: &str, mode: Option<u32>) -> Result<(), SshError> {
        let path = self.path(path);
        let mode = mode.unwrap_or(DIRECTORY_MODE) | 0o700;
        let error = match sftp.make_directory(&path, mode).await {
            Ok(()) => return Ok(()),
            Err(error @ SftpError::Failed(_)) => error,
            Err(error) => return Err(sftp.error(error, "making", &path)),
        };
        match sftp.lstat(&path).await {
            Ok(Some(stat)) if stat.kind == Kind::Directory && stat.mode & 0o700 == 0o700 => Ok(()),
            Ok(Some(stat)) if stat.kind == Kind::Directory => sftp
                .set_path_mode(&path, mode)
                .await
                .map_err(|error| sftp.error(error, "setting the mode of", &path)),
            Ok(Some(_)) => {
                self.ssh.remove_in(Lane::Aside, &path).await?;
                let made = sftp.make_directory(&path, mode).await;
                made.map_err(|error| sftp.error(error, "making", &path))
            }
            _ => Err(self.ssh.explain(sftp, error, "making", &path, 0).await),
        }
    }

    /// Waits until this much may be on the way.
    async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.window.clone().acquire_many_owned(kib.clamp(1, IN_FLIGHT as u32)).await.ok()
    }

    fn advance(&self, bytes: u64, files: u64) {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let files = self.files.fetch_add(files, Ordering::Relaxed) + files;
        (self.progress)(Progress { files, bytes });
    }

    pub(super) fn done_count(&self) -> usize {
        self.done.iter().filter(|done| done.load(Ordering::Relaxed)).count()
    }

    fn path(&self, relative: &str) -> String {
        format!("{}/{relative}", self.destination)
    }
}

/// The part of a file that counts as sent. If the rest does not follow, it does not count: the file
/// will be sent again from its beginning.
struct Sent<'a> {
    work: &'a Work<'a>,
    bytes: u64,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.work.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Why a file was not sent: something here, or an answer from there.
enum Stopped {
    Here(SshError),
    There(SftpError),
}
