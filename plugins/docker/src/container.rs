//! Containers: the new one in the old one's place, and back.

use deployer_plugin::command::Run;
use deployer_plugin::method::must_take_over;
use deployer_plugin::types::{Artifact, Deployment, Error, Instance, Release};

use crate::client::{
    Client, FAILED, RELEASE, SERVICE, State, container_name, failed_name, image_tag, is_missing, parse_labels,
};
use crate::image::{Image, image};
use crate::inspect::find;
use crate::launch::{Decided, Launch, place_environment};
use crate::settings::Settings;

/// The kind of this method's instances.
pub const KIND: &str = "container";

/// Stops what runs and runs the release's image in its place.
///
/// # Errors
/// Before anything is stopped: when the image, the environment or the network cannot be had. After that:
/// when Docker cannot run the container.
pub fn start(deployment: &Deployment, artifact: &Artifact, settings: &Settings) -> Result<Instance, Error> {
    must_take_over(deployment, KIND)?;
    let client = Client::needed()?;
    let image = built(&client, artifact)?;
    place_environment(deployment)?;
    let Decided { launch, earlier } = Launch::decide(deployment, &image, settings)?;
    make_network(&client, &deployment.service, &launch)?;

    let container = look(&client, &launch.container)?;
    if earlier && container.as_ref().is_some_and(|container| container.is_good(deployment, &image.id)) {
        return Ok(launch.instance(&client.path));
    }
    if let Some(container) = container {
        container.must_be_ours(deployment, &launch.container)?;
    }
    stop_others(&client, deployment, "", launch.stop_timeout)?;
    remove(&client, &launch.container)?;
    run(&client, &launch)?;
    Ok(launch.instance(&client.path))
}

/// Makes the container come back after a reboot, and removes the retired ones. Their images stay.
///
/// # Errors
/// Those of Docker.
pub fn promote(deployment: &Deployment, instance: &Instance) -> Result<(), Error> {
    let client = Client::needed()?;
    if let Some(launch) = Launch::kept(&deployment.layout.root, &deployment.release)? {
        set_restart(&client, &instance.name, &launch.restart)?;
    }
    let tag = image_tag(&deployment.service, &deployment.release);
    let latest = image_tag(&deployment.service, "latest");
    client
        .change(["tag", &tag, &latest])
        .checked(&format!("tag {tag} as {latest}"), "see that the image is there")?;
    for retired in client.own(deployment, State::Any)? {
        if retired.name != instance.name && !retired.name.ends_with(FAILED) {
            remove(&client, &retired.name)?;
        }
    }
    Ok(())
}

/// Stops the failed container and keeps it aside, then makes the previous release's run again.
///
/// # Errors
/// When the previous release cannot run.
pub fn restore(deployment: &Deployment) -> Result<Option<Instance>, Error> {
    let client = Client::needed()?;
    set_aside(&client, deployment)?;
    let Some(previous) = &deployment.previous else { return Ok(None) };
    must_take_over(deployment, KIND)?;
    let launch = Launch::kept(&previous.layout.root, &previous.id)?;
    let grace = launch.as_ref().map_or(DEFAULT_GRACE, |launch| launch.stop_timeout);
    stop_others(&client, deployment, &previous.instance.name, grace)?;
    run_again(&client, &deployment.service, previous, launch.as_ref())?;
    if let Some(launch) = launch {
        set_restart(&client, &previous.instance.name, &launch.restart)?;
    }
    Ok(Some(previous.instance.clone()))
}

/// Seconds to end, where no launch says.
const DEFAULT_GRACE: u32 = 10;

/// What Docker knows of a container.
struct Container {
    running: bool,
    restarts: u32,
    image: String,
    service: String,
    release: String,
}

impl Container {
    /// Whether it is the release's, of this very image, and lives.
    fn is_good(&self, deployment: &Deployment, image: &str) -> bool {
        self.running
            && self.restarts == 0
            && self.image == image
            && self.service == deployment.service
            && self.release == deployment.release
    }

    /// A container of somebody else may have the name by chance; it is not this method's to remove.
    fn must_be_ours(&self, deployment: &Deployment, name: &str) -> Result<(), Error> {
        if self.service == deployment.service {
            return Ok(());
        }
        Err(Error::target(
            format!("make the container {name}"),
            format!("there is one of that name, and its label {SERVICE} is not {}", deployment.service),
            format!("rename or remove it: docker rename {name} SOMETHING"),
        ))
    }
}

fn look(client: &Client, name: &str) -> Result<Option<Container>, Error> {
    let format = "{{.State.Running}} {{.RestartCount}} {{.Image}}\n{{json .Config.Labels}}";
    Ok(client.inspect("container", name, format)?.map(|text| parse(&text)))
}

fn parse(text: &str) -> Container {
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split_whitespace();
    let running = words.next() == Some("true");
    let restarts = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
    let image = words.next().unwrap_or_default().to_string();
    let mut labels = parse_labels(lines.next().unwrap_or_default());
    let mut label = |name| labels.remove(name).unwrap_or_default();
    Container { running, restarts, image, service: label(SERVICE), release: label(RELEASE) }
}

/// The artifact's image, as it was built, under its tag again where a prune took that.
fn built(client: &Client, artifact: &Artifact) -> Result<Image, Error> {
    let tag = &artifact.reference;
    let tagged = image(client, tag)?;
    match (find(client, artifact)?, tagged) {
        (Some(image), Some(_)) => Ok(image),
        (Some(image), None) => {
            client.change(["tag", &image.id, tag]).checked(
                &format!("give the image {} its tag {tag} again", image.id),
                "see what Docker says",
            )?;
            Ok(image)
        }
        (None, Some(other)) => Err(Error::target(
            format!("find the image {tag}"),
            format!("it is {}, and the build made {}", other.id, artifact.digest),
            "deploy again: somebody gave the tag to another image",
        )),
        (None, None) => Err(Error::target(
            format!("find the image {tag}"),
            "the server's Docker has no such image",
            "deploy again: it was removed, and a release without its image cannot come back",
        )),
    }
}

fn make_network(client: &Client, service: &str, launch: &Launch) -> Result<(), Error> {
    let Some(network) = &launch.network else { return Ok(()) };
    if client.inspect("network", network, "{{.Id}}")?.is_some() {
        return Ok(());
    }
    let label = format!("{SERVICE}={service}");
    client
        .change(["network", "create", "--label", &label, network])
        .checked(&format!("make the network {network}"), "mend the setting `network`, or make it by hand")
        .map(drop)
}

/// Stops this service's running containers but one, and keeps them from coming back by themselves.
fn stop_others(client: &Client, deployment: &Deployment, keep: &str, grace: u32) -> Result<(), Error> {
    for container in client.own(deployment, State::Running)? {
        if container.name != keep {
            stop(client, &container.name, grace)?;
        }
    }
    Ok(())
}

fn stop(client: &Client, name: &str, grace: u32) -> Result<(), Error> {
    set_restart(client, name, "no")?;
    let output = client.change(["stop", "-t", &grace.to_string(), name]).output()?;
    if output.succeeded() || is_missing(&output) {
        return Ok(());
    }
    Err(Error::target(
        format!("stop the container {name}"),
        output.ending(),
        "see why: docker logs, docker inspect",
    ))
}

fn set_restart(client: &Client, name: &str, policy: &str) -> Result<(), Error> {
    let output = client.change(["update", "--restart", policy, name]).output()?;
    if output.succeeded() || is_missing(&output) {
        return Ok(());
    }
    let attempted = format!("set the restart policy of the container {name} to {policy}");
    let next = "if `extra_args` has something that no policy goes with, leave it out";
    Err(Error::target(attempted, output.ending(), next))
}

fn remove(client: &Client, name: &str) -> Result<(), Error> {
    let output = client.change(["rm", "--force", name]).output()?;
    if output.succeeded() || is_missing(&output) {
        return Ok(());
    }
    Err(Error::target(
        format!("remove the container {name}"),
        output.ending(),
        format!("docker rm --force {name}"),
    ))
}

fn run(client: &Client, launch: &Launch) -> Result<(), Error> {
    let mut command = client.change(launch.arguments.iter().map(String::as_str));
    if let Some(file) = &launch.environment_file {
        command = command.environment_file(file);
    }
    let output = command.output()?;
    if output.succeeded() {
        return Ok(());
    }
    let (seen, next) = explain(client, launch, output.ending());
    Err(Error::target(format!("run the container {}", launch.container), seen, next))
}

/// What Docker said, with who holds the port when it is that.
fn explain(client: &Client, launch: &Launch, ending: String) -> (String, String) {
    let text = ending.to_ascii_lowercase();
    if text.contains("port is already allocated") || text.contains("address already in use") {
        let holder = port_holder(client, launch.port);
        let next = format!("stop it, or choose another port than {}", launch.port);
        return (format!("{ending}\nport {} is held by: {holder}", launch.port), next);
    }
    let next = match text {
        _ if text.contains("executable file not found") || text.contains("exec format error") => {
            "mend the image's command, or the setting `command`"
        }
        _ if text.contains("unknown flag") || text.contains("invalid argument") => {
            "mend the settings, `extra_args` above all"
        }
        _ => "mend what Docker says, and deploy again",
    };
    (ending, next.into())
}

fn port_holder(client: &Client, port: u16) -> String {
    let filter = format!("publish={port}/tcp");
    let containers = client.list(&filter, State::Running).unwrap_or_default();
    if let Some(container) = containers.first() {
        return format!("the container {}", container.name);
    }
    let source = format!("sport = :{port}");
    let sockets = deployer_plugin::command::read(["ss", "-Hltnp", &source]).output();
    sockets
        .map(|output| output.text().to_string())
        .ok()
        .filter(|text| !text.is_empty())
        .unwrap_or("unknown".into())
}

/// Stops the failed container and gives it another name; an older failed one makes room. The name says
/// that it was done, so that a second call keeps what the first one set aside.
fn set_aside(client: &Client, deployment: &Deployment) -> Result<(), Error> {
    let name = container_name(&deployment.service, &deployment.release);
    let Some(container) = look(client, &name)? else { return Ok(()) };
    if container.service != deployment.service {
        return Ok(());
    }
    let launch = Launch::kept(&deployment.layout.root, &deployment.release)?;
    stop(client, &name, launch.map_or(DEFAULT_GRACE, |launch| launch.stop_timeout))?;
    for older in client.own(deployment, State::Any)? {
        if older.name.ends_with(FAILED) {
            remove(client, &older.name)?;
        }
    }
    let aside = failed_name(&deployment.service, &deployment.release);
    client
        .change(["rename", &name, &aside])
        .checked(&format!("set the failed container aside as {aside}"), "remove it: docker rm --force")
        .map(drop)
}

fn run_again(
    client: &Client,
    service: &str,
    previous: &Release,
    launch: Option<&Launch>,
) -> Result<(), Error> {
    let name = &previous.instance.name;
    match (look(client, name)?, launch) {
        (Some(container), _) if container.running => Ok(()),
        (Some(_), _) => client
            .change(["start", name])
            .checked(&format!("start the previous release's container {name} again"), "see why: docker logs")
            .map(drop),
        (None, Some(launch)) => {
            built(client, &previous.artifact)?;
            make_network(client, service, launch)?;
            run(client, launch)
        }
        (None, None) => Err(Error::target(
            format!("run the previous release {} again", previous.id),
            format!(
                "its container {name} is gone, and so is {}",
                Launch::path(&previous.layout.root, &previous.id)
            ),
            "deploy that version again",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::launch::tests::deployment;

    #[test]
    fn only_the_releases_own_living_container_is_kept() {
        let labels = r#"{"io.deployer.service":"web","io.deployer.release":"r2"}"#;
        let check = |line: &str, labels: &str, expect: bool| {
            let container = parse(&format!("{line}\n{labels}"));
            assert_eq!(container.is_good(&deployment(), "sha256:1"), expect, "{line} {labels}");
        };
        check("true 0 sha256:1", labels, true);
        check("true 1 sha256:1", labels, false);
        check("false 0 sha256:1", labels, false);
        check("true 0 sha256:2", labels, false);
        check("true 0 sha256:1", "null", false);
        check("true 0 sha256:1", &labels.replace("r2", "r1"), false);
    }

    #[test]
    fn a_strangers_container_is_left_alone() {
        assert!(parse("true 0 sha256:1\nnull").must_be_ours(&deployment(), "web-r2").is_err());
    }
}
