//! The service's folder: is it there, is anything in it, and how much? What cannot be sent is the carrier's to say,
//! and what cannot be built or started the method's.

use std::fs;
use std::path::Path;

use deployer_plugin::source::{self, Kind, LEFT_OUT};
use deployer_plugin::text::{bytes, counted};
use deployer_plugin::types::Finding;

#[derive(Debug, Default)]
pub struct Folder {
    files: u64,
    /// Of all files.
    pub bytes: u64,
    /// Why the folder itself cannot be read.
    unreadable: Option<String>,
}

impl Folder {
    /// Looks at everything but what a transfer leaves out by itself.
    pub fn read(root: &Path) -> Self {
        let walk = source::walk(root, |path, _| !LEFT_OUT.contains(&last(path)));
        let itself = walk.unreadable.into_iter().find(|one| one.path.is_empty());
        let mut folder = Folder { unreadable: itself.map(|one| one.why), ..Folder::default() };
        for item in walk.items.iter().filter(|item| item.kind == Kind::File) {
            folder.files += 1;
            folder.bytes += fs::metadata(root.join(&item.path)).map_or(0, |attributes| attributes.len());
        }
        folder
    }

    pub fn finding(&self) -> Finding {
        const CHECK: &str = "the service's folder has files";
        if let Some(why) = &self.unreadable {
            return Finding::failed(
                CHECK,
                why,
                "see that the folder is there, and that the deployer's user may read it",
            );
        }
        if self.files == 0 {
            return Finding::failed(
                CHECK,
                "there is no file in it",
                "check service_path: it must be the folder that has the service's files",
            );
        }
        Finding::passed(CHECK, format!("{}, {}", counted(self.files, "file"), bytes(self.bytes)))
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use deployer_plugin::types::Severity::{self, Failed, Passed};

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
        check(|_| {}, Failed, "there is no file in it");
        check(|root| write(root, ".venv/bin/python"), Failed, "there is no file in it");
        check(|root| fs::remove_dir(root).expect("removed"), Failed, "o such file");
    }
}
