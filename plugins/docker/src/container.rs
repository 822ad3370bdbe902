//! Containers: the new one in the old one's place, and back.

use deployer_plugin::command::Run;
use deployer_plugin::method::must_take_over;
use deployer_plugin::types::{Artifact, Deployment, Error, Instance, Release};

use crate::client::{Client, KIND, SERVICE, State, container_name, failed_name, is_missing};
use crate::image::{Image, image};
use crate::inspect;
use crate::launch::{Decided, Launch, place_environment};
use crate::owner::{Container, Found, find, own, strangers_at};
use crate::settings::Settings;
use crate::tag;

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

    let mut replaced = None;
    match find(&client, deployment, &launch.container)? {
        Found::Nothing => {}
        Found::Somebodys(_) => return Err(taken("create", &launch.container)),
        Found::Ours(container) if earlier && container.is_good(&deployment.release, &image.id) => {
            return Ok(launch.instance(&client.path));
        }
        Found::Ours(container) => replaced = Some(container),
    }
    stop_others(&client, deployment, "", launch.stop_timeout)?;
    if let Some(container) = &replaced {
        remove(&client, container)?;
    }
    run(&client, deployment, &launch)?;
    Ok(launch.instance(&client.path))
}

/// Makes the container start again after a reboot, and removes the retired ones. Their images stay.
///
/// # Errors
/// Those of Docker.
pub fn promote(deployment: &Deployment, instance: &Instance, settings: &Settings) -> Result<(), Error> {
    let client = Client::needed()?;
    let containers = own(&client, deployment, State::Any)?;
    let live = containers.iter().find(|container| container.name == instance.name);
    if let (Some(live), Some(launch)) = (live, Launch::kept(&deployment.layout.root, &deployment.release)?) {
        set_restart(&client, live, &launch.restart)?;
    }
    if let Some(live) = live.filter(|_| settings.latest) {
        tag::move_latest(&client, deployment, &live.image, &containers)?;
    }
    for retired in &containers {
        if retired.name != instance.name && !retired.is_aside() {
            remove(&client, retired)?;
        }
    }
    Ok(())
}

/// Stops the failed container and keeps it under another name, then starts the previous release's again.
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
    let found = find(&client, deployment, &previous.instance.name)?;
    if let Found::Somebodys(_) = found {
        return Err(taken("start", &previous.instance.name));
    }
    stop_others(&client, deployment, &previous.instance.name, grace)?;
    run_again(&client, deployment, previous, &found, launch.as_ref())?;
    if let (Some(launch), Found::Ours(container)) =
        (launch, find(&client, deployment, &previous.instance.name)?)
    {
        set_restart(&client, &container, &launch.restart)?;
    }
    Ok(Some(previous.instance.clone()))
}

/// Seconds to end, where no launch says.
const DEFAULT_GRACE: u32 = 10;

/// A container of somebody else has the name that one of ours needs; it is not this method's to touch.
fn taken(to: &str, name: &str) -> Error {
    Error::target(
        format!("{to} the container {name}"),
        "a container of that name exists, and this tool did not create it",
        format!("rename that container, then deploy again: docker rename {name} OTHER-NAME"),
    )
}

/// The artifact's image, as it was built, under its tag again where a prune took that.
fn built(client: &Client, artifact: &Artifact) -> Result<Image, Error> {
    let tag = &artifact.reference;
    let tagged = image(client, tag)?;
    match (inspect::find(client, artifact)?, tagged) {
        (Some(image), Some(_)) => Ok(image),
        (Some(image), None) => {
            client.change(["tag", &image.id, tag]).checked(
                &format!("tag the image {} as {tag} again", image.id),
                "check that Docker runs on the target: systemctl status docker",
            )?;
            Ok(image)
        }
        (None, Some(other)) => Err(Error::target(
            format!("find the image {tag}"),
            format!("the tag points to {} now, but the build made {}", other.id, artifact.digest),
            "deploy again; somebody moved the tag to another image",
        )),
        (None, None) => Err(Error::target(
            format!("find the image {tag}"),
            "the target's Docker does not have it",
            "deploy this version again; its image was removed, so it cannot be started",
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
        .checked(
            &format!("create the network {network}"),
            "fix the setting `network`, or create the network by hand: docker network create",
        )
        .map(drop)
}

/// Stops this service's running containers but one, and keeps them from coming back by themselves.
fn stop_others(client: &Client, deployment: &Deployment, keep: &str, grace: u32) -> Result<(), Error> {
    for container in own(client, deployment, State::Running)? {
        if container.name != keep {
            stop(client, &container, grace)?;
        }
    }
    Ok(())
}

fn stop(client: &Client, container: &Container, grace: u32) -> Result<(), Error> {
    set_restart(client, container, "no")?;
    let output = client.change(["stop", "-t", &grace.to_string(), &container.id]).output()?;
    if output.succeeded() || is_missing(&output) {
        return Ok(());
    }
    Err(Error::target(
        format!("stop the container {}", container.name),
        output.ending(),
        "find out why it does not stop: docker logs, docker inspect",
    ))
}

fn set_restart(client: &Client, container: &Container, policy: &str) -> Result<(), Error> {
    let output = client.change(["update", "--restart", policy, &container.id]).output()?;
    if output.succeeded() || is_missing(&output) {
        return Ok(());
    }
    let attempted = format!("set the restart policy of the container {} to {policy}", container.name);
    let next = "remove from `extra_args` what conflicts with a restart policy, such as --rm";
    Err(Error::target(attempted, output.ending(), next))
}

fn remove(client: &Client, container: &Container) -> Result<(), Error> {
    let output = client.change(["rm", "--force", &container.id]).output()?;
    if output.succeeded() || is_missing(&output) {
        return Ok(());
    }
    Err(Error::target(
        format!("remove the container {}", container.name),
        output.ending(),
        format!("remove it by hand: docker rm --force {}", container.name),
    ))
}

fn run(client: &Client, deployment: &Deployment, launch: &Launch) -> Result<(), Error> {
    let mut command = client.change(launch.arguments.iter().map(String::as_str));
    if let Some(file) = &launch.environment_file {
        command = command.environment_file(file);
    }
    let output = command.output()?;
    if output.succeeded() {
        return Ok(());
    }
    let (seen, next) = explain(client, deployment, launch, output.ending());
    Err(Error::target(format!("run the container {}", launch.container), seen, next))
}

/// What Docker said, with who holds the port when it is that.
fn explain(client: &Client, deployment: &Deployment, launch: &Launch, ending: String) -> (String, String) {
    let text = ending.to_ascii_lowercase();
    if text.contains("port is already allocated") || text.contains("address already in use") {
        let holder = port_holder(client, deployment, launch.port);
        let next = format!("stop it, or deploy the service to a port other than {}", launch.port);
        return (format!("{ending}\nport {} is held by: {holder}", launch.port), next);
    }
    let next = match text {
        _ if text.contains("executable file not found") || text.contains("exec format error") => {
            "fix the image's CMD or ENTRYPOINT, or the setting `command`"
        }
        _ if text.contains("unknown flag") || text.contains("invalid argument") => {
            "fix the settings in [settings.docker]; `extra_args` is the likely one"
        }
        _ => "fix what Docker reports, and deploy again",
    };
    (ending, next.into())
}

fn port_holder(client: &Client, deployment: &Deployment, port: u16) -> String {
    let containers = strangers_at(client, deployment, port).unwrap_or_default();
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
/// that it was done, so that a second call keeps what the first one renamed.
fn set_aside(client: &Client, deployment: &Deployment) -> Result<(), Error> {
    let name = container_name(&deployment.service, &deployment.release);
    let Found::Ours(container) = find(client, deployment, &name)? else { return Ok(()) };
    let launch = Launch::kept(&deployment.layout.root, &deployment.release)?;
    stop(client, &container, launch.map_or(DEFAULT_GRACE, |launch| launch.stop_timeout))?;
    for older in own(client, deployment, State::Any)? {
        if older.is_aside() {
            remove(client, &older)?;
        }
    }
    let aside = failed_name(&deployment.service, &deployment.release);
    if let Found::Somebodys(_) = find(client, deployment, &aside)? {
        // It is stopped, and can be read under its own name too.
        return Ok(());
    }
    client
        .change(["rename", &container.id, &aside])
        .checked(
            &format!("rename the failed container to {aside}"),
            "remove the failed container by hand: docker rm --force",
        )
        .map(drop)
}

fn run_again(
    client: &Client,
    deployment: &Deployment,
    previous: &Release,
    found: &Found,
    launch: Option<&Launch>,
) -> Result<(), Error> {
    let name = &previous.instance.name;
    match (found, launch) {
        (Found::Ours(container), _) if container.running => Ok(()),
        (Found::Ours(container), _) => client
            .change(["start", &container.id])
            .checked(
                &format!("start the previous release's container {name} again"),
                "find out why it does not start: docker logs",
            )
            .map(drop),
        (Found::Somebodys(_), _) => Err(taken("start", name)),
        (Found::Nothing, Some(launch)) => {
            built(client, &previous.artifact)?;
            make_network(client, &deployment.service, launch)?;
            run(client, deployment, launch)
        }
        (Found::Nothing, None) => Err(Error::target(
            format!("run the previous release {} again", previous.id),
            format!(
                "its container {name} is gone, and so is {}",
                Launch::path(&previous.layout.root, &previous.id)
            ),
            "deploy that version again",
        )),
    }
}
