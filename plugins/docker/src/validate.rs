//! What must hold before an image is built.

use deployer_plugin::command::Run;
use deployer_plugin::method::{from_service, kept_by_shell, multi_line, takes_over};
use deployer_plugin::target::Output;
use deployer_plugin::types::{Deployment, Error, Finding};

use crate::client::{Client, State};
use crate::container::KIND;
use crate::dockerfile::is_from;
use crate::settings::Settings;

/// Findings of the settings and the service first, then of the server.
///
/// # Errors
/// When the server cannot be asked.
pub fn validate(deployment: &Deployment, settings: &Settings) -> Result<Vec<Finding>, Error> {
    let mut findings: Vec<Finding> = settings
        .problems()
        .into_iter()
        .map(|(seen, next)| Finding::failed("docker settings", seen, next))
        .collect();
    findings.extend(takes_over(deployment, KIND));
    findings.push(dockerfile(settings)?);
    let client_holds = multi_line(&deployment.environment);
    findings.extend(of_the_client(&client_holds));
    findings.extend(kept_by_shell(&client_holds)?);
    let Some(client) = Client::find()? else {
        findings.push(Finding::failed(
            "docker is installed",
            "the server has no docker client in its PATH",
            "install docker.io there, or choose another deployment method",
        ));
        return Ok(findings);
    };
    let version = client.read(["version", "--format", "{{.Server.Version}}"]).output()?;
    if !version.succeeded() {
        findings.push(unanswered(&version));
        return Ok(findings);
    }
    findings.push(engine(version.text()));
    findings.extend(processors(&client, settings)?);
    findings.push(port(&client, deployment)?);
    Ok(findings)
}

fn dockerfile(settings: &Settings) -> Result<Finding, Error> {
    let path = &settings.dockerfile;
    Ok(match from_service(path)? {
        Some(text) if text.lines().any(is_from) => Finding::passed("the Dockerfile is there", path.clone()),
        Some(_) => Finding::failed(
            "the Dockerfile is there",
            format!("{path} has no FROM line"),
            "write which image it starts from",
        ),
        None => Finding::failed(
            "the Dockerfile is there",
            format!("the service has no {path}"),
            "write one, set `dockerfile` to where it is, or choose the method `systemd`, which needs none",
        ),
    })
}

/// Docker's own file of variables holds one-line values only; the client itself has the others in its environment,
/// from where it takes them into the container. Under these names it would take them for its own.
fn of_the_client(names: &[String]) -> Option<Finding> {
    let is_own = |name: &&str| {
        let upper = name.to_ascii_uppercase();
        matches!(upper.as_str(), "PATH" | "HOME")
            || upper.starts_with("DOCKER_")
            || upper.starts_with("LD_")
            || upper.ends_with("_PROXY")
    };
    let own: Vec<&str> = names.iter().map(String::as_str).filter(is_own).collect();
    (!own.is_empty()).then(|| {
        Finding::failed(
            "the service's variables reach the container",
            format!(
                "the values of {} have line breaks, or 32 KiB and more, and under such a name the docker client \
                 would take them for its own settings",
                own.join(", ")
            ),
            "give them on one line, or under another name",
        )
    })
}

/// Why the engine does not answer, and what to do.
fn unanswered(output: &Output) -> Finding {
    let text = output.stderr.to_ascii_lowercase();
    let next = if text.contains("permission denied") {
        "add the SSH user to the server's group `docker` and connect again, or connect as root"
    } else if text.contains("cannot connect") || text.contains("daemon running") {
        "start the engine on the server: systemctl enable --now docker; if it fails: journalctl -u docker"
    } else {
        "make `docker version` work for the SSH user on the server"
    };
    Finding::failed("the docker engine answers", output.ending(), next)
}

fn engine(version: &str) -> Finding {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    let known = (numbers.next(), numbers.next());
    match known {
        (Some(major), Some(minor)) if (major, minor) < (20, 10) => Finding::warning(
            "the docker engine answers",
            format!("it is version {version}; this method was made for 20.10 and later"),
            "update docker on the server if a step fails",
        ),
        _ => Finding::passed("the docker engine answers", format!("version {version}")),
    }
}

/// Docker refuses to run a container with more processors than there are.
fn processors(client: &Client, settings: &Settings) -> Result<Option<Finding>, Error> {
    let Some(cpus) = settings.cpus else { return Ok(None) };
    let output = client.read(["info", "--format", "{{.NCPU}}"]).output()?;
    let Ok(there) = output.text().parse::<f64>() else { return Ok(None) };
    Ok(Some(if cpus > there {
        Finding::failed(
            "enough processors",
            format!("`cpus` is {cpus}, and the server has {there}"),
            format!("set it to {there} or less"),
        )
    } else {
        Finding::passed("enough processors", format!("{cpus} of {there}"))
    }))
}

fn port(client: &Client, deployment: &Deployment) -> Result<Finding, Error> {
    let check = format!("no other container has port {}", deployment.port);
    let published = client.list(&format!("publish={}/tcp", deployment.port), State::Running)?;
    let other = published.into_iter().find(|container| container.service != deployment.service);
    Ok(match other {
        None => Finding::passed(check, ""),
        Some(other) => Finding::failed(
            check,
            format!("the container {} publishes it", other.name),
            format!("choose another port, or stop it: docker stop {}", other.name),
        ),
    })
}

#[cfg(test)]
mod tests {
    use deployer_plugin::target::{Exit, Output};
    use deployer_plugin::types::Severity;

    use super::{engine, of_the_client, unanswered};

    #[test]
    fn an_engine_that_does_not_answer_says_what_to_do() {
        let check = |stderr: &str, expect: &str| {
            let output = Output { exit: Exit::Code(1), stdout: String::new(), stderr: stderr.into() };
            let finding = unanswered(&output);
            assert!(finding.next.contains(expect) && finding.message.contains(stderr), "{finding:?}");
        };
        check("Got permission denied while trying to connect to the Docker daemon socket", "group `docker`");
        check(
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "systemctl",
        );
        check("error during connect: context deadline exceeded", "docker version");
    }

    #[test]
    fn an_old_engine_is_a_warning() {
        let check =
            |version: &str, expect: Severity| assert_eq!(engine(version).severity, expect, "{version}");
        check("20.10.24+dfsg1", Severity::Passed);
        check("28.0.1", Severity::Passed);
        check("19.03.8", Severity::Warning);
        check("dev", Severity::Passed);
    }

    #[test]
    fn a_value_that_would_change_the_client_is_refused() {
        let check = |names: &[&str], expect: Option<&str>| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let finding = of_the_client(&names);
            assert_eq!(finding.as_ref().map(|finding| finding.severity), expect.map(|_| Severity::Failed));
            let message = finding.map(|finding| finding.message).unwrap_or_default();
            assert!(message.contains(expect.unwrap_or_default()), "{message}");
        };
        check(&[], None);
        check(&["KEY", "HOMEPAGE", "PATHS", "PROXY", "MY_DOCKER_HOST", "OLD_LD"], None);
        check(&["KEY", "DOCKER_HOST", "PATH"], Some("the values of DOCKER_HOST, PATH have line breaks"));
        check(&["HOME"], Some("HOME"));
        check(&["LD_PRELOAD"], Some("LD_PRELOAD"));
        check(&["https_proxy", "NO_PROXY"], Some("https_proxy, NO_PROXY"));
    }
}
