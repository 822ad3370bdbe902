//! The plugins folder as it is on the disk: which files are there, what tells one version of a file from the next, and
//! a file's content. It knows no plugin.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::load_error::LoadError;
use crate::capability::limits;

/// A file that was written a moment ago may be written again with the same time.
const SETTLED: Duration = Duration::from_secs(1);

/// What tells one version of a file from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file's content, and when it was what it is.
pub(super) struct Content {
    pub stamp: Stamp,
    pub settled: bool,
    pub bytes: Vec<u8>,
    pub digest: String,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a later write would be seen.
    pub fn is_settled(&self) -> bool {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > SETTLED)
    }
}

/// The files that may be plugins, by name. Hidden ones are those that copying tools are still writing.
pub(super) fn list(folder: &Path) -> std::io::Result<BTreeMap<String, Stamp>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if name.starts_with('.') || !name.ends_with(".wasm") {
            continue;
        }
        // Gone since, or a link to nothing: not there.
        let Ok(metadata) = fs::metadata(folder.join(&name)) else { continue };
        if metadata.is_file() {
            found.insert(name, Stamp::of(&metadata));
        }
    }
    Ok(found)
}

pub(super) fn read(path: &Path) -> Result<Content, LoadError> {
    let mut file = File::open(path).map_err(LoadError::Unreadable)?;
    let stamp = Stamp::of(&file.metadata().map_err(LoadError::Unreadable)?);
    if stamp.size > limits::COMPONENT {
        return Err(LoadError::TooLarge { size: stamp.size, limit: limits::COMPONENT });
    }
    let settled = stamp.is_settled();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(LoadError::Unreadable)?;
    let after = Stamp::of(&file.metadata().map_err(LoadError::Unreadable)?);
    if after != stamp {
        return Err(LoadError::Changing);
    }
    let digest = hex::encode(Sha256::digest(&bytes));
    Ok(Content { stamp, settled, bytes, digest })
}

pub(super) async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // Reading a file does not panic, and nobody aborts it.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
