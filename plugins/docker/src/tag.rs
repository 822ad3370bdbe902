//! The tag `{service}:latest`: moved to what runs, as long as it is ours.
//!
//! A service may be called as an image that somebody else has: `python`. So the tag is ours only while it leads
//! to an image that is known to be this service's: one that this tool gave it to, that a container of ours runs,
//! or that was built for a release whose launch is kept. Labels alone do not tell, for images inherit them.

use deployer_plugin::command::Run;
use deployer_plugin::log::{self, Level};
use deployer_plugin::method::{read_json, write_json};
use deployer_plugin::types::{Deployment, Error};
use serde::{Deserialize, Serialize};

use crate::client::{Client, RELEASE, SERVICE, image_tag, parse_config_labels};
use crate::launch::Launch;
use crate::owner::Container;

/// Whose the tag is now.
#[derive(Debug, PartialEq)]
pub enum Latest {
    Absent,
    /// With the image's id.
    Ours(String),
    Somebodys(String),
}

/// The tag that a service's `latest` is.
pub fn name(service: &str) -> String {
    image_tag(service, "latest")
}

/// Looks whose the tag is. `own` are the service's containers.
///
/// # Errors
/// When Docker cannot say.
pub fn latest(client: &Client, deployment: &Deployment, own: &[Container]) -> Result<Latest, Error> {
    let tag = name(&deployment.service);
    let Some(text) = client.inspect("image", &tag, "{{.Id}}\t{{json .RepoTags}}\t{{json .Config}}")? else {
        return Ok(Latest::Absent);
    };
    let image = parse(&text);
    let root = &deployment.layout.root;
    let ours = own.iter().any(|container| container.image == image.id)
        || read_json(&path(root))?.is_some_and(|given: Given| given.is(&image.id))
        || match image.built_for(&deployment.service) {
            Some(release) => Launch::kept(root, release)?.is_some(),
            None => false,
        };
    Ok(if ours { Latest::Ours(image.id) } else { Latest::Somebodys(image.id) })
}

/// Gives the tag to an image, unless somebody else has taken it since Validation: what runs is healthy, and
/// does not go down for a tag.
///
/// # Errors
/// When Docker does not tag it.
pub fn move_latest(
    client: &Client,
    deployment: &Deployment,
    image: &str,
    own: &[Container],
) -> Result<(), Error> {
    let tag = name(&deployment.service);
    let before = match latest(client, deployment, own)? {
        Latest::Ours(before) if before == image => return Ok(()),
        Latest::Ours(before) => Some(before),
        Latest::Absent => None,
        Latest::Somebodys(_) => {
            let line = format!("{} The tag was not moved. {}", foreign(&tag), next(&tag));
            log::write(Level::Warn, &line);
            return Ok(());
        }
    };
    // Noted first: after a crash in between, the tag leads to one of the two.
    write_json(&path(&deployment.layout.root), &Given { image: image.into(), before })?;
    client
        .change(["tag", image, &tag])
        .checked(&format!("tag {image} as {tag}"), "check that the image exists: docker image ls")
        .map(drop)
}

/// What is wrong with a tag that is somebody else's.
pub fn foreign(tag: &str) -> String {
    format!("`{tag}` is an image that this tool did not build for this service.")
}

/// What to do about it.
pub fn next(tag: &str) -> String {
    format!(
        "To keep that image, set `latest = false` in [settings.docker], or give the service another name. If nobody needs \
         it under this name, remove the tag: docker rmi {tag}"
    )
}

/// Which images this tool gave the tag to last, in `{root}/docker/latest-tag.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Given {
    image: String,
    before: Option<String>,
}

impl Given {
    fn is(&self, image: &str) -> bool {
        self.image == image || self.before.as_deref() == Some(image)
    }
}

fn path(root: &str) -> String {
    format!("{root}/docker/latest-tag.json")
}

/// What a tag leads to.
struct Tagged {
    id: String,
    tags: Vec<String>,
    labels: std::collections::BTreeMap<String, String>,
}

impl Tagged {
    /// The release that the image has the label and the tag of: a copy has the label only.
    fn built_for(&self, service: &str) -> Option<&str> {
        let release = self.labels.get(RELEASE)?;
        let ours = self.labels.get(SERVICE).is_some_and(|label| label == service)
            && self.tags.contains(&image_tag(service, release));
        ours.then_some(release.as_str())
    }
}

fn parse(text: &str) -> Tagged {
    let mut columns = text.splitn(3, '\t');
    let mut column = || columns.next().unwrap_or_default();
    Tagged {
        id: column().to_string(),
        tags: serde_json::from_str::<Option<_>>(column()).ok().flatten().unwrap_or_default(),
        labels: parse_config_labels(column()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Given, parse};

    #[test]
    fn a_release_is_known_by_its_label_and_its_tag() {
        let check = |tags: &str, labels: &str, expect: Option<&str>| {
            let image = parse(&format!("sha256:1\t{tags}\t{{\"Labels\":{labels}}}"));
            assert_eq!(image.id, "sha256:1");
            assert_eq!(image.built_for("web"), expect, "{tags} {labels}");
        };
        let labels = r#"{"io.deployer.service":"web","io.deployer.release":"r1"}"#;
        check(r#"["web:latest","web:r1"]"#, labels, Some("r1"));
        // Built from the release's image, or pulled.
        check(r#"["web:latest"]"#, labels, None);
        check(r#"["web:latest","web:r2"]"#, labels, None);
        check(r#"["web:latest","web:r1"]"#, "null", None);
        check("null", labels, None);
        check(r#"["shop:latest","shop:r1"]"#, &labels.replace("web", "shop"), None);
    }

    #[test]
    fn a_tag_that_was_moved_half_way_is_ours() {
        let given = Given { image: "sha256:2".into(), before: Some("sha256:1".into()) };
        assert!(given.is("sha256:2") && given.is("sha256:1") && !given.is("sha256:3"));
        assert!(!Given { image: "sha256:2".into(), before: None }.is(""));
    }
}
