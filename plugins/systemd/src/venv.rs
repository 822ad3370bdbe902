//! Virtual environments. They cannot be moved, so each is made where it stays, under the digest of the
//! requirements and the Python: releases with equal ones share it, and no pip runs again for them.

use std::collections::BTreeSet;

use deployer_plugin::command::{Run, change, read};
use deployer_plugin::method::{Reader, from_target, there};
use deployer_plugin::target::{self, Kind};
use deployer_plugin::types::{Deployment, Error, Files};
use sha2::{Digest, Sha256};

use crate::settings::Settings;

/// The kind of artifact.
pub const KIND: &str = "virtual-environment";

/// A finished virtual environment.
pub struct Venv {
    pub path: String,
    pub digest: String,
}

impl Venv {
    /// What it takes on the disk, where the target can say.
    ///
    /// # Errors
    /// Those of the call.
    pub fn bytes(&self) -> Result<Option<u64>, Error> {
        let output = read(["du", "-sk", "--", &self.path]).output()?;
        let kilobytes = output.stdout.split_whitespace().next().and_then(|count| count.parse::<u64>().ok());
        Ok(kilobytes.filter(|_| output.succeeded()).map(|count| count.saturating_mul(1024)))
    }
}

/// Makes the release's virtual environment, or takes the one that releases with equal requirements have.
/// None when the service has no requirements.
///
/// # Errors
/// With pip's last lines.
pub fn make(deployment: &Deployment, files: &Files, settings: &Settings) -> Result<Option<Venv>, Error> {
    let reader = from_target(&files.path);
    let Some(requirements) = requirements(&settings.requirements, &reader)? else { return Ok(None) };
    let python = facts(&settings.python)?;
    let digest = digest(&requirements, &python, &deployment.release);
    let all = format!("{}/venvs", deployment.layout.root);
    let path = format!("{all}/{digest}");

    remove_unused(&deployment.layout.root, &path)?;
    if !there(&finished(&path))? {
        target::remove(&path)?;
        create(&path, &settings.python, &deployment.release)?;
        if let Err(error) = install(&path, &files.path, &settings.requirements) {
            // A next build makes it anew; a cut connection leaves it to that one to remove.
            let _ = target::remove(&path);
            return Err(error);
        }
        target::write_file(&finished(&path), b"", 0o644)?;
    }
    target::write_file(&user(&path, &deployment.release), b"", 0o644)?;
    make_link(&path, &files.path)?;
    Ok(Some(Venv { path, digest }))
}

/// Takes a release off a virtual environment, and removes that when it was the last.
///
/// # Errors
/// Those of the target.
pub fn discard(root: &str, digest: &str, release: &str) -> Result<(), Error> {
    if digest.is_empty() || !digest.chars().all(|next| next.is_ascii_hexdigit()) {
        let next = "check that nothing uses it, and remove it by hand";
        return Err(Error::target(
            "remove a virtual environment",
            format!("`{digest}` is not the digest of a virtual environment"),
            next,
        ));
    }
    let path = format!("{root}/venvs/{digest}");
    target::remove(&user(&path, release))?;
    if !unused(root)?.contains(&path) {
        return Ok(());
    }
    remove(&path)
}

/// The link in the release's files by which people and start commands find it.
pub fn link(files: &str) -> String {
    format!("{files}/.venv")
}

/// What a Python says of itself; an error when it cannot make virtual environments.
pub const FACTS: &str = "import ensurepip, os, sys, venv; print(os.path.realpath(sys.executable), sys.version.replace('\\n', ' '))";

/// A requirements file and those that it includes.
#[derive(Debug, Default, PartialEq)]
struct Requirements {
    /// Paths and contents.
    files: Vec<(String, String)>,
    /// Whether one installs from the release's own files, which may differ under equal requirements.
    local: bool,
}

fn finished(path: &str) -> String {
    format!("{path}/.complete")
}

fn user(path: &str, release: &str) -> String {
    format!("{path}/.releases/{release}")
}

fn facts(python: &str) -> Result<String, Error> {
    let next = format!(
        "install venv for {python} on the target (apt-get install python3-venv), or set `python` in [settings.systemd] to one that has it"
    );
    let output = read([python, "-c", FACTS]).checked("ask the target's Python for its version", &next)?;
    Ok(output.text().to_string())
}

fn requirements(file: &str, reader: Reader) -> Result<Option<Requirements>, Error> {
    let mut found = Requirements::default();
    let mut seen = BTreeSet::new();
    let mut open = vec![file.to_string()];
    while let Some(path) = open.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let Some(text) = reader(&path)? else { continue };
        let folder = path.rsplit_once('/').map(|(folder, _)| folder);
        for line in text.lines().map(str::trim) {
            if let Some(included) = included(line) {
                open.push(folder.map_or(included.to_string(), |folder| format!("{folder}/{included}")));
            }
            found.local |= is_local(line);
        }
        found.files.push((path, text));
    }
    Ok((!found.files.is_empty()).then_some(found))
}

/// The file that a line of requirements or constraints includes.
fn included(line: &str) -> Option<&str> {
    let options = ["-r", "--requirement", "-c", "--constraint"];
    let rest = options.iter().find_map(|option| line.strip_prefix(option))?;
    Some(rest.trim_start_matches(['=', ' ', '\t']))
}

fn is_local(line: &str) -> bool {
    let starts = ["-e", "--editable", ".", "/", "file:", "-f", "--find-links"];
    starts.iter().any(|start| line.starts_with(start)) || line.contains("@ file:") || line.contains("@ .")
}

fn digest(requirements: &Requirements, python: &str, release: &str) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    };
    part(python);
    for (path, text) in &requirements.files {
        part(path);
        part(text);
    }
    if requirements.local {
        part(release);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Removes what builds that failed or were cut off have left. One job at a time works on a service.
fn remove_unused(root: &str, wanted: &str) -> Result<(), Error> {
    unused(root)?.iter().filter(|path| *path != wanted).try_for_each(|path| remove(path))
}

/// The virtual environments that are not finished, or that no release uses whose files are there: a release
/// whose build failed after this was made has noted itself as a user, and has no artifact to be discarded.
fn unused(root: &str) -> Result<Vec<String>, Error> {
    let output = read(["sh", "-c", UNUSED, "sh", root]).checked(
        "look for unused virtual environments",
        "check that the SSH user can read the service's folder",
    )?;
    Ok(output.stdout.lines().map(String::from).collect())
}

/// Only folders that are named as this tool names them: a digest, which nobody gives by hand.
const UNUSED: &str = r#"
used() {
  [ -e "$1/.complete" ] || return 1
  for note in "$1/.releases"/*; do
    [ ! -d "$root/releases/${note##*/}" ] || return 0
  done
  return 1
}
root=$1
for path in "$root/venvs"/*/; do
  path=${path%/}
  name=${path##*/}
  case $name in *[!0-9a-f]*) continue ;; esac
  [ "${#name}" = 32 ] && [ ! -L "$path" ] || continue
  [ ! -d "$path" ] || used "$path" || printf '%s\n' "$path"
done
"#;

/// The mark first: what is left of a removal that was cut off is not a finished environment.
fn remove(path: &str) -> Result<(), Error> {
    target::remove(&finished(path))?;
    target::remove(path)
}

/// The release is noted as a user before anything is installed, so that a finished one always has a user.
fn create(path: &str, python: &str, release: &str) -> Result<(), Error> {
    let script =
        r#"umask 022; mkdir -p "$1/.releases" && : >"$1/.releases/$3" && exec "$2" -m venv "$1" 2>&1"#;
    change(["sh", "-c", script, "sh", path, python, release])
        .echo()
        .checked("create the virtual environment", "install venv on the target: apt-get install python3-venv")
        .map(drop)
}

fn install(path: &str, files: &str, requirements: &str) -> Result<(), Error> {
    let script = r#"umask 022; exec "$@" 2>&1"#;
    let python = format!("{path}/bin/python");
    let pip = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"];
    let argv = ["sh", "-c", script, "sh", &python].into_iter().chain(pip).chain(["-r", requirements]);
    change(argv)
        .directory(files)
        .echo()
        .checked(
            "install the requirements",
            "fix what pip's last lines report: a name or version in the requirements, the target's connection to the \
             package index, or a compiler and headers that a package needs",
        )
        .map(drop)
}

fn make_link(path: &str, files: &str) -> Result<(), Error> {
    let link = link(files);
    // One that came with the service's files belongs to another machine.
    if target::stat(&link)?.is_some_and(|found| found.kind != Kind::Link) {
        target::remove(&link)?;
    }
    change(["ln", "-sfn", path, &link])
        .checked("link the virtual environment", "check that the SSH user can write to the release's folder")
        .map(drop)
}

#[cfg(test)]
mod tests {
    use deployer_plugin::types::Error;

    use super::{Requirements, UNUSED, digest, requirements};

    fn read(files: &'static [(&str, &str)]) -> impl Fn(&str) -> Result<Option<String>, Error> {
        move |path| Ok(files.iter().find(|(name, _)| *name == path).map(|(_, text)| text.to_string()))
    }

    fn of(files: &'static [(&str, &str)]) -> Option<Requirements> {
        requirements("requirements.txt", &read(files)).expect("files that can be read")
    }

    #[test]
    fn included_files_count_too() {
        assert_eq!(of(&[]), None);
        let found = of(&[
            ("requirements.txt", "-r more.txt\nfastapi\n"),
            ("more.txt", "-r requirements.txt\nuvicorn"),
        ]);
        let paths: Vec<_> = found.unwrap_or_default().files.into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["requirements.txt", "more.txt"]);
    }

    #[test]
    fn what_is_installed_from_the_release_itself_is_not_shared() {
        let check = |text: &'static str, expect: bool| {
            let files: &'static [(&str, &str)] = Box::leak(Box::new([("requirements.txt", text)]));
            assert_eq!(of(files).unwrap_or_default().local, expect, "{text}");
        };
        check("fastapi==0.100\nuvicorn[standard]", false);
        check("-e .", true);
        check("./libs/x", true);
        check("x @ file:///srv/x", true);
        check("--find-links wheels", true);
    }

    #[test]
    fn equal_requirements_have_equal_digests() {
        let one = of(&[("requirements.txt", "fastapi")]).unwrap_or_default();
        let two = of(&[("requirements.txt", "fastapi\n")]).unwrap_or_default();
        let own = of(&[("requirements.txt", "-e .")]).unwrap_or_default();
        assert_eq!(digest(&one, "3.11", "r1"), digest(&one, "3.11", "r2"));
        assert_ne!(digest(&one, "3.11", "r1"), digest(&one, "3.12", "r1"));
        assert_ne!(digest(&one, "3.11", "r1"), digest(&two, "3.11", "r1"));
        assert_ne!(digest(&own, "3.11", "r1"), digest(&own, "3.11", "r2"));
        assert_eq!(digest(&one, "3.11", "r1").len(), 32);
    }

    #[test]
    fn only_what_this_tool_made_is_unused() {
        let root = std::env::temp_dir().join(format!("deployer-venvs-{}", std::process::id()));
        let make = |path: &str| std::fs::create_dir_all(root.join(path)).expect("a folder");
        let (used, left) = ("0".repeat(32), "a".repeat(32));
        make(&format!("venvs/{used}/.releases/r1"));
        make(&format!("venvs/{used}/.complete"));
        make("releases/r1");
        make(&format!("venvs/{left}/bin"));
        make("venvs/by-hand/bin");
        make("venvs/abc");
        std::os::unix::fs::symlink("/tmp", root.join("venvs").join("b".repeat(32))).expect("a link");
        let output =
            std::process::Command::new("sh").args(["-c", UNUSED, "sh"]).arg(&root).output().expect("a shell");
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(found, format!("{}\n", root.join("venvs").join(&left).display()));
        std::fs::remove_dir_all(&root).expect("removed");
    }
}
