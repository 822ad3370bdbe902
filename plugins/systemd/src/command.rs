//! The start command, with its program by the absolute path that systemd wants.

use deployer_plugin::command::{Run, read};
use deployer_plugin::method::{Reader, Start, Values, fast_api, from_target, there, written};
use deployer_plugin::types::{Deployment, Error};

use crate::settings::Settings;
use crate::venv;

/// The release's start command, from its files on the target.
///
/// # Errors
/// When there is none, or its program is not there.
pub fn find(deployment: &Deployment, settings: &Settings) -> Result<Vec<String>, Error> {
    let files = &deployment.layout.files;
    let start = command(deployment, settings, &from_target(files))?.ok_or_else(missing)?;
    let mut argv = start.argv;
    let Some(program) = argv.first_mut() else { return Err(missing()) };
    *program = locate(program, files)?;
    Ok(argv)
}

/// The start command as it is written or guessed.
///
/// # Errors
/// When what is written needs a shell, or a file cannot be read.
pub fn command(deployment: &Deployment, settings: &Settings, read: Reader) -> Result<Option<Start>, Error> {
    let values = Values { port: deployment.port, release: &deployment.release };
    match written(settings.start.as_ref(), values, read)? {
        Some(start) => Ok(Some(start)),
        None => fast_api(values, read),
    }
}

/// What to write when there is no start command.
pub const WRITE_ONE: &str = "set `start = \"COMMAND --port {port}\"` in [settings.systemd], or write a Procfile \
                             with a `web:` line";

/// Where a program is by its bare name on the target; none when its PATH has none.
///
/// # Errors
/// Those of the call.
pub fn in_path(program: &str) -> Result<Option<String>, Error> {
    let script = r#"PATH=$PATH:/usr/local/bin:/usr/sbin:/sbin; command -v -- "$1""#;
    let output = read(["sh", "-c", script, "sh", program]).output()?;
    let path = output.text();
    Ok((output.succeeded() && path.starts_with('/')).then(|| path.to_string()))
}

/// A path in the release's files, for a program written with a slash.
pub fn in_files(program: &str, files: &str) -> Option<String> {
    if program.starts_with('/') {
        return Some(program.to_string());
    }
    let inside = program.trim_start_matches("./");
    program.contains('/').then(|| format!("{files}/{inside}"))
}

fn locate(program: &str, files: &str) -> Result<String, Error> {
    let attempted = format!("find the program {program}");
    if let Some(path) = in_files(program, files) {
        if there(&path)? {
            return Ok(path);
        }
        let next = "fix the start command, or create the file with the setting `build`";
        return Err(Error::request(attempted, format!("{path} does not exist on the target"), next));
    }
    let own = format!("{}/bin/{program}", venv::link(files));
    if there(&own)? {
        return Ok(own);
    }
    in_path(program)?.ok_or_else(|| {
        Error::request(
            attempted,
            "neither the release's virtual environment nor the target has it",
            format!("add it to the requirements, or install {program} on the target"),
        )
    })
}

fn missing() -> Error {
    Error::request(
        "find the start command",
        "the setting `start` is not set, and the service has neither a Procfile with a `web:` line nor a FastAPI application in app/main.py or main.py",
        WRITE_ONE,
    )
}

#[cfg(test)]
mod tests {
    use super::in_files;

    #[test]
    fn a_program_with_a_slash_is_a_path() {
        let check = |program: &str, expect: Option<&str>| {
            assert_eq!(in_files(program, "/opt/web/releases/r2").as_deref(), expect, "{program}");
        };
        check("./hello", Some("/opt/web/releases/r2/hello"));
        check("bin/hello", Some("/opt/web/releases/r2/bin/hello"));
        check("/usr/bin/node", Some("/usr/bin/node"));
        check("node", None);
    }
}
