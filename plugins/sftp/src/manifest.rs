//! What a release consists of: every file, link and folder, with the hashes of the files.
//!
//! Its text is what `settle.sh` makes of a folder on the target, so that the two can be compared there, and
//! so that a later transfer can see what an earlier one brought. Records end with NUL, the one byte that no
//! path contains, and are sorted bytewise:
//!
//! - `{sha256}  ./{path}` for a file,
//! - `f {mode} ./{path}` for a file whose mode is not 644, `d {mode} ./{path}` for a folder (`.` is the whole),
//! - `l ./{path}//{text}` for a link; a path never has two slashes in a row.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use deployer_plugin::source::{self, Kind, Leads, Unreadable};
use deployer_plugin::target::{Content, Entry, File as Sum};
use deployer_plugin::types::Error;
use sha2::{Digest, Sha256};

use crate::exclusions::{Exclusions, Executables};
use crate::settings::Settings;

/// Of a file that is not executable.
pub const PLAIN: u32 = 0o644;
/// Of folders and of executable files.
pub const EXECUTABLE: u32 = 0o755;

pub struct Manifest {
    /// By path, so that folders come before what is in them.
    pub entries: BTreeMap<String, Entry>,
    /// What was left out, at the top of each part of the tree that was.
    pub left_out: Vec<String>,
    /// Links to nothing.
    pub dangling: Vec<String>,
}

impl Manifest {
    /// Reads and hashes all that is to be transferred.
    ///
    /// # Errors
    /// When something cannot be read, cannot be transferred, or the job is cancelled.
    pub fn read(root: &Path, settings: &Settings, cancelled: &dyn Fn() -> bool) -> Result<Self, Error> {
        let exclusions = Exclusions::new(root, settings)?;
        let executables = Executables::new(settings)?;
        let mut left_out = vec![];
        let walk = source::walk(root, |path, is_folder| {
            let out = exclusions.leave_out(path, is_folder);
            if out {
                left_out.push(path.to_owned());
            }
            !out
        });
        if let Some(unreadable) = walk.unreadable.first() {
            return Err(unreadable_error(unreadable));
        }
        left_out.sort();
        let mut manifest = Manifest { entries: BTreeMap::new(), left_out, dangling: vec![] };
        let mut buffer = vec![0; BUFFER];
        for item in walk.items {
            if cancelled() {
                return Err(cancelled_error());
            }
            let entry = match item.kind {
                Kind::Directory => directory(item.path),
                Kind::File => file(root, item.path, &executables, &mut buffer)?,
                Kind::Link(text) => manifest.link(root, item.path, text)?,
                Kind::Special => return Err(special_error(&item.path)),
            };
            manifest.entries.insert(entry.path.clone(), entry);
        }
        if manifest.file_count() == 0 {
            return Err(Error::request(
                "read the service's folder",
                "it has no files to transfer",
                "put the service's files into it, or exclude less (.deployignore, the setting `exclude` of sftp)",
            ));
        }
        Ok(manifest)
    }

    /// What `Manifest::permit` wants the permission bits of.
    pub fn paths(&self) -> Vec<String> {
        let kept = self.entries.values().filter(|entry| !matches!(entry.content, Content::Link(_)));
        kept.map(|entry| entry.path.clone()).collect()
    }

    /// Takes over the permission bits of what `paths` names, in that order. A file that a setting makes
    /// executable stays so.
    pub fn permit(&mut self, permissions: &[u32]) {
        let kept = self.entries.values_mut().filter(|entry| !matches!(entry.content, Content::Link(_)));
        for (entry, bits) in kept.zip(permissions) {
            let wanted =
                if entry.mode == EXECUTABLE && size(entry).is_some() { *bits | 0o111 } else { *bits };
            entry.mode = wanted;
        }
    }

    /// The text, by which equal trees are equal.
    pub fn text(&self) -> String {
        let mut records = vec![format!("d {EXECUTABLE:o} .\0")];
        for Entry { path, content, mode } in self.entries.values() {
            match content {
                Content::Directory => records.push(format!("d {mode:o} ./{path}\0")),
                Content::Link(text) => records.push(format!("l ./{path}//{text}\0")),
                Content::File(file) => {
                    records.push(format!("{}  ./{path}\0", file.sha256));
                    if *mode != PLAIN {
                        records.push(format!("f {mode:o} ./{path}\0"));
                    }
                }
            }
        }
        records.sort_unstable();
        records.concat()
    }

    pub fn file_count(&self) -> u64 {
        self.sizes().count() as u64
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.sizes().sum()
    }

    fn sizes(&self) -> impl Iterator<Item = u64> {
        self.entries.values().filter_map(size)
    }

    fn link(&mut self, root: &Path, path: String, text: String) -> Result<Entry, Error> {
        match source::leads(root, &path, &text) {
            Leads::Outside => return Err(outside_error(&path, &text)),
            Leads::Nowhere => self.dangling.push(format!("{path} -> {text}")),
            Leads::Inside => {}
        }
        Ok(Entry { path, content: Content::Link(text), mode: 0o777 })
    }
}

/// A file's bytes; none for what is not a file.
pub fn size(entry: &Entry) -> Option<u64> {
    match &entry.content {
        Content::File(file) => Some(file.size),
        Content::Link(_) | Content::Directory => None,
    }
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Read at once: more than most files of a service have.
const BUFFER: usize = 256 * 1024;

fn directory(path: String) -> Entry {
    Entry { path, content: Content::Directory, mode: EXECUTABLE }
}

fn file(root: &Path, path: String, executables: &Executables, buffer: &mut [u8]) -> Result<Entry, Error> {
    let sum = hash(&root.join(&path), buffer)
        .map_err(|error| unreadable_error(&Unreadable::by(path.clone(), &error)))?;
    let mode = if executables.contain(&path) { EXECUTABLE } else { PLAIN };
    Ok(Entry { path, content: Content::File(sum), mode })
}

/// A file's size and hash.
fn hash(path: &Path, buffer: &mut [u8]) -> io::Result<Sum> {
    let mut file = File::open(path)?;
    let mut sha256 = Sha256::new();
    let mut size = 0;
    loop {
        let count = match file.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let read = buffer.get(..count).unwrap_or_default();
        if read.is_empty() {
            break;
        }
        sha256.update(read);
        size += read.len() as u64;
    }
    Ok(Sum { size, sha256: hexadecimal(&sha256.finalize()) })
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn cancelled_error() -> Error {
    Error::request("read the service's folder", "the job was cancelled", "deploy again if you still want to")
}

fn unreadable_error(unreadable: &Unreadable) -> Error {
    let path = if unreadable.path.is_empty() { "." } else { &unreadable.path };
    Error::request(format!("read {path} in the service's folder"), &unreadable.why, unreadable.next)
}

fn special_error(path: &str) -> Error {
    Error::request(
        format!("transfer {path}"),
        "it is a socket, pipe or device",
        "remove it, or exclude it in .deployignore or in the setting `exclude` of sftp",
    )
}

fn outside_error(path: &str, text: &str) -> Error {
    Error::request(
        format!("transfer the link {path} -> {text}"),
        "it points outside of the service's folder, where the target has other files",
        "put what it points to into the folder, or exclude the link in .deployignore or in the setting `exclude` of sftp",
    )
}
