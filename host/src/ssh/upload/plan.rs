//! Puts the entries of an upload in the order that they can be made. Pure.

use std::collections::BTreeMap;

use super::entry::{UploadEntry, UploadKind};
use crate::ssh::SshError;

/// The entries in the order that they can be made.
pub(super) struct Plan<'a> {
    /// By depth; a directory's mode if an entry gives one.
    pub(super) levels: Vec<Vec<(&'a str, Option<u32>)>>,
    pub(super) small: Vec<usize>,
    pub(super) large: Vec<usize>,
    pub(super) links: Vec<usize>,
    pub(super) entries: &'a [UploadEntry],
}

/// Up to this size a file is read at once.
pub(super) const SMALL: u64 = 32 * 1024;

impl<'a> Plan<'a> {
    pub(super) fn new(entries: &'a [UploadEntry]) -> Result<Self, SshError> {
        let mut directories: BTreeMap<&str, Option<u32>> = BTreeMap::new();
        let (mut small, mut large, mut links) = (Vec::new(), Vec::new(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            check(entry)?;
            let mut above = entry.path.as_str();
            while let Some((parent, _)) = above.rsplit_once('/') {
                directories.entry(parent).or_default();
                above = parent;
            }
            match &entry.kind {
                UploadKind::Directory => {
                    directories.insert(&entry.path, Some(entry.mode));
                }
                UploadKind::File { size, .. } if *size <= SMALL => small.push(index),
                UploadKind::File { .. } => large.push(index),
                UploadKind::Link { .. } => links.push(index),
            }
        }
        let mut levels: Vec<Vec<_>> = Vec::new();
        for (path, mode) in directories {
            let depth = path.matches('/').count();
            if levels.len() <= depth {
                levels.resize_with(depth + 1, Vec::new);
            }
            if let Some(level) = levels.get_mut(depth) {
                level.push((path, mode));
            }
        }
        Ok(Self { levels, small, large, links, entries })
    }
}

fn check(entry: &UploadEntry) -> Result<(), SshError> {
    let path = &entry.path;
    let problem = if path.is_empty() || path.split('/').any(str::is_empty) {
        "a name in it is empty"
    } else if path.split('/').any(|name| name == ".." || name == ".") {
        "it goes through '.' or '..'"
    } else if path.contains('\0') {
        "it has a NUL character"
    } else {
        return Ok(());
    };
    Err(SshError::BadEntry { path: path.clone(), problem })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn entry(path: &str, kind: UploadKind) -> UploadEntry {
        UploadEntry { path: path.into(), kind, mode: 0o640 }
    }

    fn file(path: &str, size: u64) -> UploadEntry {
        entry(path, UploadKind::File { size, sha256: String::new() })
    }

    #[test]
    fn directories_come_level_by_level_whoever_names_them() {
        let entries = [
            file("a/b/c/small", SMALL),
            file("large", SMALL + 1),
            entry("a/b", UploadKind::Directory),
            entry("d/link", UploadKind::Link { target: "../large".into() }),
        ];
        let plan = Plan::new(&entries).unwrap();
        let expect = [vec![("a", None), ("d", None)], vec![("a/b", Some(0o640))], vec![("a/b/c", None)]];
        assert_eq!(plan.levels, expect);
        assert_eq!((plan.small, plan.large, plan.links), (vec![0], vec![1], vec![3]));
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["a", "a b/ü", "..a", "a/.b"] {
            Plan::new(&[file(path, 1)]).map(|_| ()).unwrap();
        }
        for path in ["", "/a", "a//b", "a/", "..", "a/../b", "./a", "a\0b"] {
            Plan::new(&[file(path, 1)]).map(|_| ()).unwrap_err();
        }
    }
}
