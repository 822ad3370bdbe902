//! The docker client on the target, and the names and labels that everything of this method carries.

use std::collections::BTreeMap;

use deployer_plugin::command::{Run, change, read};
use deployer_plugin::target::{Command, Output};
use deployer_plugin::types::{Deployment, Error};

/// The label that says which service a thing belongs to.
pub const SERVICE: &str = "io.deployer.service";
/// The label that says which release it belongs to.
pub const RELEASE: &str = "io.deployer.release";

/// The docker client, by its absolute path.
pub struct Client {
    pub path: String,
}

/// A container, as a list shows it.
#[derive(Debug, PartialEq)]
pub struct Listed {
    pub name: String,
    pub service: String,
    pub release: String,
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
                "the server has no docker client in its PATH",
                "install docker.io there",
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
            format!("look at the {kind} {name}"),
            output.ending(),
            "see that Docker runs on the server",
        ))
    }

    /// The containers that a filter lets through.
    ///
    /// # Errors
    /// When Docker cannot say.
    pub fn list(&self, filter: &str, state: State) -> Result<Vec<Listed>, Error> {
        let format = format!("{{{{.Names}}}}\t{{{{.Label \"{SERVICE}\"}}}}\t{{{{.Label \"{RELEASE}\"}}}}");
        let mut arguments = vec!["ps", "--filter", filter, "--format", &format];
        if matches!(state, State::Any) {
            arguments.push("--all");
        }
        let output = self.read(arguments).checked("list containers", "see that Docker runs on the server")?;
        Ok(listed(&output.stdout))
    }

    /// This service's containers.
    ///
    /// # Errors
    /// When Docker cannot say.
    pub fn own(&self, deployment: &Deployment, state: State) -> Result<Vec<Listed>, Error> {
        self.list(&format!("label={SERVICE}={}", deployment.service), state)
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

/// A failed container, kept aside to be read.
pub fn failed_name(service: &str, release: &str) -> String {
    format!("{service}-{release}{FAILED}")
}

pub const FAILED: &str = "-failed";

/// An image's name has no capitals.
pub fn image_tag(service: &str, version: &str) -> String {
    format!("{}:{version}", service.to_ascii_lowercase())
}

/// The labels as `--label` arguments.
pub fn labels(service: &str, release: &str) -> [String; 4] {
    ["--label".into(), format!("{SERVICE}={service}"), "--label".into(), format!("{RELEASE}={release}")]
}

/// Labels as `{{json .Config.Labels}}` shows them.
pub fn parse_labels(json: &str) -> BTreeMap<String, String> {
    serde_json::from_str::<Option<_>>(json).ok().flatten().unwrap_or_default()
}

fn listed(text: &str) -> Vec<Listed> {
    let line = |line: &str| {
        let mut columns = line.split('\t').map(|column| column.trim().to_string());
        let name = columns.next().filter(|name| !name.is_empty())?;
        let service = columns.next().unwrap_or_default();
        Some(Listed { name, service, release: columns.next().unwrap_or_default() })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{Listed, listed, parse_labels};

    #[test]
    fn a_list_of_containers_is_read() {
        let names: Vec<_> = listed("a-r1\ta\tr1\nother\t\t\n\n")
            .into_iter()
            .map(|Listed { name, service, release }| (name, service, release))
            .collect();
        let expect = |a: &str, b: &str, c: &str| (a.to_string(), b.to_string(), c.to_string());
        assert_eq!(names, [expect("a-r1", "a", "r1"), expect("other", "", "")]);
    }

    #[test]
    fn labels_may_be_absent() {
        assert!(parse_labels("null").is_empty());
        assert!(parse_labels("").is_empty());
        assert_eq!(parse_labels(r#"{"a":"b"}"#).get("a").map(String::as_str), Some("b"));
    }
}
