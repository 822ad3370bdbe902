//! What each SFTP request does to the machine's files, as OpenSSH's server does it.
//!
//! Plain blocking code; the packets' way in and out is the parent module's.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File as Open, OpenOptions, Permissions, ReadDir};
use std::io::{self, Write};
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown, symlink,
};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use russh_sftp::extensions::{
    self, FsyncExtension, HardlinkExtension, LimitsExtension, Statvfs, StatvfsExtension,
};
use russh_sftp::protocol::{
    Attrs, Data, Extended, ExtendedReply, File, FileAttributes, Handle, Name, OpenFlags, Packet, StatusCode,
    Version,
};
use russh_sftp::{de, ser};
use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps};

use super::error::RequestError;

/// The longest packet, as OpenSSH has it. Also told to the client by `limits@openssh.com`.
pub const LONGEST_PACKET: u32 = 256 * 1024;
/// What a client may read or write at once: a packet less its headers, as OpenSSH has it.
const LONGEST_DATA: u32 = LONGEST_PACKET - 1024;
/// As many as OpenSSH gives names to in one answer.
const NAMES_AT_ONCE: usize = 100;
/// Not in the crate's list, but what makes "replace this file" atomic.
const POSIX_RENAME: &str = "posix-rename@openssh.com";

/// One session's open files, and its requests.
pub struct Requests {
    home: PathBuf,
    handles: HashMap<String, Opened>,
    given: u64,
}

enum Opened {
    File(Open),
    /// Writes go to the end, whatever offset they name.
    Log(Open),
    Folder {
        path: PathBuf,
        entries: ReadDir,
        begun: bool,
    },
}

impl Requests {
    pub fn new(home: PathBuf) -> Requests {
        Requests { home, handles: HashMap::new(), given: 0 }
    }

    pub fn answer(&mut self, request: Packet) -> Result<Packet, RequestError> {
        match request {
            Packet::Init(_) => Ok(version()),
            Packet::Open(it) => {
                let opened = self.open(&it.filename, it.pflags, &it.attrs)?;
                Ok(self.hand_out(it.id, opened))
            }
            Packet::Close(it) => {
                self.handles.remove(&it.handle).ok_or(RequestError::Handle)?;
                done(it.id)
            }
            Packet::Read(it) => {
                let data = self.read(&it.handle, it.offset, it.len)?;
                Ok(Data { id: it.id, data }.into())
            }
            Packet::Write(it) => {
                match self.handles.get_mut(&it.handle) {
                    Some(Opened::File(file)) => file.write_all_at(&it.data, it.offset)?,
                    Some(Opened::Log(file)) => file.write_all(&it.data)?,
                    Some(Opened::Folder { .. }) | None => return Err(RequestError::Handle),
                }
                done(it.id)
            }
            Packet::Lstat(it) => attributes(it.id, &fs::symlink_metadata(self.path(&it.path))?),
            Packet::Stat(it) => attributes(it.id, &fs::metadata(self.path(&it.path))?),
            Packet::Fstat(it) => attributes(it.id, &self.file(&it.handle)?.metadata()?),
            Packet::SetStat(it) => {
                set_by_path(&self.path(&it.path), &it.attrs)?;
                done(it.id)
            }
            Packet::FSetStat(it) => {
                set_by_handle(self.file(&it.handle)?, &it.attrs)?;
                done(it.id)
            }
            Packet::OpenDir(it) => {
                let path = self.path(&it.path);
                let entries = fs::read_dir(&path)?;
                Ok(self.hand_out(it.id, Opened::Folder { path, entries, begun: false }))
            }
            Packet::ReadDir(it) => {
                let files = self.list(&it.handle)?;
                Ok(Name { id: it.id, files }.into())
            }
            Packet::Remove(it) => {
                fs::remove_file(self.path(&it.filename))?;
                done(it.id)
            }
            Packet::MkDir(it) => {
                let mode = it.attrs.permissions.unwrap_or(0o777) & 0o7777;
                DirBuilder::new().mode(mode).create(self.path(&it.path))?;
                done(it.id)
            }
            Packet::RmDir(it) => {
                fs::remove_dir(self.path(&it.path))?;
                done(it.id)
            }
            Packet::RealPath(it) => named(it.id, &real_path(&self.path(&it.path))?),
            Packet::ReadLink(it) => named(it.id, &fs::read_link(self.path(&it.path))?),
            Packet::Rename(it) => {
                // SFTP's own rename refuses to replace; `posix-rename` does replace.
                let (old, new) = (self.path(&it.oldpath), self.path(&it.newpath));
                rustix::fs::renameat_with(CWD, old, CWD, new, RenameFlags::NOREPLACE)
                    .map_err(io::Error::from)?;
                done(it.id)
            }
            Packet::Symlink(it) => {
                // OpenSSH's server has the two the other way round than the specification, and so every
                // client that works with it sends the target first. So does this one.
                let (target, link) = (it.linkpath, self.path(&it.targetpath));
                symlink(target, link)?;
                done(it.id)
            }
            Packet::Extended(it) => self.extended(it),
            Packet::Version(_)
            | Packet::Status(_)
            | Packet::Handle(_)
            | Packet::Data(_)
            | Packet::Name(_)
            | Packet::Attrs(_)
            | Packet::ExtendedReply(_) => {
                Err(RequestError::Malformed("a packet that only servers send".to_owned()))
            }
        }
    }

    fn extended(&self, request: Extended) -> Result<Packet, RequestError> {
        let id = request.id;
        let mut data = Bytes::from(request.data);
        match request.request.as_str() {
            extensions::LIMITS => reply(
                id,
                &LimitsExtension {
                    max_packet_len: LONGEST_PACKET.into(),
                    max_read_len: LONGEST_DATA.into(),
                    max_write_len: LONGEST_DATA.into(),
                    max_open_handles: 0,
                },
            ),
            extensions::FSYNC => {
                let asked: FsyncExtension = parse(&mut data)?;
                self.file(&asked.handle)?.sync_all()?;
                done(id)
            }
            extensions::HARDLINK => {
                let asked: HardlinkExtension = parse(&mut data)?;
                fs::hard_link(self.path(&asked.oldpath), self.path(&asked.newpath))?;
                done(id)
            }
            POSIX_RENAME => {
                let asked: HardlinkExtension = parse(&mut data)?;
                fs::rename(self.path(&asked.oldpath), self.path(&asked.newpath))?;
                done(id)
            }
            extensions::STATVFS => {
                let asked: StatvfsExtension = parse(&mut data)?;
                let seen = rustix::fs::statvfs(self.path(&asked.path)).map_err(io::Error::from)?;
                reply(
                    id,
                    &Statvfs {
                        block_size: seen.f_bsize,
                        fragment_size: seen.f_frsize,
                        blocks: seen.f_blocks,
                        blocks_free: seen.f_bfree,
                        blocks_avail: seen.f_bavail,
                        inodes: seen.f_files,
                        inodes_free: seen.f_ffree,
                        inodes_avail: seen.f_favail,
                        fs_id: seen.f_fsid,
                        // The protocol's flags: read-only is 1, no set-user-id is 2, as the kernel's are.
                        flags: seen.f_flag.bits() & 3,
                        name_max: seen.f_namemax,
                    },
                )
            }
            other => Err(RequestError::Unsupported(other.to_owned())),
        }
    }

    fn open(
        &self,
        path: &str,
        flags: OpenFlags,
        attributes: &FileAttributes,
    ) -> Result<Opened, RequestError> {
        let mut options = OpenOptions::from(flags);
        // Neither reading nor writing is what Rust refuses and C takes for reading.
        if !flags.intersects(OpenFlags::READ | OpenFlags::WRITE | OpenFlags::APPEND) {
            options.read(true);
        }
        let file = options.mode(attributes.permissions.unwrap_or(0o666) & 0o7777).open(self.path(path))?;
        Ok(if flags.contains(OpenFlags::APPEND) { Opened::Log(file) } else { Opened::File(file) })
    }

    fn hand_out(&mut self, id: u32, opened: Opened) -> Packet {
        let handle = self.given.to_string();
        self.given += 1;
        self.handles.insert(handle.clone(), opened);
        Handle { id, handle }.into()
    }

    fn file(&self, handle: &str) -> Result<&Open, RequestError> {
        match self.handles.get(handle) {
            Some(Opened::File(file) | Opened::Log(file)) => Ok(file),
            Some(Opened::Folder { .. }) | None => Err(RequestError::Handle),
        }
    }

    fn read(&self, handle: &str, offset: u64, length: u32) -> Result<Vec<u8>, RequestError> {
        let mut data = vec![0; length.min(LONGEST_DATA) as usize];
        let read = self.file(handle)?.read_at(&mut data, offset)?;
        if read == 0 && length > 0 {
            return Err(RequestError::End);
        }
        data.truncate(read);
        Ok(data)
    }

    fn list(&mut self, handle: &str) -> Result<Vec<File>, RequestError> {
        let Some(Opened::Folder { path, entries, begun }) = self.handles.get_mut(handle) else {
            return Err(RequestError::Handle);
        };
        let mut files = Vec::new();
        if !*begun {
            *begun = true;
            for name in [".", ".."] {
                files.push(File::new(name, wire(&fs::metadata(path.join(name))?)));
            }
        }
        for entry in entries.take(NAMES_AT_ONCE) {
            let entry = entry?;
            // One that has gone since the folder was read is not in it any more.
            if let Ok(metadata) = entry.metadata() {
                files.push(File::new(entry.file_name().to_string_lossy(), wire(&metadata)));
            }
        }
        if files.is_empty() { Err(RequestError::End) } else { Ok(files) }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.join(path)
    }
}

fn version() -> Packet {
    let mut version = Version::new();
    for (name, number) in [
        (POSIX_RENAME, "1"),
        (extensions::STATVFS, "2"),
        (extensions::HARDLINK, "1"),
        (extensions::FSYNC, "1"),
        (extensions::LIMITS, "1"),
    ] {
        version.extensions.insert(name.to_owned(), number.to_owned());
    }
    version.into()
}

fn done(id: u32) -> Result<Packet, RequestError> {
    Ok(Packet::status(id, StatusCode::Ok, "Success", "en"))
}

fn attributes(id: u32, metadata: &fs::Metadata) -> Result<Packet, RequestError> {
    Ok(Attrs { id, attrs: wire(metadata) }.into())
}

fn named(id: u32, path: &Path) -> Result<Packet, RequestError> {
    Ok(Name { id, files: vec![File::dummy(path.to_string_lossy())] }.into())
}

fn parse<'a, T: serde::Deserialize<'a>>(data: &'a mut Bytes) -> Result<T, RequestError> {
    de::from_bytes(data).map_err(|error| RequestError::Malformed(error.to_string()))
}

fn reply<T: serde::Serialize>(id: u32, content: &T) -> Result<Packet, RequestError> {
    let data = ser::to_bytes(content).map_err(|error| RequestError::Malformed(error.to_string()))?.to_vec();
    Ok(Packet::ExtendedReply(ExtendedReply { id, data }))
}

/// Not the crate's own conversion: that one says of a pipe or a socket that it is a regular file.
fn wire(metadata: &fs::Metadata) -> FileAttributes {
    FileAttributes {
        size: Some(metadata.size()),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
        permissions: Some(metadata.mode()),
        atime: Some(seconds(metadata.atime())),
        mtime: Some(seconds(metadata.mtime())),
        user: None,
        group: None,
    }
}

/// The protocol has 32 bits for a time.
fn seconds(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}

fn set_by_path(path: &Path, wanted: &FileAttributes) -> io::Result<()> {
    if let Some(size) = wanted.size {
        OpenOptions::new().write(true).open(path)?.set_len(size)?;
    }
    if let Some(mode) = wanted.permissions {
        fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))?;
    }
    if let Some(times) = times(wanted) {
        rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())?;
    }
    if wanted.uid.is_some() || wanted.gid.is_some() {
        chown(path, wanted.uid, wanted.gid)?;
    }
    Ok(())
}

fn set_by_handle(file: &Open, wanted: &FileAttributes) -> io::Result<()> {
    if let Some(size) = wanted.size {
        file.set_len(size)?;
    }
    if let Some(mode) = wanted.permissions {
        file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
    }
    if let Some(times) = times(wanted) {
        rustix::fs::futimens(file, &times)?;
    }
    if wanted.uid.is_some() || wanted.gid.is_some() {
        fchown(file, wanted.uid, wanted.gid)?;
    }
    Ok(())
}

fn times(wanted: &FileAttributes) -> Option<Timestamps> {
    let at = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    match (wanted.atime, wanted.mtime) {
        (Some(atime), Some(mtime)) => {
            Some(Timestamps { last_access: at(atime), last_modification: at(mtime) })
        }
        // The protocol sends both or none.
        (Some(_), None) | (None, Some(_)) | (None, None) => None,
    }
}

/// Without links and dots. As with OpenSSH, the last part need not exist: a client asks before it makes it.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(path), path.parent(), path.components().next_back()) {
        (Err(error), Some(parent), Some(Component::Normal(name)))
            if error.kind() == io::ErrorKind::NotFound =>
        {
            Ok(fs::canonicalize(parent)?.join(name))
        }
        (seen, _, _) => seen,
    }
}
