//! Images: found by their tag, and told apart by their labels and digest.

use std::collections::BTreeMap;

use deployer_plugin::types::Error;
use serde::Deserialize;

use crate::client::{Client, RELEASE, SERVICE};

/// What Docker knows of an image.
pub struct Image {
    pub id: String,
    /// With the layers that other images have too.
    pub bytes: Option<u64>,
    pub labels: BTreeMap<String, String>,
    /// The TCP ports that it exposes.
    pub ports: Vec<u16>,
}

/// An image, if the engine has it.
///
/// # Errors
/// When Docker cannot say.
pub fn image(client: &Client, tag: &str) -> Result<Option<Image>, Error> {
    // The whole configuration: Docker fails on the name of a part that an image lacks.
    let format = "{{.Id}} {{.Size}}\n{{json .Config}}";
    Ok(client.inspect("image", tag, format)?.map(|text| parse(&text)))
}

impl Image {
    pub fn belongs_to(&self, service: &str, release: &str) -> bool {
        self.labels.get(SERVICE).is_some_and(|label| label == service)
            && self.labels.get(RELEASE).is_some_and(|label| label == release)
    }
}

/// Why an image is not the one that was built for the release. Its labels alone do not tell: an image that is
/// built from it has them too, and somebody may have given it the tag.
pub fn stranger(image: &Image, service: &str, release: &str, digest: &str) -> Option<String> {
    if !image.belongs_to(service, release) {
        return Some(format!("it does not have the labels of release {release} of {service}"));
    }
    let another = !digest.is_empty() && image.id != digest;
    another.then(|| format!("the tag points to {} now, but the build made {digest}", image.id))
}

/// The parts of an image's configuration that matter here.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

fn parse(text: &str) -> Image {
    let (first, config) = text.split_once('\n').unwrap_or((text, ""));
    let mut first = first.split_whitespace();
    let config = serde_json::from_str::<Option<Config>>(config).ok().flatten().unwrap_or_default();
    let ports = config.exposed_ports.unwrap_or_default();
    let tcp = |port: &String| port.trim_end_matches("/tcp").parse().ok();
    Image {
        id: first.next().unwrap_or_default().to_string(),
        bytes: first.next().and_then(|size| size.parse().ok()),
        labels: config.labels.unwrap_or_default(),
        ports: ports.keys().filter_map(tcp).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, stranger};

    #[test]
    fn an_image_is_read() {
        let labels = r#"{"io.deployer.release":"r1","io.deployer.service":"web"}"#;
        let ports = r#"{"80/tcp":{},"53/udp":{}}"#;
        let image =
            parse(&format!("sha256:1 4096\n{{\"Cmd\":[],\"Labels\":{labels},\"ExposedPorts\":{ports}}}"));
        assert_eq!((image.id.as_str(), image.bytes), ("sha256:1", Some(4096)));
        assert_eq!(image.ports, [80]);
        assert!(
            image.belongs_to("web", "r1") && !image.belongs_to("web", "r2") && !image.belongs_to("w", "r1")
        );
        assert_eq!(stranger(&image, "web", "r1", "sha256:1"), None);
        assert_eq!(stranger(&image, "web", "r1", ""), None);
        let built_on_it = stranger(&image, "web", "r1", "sha256:0");
        assert!(built_on_it.is_some_and(|seen| seen.contains("points to sha256:1 now")));
        assert!(stranger(&image, "web", "r2", "sha256:1").is_some());
        let bare = parse("sha256:2\n{\"Labels\":null}");
        assert!(
            bare.id == "sha256:2"
                && bare.bytes.is_none()
                && bare.ports.is_empty()
                && !bare.belongs_to("web", "r1")
        );
    }
}
