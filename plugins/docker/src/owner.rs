//! Whose a container is: ours only if this tool ran it, for this service.
//!
//! What an image carries says nothing about who ran a container of it: `docker run`, `docker build` and
//! `docker commit` hand labels on. So a container of ours names itself in a label that it got when it was run,
//! and a copy of it has another name, or an image that has the label already.

use std::collections::BTreeMap;

use deployer_plugin::command::Run;
use deployer_plugin::types::{Deployment, Error};

use crate::client::{
    CONTAINER, Client, RELEASE, ROOT, SERVICE, State, container_name, failed_name, is_missing,
    parse_config_labels, parse_labels,
};
use crate::launch::Launch;

/// What Docker knows of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    /// By which it is stopped and removed: a name may be another's by then.
    pub id: String,
    pub name: String,
    pub running: bool,
    pub restarts: u32,
    /// Its image's id.
    pub image: String,
    labels: BTreeMap<String, String>,
}

/// What a name leads to.
#[derive(Debug, PartialEq)]
pub enum Found {
    Nothing,
    Ours(Container),
    Somebodys(Container),
}

impl Container {
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map(String::as_str).unwrap_or_default()
    }

    pub fn release(&self) -> &str {
        self.label(RELEASE)
    }

    /// Whether it failed, and was kept under another name.
    pub fn is_aside(&self) -> bool {
        self.name == failed_name(self.label(SERVICE), self.release())
    }

    /// Whether the release's image, and no other, lives in it.
    pub fn is_good(&self, release: &str, image: &str) -> bool {
        self.running && self.restarts == 0 && self.image == image && self.release() == release
    }
}

/// This service's containers, as far as this tool ran them.
///
/// # Errors
/// When Docker cannot say.
pub fn own(client: &Client, deployment: &Deployment, state: State) -> Result<Vec<Container>, Error> {
    let filter = format!("label={SERVICE}={}", deployment.service);
    let mut own = Vec::new();
    for container in listed(client, &filter, state)? {
        if is_ours(client, deployment, &container)? {
            own.push(container);
        }
    }
    Ok(own)
}

/// The running containers that publish a port, and are somebody else's.
///
/// # Errors
/// When Docker cannot say.
pub fn strangers_at(client: &Client, deployment: &Deployment, port: u16) -> Result<Vec<Container>, Error> {
    let mut strangers = Vec::new();
    for container in listed(client, &format!("publish={port}/tcp"), State::Running)? {
        if !is_ours(client, deployment, &container)? {
            strangers.push(container);
        }
    }
    Ok(strangers)
}

/// The container of a name.
///
/// # Errors
/// When Docker cannot say.
pub fn find(client: &Client, deployment: &Deployment, name: &str) -> Result<Found, Error> {
    let Some(text) = client.inspect("container", name, FORMAT)? else { return Ok(Found::Nothing) };
    let Some(container) = parse(&text) else { return Ok(Found::Nothing) };
    Ok(if is_ours(client, deployment, &container)? {
        Found::Ours(container)
    } else {
        Found::Somebodys(container)
    })
}

const FORMAT: &str =
    "{{.Id}}\t{{.Name}}\t{{.State.Running}}\t{{.RestartCount}}\t{{.Image}}\t{{json .Config.Labels}}";

fn listed(client: &Client, filter: &str, state: State) -> Result<Vec<Container>, Error> {
    let mut arguments = vec!["ps", "--quiet", "--no-trunc", "--filter", filter];
    if matches!(state, State::Any) {
        arguments.push("--all");
    }
    let next = "check that Docker runs on the target: systemctl status docker";
    let ids = client.read(arguments).checked("list the containers", next)?;
    let ids: Vec<&str> = ids.stdout.split_whitespace().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let output = client.read(["container", "inspect", "--format", FORMAT].into_iter().chain(ids)).output()?;
    // One that went meanwhile is not missed: the others are said all the same.
    if !output.succeeded() && !is_missing(&output) {
        return Err(Error::target("inspect the containers", output.ending(), next));
    }
    Ok(output.stdout.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Container> {
    let mut columns = line.splitn(6, '\t');
    let id = columns.next().filter(|id| !id.is_empty())?.to_string();
    let name = columns.next()?.trim_start_matches('/').to_string();
    let running = columns.next()? == "true";
    let restarts = columns.next()?.parse().unwrap_or_default();
    let image = columns.next()?.to_string();
    Some(Container { id, name, running, restarts, image, labels: parse_labels(columns.next()?) })
}

fn is_ours(client: &Client, deployment: &Deployment, container: &Container) -> Result<bool, Error> {
    let root = &deployment.layout.root;
    Ok(match claim(container, &deployment.service, root) {
        Claim::None => false,
        Claim::Itself => {
            let image = client.inspect("image", &container.image, "{{json .Config}}")?;
            let labels = parse_config_labels(&image.unwrap_or_default());
            labels.get(CONTAINER).map(String::as_str) != Some(container.label(CONTAINER))
        }
        Claim::Launch => {
            let launch = Launch::kept(root, container.release())?;
            launch.is_some_and(|launch| made(&launch, container))
        }
    })
}

/// What would make a container ours, if it is true.
#[derive(Debug, PartialEq)]
enum Claim {
    None,
    /// It names itself. True unless its image has the same label.
    Itself,
    /// It was run by a deployer that did not write such a label yet. True if that one's launch is kept.
    Launch,
}

fn claim(container: &Container, service: &str, root: &str) -> Claim {
    let release = container.release();
    let made_as = container_name(service, release);
    let named = container.name == made_as || container.name == failed_name(service, release);
    if container.label(SERVICE) != service || release.is_empty() || !named {
        return Claim::None;
    }
    match container.labels.get(CONTAINER) {
        Some(name) if *name == made_as && container.label(ROOT) == root => Claim::Itself,
        Some(_) => Claim::None,
        None => Claim::Launch,
    }
}

/// Whether a launch of an earlier deployer made the container: one of today's gives it the label.
fn made(launch: &Launch, container: &Container) -> bool {
    let label = format!("{CONTAINER}=");
    let labels_itself = launch.arguments.iter().any(|argument| argument.starts_with(&label));
    !labels_itself && launch.container == container_name(container.label(SERVICE), container.release())
}

#[cfg(test)]
mod tests {
    use super::{Claim, Container, claim, made, parse};
    use crate::launch::tests::launch;

    const LABELS: &str = r#""io.deployer.service":"web","io.deployer.release":"r2""#;
    const OURS: &str = r#","io.deployer.container":"web-r2","io.deployer.root":"/opt/web""#;

    fn container(name: &str, labels: &str) -> Container {
        parse(&format!("c1\t/{name}\ttrue\t0\tsha256:1\t{labels}")).expect("a container")
    }

    #[test]
    fn only_what_names_itself_may_be_ours() {
        let check = |name: &str, labels: &str, expect: Claim| {
            assert_eq!(claim(&container(name, labels), "web", "/opt/web"), expect, "{name} {labels}");
        };
        let ours = format!("{{{LABELS}{OURS}}}");
        check("web-r2", &ours, Claim::Itself);
        check("web-r2-failed", &ours, Claim::Itself);
        // Inherited from an image that was committed, and a container that got its name.
        check("bystander", &ours, Claim::None);
        check("web-r2-failed-2", &ours, Claim::None);
        check("web-r1", &ours, Claim::None);
        // From the service's image, or one built on it.
        let inherited = format!("{{{LABELS}}}");
        check("bystander", &inherited, Claim::None);
        check("web-r2", &inherited, Claim::Launch);
        check("web-r2", "null", Claim::None);
        check("web-", r#"{"io.deployer.service":"web"}"#, Claim::None);
        // Another service's, and another deployer's service of the same name.
        check("web-r2", &ours.replace(r#"service":"web"#, r#"service":"shop"#), Claim::None);
        check("web-r2", &ours.replace("/opt/web", "/srv/web"), Claim::None);
        check("web-r2", &ours.replace(r#""web-r2""#, r#""web-r1""#), Claim::None);
    }

    #[test]
    fn an_earlier_deployers_container_is_known_by_its_launch() {
        let container = container("web-r2", &format!("{{{LABELS}}}"));
        let today = launch("{}", &[]);
        assert!(!made(&today, &container), "today's launch labels what it makes");
        let mut earlier = today.clone();
        earlier.arguments.retain(|argument| !argument.contains("io.deployer.container"));
        assert!(made(&earlier, &container));
        earlier.container = "web-r1".into();
        assert!(!made(&earlier, &container));
    }

    #[test]
    fn only_the_releases_own_living_container_is_kept() {
        let check = |line: &str, release: &str, expect: bool| {
            let container = parse(&format!("c1\t/web-r2\t{line}\t{{{LABELS}}}")).expect("a container");
            assert_eq!(container.is_good(release, "sha256:1"), expect, "{line} {release}");
        };
        check("true\t0\tsha256:1", "r2", true);
        check("true\t1\tsha256:1", "r2", false);
        check("false\t0\tsha256:1", "r2", false);
        check("true\t0\tsha256:2", "r2", false);
        check("true\t0\tsha256:1", "r1", false);
        assert_eq!(parse(""), None);
    }
}
