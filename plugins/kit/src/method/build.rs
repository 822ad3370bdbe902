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
}

/// Runs build commands, one after the other. Their output goes into the step's log.
///
/// # Errors
/// The first command that does not exit with 0.
pub fn build(commands: &[CommandLine], place: &Workplace) -> Result<(), Error> {
    for line in commands {
        let argv = line
            .shell_arguments(place.values)
            .map_err(|problem| Error::request("read the setting `build`", problem, "mend the command"))?;
        command(&argv, place).checked(
            &format!("build: {}", argv.join(" ")),
            "mend what its last lines say: the command, the service, or a tool that the server lacks",
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
        };
        write_json(&Self::path(deployment, &deployment.release), &finished)?;
        Ok(artifact)
    }

    /// Where a release's mark is.
    pub fn path(deployment: &Deployment, release: &str) -> String {
        under(deployment, &format!("builds/{release}.json"))
    }
}

/// Both streams in one, so that the lines stay in order.
const SCRIPT: &str = r#"
if [ -n "$1" ]; then PATH="$1/bin:$PATH"; VIRTUAL_ENV="$1"; export PATH VIRTUAL_ENV; fi
PORT="${PORT:-$2}"; RELEASE="${RELEASE:-$3}"; export PORT RELEASE
shift 3
exec "$@" 2>&1
"#;

fn command(argv: &[String], place: &Workplace) -> Command {
    let port = place.values.port.to_string();
    let mut words: Vec<&str> = vec!["sh", "-c", SCRIPT, "build"];
    words.extend([place.virtual_environment.unwrap_or_default(), &port, place.values.release]);
    words.extend(argv.iter().map(String::as_str));
    change(words).directory(place.directory).environment_file(place.environment_file).echo()
}
