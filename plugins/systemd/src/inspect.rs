//! Whether a release could be run again: its files, its virtual environment, its program. It only looks.

use deployer_plugin::command::{Run, read};
use deployer_plugin::method::read_text;
use deployer_plugin::types::{Artifact, Deployment, Error};

use crate::{unit, venv};

/// The release's artifact, if it is there and whole: as far as can be told without reading every file.
///
/// # Errors
/// When the target cannot say, or the program that the release was run with is gone.
pub fn inspect(deployment: &Deployment, artifact: Artifact) -> Result<Option<Artifact>, Error> {
    let files = &deployment.layout.files;
    let root = &deployment.layout.root;
    let venv = (artifact.kind == venv::KIND).then(|| format!("{root}/venvs/{}", artifact.digest));
    let argv = ["sh", "-c", WHOLE, "sh", files, venv.as_deref().unwrap_or_default()];
    if !read(argv).output()?.succeeded() {
        return Ok(None);
    }
    let kept = read_text(&unit::kept_path(root, &deployment.release))?;
    let Some(program) = kept.as_deref().and_then(program) else { return Ok(Some(artifact)) };
    if !read(["test", "-x", &program]).output()?.succeeded() {
        return Err(Error::target(
            format!("find the program of release {}", deployment.release),
            format!("{program} does not exist, or cannot be executed"),
            format!("install {program} again, or deploy that version again"),
        ));
    }
    Ok(Some(artifact))
}

/// FILES VENV: exits 0 when the release's folder has files, and the virtual environment, if there is one, is
/// finished, is the one that the files lead to, and has an interpreter.
const WHOLE: &str = r#"
[ -d "$1" ] && [ -n "$(ls -A "$1")" ] || exit 1
[ -n "$2" ] || exit 0
[ -e "$2/.complete" ] && [ -x "$2/bin/python" ] && [ "$(readlink "$1/.venv")" = "$2" ]
"#;

/// The program of a unit that this plugin wrote, by its absolute path.
fn program(unit: &str) -> Option<String> {
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart="))?;
    let Some(quoted) = line.strip_prefix('"') else {
        return line.split(' ').next().filter(|word| word.starts_with('/')).map(String::from);
    };
    let mut program = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => program.push(characters.next().filter(|next| matches!(next, '"' | '\\'))?),
            // Both are written twice.
            double @ ('%' | '$') => program.push(characters.next().filter(|next| *next == double)?),
            other => program.push(other),
        }
    }
    program.starts_with('/').then_some(program)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::{WHOLE, program};

    #[test]
    fn the_program_is_read_as_it_was_written() {
        let check = |line: &str, expect: Option<&str>| {
            assert_eq!(program(&format!("[Service]\n{line}\n")).as_deref(), expect, "{line}");
        };
        check("ExecStart=/usr/bin/python3 server.py", Some("/usr/bin/python3"));
        check("ExecStart=/opt/web/run", Some("/opt/web/run"));
        check(r#"ExecStart="/opt/my web/100%% \"x\"/$$y" --port 1"#, Some(r#"/opt/my web/100% "x"/$y"#));
        check("ExecStart=python3", None);
        check("ExecStart=\"/opt/open", None);
        check("Type=exec", None);
    }

    #[test]
    fn a_release_is_whole_or_it_is_not() {
        let folder = std::env::temp_dir().join(format!("deployer-inspect-{}", std::process::id()));
        let (files, venv) = (folder.join("files"), folder.join("venv"));
        let whole = |with: bool| {
            let venv = if with { venv.display().to_string() } else { String::new() };
            let argv = ["-c", WHOLE, "sh", &files.display().to_string(), &venv];
            Command::new("sh").args(argv).status().expect("a shell").success()
        };
        assert!(!whole(false), "nothing is there");
        fs::create_dir_all(&files).expect("a folder");
        assert!(!whole(false), "nothing is in it");
        fs::write(files.join("server.py"), "").expect("a file");
        assert!(whole(false) && !whole(true));
        fs::create_dir_all(venv.join("bin")).expect("a folder");
        fs::write(venv.join(".complete"), "").expect("a file");
        let python = folder.join("python3");
        fs::write(&python, "#!/bin/sh\n").expect("a file");
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).expect("its mode");
        symlink(&python, venv.join("bin/python")).expect("a link");
        assert!(!whole(true), "the files do not lead to it");
        symlink(&venv, files.join(".venv")).expect("a link");
        assert!(whole(true));
        fs::remove_file(&python).expect("removed");
        assert!(!whole(true), "its interpreter is gone");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
