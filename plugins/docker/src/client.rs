//! The docker client on the target, and the names and labels that everything of this method carries.

use std::collections::BTreeMap;

use deployer_plugin::command::{Run, change, read};
use deployer_plugin::target::{Command, Output};
use deployer_plugin::types::Error;
use serde::Deserialize;

/// The kind of this method's instances.
pub const KIND: &str = "container";
/// The label that says which service a thing is of. Images have it too, and so has all that is made of them.
pub const SERVICE: &str = "io.deployer.service";
/// The label that says which release it is of. Images have it too.
pub const RELEASE: &str = "io.deployer.release";
/// The label by which a container says what it was named when this tool ran it. No image gets it.
pub const CONTAINER: &str = "io.deployer.container";
/// The label with the service's folder on the target: another deployer may have a service of the same name.
pub const ROOT: &str = "io.deployer.root";

/// The docker client, by its absolute path.
pub struct Client {
    pub path: String,
}

/// Which containers to list.
#[derive(Clone, Copy)]
pub enum State {
    Any,
    Running,
}

impl Client {
    /// The client, if the target has one.
    ///
    /// # Errors
    /// Those of the call.
    pub fn find() -> Result<Option<Client>, Error> {
        let script = "PATH=$PATH:/usr/bin:/usr/local/bin:/snap/bin; command -v docker";
        let output = read(["sh", "-c", script]).output()?;
        let path = output.text().to_string();
        Ok((output.succeeded() && path.starts_with('/')).then_some(Client { path }))
    }

    /// The client, for phases that Validation went before.
    ///
    /// # Errors
    /// When the target has none.
    pub fn needed() -> Result<Client, Error> {
        Self::find()?.ok_or_else(|| {
            Error::target(
                "find docker",
                "the SSH user's PATH on the target has no docker client",
                "install Docker on the target (apt-get install docker.io), or extend that PATH",
            )
        })
    }

    pub fn read<'a>(&'a self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        read([self.path.as_str()].into_iter().chain(arguments))
    }

    pub fn change<'a>(&'a self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        change([self.path.as_str()].into_iter().chain(arguments))
    }

    /// What `docker … inspect --format` says of a thing; none when there is no such thing.
    ///
    /// # Errors
    /// When Docker cannot say.
    pub fn inspect(&self, kind: &str, name: &str, format: &str) -> Result<Option<String>, Error> {
        let output = self.read([kind, "inspect", "--format", format, name]).output()?;
        if output.succeeded() {
            return Ok(Some(output.text().to_string()));
        }
        if is_missing(&output) {
            return Ok(None);
        }
        Err(Error::target(
            format!("inspect the {kind} {name}"),
            output.ending(),
            "check that Docker runs on the target: systemctl status docker",
        ))
    }
}

/// Whether Docker says that there is no such image, container or network.
pub fn is_missing(output: &Output) -> bool {
    let text = output.stderr.to_ascii_lowercase();
    text.contains("no such") || text.contains("not found")
}

pub fn container_name(service: &str, release: &str) -> String {
    format!("{service}-{release}")
}

/// A failed container, kept so that its log can be read.
pub fn failed_name(service: &str, release: &str) -> String {
    format!("{service}-{release}-failed")
}

/// An image's name has no capitals.
pub fn image_tag(service: &str, version: &str) -> String {
    format!("{}:{version}", service.to_ascii_lowercase())
}

/// An image's labels, as `--label` arguments.
pub fn labels(service: &str, release: &str) -> [String; 4] {
    ["--label".into(), format!("{SERVICE}={service}"), "--label".into(), format!("{RELEASE}={release}")]
}

/// Labels as `{{json .Config.Labels}}` shows them.
pub fn parse_labels(json: &str) -> BTreeMap<String, String> {
    serde_json::from_str::<Option<_>>(json).ok().flatten().unwrap_or_default()
}

/// The labels of an image's `{{json .Config}}`: Docker fails on the name of a part that an image lacks.
pub fn parse_config_labels(json: &str) -> BTreeMap<String, String> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Config {
        labels: Option<BTreeMap<String, String>>,
    }
    let config = serde_json::from_str::<Option<Config>>(json).ok().flatten().unwrap_or_default();
    config.labels.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{parse_config_labels, parse_labels};

    #[test]
    fn labels_may_be_absent() {
        assert!(parse_labels("null").is_empty());
        assert!(parse_labels("").is_empty());
        assert_eq!(parse_labels(r#"{"a":"b"}"#).get("a").map(String::as_str), Some("b"));
        assert!(
            parse_config_labels("null").is_empty() && parse_config_labels(r#"{"Labels":null}"#).is_empty()
        );
        let labels = parse_config_labels(r#"{"Cmd":null,"Labels":{"a":"b"}}"#);
        assert_eq!(labels.get("a").map(String::as_str), Some("b"));
    }
}
