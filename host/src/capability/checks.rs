//! What can be said of a call's arguments by themselves: paths that mean one thing, and sizes. Pure.

use super::limits;
use crate::contract::bindings::deployer::pipeline::target::{Command, Content, Entry};
use crate::contract::{Error, Fault};

/// Paths mean the same whoever reads them: from the root, and straight on.
pub(super) fn checked_path(path: &str) -> Result<(), Error> {
    let problem = if !path.starts_with('/') {
        "it does not begin with `/`"
    } else if path.len() > limits::PATH {
        "it is longer than a path can be"
    } else if path.split('/').any(|name| name == "..") {
        "it has `..` in it"
    } else if path.contains('\0') {
        "it has a NUL character"
    } else {
        return Ok(());
    };
    Err(unfit(
        format!("use the path {:?} on the target", limits::brief(path)),
        problem.into(),
        "the plugin should build its paths on `deployment.layout`",
    ))
}

pub(super) fn checked_content(path: &str, bytes: usize) -> Result<(), Error> {
    if bytes as u64 <= limits::FILE {
        return Ok(());
    }
    let seen = format!("it has {bytes} bytes, and the limit is {}", limits::FILE);
    Err(unfit(
        format!("write {}", limits::brief(path)),
        seen,
        "the plugin should send large files by `upload`",
    ))
}

pub(super) fn checked_command(command: &Command) -> Result<(), Error> {
    for path in command.directory.iter().chain(&command.environment_file) {
        checked_path(path)?;
    }
    let program = limits::brief(command.argv.first().map_or("", String::as_str));
    let attempted = || format!("run `{program}`");
    let words: usize = command.argv.iter().map(|word| word.len() + 1).sum();
    if words > limits::ARGUMENTS {
        let seen = format!("its arguments have {words} bytes, and the limit is {}", limits::ARGUMENTS);
        return Err(unfit(attempted(), seen, "the plugin should pass long data as the command's `input`"));
    }
    let input = command.input.as_ref().map_or(0, Vec::len);
    if input > limits::INPUT {
        let seen = format!("its input has {input} bytes, and the limit is {}", limits::INPUT);
        return Err(unfit(attempted(), seen, "the plugin should send large files by `upload`"));
    }
    Ok(())
}

/// Each entry stays below the destination, whatever links are among them.
pub(super) fn checked_entries(entries: &[Entry]) -> Result<(), Error> {
    let links: std::collections::BTreeSet<&str> = entries
        .iter()
        .filter(|entry| matches!(entry.content, Content::Link(_)))
        .map(|entry| entry.path.as_str())
        .collect();
    for Entry { path, content, .. } in entries {
        let attempted = || format!("upload {}", limits::brief(path));
        if path.len() > limits::PATH {
            let seen = "its path is longer than a path can be".into();
            return Err(unfit(attempted(), seen, "give the file a shorter name"));
        }
        let above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        if let Some(link) = above.into_iter().find(|above| links.contains(above)) {
            let seen = format!("{} above it is a link", limits::brief(link));
            return Err(unfit(
                attempted(),
                seen,
                "the plugin should send the entries of a folder, not what a link points to",
            ));
        }
        if let Content::Link(to) = content
            && !stays_inside(path, to)
        {
            let seen = format!("it is a link that points outside of the folder: {}", limits::brief(to));
            return Err(unfit(attempted(), seen, "make the link point to something in the service's folder"));
        }
    }
    Ok(())
}

/// Whether a link's text leads to something in the folder that the link's own path starts at. Steps up come first in
/// it: after another link they would lead who knows where.
fn stays_inside(path: &str, to: &str) -> bool {
    if to.starts_with('/') || to.len() > limits::PATH || to.contains('\0') {
        return false;
    }
    let names: Vec<&str> = to.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    let up = names.iter().take_while(|name| **name == "..").count();
    let depth = path.split('/').filter(|name| !matches!(*name, "" | ".")).count().saturating_sub(1);
    up <= depth && !names.iter().skip(up).any(|name| *name == "..")
}

fn unfit(attempted: String, seen: String, next: &str) -> Error {
    Error { fault: Fault::Plugin, attempted, seen, next: next.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::bindings::deployer::pipeline::target::{Echo, Effect, File};

    #[test]
    fn paths_are_absolute_and_straight() {
        let check = |path: &str, ok: bool| assert_eq!(checked_path(path).is_ok(), ok, "{path:?}");
        check("/", true);
        check("/opt/fpai/services/a b/..hidden", true);
        check("/opt/a..b/c", true);
        check("", false);
        check("relative", false);
        check("./here", false);
        check("/opt/../etc/shadow", false);
        check("/opt/..", false);
        check("/opt/\0", false);
        check(&format!("/{}", "x".repeat(limits::PATH)), false);
    }

    #[test]
    fn commands_have_a_size() {
        let check = |words: usize, input: usize, part: Option<&str>| {
            let command = Command {
                argv: vec!["true".into(), "x".repeat(words)],
                directory: None,
                environment_file: None,
                input: Some(vec![0; input]),
                effect: Effect::Reads,
                echo: Echo::Quiet,
                timeout_seconds: None,
            };
            match (checked_command(&command), part) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) => {
                    assert!(error.seen.contains(part) && error.seen.len() < 200, "{}", error.seen);
                }
                (result, part) => panic!("{result:?} where {part:?} was expected"),
            }
        };
        check(100 << 10, 1 << 20, None);
        check(128 << 10, 0, Some("its arguments have 131078 bytes"));
        check(1, limits::INPUT + 1, Some("its input has"));
        assert!(checked_content("/x", 16 << 20).is_ok());
        assert!(checked_content("/x", (16 << 20) + 1).unwrap_err().seen.contains("the limit is"));
    }

    #[test]
    fn uploads_stay_below_their_destination() {
        let link = |path: &str, to: &str| Entry {
            path: path.into(),
            content: Content::Link(to.into()),
            mode: 0o777,
        };
        let file = |path: &str| Entry {
            path: path.into(),
            content: Content::File(File { size: 1, sha256: String::new() }),
            mode: 0o644,
        };
        let check = |entries: &[Entry], part: Option<&str>| match (checked_entries(entries), part) {
            (Ok(()), None) => {}
            (Err(error), Some(part)) => assert!(error.seen.contains(part), "{}", error.seen),
            (result, part) => panic!("{result:?} where {part:?} was expected"),
        };
        check(&[file("a/b"), link("a/c", "b"), link("d", "a/b"), link("a/x/y", "../../d")], None);
        check(&[link("a", "/etc")], Some("points outside"));
        check(&[link("a", "../x")], Some("points outside"));
        check(&[link("a/b", "../../env/1")], Some("points outside"));
        check(&[link("a", "b/../../x")], Some("points outside"));
        check(&[link("a", "b"), file("a/passwd")], Some("a above it is a link"));
        check(&[file("a/b/c"), link("a/b", "c")], Some("a/b above it is a link"));
        check(&[file(&"x".repeat(5000))], Some("longer than a path"));
    }
}
