//! Whether a release could be run again: its files and its program. It only looks.

use deployer_plugin::command::{Run, read};
use deployer_plugin::method::has;
use deployer_plugin::types::{Artifact, Deployment, Error};

use crate::{Paths, launch};

/// The release's files, if they are there: as far as can be told without reading every one.
///
/// # Errors
/// When the target cannot say, or the program that the release was run with is gone.
pub fn inspect(deployment: &Deployment, artifact: Artifact) -> Result<Option<Artifact>, Error> {
    let files = &deployment.layout.files;
    if !read(["sh", "-c", WHOLE, "sh", files]).output()?.succeeded() {
        return Ok(None);
    }
    let kept = launch(&Paths::of(&deployment.layout.root, &deployment.release))?;
    let Some(program) = kept.and_then(|launch| launch.argv.into_iter().next()) else {
        return Ok(Some(artifact));
    };
    // Where the service has a PATH of its own, only the start itself can tell what a bare name is.
    let known = program.contains('/') || !has(&deployment.environment, "PATH");
    if known && !read(["sh", "-c", RUNS, "sh", files, &program]).output()?.succeeded() {
        return Err(Error::target(
            format!("find the program of release {}", deployment.release),
            format!("{program} does not exist, or cannot be executed"),
            format!("install {program} again, or deploy that version again"),
        ));
    }
    Ok(Some(artifact))
}

/// FILES: exits 0 when the folder has files.
const WHOLE: &str = r#"[ -d "$1" ] && [ -n "$(ls -A "$1")" ]"#;

/// FILES PROGRAM: exits 0 when the program can be run from there.
const RUNS: &str = r#"cd "$1" && case $2 in
*/*) [ -f "$2" ] && [ -x "$2" ] ;;
*) command -v -- "$2" >/dev/null ;;
esac"#;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::{RUNS, WHOLE};

    #[test]
    fn files_and_programs_are_there_or_not() {
        let folder = std::env::temp_dir().join(format!("deployer-files-{}", std::process::id()));
        let run = |script: &str, more: &[&str]| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script, "sh"]).arg(&folder).args(more);
            shell.status().expect("a shell").success()
        };
        assert!(!run(WHOLE, &[]), "nothing is there");
        fs::create_dir_all(&folder).expect("a folder");
        assert!(!run(WHOLE, &[]), "nothing is in it");
        let program = folder.join("serve");
        fs::write(&program, "#!/bin/sh\n").expect("a file");
        assert!(run(WHOLE, &[]));
        assert!(run(RUNS, &["sh"]) && !run(RUNS, &["no-such-program"]) && !run(RUNS, &["./serve"]));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
        assert!(run(RUNS, &["./serve"]));
        fs::remove_dir_all(&folder).expect("removed");
    }
}
