//! Removing a release: its image, its stopped containers, and what was kept to run it.

use deployer_plugin::command::Run;
use deployer_plugin::target;
use deployer_plugin::types::{Artifact, Deployment, Error};

use crate::client::{Client, State, image_tag, is_missing};
use crate::image::{image, stranger};
use crate::launch::Launch;
use crate::owner::{Container, own};

/// Removes a release's image, its stopped containers, and what was kept to run it.
///
/// # Errors
/// When the image is not this service's, or is in use.
pub fn discard(deployment: &Deployment, artifact: &Artifact) -> Result<(), Error> {
    let client = Client::needed()?;
    let tag = &artifact.reference;
    let attempted = format!("remove the image {tag}");
    let release = tag.rsplit_once(':').map(|(_, release)| release).unwrap_or_default();
    if tag != &image_tag(&deployment.service, release) {
        let next = "check that nothing uses it, and remove it by hand: docker rmi";
        return Err(Error::target(
            attempted,
            format!("its tag is not one of the service {}", deployment.service),
            next,
        ));
    }
    if let Some(image) = image(&client, tag)? {
        if let Some(seen) = stranger(&image, &deployment.service, release, &artifact.digest) {
            return Err(Error::target(
                attempted,
                seen,
                "check that nothing uses it, and remove it by hand: docker rmi",
            ));
        }
        remove_containers(&client, deployment, release, &attempted)?;
        // Only the tag: what another tag or a container holds, Docker keeps.
        let output = client.change(["rmi", tag]).output()?;
        if !output.succeeded() && !is_missing(&output) {
            let next = "if a container uses it, remove the container first: docker ps -a --filter ancestor=IMAGE lists them";
            return Err(Error::target(attempted, output.ending(), next));
        }
    }
    target::remove(&Launch::path(&deployment.layout.root, release))
}

/// Removes the release's stopped containers. One that runs keeps its image, under all of its names.
fn remove_containers(
    client: &Client,
    deployment: &Deployment,
    release: &str,
    attempted: &str,
) -> Result<(), Error> {
    let of_release = |container: &Container| container.release() == release;
    if let Some(running) = own(client, deployment, State::Running)?.into_iter().find(of_release) {
        let next = "deploy or roll back to another release first";
        return Err(Error::target(attempted, format!("the container {} runs from it", running.name), next));
    }
    for container in own(client, deployment, State::Any)?.into_iter().filter(of_release) {
        client.change(["rm", &container.id]).checked(
            &format!("remove the stopped container {}", container.name),
            "remove the container by hand: docker rm",
        )?;
    }
    Ok(())
}
