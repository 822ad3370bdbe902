//! The service's folder, opened once for a job and used by its handle from then on: what is read is in it,
//! whatever becomes of its path meanwhile.
//!
//! A job is accepted for a folder, and may wait for its turn. Its path can lead elsewhere by then: somebody put a
//! link in its place, or in a parent's, or another folder. So the path is walked without following any link, and
//! the folder must have the mark that it had.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, openat, statat, statx};
use thiserror::Error;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServiceFolder {
    handle: Arc<File>,
}

#[derive(Debug, Error)]
pub enum FolderError {
    #[error("{} is gone: it was moved or removed after the job was accepted", .0.display())]
    Gone(PathBuf),
    #[error("{} is a link now: it was a folder when the job was accepted", .0.display())]
    Link(PathBuf),
    #[error("{} is not a folder any more", .0.display())]
    NoFolder(PathBuf),
    #[error("{} is not the folder that the job was accepted for", .0.display())]
    Replaced(PathBuf),
    #[error("{} cannot be opened: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
}

impl ServiceFolder {
    /// Opens a folder by a path that has no link in it, as `canonicalize` gives it.
    ///
    /// # Errors
    /// When the path leads to no folder, or over a link.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let last = path.components().count();
        let mut parent: Option<OwnedFd> = None;
        let mut walked = PathBuf::new();
        for (place, part) in path.components().enumerate() {
            walked.push(part);
            // Whoever may pass through a folder need not be allowed to list it.
            let access = if place + 1 == last { OFlags::RDONLY } else { OFlags::PATH };
            let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = match &parent {
                Some(parent) => openat(parent, part.as_os_str(), flags, Mode::empty()),
                None => openat(CWD, part.as_os_str(), flags, Mode::empty()),
            };
            parent =
                Some(opened.map_err(|error| what_is_there(parent.as_ref(), &walked, part, error.into()))?);
        }
        match parent {
            Some(handle) => Ok(ServiceFolder { handle: Arc::new(handle.into()) }),
            None => Err(FolderError::NoFolder(path.to_path_buf())),
        }
    }

    /// Opens the folder that a job was accepted for. One without a mark was accepted by an older version.
    ///
    /// # Errors
    /// As `open`, and when another folder is there.
    pub fn open_marked(path: &Path, mark: Option<&str>) -> Result<Self, FolderError> {
        let folder = Self::open(path)?;
        let unreadable = |source| FolderError::Unreadable { path: path.to_path_buf(), source };
        match mark {
            Some(mark) if mark != folder.mark().map_err(unreadable)? => {
                Err(FolderError::Replaced(path.to_path_buf()))
            }
            Some(_) | None => Ok(folder),
        }
    }

    /// What tells this folder from another one in its place, also after a restart of the machine. A number of a
    /// folder that was removed is given again, so its birth belongs to it; devices are numbered anew at each start.
    ///
    /// # Errors
    /// When the folder cannot be looked at.
    pub fn mark(&self) -> io::Result<String> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let seen = statx(&self.handle, "", AtFlags::EMPTY_PATH, wanted)?;
        let has_birth = StatxFlags::from_bits_retain(seen.stx_mask).contains(StatxFlags::BTIME);
        Ok(if has_birth {
            format!("{} born {}.{:09}", seen.stx_ino, seen.stx_btime.tv_sec, seen.stx_btime.tv_nsec)
        } else {
            format!("{} on {}:{}", seen.stx_ino, seen.stx_dev_major, seen.stx_dev_minor)
        })
    }

    /// A path to the folder itself, for libraries that want one. It holds for as long as this lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd()).into()
    }

    /// Opens a folder inside, by names alone: no link is followed, wherever it leads. The empty path is the folder
    /// itself.
    ///
    /// # Errors
    /// When there is no such folder, or the path is not one of names.
    pub fn inner(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = openat(&*self.handle, ".", flags, Mode::empty())?;
        for part in path.components() {
            let Component::Normal(name) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
            at = openat(&at, name, flags, Mode::empty())?;
        }
        Ok(at)
    }
}

fn what_is_there(
    parent: Option<&OwnedFd>,
    path: &Path,
    part: Component<'_>,
    error: io::Error,
) -> FolderError {
    let path = path.to_path_buf();
    let kind = parent.and_then(|parent| {
        let seen = statat(parent, part.as_os_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(FileType::from_raw_mode(seen.st_mode))
    });
    match kind {
        Some(FileType::Symlink) => FolderError::Link(path),
        Some(FileType::Directory) => FolderError::Unreadable { path, source: error },
        Some(_) => FolderError::NoFolder(path),
        None if error.kind() == io::ErrorKind::NotFound => FolderError::Gone(path),
        None => FolderError::Unreadable { path, source: error },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_the_folder_itself_is_opened_again() {
        let outer = tempfile::tempdir().unwrap();
        let outer = outer.path().canonicalize().unwrap();
        let (shop, outside) = (outer.join("services/shop"), outer.join("outside"));
        std::fs::create_dir_all(&shop).unwrap();
        std::fs::create_dir_all(outside.join("shop")).unwrap();
        let mark = ServiceFolder::open(&shop).unwrap().mark().unwrap();
        let check = |expect: &str| {
            let seen = match ServiceFolder::open_marked(&shop, Some(&mark)) {
                Ok(_) => "opened".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(seen.contains(expect), "{seen:?}, expected {expect:?}");
        };
        check("opened");
        std::fs::write(shop.join("VERSION"), "2").unwrap();
        check("opened");

        std::fs::rename(&shop, outer.join("kept")).unwrap();
        check("is gone");
        std::fs::write(&shop, "").unwrap();
        check("not a folder any more");
        std::fs::remove_file(&shop).unwrap();
        symlink(&outside, &shop).unwrap();
        check("services/shop is a link now");
        std::fs::remove_file(&shop).unwrap();
        std::fs::create_dir(&shop).unwrap();
        check("not the folder that the job was accepted for");
        std::fs::remove_dir(&shop).unwrap();
        std::fs::rename(outer.join("kept"), &shop).unwrap();
        check("opened");

        std::fs::rename(outer.join("services"), outer.join("was-services")).unwrap();
        symlink(&outside, outer.join("services")).unwrap();
        check("services is a link now");
    }

    #[test]
    fn a_folder_that_was_removed_and_made_again_is_another_one() {
        let outer = tempfile::tempdir().unwrap();
        let shop = outer.path().canonicalize().unwrap().join("shop");
        std::fs::create_dir(&shop).unwrap();
        let mark = ServiceFolder::open(&shop).unwrap().mark().unwrap();
        std::fs::remove_dir(&shop).unwrap();
        // A file system's clock goes on by some milliseconds at a time, and may give the same inode again at once.
        let born = |mark: &str| mark.split_once(" born ").map(|(_, born)| born.to_owned());
        let other = outer.path().canonicalize().unwrap().join("other");
        loop {
            std::fs::create_dir(&other).unwrap();
            let now = ServiceFolder::open(&other).unwrap().mark().unwrap();
            std::fs::remove_dir(&other).unwrap();
            if born(&now).is_none() || born(&now) != born(&mark) {
                break;
            }
        }
        std::fs::create_dir(&shop).unwrap();
        let again = ServiceFolder::open_marked(&shop, Some(&mark));
        assert!(matches!(again, Err(FolderError::Replaced(_))), "{mark}: {again:?}");
    }

    #[test]
    fn what_was_opened_stays_what_it_is() {
        let outer = tempfile::tempdir().unwrap();
        let shop = outer.path().canonicalize().unwrap().join("shop");
        std::fs::create_dir(&shop).unwrap();
        std::fs::write(shop.join("file"), "mine").unwrap();
        let folder = ServiceFolder::open(&shop).unwrap();
        std::fs::rename(&shop, outer.path().join("moved")).unwrap();
        symlink("/etc", &shop).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), "mine");
        assert!(!folder.path().join("passwd").exists());
    }
}
