//! The service's folder, `/service`: what is in it, in a fixed order, and where its links lead.
//!
//! It does not know what a transfer leaves out: the caller says what to keep.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::service;

/// Where the service's folder appears to a plugin with the grant `service.read`.
pub const FOLDER: &str = "/service";

/// The text of every link that begins with a slash: the sandbox does not say more of it.
pub const ABSOLUTE: &str = "/…";

/// What never needs to be transferred: version control, caches, and environments that are made anew on the
/// target. Names of files and folders at any depth.
pub const LEFT_OUT: [&str; 9] = [
    ".git",
    "__pycache__",
    ".venv",
    "venv",
    "node_modules",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".DS_Store",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    /// A symbolic link, with its text; [`ABSOLUTE`] stands for one that begins with a slash.
    Link(String),
    /// A socket, a pipe, a device.
    Special,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Relative to the folder, with `/` between names.
    pub path: String,
    pub kind: Kind,
}

/// Something that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub path: String,
    pub why: String,
    /// What to do.
    pub next: &'static str,
}

#[derive(Debug, Default)]
pub struct Walk {
    /// Folders come before what is in them, names in bytewise order.
    pub items: Vec<Item>,
    pub unreadable: Vec<Unreadable>,
}

/// Where a link leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    Inside,
    /// Inside of the folder, but nothing is there.
    Nowhere,
    Outside,
}

/// Everything below `root` for which `keep(path, is_folder)` says yes. What is not kept is not looked into.
pub fn walk(root: &Path, mut keep: impl FnMut(&str, bool) -> bool) -> Walk {
    let mut walk = Walk::default();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let mut found = match list(root, &folder, &mut walk.unreadable) {
            Ok(found) => found,
            Err(error) => {
                walk.unreadable.push(Unreadable::by(folder, &error));
                continue;
            }
        };
        found.retain(|item| keep(&item.path, item.kind == Kind::Directory));
        for item in found {
            if item.kind == Kind::Directory {
                folders.push(item.path.clone());
            }
            walk.items.push(item);
        }
    }
    walk.items.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
    walk
}

/// Where the link at `path` with the text `text` leads. A link that leaves the folder on its way counts as
/// outside, even if it leads back in: on the target, the folder has other neighbours.
pub fn leads(root: &Path, path: &str, text: &str) -> Leads {
    if text.starts_with('/') || climbs(path, text) {
        return Leads::Outside;
    }
    match fs::metadata(root.join(path)) {
        Ok(_) => Leads::Inside,
        Err(error) if error.kind() == ErrorKind::NotFound => Leads::Nowhere,
        // The sandbox does not follow a link that leaves the folder through another link.
        Err(_) => Leads::Outside,
    }
}

fn list(root: &Path, folder: &str, unreadable: &mut Vec<Unreadable>) -> io::Result<Vec<Item>> {
    let mut items = vec![];
    for entry in fs::read_dir(root.join(folder))? {
        let entry = match entry {
            Ok(entry) => entry,
            // The host knows the names that WASI cannot say. The rest of the folder is not listed either.
            Err(error) if is_no_text(&error) => {
                let names = service::unlisted(folder).map_err(|error| io::Error::other(error.seen))?;
                if names.is_empty() {
                    return Err(error);
                }
                unreadable.extend(names.iter().map(|name| Unreadable::by_name(join(folder, name))));
                return Ok(items);
            }
            Err(error) => return Err(error),
        };
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            unreadable.push(Unreadable::by_name(join(folder, &name.to_string_lossy())));
            continue;
        };
        let path = join(folder, name);
        match kind(&entry) {
            Ok(kind) => items.push(Item { path, kind }),
            Err(error) => unreadable.push(Unreadable::by(path, &error)),
        }
    }
    Ok(items)
}

impl Unreadable {
    pub fn by(path: String, error: &io::Error) -> Self {
        let next = "check that it exists and that the deployer's user may read it, or exclude it in .deployignore \
                    or in the setting `exclude` of sftp";
        Self { path, why: error.to_string(), next }
    }

    fn by_name(path: String) -> Self {
        let next = "rename it in UTF-8, or exclude its folder in .deployignore or in the setting `exclude` of \
                    sftp";
        Self { path, why: "its name is not UTF-8".into(), next }
    }
}

fn kind(entry: &fs::DirEntry) -> io::Result<Kind> {
    let kind = entry.file_type()?;
    Ok(if kind.is_dir() {
        Kind::Directory
    } else if kind.is_file() {
        Kind::File
    } else if kind.is_symlink() {
        Kind::Link(text(&entry.path())?)
    } else {
        Kind::Special
    })
}

fn text(link: &Path) -> io::Result<String> {
    match fs::read_link(link) {
        Ok(text) => match text.to_str() {
            Some(text) if text.starts_with('/') => Ok(ABSOLUTE.into()),
            Some(text) => Ok(text.into()),
            None => Err(io::Error::other("the path it links to is not UTF-8")),
        },
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(ABSOLUTE.into()),
        Err(error) => Err(error),
    }
}

/// WASI's word for a folder with a name in it that is not UTF-8.
fn is_no_text(error: &io::Error) -> bool {
    const ILLEGAL_BYTES: i32 = 25;
    cfg!(target_family = "wasm") && error.raw_os_error() == Some(ILLEGAL_BYTES)
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.into() } else { format!("{folder}/{name}") }
}

/// Whether a link's text, read from the link's own folder, goes above the root.
fn climbs(path: &str, text: &str) -> bool {
    let mut depth = path.matches('/').count();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_goes_above_the_root_climbs() {
        for (path, text, expected) in [
            ("link", "file", false),
            ("link", "..", true),
            ("link", "../service/file", true),
            ("a/link", "..", false),
            ("a/link", "../b/file", false),
            ("a/link", "../../x", true),
            ("a/b/link", "./.././../c", false),
            ("link", "a/../../x", true),
        ] {
            assert_eq!(climbs(path, text), expected, "{path} -> {text}");
        }
    }
}
