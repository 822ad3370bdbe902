//! What must hold before anything is built.

use deployer_plugin::command::{Run, read};
use deployer_plugin::method::{
    Origin, Start, from_service, kept_by_shell, lists_requirement, names, takes_over, there,
};
use deployer_plugin::types::{Deployment, Error, Finding, Severity};

use crate::owner::{self, Owner};
use crate::settings::Settings;
use crate::venv::FACTS;
use crate::{account, command, unit};

/// Findings of the settings and the service first, then of the server.
///
/// # Errors
/// When the server cannot be asked.
pub fn validate(deployment: &Deployment, settings: &Settings) -> Result<Vec<Finding>, Error> {
    let mut findings: Vec<Finding> = settings
        .problems()
        .into_iter()
        .map(|(seen, next)| Finding::failed("the systemd settings are valid", seen, next))
        .collect();
    findings.extend(takes_over(deployment, unit::KIND));
    let requirements = from_service(&settings.requirements)?;
    findings.push(start_command(deployment, settings, requirements.as_deref())?);
    let booted = booted()?;
    if booted.severity == Severity::Passed {
        let owner = owner::owner(deployment)?;
        findings.extend(owner::findings(deployment, &owner)?);
        let installed = match &owner {
            Owner::Us(user) => Some(user.as_str()),
            Owner::Nobody | Owner::Somebody { .. } => None,
        };
        findings.extend(account::findings(&deployment.service, settings, installed)?);
    }
    findings.push(booted);
    findings.push(root()?);
    if !settings.build.is_empty() {
        // systemd itself sets every name; the shell that runs the build commands does not.
        findings.extend(kept_by_shell(&names(&deployment.environment))?);
    }
    if requirements.is_some() {
        findings.push(python(deployment, settings)?);
    }
    Ok(findings)
}

const START: &str = "there is a start command";

fn start_command(
    deployment: &Deployment,
    settings: &Settings,
    requirements: Option<&str>,
) -> Result<Finding, Error> {
    let start = match command::command(deployment, settings, &from_service) {
        Ok(Some(start)) => start,
        Ok(None) => {
            let seen = "the setting `start` is not set, and the service has neither a Procfile with a `web:` \
                        line nor a FastAPI application in app/main.py or main.py";
            return Ok(Finding::failed(START, seen, command::WRITE_ONE));
        }
        Err(error) => return Ok(Finding::failed(START, error.seen, error.next)),
    };
    if let Some(finding) = lacks_uvicorn(&start, settings, requirements) {
        return Ok(finding);
    }
    program(&start, deployment, requirements.is_some() || !settings.build.is_empty())
}

/// A guessed command needs uvicorn, which nobody promised.
fn lacks_uvicorn(start: &Start, settings: &Settings, requirements: Option<&str>) -> Option<Finding> {
    let listed = requirements.is_some_and(|text| lists_requirement(text, "uvicorn") || text.contains("-r "));
    let promised = start.origin != Origin::FastApi || listed || !settings.build.is_empty();
    (!promised).then(|| {
        Finding::failed(
            START,
            format!("{} needs uvicorn, which {} does not list", start.describe(), settings.requirements),
            format!("add uvicorn to {}, or write another start command", settings.requirements),
        )
    })
}

/// A program that no build can bring must be on the server already.
fn program(start: &Start, deployment: &Deployment, built: bool) -> Result<Finding, Error> {
    let program = start.argv.first().map(String::as_str).unwrap_or_default();
    let in_files = command::in_files(program, &deployment.layout.files);
    let there = match in_files {
        Some(path) if program.starts_with('/') => there(&path)?,
        Some(_) => true,
        None => built || command::in_path(program)?.is_some(),
    };
    Ok(if there {
        Finding::passed(START, start.describe())
    } else {
        Finding::failed(
            START,
            format!("{}: the target has no {program}", start.describe()),
            format!(
                "install {program} on the target, add it to the requirements, or create it with the setting `build`"
            ),
        )
    })
}

fn booted() -> Result<Finding, Error> {
    let check = "the target runs systemd";
    Ok(if there("/run/systemd/system")? && command::in_path("systemctl")?.is_some() {
        Finding::passed(check, "")
    } else {
        Finding::failed(
            check,
            "it has no /run/systemd/system or no systemctl",
            "choose the method `docker` or `process` for this target",
        )
    })
}

fn root() -> Result<Finding, Error> {
    let check = "the SSH user may create units and users";
    let id = read(["id", "-u"]).output()?;
    Ok(if id.text() == "0" {
        Finding::passed(check, "it is root")
    } else {
        let seen = format!("its user id is {}", id.text());
        Finding::failed(check, seen, "connect as root, or choose the method `docker` or `process`")
    })
}

fn python(deployment: &Deployment, settings: &Settings) -> Result<Finding, Error> {
    let check = "Python can create virtual environments";
    let output = read([settings.python.as_str(), "-c", FACTS]).output()?;
    if !output.succeeded() {
        return Ok(Finding::failed(
            check,
            format!("{}: {}", settings.python, output.ending()),
            "install it on the target (apt-get install python3-venv), or set `python` in [settings.systemd] to one that has venv",
        ));
    }
    let facts = output.text();
    let user = account::user(&deployment.service, settings);
    let hidden = ["/root/", "/home/"].iter().any(|folder| facts.starts_with(folder));
    if hidden && settings.hardening && user != "root" {
        return Ok(Finding::failed(
            check,
            format!("it is {facts}, which the service's user {user} may not read"),
            "set `python` to one outside of home folders, such as /usr/bin/python3",
        ));
    }
    Ok(Finding::passed(check, facts))
}
