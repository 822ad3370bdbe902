//! Running the build commands of a service in its release's folder, and remembering that a build is done.

use serde::{Deserialize, Serialize};

use super::command_line::{CommandLine, Values};
use super::store::{read_json, write_json};
use super::under;
use crate::command::{Run, change};
use crate::target::Command;
use crate::types::{Artifact, Deployment, Error, Files};

/// Where build commands run.
pub struct Workplace<'a> {
    pub directory: &'a str,
    /// A virtual environment whose programs come first.
    pub virtual_environment: Option<&'a str>,
    /// The service's variables, as `environment.place` writes them in `quoted` form.
    pub environment_file: &'a str,
    pub values: Values<'a>,
}

/// The mark of a finished build, in `{root}/builds/{release}.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    files: String,
    kind: String,
    reference: String,
    digest: String,
    bytes: Option<u64>,
}

/// Runs build commands, one after the other. Their output goes into the step's log.
///
/// # Errors
/// The first command that does not exit with 0.
pub fn build(commands: &[CommandLine], place: &Workplace) -> Result<(), Error> {
    for line in commands {
        let argv = line.shell_arguments(place.values).map_err(|problem| {
            Error::request("read the setting `build`", problem, "fix the setting `build`")
        })?;
        command(&argv, place).checked(
            &format!("build: {}", argv.join(" ")),
            "fix what its last lines report: the command, the service, or a tool that the target lacks",
        )?;
    }
    Ok(())
}

impl Finished {
    /// The artifact of a build that was finished for these files, if one was.
    ///
    /// # Errors
    /// Those of reading the mark.
    pub fn artifact(deployment: &Deployment, files: &Files) -> Result<Option<Artifact>, Error> {
        let finished: Option<Finished> = read_json(&Self::path(deployment, &deployment.release))?;
        Ok(finished.filter(|finished| finished.files == files.digest).map(|finished| Artifact {
            kind: finished.kind,
            reference: finished.reference,
            digest: finished.digest,
            bytes: finished.bytes,
        }))
    }

    /// Marks the build as finished.
    ///
    /// # Errors
    /// Those of writing the mark.
    pub fn mark(deployment: &Deployment, files: &Files, artifact: Artifact) -> Result<Artifact, Error> {
        let finished = Finished {
            files: files.digest.clone(),
            kind: artifact.kind.clone(),
            reference: artifact.reference.clone(),
            digest: artifact.digest.clone(),
            bytes: artifact.bytes,
        };
        write_json(&Self::path(deployment, &deployment.release), &finished)?;
        Ok(artifact)
    }

    /// Where a release's mark is.
    pub fn path(deployment: &Deployment, release: &str) -> String {
        under(deployment, &format!("builds/{release}.json"))
    }
}

/// Both streams in one, so that the lines stay in order. The service's variables come last, and nothing but the
/// command after them: another shell would keep an `IFS` to itself, and a `PATH` may hide the tools.
const SCRIPT: &str = r#"
PORT=$2 RELEASE=$3
export PORT RELEASE
set -a
. "$4"
set +a
if [ -n "$1" ]; then PATH="$1/bin:$PATH" VIRTUAL_ENV=$1; export PATH VIRTUAL_ENV; fi
shift 4
exec "$@" 2>&1
"#;

fn command(argv: &[String], place: &Workplace) -> Command {
    let port = place.values.port.to_string();
    let mut words: Vec<&str> = vec!["sh", "-c", SCRIPT, "build"];
    words.extend([place.virtual_environment.unwrap_or_default(), &port, place.values.release]);
    words.push(place.environment_file);
    words.extend(argv.iter().map(String::as_str));
    change(words).directory(place.directory).echo()
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::{Values, Workplace, command};

    #[test]
    fn variables_arrive_as_they_are() {
        let file = std::env::temp_dir().join(format!("deployer-build-{}", process::id()));
        std::fs::write(&file, "IFS=\"a\"\nPATH=\"/nowhere\"\nPS1=\"> \"\nPORT=\"80\"\n").expect("a file");
        let check = |venv: Option<&str>, expect: &[&str]| {
            let place = Workplace {
                directory: "/",
                virtual_environment: venv,
                environment_file: &file.display().to_string(),
                values: Values { port: 8001, release: "r1" },
            };
            let command = command(&["/usr/bin/env".into()], &place);
            let (program, arguments) = command.argv.split_first().expect("a program");
            let output = process::Command::new(program).args(arguments).output().expect("a shell");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            for line in expect {
                assert!(text.lines().any(|found| found == *line), "{line}: {text}");
            }
        };
        check(None, &["IFS=a", "PATH=/nowhere", "PS1=> ", "PORT=80", "RELEASE=r1"]);
        check(Some("/venv"), &["IFS=a", "PATH=/venv/bin:/nowhere", "VIRTUAL_ENV=/venv"]);
        std::fs::remove_file(&file).expect("removed");
    }
}
