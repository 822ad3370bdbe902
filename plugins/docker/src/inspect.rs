//! Whether a release could be run again: its image, and what it was run with. It only looks.

use deployer_plugin::method::there;
use deployer_plugin::types::{Artifact, Deployment, Error};

use crate::client::Client;
use crate::image::{Image, image};
use crate::launch::Launch;

/// The release's image, by its tag or, where the tag is gone, by its digest.
///
/// # Errors
/// When Docker cannot say, or the release has lost variables that it was run with.
pub fn inspect(deployment: &Deployment, artifact: Artifact) -> Result<Option<Artifact>, Error> {
    let client = Client::needed()?;
    let Some(found) = find(&client, &artifact)? else { return Ok(None) };
    let launch = Launch::kept(&deployment.layout.root, &deployment.release)?;
    if let Some(path) = launch.and_then(|launch| launch.environment_file)
        && !there(&path)?
    {
        return Err(Error::target(
            format!("find the environment of release {}", deployment.release),
            format!("the file with its multi-line variables is gone: {path}"),
            "deploy that version again, with its environment",
        ));
    }
    Ok(Some(Artifact { digest: found.id, bytes: found.bytes.or(artifact.bytes), ..artifact }))
}

/// The artifact's image as it was built. A prune takes tags away from images that containers run from: such an
/// image is known by its digest. A tag that somebody gave to another image since is not the release's.
///
/// # Errors
/// When Docker cannot say.
pub fn find(client: &Client, artifact: &Artifact) -> Result<Option<Image>, Error> {
    match by_tag(image(client, &artifact.reference)?, &artifact.digest) {
        Tagged::Right(image) => Ok(Some(image)),
        Tagged::Another => Ok(None),
        Tagged::Gone if artifact.digest.is_empty() => Ok(None),
        Tagged::Gone => image(client, &artifact.digest),
    }
}

/// What a release's tag leads to.
enum Tagged {
    Right(Image),
    Another,
    Gone,
}

fn by_tag(found: Option<Image>, digest: &str) -> Tagged {
    match found {
        None => Tagged::Gone,
        Some(image) if digest.is_empty() || image.id == digest => Tagged::Right(image),
        Some(_) => Tagged::Another,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Image, Tagged, by_tag};

    #[test]
    fn a_tag_is_believed_only_with_the_images_digest() {
        let check = |id: Option<&str>, digest: &str, expect: &str| {
            let image =
                |id: &str| Image { id: id.into(), bytes: None, labels: BTreeMap::new(), ports: vec![] };
            let found = match by_tag(id.map(image), digest) {
                Tagged::Right(_) => "right",
                Tagged::Another => "another",
                Tagged::Gone => "gone",
            };
            assert_eq!(found, expect, "{id:?} {digest}");
        };
        check(Some("sha256:1"), "sha256:1", "right");
        check(Some("sha256:1"), "", "right");
        check(Some("sha256:2"), "sha256:1", "another");
        check(None, "sha256:1", "gone");
        check(None, "", "gone");
    }
}
