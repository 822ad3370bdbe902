//! The service's folder: is it there, and can it be what is deployed?

use std::fs;
use std::path::Path;

use deployer_plugin::source::{self, Kind, LEFT_OUT, Leads, Unreadable};
use deployer_plugin::text::{bytes, counted};
use deployer_plugin::types::Finding;

#[derive(Debug, Default)]
pub struct Folder {
    pub files: u64,
    /// Of all files.
    pub bytes: u64,
    unreadable: Vec<Unreadable>,
    /// Links, as `path -> text`.
    outside: Vec<String>,
    dangling: Vec<String>,
    /// Sockets, pipes, devices.
    special: Vec<String>,
    /// The first file that says how the service is built or started.
    sign: Option<String>,
}

impl Folder {
    /// Looks at everything but what a transfer leaves out by itself.
    pub fn read(root: &Path) -> Self {
        let walk = source::walk(root, |path, _| !LEFT_OUT.contains(&last(path)));
        let mut folder = Folder { unreadable: walk.unreadable, ..Folder::default() };
        for item in walk.items {
            match item.kind {
                Kind::Directory => {}
                Kind::File => folder.file(root, item.path),
                Kind::Link(text) => folder.link(root, &item.path, &text),
                Kind::Special => folder.special.push(item.path),
            }
        }
        folder
    }

    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![self.content()];
        if self.files > 0 {
            findings.push(self.recognised());
        }
        findings.push(self.links());
        if !self.special.is_empty() {
            findings.push(Finding::warning(
                "the service has only files, folders and links",
                format!("sockets, pipes or devices: {}", some(&self.special)),
                "remove them, or name them in .deployignore: they cannot be transferred",
            ));
        }
        findings
    }

    fn content(&self) -> Finding {
        const CHECK: &str = "the service's folder can be read";
        if !self.unreadable.is_empty() {
            let all: Vec<String> =
                self.unreadable.iter().map(|one| format!("{}: {}", place(&one.path), one.why)).collect();
            return Finding::failed(
                CHECK,
                some(&all),
                "see that the folder is there, and that the deployer's user may read all of it",
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

    fn recognised(&self) -> Finding {
        const CHECK: &str = "the folder looks like a service";
        match &self.sign {
            Some(sign) => Finding::passed(CHECK, format!("it has {sign}")),
            None => Finding::warning(
                CHECK,
                "nothing in it says how the service is built or started",
                "check service_path, and that the method's settings say how to build and start it",
            ),
        }
    }

    fn links(&self) -> Finding {
        const CHECK: &str = "links stay inside of the service";
        if !self.outside.is_empty() {
            return Finding::warning(
                CHECK,
                format!("these lead out of it: {}", some(&self.outside)),
                "put what they point to into the folder, or name them in .deployignore: Transfer refuses them",
            );
        }
        if !self.dangling.is_empty() {
            return Finding::warning(
                CHECK,
                format!("these lead to nothing: {}", some(&self.dangling)),
                "mend or remove them, if the service needs what they point to",
            );
        }
        Finding::passed(CHECK, "none leads out of it or to nothing")
    }

    fn file(&mut self, root: &Path, path: String) {
        match fs::metadata(root.join(&path)) {
            Ok(attributes) => {
                self.files += 1;
                self.bytes += attributes.len();
            }
            Err(error) => self.unreadable.push(Unreadable { path: path.clone(), why: error.to_string() }),
        }
        if self.sign.is_none() && is_sign(&path) {
            self.sign = Some(path);
        }
    }

    fn link(&mut self, root: &Path, path: &str, text: &str) {
        let link = format!("{path} -> {text}");
        match source::leads(root, path, text) {
            Leads::Inside => {}
            Leads::Nowhere => self.dangling.push(link),
            Leads::Outside => self.outside.push(link),
        }
    }
}

/// Files, at the top of a folder, that say how a service is built or started.
const SIGNS: [&str; 15] = [
    "Dockerfile",
    "Containerfile",
    "Procfile",
    "requirements.txt",
    "pyproject.toml",
    "setup.py",
    "package.json",
    "go.mod",
    "Cargo.toml",
    "pom.xml",
    "build.gradle",
    "Gemfile",
    "composer.json",
    "Makefile",
    "index.html",
];
/// The beginnings of names of files that start a program.
const ENTRIES: [&str; 4] = ["main.", "app.", "server.", "start."];
/// How many names a message has.
const NAMED: usize = 5;

fn is_sign(path: &str) -> bool {
    let name = last(path);
    let entry = ENTRIES.iter().any(|entry| name.starts_with(entry));
    match path.split('/').count() {
        1 => entry || SIGNS.contains(&name),
        2 => path.starts_with("app/") && entry,
        _ => false,
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn place(path: &str) -> &str {
    if path.is_empty() { "the folder itself" } else { path }
}

fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().map(String::as_str).take(NAMED).collect();
    let shown = shown.join(", ");
    match names.len().checked_sub(NAMED) {
        Some(more) if more > 0 => format!("{shown}, and {more} more"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deployer_plugin::types::Severity;
    use std::os::unix::fs::symlink;

    /// What each check of a folder says, in short.
    fn check(prepare: impl Fn(&Path), expected: &[(Severity, &str)]) {
        let root = tempfile::tempdir().expect("a folder");
        prepare(root.path());
        let findings = Folder::read(root.path()).findings();
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, (severity, text)) in findings.iter().zip(expected) {
            assert_eq!(finding.severity, *severity, "{finding:?}");
            assert!(finding.message.contains(text), "{finding:?}");
            assert_eq!(finding.next.is_empty(), finding.severity == Severity::Passed, "{finding:?}");
        }
    }

    fn write(root: &Path, path: &str) {
        let place = root.join(path);
        fs::create_dir_all(place.parent().expect("a parent")).expect("folders");
        fs::write(place, "12345").expect("a file");
    }

    #[test]
    fn what_a_folder_is_told() {
        use Severity::{Failed, Passed, Warning};
        check(
            |root| {
                write(root, "app/main.py");
                write(root, "requirements.txt");
                write(root, ".git/config");
                fs::create_dir_all(root.join(".venv")).expect("a folder");
                symlink("/usr/bin/python3", root.join(".venv/python")).expect("a link");
            },
            &[(Passed, "2 files, 10 bytes"), (Passed, "app/main.py"), (Passed, "none leads out")],
        );
        check(|_| {}, &[(Failed, "no file"), (Passed, "none")]);
        check(
            |root| fs::remove_dir(root).expect("removed"),
            &[(Failed, "the folder itself: "), (Passed, "none")],
        );
        check(
            |root| {
                write(root, "notes/about");
                symlink("../..", root.join("notes/up")).expect("a link");
                symlink("gone", root.join("down")).expect("a link");
            },
            &[(Passed, "1 file,"), (Warning, "nothing"), (Warning, "notes/up -> ../..")],
        );
        check(
            |root| {
                write(root, "Dockerfile");
                symlink("gone", root.join("down")).expect("a link");
            },
            &[(Passed, "1 file,"), (Passed, "Dockerfile"), (Warning, "lead to nothing: down -> gone")],
        );
    }
}
