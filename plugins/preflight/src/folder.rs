//! The service's folder: is it there, is anything in it, and how much? The Transfer plugin says what cannot be sent,
//! and the method what cannot be built or started.

use std::fs;
use std::path::Path;

use deployer_plugin::source::{self, Kind, LEFT_OUT, Unreadable};
use deployer_plugin::text::{bytes, counted};
use deployer_plugin::types::Finding;

#[derive(Debug, Default)]
pub struct Folder {
    files: u64,
    /// Of all files.
    pub bytes: u64,
    /// The first of what cannot be read.
    unreadable: Option<Unreadable>,
}

impl Folder {
    /// Looks at everything but what a transfer leaves out by itself.
    pub fn read(root: &Path) -> Self {
        let walk = source::walk(root, |path, _| !LEFT_OUT.contains(&last(path)));
        let mut folder = Folder { unreadable: walk.unreadable.into_iter().next(), ..Folder::default() };
        for item in walk.items.iter().filter(|item| item.kind == Kind::File) {
            folder.files += 1;
            folder.bytes += fs::metadata(root.join(&item.path)).map_or(0, |attributes| attributes.len());
        }
        folder
    }

    pub fn finding(&self) -> Finding {
        const CHECK: &str = "the service's folder has files";
        match &self.unreadable {
            // With files in it, the Transfer plugin knows whether this one is to be sent.
            _ if self.files > 0 => {
                Finding::passed(CHECK, format!("{}, {}", counted(self.files, "file"), bytes(self.bytes)))
            }
            Some(one) if one.path.is_empty() => Finding::failed(CHECK, &one.why, one.next),
            Some(one) => Finding::failed(CHECK, format!("{}: {}", one.path, one.why), one.next),
            None => Finding::failed(
                CHECK,
                "it has no files",
                "check `service_path`: it must be the folder with the service's files",
            ),
        }
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use deployer_plugin::types::Severity::{self, Failed, Passed};
    use std::os::unix::ffi::OsStrExt;

    fn check(prepare: impl Fn(&Path), severity: Severity, part: &str) {
        let root = tempfile::tempdir().expect("a folder");
        prepare(root.path());
        let finding = Folder::read(root.path()).finding();
        assert_eq!(finding.severity, severity, "{finding:?}");
        assert!(finding.message.contains(part), "{finding:?}");
    }

    fn write(root: &Path, path: &str) {
        let place = root.join(path);
        fs::create_dir_all(place.parent().expect("a parent")).expect("folders");
        fs::write(place, "12345").expect("a file");
    }

    #[test]
    fn what_a_folder_is_told() {
        let some = |root: &Path| {
            write(root, "app/whatever");
            write(root, "notes");
            write(root, ".git/config");
        };
        check(some, Passed, "2 files, 10 bytes");
        check(|_| {}, Failed, "it has no files");
        check(|root| write(root, ".venv/bin/python"), Failed, "it has no files");
        check(|root| fs::remove_dir(root).expect("removed"), Failed, "o such file");
        let unnamed = |root: &Path| {
            let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
            fs::write(root.join(name), "").expect("a file");
        };
        check(unnamed, Failed, "caf\u{fffd}: its name is not UTF-8");
    }
}
