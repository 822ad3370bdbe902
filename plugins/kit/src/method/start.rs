//! Finding a service's start command: the setting, else its Procfile, else what it looks like.

use super::command_line::{CommandLine, Values};
use super::store::Reader;
use crate::types::Error;

/// A start command, and who says so.
#[derive(Debug, PartialEq)]
pub struct Start {
    pub argv: Vec<String>,
    pub origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin {
    Setting,
    Procfile,
    /// Nobody says so: the service is a FastAPI application.
    FastApi,
}

impl Start {
    /// For findings and logs.
    pub fn describe(&self) -> String {
        let origin = match self.origin {
            Origin::Setting => "from the setting `start`",
            Origin::Procfile => "from the Procfile",
            Origin::FastApi => "for a FastAPI application",
        };
        format!("{} ({origin})", self.argv.join(" "))
    }
}

/// The start command that the setting, or else the Procfile's `web:` line, gives.
///
/// # Errors
/// When there is one that cannot be run without a shell.
pub fn written(setting: Option<&CommandLine>, values: Values, read: Reader) -> Result<Option<Start>, Error> {
    if let Some(line) = setting {
        return arguments(line, values, "the setting `start`").map(|argv| found(argv, Origin::Setting));
    }
    let Some(procfile) = read("Procfile")? else { return Ok(None) };
    let Some(line) = web_line(&procfile) else { return Ok(None) };
    arguments(&CommandLine::Text(line), values, "the Procfile's `web:` line")
        .map(|argv| found(argv, Origin::Procfile))
}

/// The start command of a FastAPI application in `app/main.py` or `main.py`.
///
/// # Errors
/// When a file cannot be read.
pub fn fast_api(values: Values, read: Reader) -> Result<Option<Start>, Error> {
    for (file, module) in [("app/main.py", "app.main:app"), ("main.py", "main:app")] {
        if read(file)?.is_some_and(|source| defines_application(&source)) {
            let port = values.port.to_string();
            let argv = ["uvicorn", module, "--host", "0.0.0.0", "--port", &port];
            return Ok(found(argv.map(String::from).to_vec(), Origin::FastApi));
        }
    }
    Ok(None)
}

/// Whether a `requirements.txt` asks for a package, by itself or with the extras that bring `uvicorn`.
pub fn lists_requirement(requirements: &str, package: &str) -> bool {
    requirements.lines().any(|line| {
        let line = line.trim().to_ascii_lowercase().replace(['_', '.'], "-");
        let name: String =
            line.chars().take_while(|next| next.is_ascii_alphanumeric() || *next == '-').collect();
        let extras = line.strip_prefix(&name).unwrap_or_default().trim_start();
        name == package
            || (package == "uvicorn"
                && name == "fastapi"
                && (extras.starts_with("[standard") || extras.starts_with("[all")))
    })
}

fn found(argv: Vec<String>, origin: Origin) -> Option<Start> {
    Some(Start { argv, origin })
}

fn arguments(line: &CommandLine, values: Values, origin: &str) -> Result<Vec<String>, Error> {
    line.arguments(values).map_err(|problem| {
        Error::request(format!("read the start command from {origin}"), problem, "fix the command")
    })
}

fn web_line(procfile: &str) -> Option<String> {
    procfile.lines().find_map(|line| Some(line.trim().strip_prefix("web:")?.trim().to_string()))
}

/// Whether a Python module has `app = FastAPI(` at its top level.
fn defines_application(source: &str) -> bool {
    source.lines().any(|line| {
        let Some((left, right)) = line.split_once('=') else { return false };
        let name = left.split(':').next().unwrap_or_default();
        let value = right.trim_start();
        name.trim_end() == "app" && (value.starts_with("FastAPI(") || value.starts_with("fastapi.FastAPI("))
    })
}

#[cfg(test)]
mod tests {
    use super::{CommandLine, Origin, Start, Values, fast_api, lists_requirement, written};

    const VALUES: Values = Values { port: 8001, release: "r1" };

    fn find(setting: Option<&str>, files: &[(&str, &str)]) -> Option<Start> {
        let read =
            |path: &str| Ok(files.iter().find(|(name, _)| *name == path).map(|(_, text)| text.to_string()));
        let setting = setting.map(|text| CommandLine::Text(text.into()));
        match written(setting.as_ref(), VALUES, &read).expect("a start command that can be read") {
            Some(start) => Some(start),
            None => fast_api(VALUES, &read).expect("files that can be read"),
        }
    }

    #[test]
    fn the_setting_goes_before_the_procfile_and_both_before_a_guess() {
        let check = |setting: Option<&str>, files: &[(&str, &str)], expect: Option<(&str, Origin)>| {
            let start = find(setting, files).map(|start| (start.argv.join(" "), start.origin));
            assert_eq!(
                start,
                expect.map(|(argv, origin)| (argv.to_string(), origin)),
                "{setting:?} {files:?}"
            );
        };
        let procfile = ("Procfile", "release: migrate\nweb: gunicorn app:app -b 0.0.0.0:$PORT\n");
        let main = ("app/main.py", "from fastapi import FastAPI\n\napp = FastAPI(title=\"x\")\n");
        let uvicorn = "uvicorn app.main:app --host 0.0.0.0 --port 8001";
        check(Some("./run"), &[procfile, main], Some(("./run", Origin::Setting)));
        check(None, &[procfile, main], Some(("gunicorn app:app -b 0.0.0.0:8001", Origin::Procfile)));
        check(None, &[main], Some((uvicorn, Origin::FastApi)));
        check(None, &[("Procfile", "worker: x\n"), main], Some((uvicorn, Origin::FastApi)));
        check(None, &[("app/main.py", "app: FastAPI = fastapi.FastAPI()")], Some((uvicorn, Origin::FastApi)));
        let flat = "uvicorn main:app --host 0.0.0.0 --port 8001";
        check(None, &[("main.py", "app=FastAPI(")], Some((flat, Origin::FastApi)));
        check(None, &[("main.py", "def make():\n    app = FastAPI()\n")], None);
        check(None, &[("main.py", "application = FastAPI()")], None);
        check(None, &[], None);
    }

    #[test]
    fn a_procfile_that_needs_a_shell_says_so() {
        let read = |_: &str| Ok(Some("web: migrate && serve".to_string()));
        let error = written(None, VALUES, &read).expect_err("a shell operator");
        assert!(error.seen.contains("sh -c"), "{error:?}");
    }

    #[test]
    fn requirements_are_read_by_name() {
        let check =
            |text: &str, expect: bool| assert_eq!(lists_requirement(text, "uvicorn"), expect, "{text}");
        check("fastapi==0.100\nuvicorn[standard]>=0.20\n", true);
        check("Uvicorn ; python_version > '3.8'", true);
        check("fastapi[standard]", true);
        check("fastapi\n# uvicorn\nuvicorn-worker", false);
        check("", false);
    }
}
