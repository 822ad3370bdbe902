//! What of the service's folder cannot be sent, once the exclusions are applied. Nothing is hashed.

use std::path::Path;

use deployer_plugin::source::{self, Item, Kind, Leads, Unreadable};
use deployer_plugin::text::counted;
use deployer_plugin::types::Finding;

use crate::exclusions::Exclusions;
use crate::settings::Settings;

/// Says of each kind of obstacle whether it is there, and where.
pub fn findings(root: &Path, settings: &Settings) -> Vec<Finding> {
    let exclusions = match Exclusions::new(root, settings) {
        Ok(exclusions) => exclusions,
        Err(error) => {
            let seen = format!("could not {}: {}", error.attempted, error.seen);
            return vec![Finding::failed("the exclusion patterns are valid", seen, error.next)];
        }
    };
    let walk = source::walk(root, |path, is_folder| !exclusions.leave_out(path, is_folder));
    vec![readable(&walk.items, &walk.unreadable), special(&walk.items), links(root, &walk.items)]
}

const LEAVE_OUT: &str = "exclude them in .deployignore or in the setting `exclude` of sftp";
/// How many names a message has.
const NAMED: usize = 5;

fn readable(items: &[Item], unreadable: &[Unreadable]) -> Finding {
    const CHECK: &str = "the files to send can be read";
    if let Some(first) = unreadable.first() {
        let place = |path: &str| if path.is_empty() { "the folder itself".into() } else { path.to_owned() };
        let all = unreadable.iter().map(|one| format!("{}: {}", place(&one.path), one.why));
        return Finding::failed(CHECK, some(all), first.next);
    }
    let files = items.iter().filter(|item| item.kind == Kind::File).count();
    if files == 0 {
        return Finding::failed(
            CHECK,
            "there are no files to send",
            "put the service's files into it, or exclude less (.deployignore, the setting `exclude` of sftp)",
        );
    }
    Finding::passed(CHECK, counted(files as u64, "file"))
}

fn special(items: &[Item]) -> Finding {
    const CHECK: &str = "only files, folders and links are sent";
    let special = items.iter().filter(|item| item.kind == Kind::Special).map(|item| item.path.clone());
    match some(special) {
        none if none.is_empty() => Finding::passed(CHECK, ""),
        some => Finding::failed(
            CHECK,
            format!("these are sockets, pipes or devices, which cannot be sent: {some}"),
            format!("remove them, or {LEAVE_OUT}"),
        ),
    }
}

fn links(root: &Path, items: &[Item]) -> Finding {
    const CHECK: &str = "links stay inside the service's folder";
    let that_lead = |where_to: Leads| {
        some(items.iter().filter_map(|item| match &item.kind {
            Kind::Link(text) if source::leads(root, &item.path, text) == where_to => {
                Some(format!("{} -> {text}", item.path))
            }
            _ => None,
        }))
    };
    let outside = that_lead(Leads::Outside);
    if !outside.is_empty() {
        return Finding::failed(
            CHECK,
            format!("these point outside of it, where the target has other files: {outside}"),
            format!("put what they point to into the folder, or {LEAVE_OUT}"),
        );
    }
    let nowhere = that_lead(Leads::Nowhere);
    if !nowhere.is_empty() {
        return Finding::warning(
            CHECK,
            format!("these point to nothing: {nowhere}"),
            "fix or remove them if the service needs what they point to",
        );
    }
    Finding::passed(CHECK, "none points outside of it or to nothing")
}

/// The first names, and how many more there are.
fn some(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    let shown: Vec<&str> = names.iter().map(String::as_str).take(NAMED).collect();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use deployer_plugin::types::Severity::{self, Failed, Passed, Warning};

    use super::*;

    /// What is said of a folder with `app/main.py`, and with whatever is put into it.
    fn check(exclude: &[&str], prepare: impl Fn(&Path), expect: [(Severity, &str); 3]) {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("app")).expect("a folder");
        fs::write(root.path().join("app/main.py"), "").expect("a file");
        prepare(root.path());
        let exclude = exclude.iter().map(ToString::to_string).collect();
        let found = findings(root.path(), &Settings { exclude, ..Settings::default() });
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (finding, (severity, part)) in found.iter().zip(expect) {
            assert_eq!(finding.severity, severity, "{finding:?}");
            assert!(finding.message.contains(part), "{finding:?}");
            assert_eq!(finding.next.is_empty(), severity == Passed, "{finding:?}");
        }
    }

    const FILES: (Severity, &str) = (Passed, "1 file");
    const NO_SPECIAL: (Severity, &str) = (Passed, "");
    const LINKS: (Severity, &str) = (Passed, "none points outside");

    #[test]
    fn what_cannot_be_sent_is_named() {
        let out = |root: &Path| symlink("../../elsewhere", root.join("app/out")).expect("a link");
        let absolute = |root: &Path| symlink("/usr/bin/python3", root.join("python")).expect("a link");
        let nowhere = |root: &Path| symlink("gone", root.join("down")).expect("a link");
        let socket = |root: &Path| drop(UnixListener::bind(root.join("app/socket")).expect("a socket"));
        check(&[], |_| (), [FILES, NO_SPECIAL, LINKS]);
        check(&[], out, [FILES, NO_SPECIAL, (Failed, "other files: app/out -> ../../elsewhere")]);
        check(&[], absolute, [FILES, NO_SPECIAL, (Failed, "python -> /…")]);
        check(&[], nowhere, [FILES, NO_SPECIAL, (Warning, "point to nothing: down -> gone")]);
        check(&[], socket, [FILES, (Failed, "sent: app/socket"), LINKS]);
        check(&["*.py"], |_| (), [(Failed, "no files to send"), NO_SPECIAL, LINKS]);
        let gone = |root: &Path| fs::remove_dir_all(root).expect("removed");
        check(&[], gone, [(Failed, "the folder itself: "), NO_SPECIAL, LINKS]);
    }

    #[test]
    fn a_name_that_is_no_text_is_told() {
        let unnamed = |root: &Path| {
            fs::write(root.join("app").join(OsStr::from_bytes(b"caf\xe9.txt")), "").expect("a file");
        };
        check(&[], unnamed, [(Failed, "app/caf\u{fffd}.txt: its name is not UTF-8"), NO_SPECIAL, LINKS]);
        check(&["*.py"], unnamed, [(Failed, "app/caf\u{fffd}.txt"), NO_SPECIAL, LINKS]);
    }

    #[test]
    fn what_is_left_out_is_no_obstacle() {
        let prepare = |root: &Path| {
            for folder in [".venv/bin", "node_modules/.bin", "run", "old"] {
                fs::create_dir_all(root.join(folder)).expect("a folder");
                symlink("/usr/bin/python3", root.join(folder).join("python")).expect("a link");
            }
            drop(UnixListener::bind(root.join("run/socket")).expect("a socket"));
            fs::write(root.join(".deployignore"), "/run\n").expect("a list");
        };
        check(&["/old/"], prepare, [FILES, NO_SPECIAL, LINKS]);
        check(&[], prepare, [FILES, NO_SPECIAL, (Failed, "old/python -> /…")]);
    }

    #[test]
    fn a_pattern_that_makes_no_sense_is_the_one_finding() {
        let root = tempfile::tempdir().expect("a folder");
        let settings = Settings { exclude: vec!["a[z-a]".into()], ..Settings::default() };
        let found = findings(root.path(), &settings);
        let [only] = found.as_slice() else { panic!("{found:?}") };
        assert!(only.severity == Failed && only.message.contains("`a[z-a]`"), "{only:?}");
    }
}
