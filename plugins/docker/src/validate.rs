//! What must hold before an image is built.

use deployer_plugin::command::Run;
use deployer_plugin::method::{from_service, kept_by_shell, multi_line, takes_over};
use deployer_plugin::target::Output;
use deployer_plugin::types::{Deployment, Error, Finding};

use crate::base;
use crate::client::{Client, KIND, State, container_name, failed_name, image_tag};
use crate::dockerfile::is_from;
use crate::owner::{Found, find, own, strangers_at};
use crate::settings::Settings;
use crate::tag::{self, Latest};

/// Findings of the settings and the service first, then of the server.
///
/// # Errors
/// When the server cannot be asked.
pub fn validate(deployment: &Deployment, settings: &Settings) -> Result<Vec<Finding>, Error> {
    let mut findings: Vec<Finding> = settings
        .problems()
        .into_iter()
        .map(|(seen, next)| Finding::failed("the docker settings are valid", seen, next))
        .collect();
    findings.extend(takes_over(deployment, KIND));
    let text = from_service(&settings.dockerfile)?;
    findings.push(dockerfile(&settings.dockerfile, text.as_deref()));
    let client_holds = multi_line(&deployment.environment);
    findings.extend(of_the_client(&client_holds));
    findings.extend(kept_by_shell(&client_holds)?);
    let Some(client) = Client::find()? else {
        findings.push(Finding::failed(
            "docker is installed",
            "the SSH user's PATH on the target has no docker client",
            "install Docker there (apt-get install docker.io), extend that PATH, or use another method",
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
    findings.extend(names(&client, deployment)?);
    let latest = tag::latest(&client, deployment, &own(&client, deployment, State::Any)?)?;
    findings.extend(of_the_tag(&tag::name(&deployment.service), &latest, settings.latest));
    let images = base::images(&text.unwrap_or_default(), &settings.build_args);
    let tag = tag::name(&deployment.service);
    let own_base = images.iter().find(|image| base::is_tag(image, &tag));
    findings.extend(own_base.and_then(|image| builds_on_itself(image, &tag, &latest, settings.latest)));
    Ok(findings)
}

fn dockerfile(path: &str, text: Option<&str>) -> Finding {
    match text {
        Some(text) if text.lines().any(is_from) => Finding::passed("the Dockerfile exists", path),
        Some(_) => Finding::failed(
            "the Dockerfile exists",
            format!("{path} has no FROM line"),
            "begin it with `FROM IMAGE`",
        ),
        None => Finding::failed(
            "the Dockerfile exists",
            format!("the service has no {path}"),
            "write one, set `dockerfile` to its path, or choose the method `systemd`, which does not need one",
        ),
    }
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
                "the values of {} have line breaks or 32 KiB and more, and the docker client would read variables \
                 of these names as its own settings",
                own.join(", ")
            ),
            "give each value on one line, or rename the variable",
        )
    })
}

/// Why the engine does not answer, and what to do.
fn unanswered(output: &Output) -> Finding {
    let text = output.stderr.to_ascii_lowercase();
    let next = if text.contains("permission denied") {
        "add the SSH user to the target's group `docker` and deploy again, or connect as root"
    } else if text.contains("cannot connect") || text.contains("daemon running") {
        "start the engine on the target: systemctl enable --now docker; if that fails, see journalctl -u docker"
    } else {
        "make `docker version` work for the SSH user on the target"
    };
    Finding::failed("the docker engine answers", output.ending(), next)
}

fn engine(version: &str) -> Finding {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    let known = (numbers.next(), numbers.next());
    match known {
        (Some(major), Some(minor)) if (major, minor) < (20, 10) => Finding::warning(
            "the docker engine answers",
            format!("it is version {version}, and this method supports 20.10 and later"),
            "update Docker on the target if a step fails",
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
            "the target has enough processors",
            format!("`cpus` is {cpus}, and the target has {there} processors"),
            format!("set `cpus` to {there} or less"),
        )
    } else {
        Finding::passed("the target has enough processors", format!("{cpus} of {there}"))
    }))
}

fn port(client: &Client, deployment: &Deployment) -> Result<Finding, Error> {
    let check = format!("no other container publishes port {}", deployment.port);
    Ok(match strangers_at(client, deployment, deployment.port)?.first() {
        None => Finding::passed(check, ""),
        Some(other) => Finding::failed(
            check,
            format!(
                "the container {} does, and it is not one that this tool started under that name for this service",
                other.name
            ),
            format!("deploy the service to another port, or stop that container: docker stop {}", other.name),
        ),
    })
}

/// The names that this deployment gives must not be somebody else's.
fn names(client: &Client, deployment: &Deployment) -> Result<Vec<Finding>, Error> {
    let (service, release) = (&deployment.service, &deployment.release);
    let mut findings = Vec::new();
    for name in [container_name(service, release), failed_name(service, release)] {
        if let Found::Somebodys(_) = find(client, deployment, &name)? {
            findings.push(Finding::failed(
                "the container's name is free",
                format!("a container {name} exists, and this tool did not create it"),
                format!("rename that container, then deploy again: docker rename {name} OTHER-NAME"),
            ));
        }
    }
    let tag = image_tag(service, release);
    if client.inspect("image", &tag, "{{.Id}}")?.is_some() {
        findings.push(Finding::failed(
            "the image's name is free",
            format!("an image {tag} exists, and this tool did not build it"),
            format!(
                "give that image another name, then deploy again: docker tag {tag} OTHER && docker rmi {tag}"
            ),
        ));
    }
    Ok(findings)
}

fn of_the_tag(tag: &str, latest: &Latest, moved: bool) -> Option<Finding> {
    match latest {
        Latest::Somebodys(_) if moved => Some(Finding::failed(
            format!("the tag {tag} is this service's"),
            tag::foreign(tag),
            tag::next(tag),
        )),
        Latest::Absent | Latest::Ours(_) | Latest::Somebodys(_) => None,
    }
}

/// A build that starts from what this service's deployments tag would be laid upon the last one, each time.
fn builds_on_itself(image: &str, tag: &str, latest: &Latest, moved: bool) -> Option<Finding> {
    let check = "the build does not start from its own result";
    if moved {
        return Some(Finding::failed(
            check,
            format!(
                "the Dockerfile names the image `{image}`, and `{tag}` is the tag that each deployment of this \
                 service gives to its own image"
            ),
            "set `latest = false` in [settings.docker], or give the service another name",
        ));
    }
    match latest {
        Latest::Ours(_) => Some(Finding::failed(
            check,
            format!(
                "the Dockerfile names the image `{image}`, and `{tag}` is an image that this service built"
            ),
            format!(
                "give the tag back to the original image: docker rmi {tag}; then pull the original, or tag it again"
            ),
        )),
        Latest::Absent | Latest::Somebodys(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use deployer_plugin::target::{Exit, Output};
    use deployer_plugin::types::Severity;

    use super::{builds_on_itself, engine, of_the_client, of_the_tag, unanswered};
    use crate::tag::Latest;

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

    #[test]
    fn a_tag_of_somebody_else_is_never_moved_nor_built_upon_twice() {
        let (absent, ours, foreign) =
            (Latest::Absent, Latest::Ours("sha256:1".into()), Latest::Somebodys("sha256:2".into()));
        let check = |latest: &Latest, moved: bool, tag: Option<&str>, base: Option<&str>| {
            let of = |finding: Option<deployer_plugin::types::Finding>| finding.map(|finding| finding.next);
            let found = of(of_the_tag("python:latest", latest, moved));
            assert!(found.is_some() == tag.is_some(), "{latest:?} {moved}: {found:?}");
            assert!(found.unwrap_or_default().contains(tag.unwrap_or_default()), "{latest:?} {moved}");
            let found = of(builds_on_itself("python", "python:latest", latest, moved));
            assert!(found.is_some() == base.is_some(), "{latest:?} {moved}: {found:?}");
            assert!(found.unwrap_or_default().contains(base.unwrap_or_default()), "{latest:?} {moved}");
        };
        check(&absent, true, None, Some("latest = false"));
        check(&absent, false, None, None);
        check(&ours, true, None, Some("latest = false"));
        check(&ours, false, None, Some("docker rmi python:latest"));
        check(&foreign, true, Some("latest = false"), Some("latest = false"));
        check(&foreign, false, None, None);
    }
}
