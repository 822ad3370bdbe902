//! The settings, and what is wrong with them before anything runs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use deployer_plugin::method::CommandLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The Dockerfile's path inside the service's folder.
    pub dockerfile: String,
    /// The stage of the Dockerfile to build. Default: the last one.
    pub target: Option<String>,
    /// Build arguments. They are visible on a command line and in the image, so not for secrets.
    pub build_args: BTreeMap<String, String>,
    /// The port inside the container, and its `PORT` variable. Default: the image's only exposed TCP
    /// port, else the service's port.
    #[schemars(range(min = 1))]
    pub container_port: Option<u16>,
    /// The target's address that the port is published on, such as `127.0.0.1`. Default: all of them.
    pub bind: Option<String>,
    /// A Docker network to join, created when it is missing; `host` for the target's own.
    pub network: Option<String>,
    /// When Docker restarts the container, once it is verified.
    pub restart: Restart,
    /// How many seconds the old container may take to stop before it is killed.
    pub stop_timeout: u32,
    /// The most memory the container may use: a number with `b`, `k`, `m` or `g`, such as `512m`.
    #[schemars(regex(pattern = r"^[0-9]+[bkmgBKMG]?$"))]
    pub memory: Option<String>,
    /// The most processors it may use, such as 1.5.
    #[schemars(range(min = 0.01))]
    pub cpus: Option<f64>,
    /// Volumes, as `docker run --volume` takes them: `NAME:/inside` or `/outside:/inside:ro`.
    pub volumes: Vec<String>,
    /// A command to run instead of the image's: a string, split as a shell would, or a list. `{port}` is the port
    /// inside the container, `{release}` the release's id.
    pub command: Option<CommandLine>,
    /// More arguments for `docker run`, before the image's name.
    pub extra_args: Vec<String>,
    /// Whether the tag `{service}:latest` is moved to the live release. When false, the tag is left alone:
    /// for a service that has the same name as somebody else's image.
    pub latest: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    No,
    OnFailure,
    UnlessStopped,
    Always,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            dockerfile: "Dockerfile".into(),
            target: None,
            build_args: BTreeMap::new(),
            container_port: None,
            bind: None,
            network: None,
            restart: Restart::UnlessStopped,
            stop_timeout: 10,
            memory: None,
            cpus: None,
            volumes: Vec::new(),
            command: None,
            extra_args: Vec::new(),
            latest: true,
        }
    }
}

impl Restart {
    pub fn policy(self) -> &'static str {
        match self {
            Restart::No => "no",
            Restart::OnFailure => "on-failure",
            Restart::UnlessStopped => "unless-stopped",
            Restart::Always => "always",
        }
    }
}

/// Arguments of `docker run` that this method must set itself.
const OWN: [&str; 7] = ["--name", "--rm", "--restart", "-d", "--detach", "-p", "--publish"];

/// The least memory that Docker takes, in bytes.
const LEAST_MEMORY: u64 = 6 << 20;

impl Settings {
    /// What is wrong, each as what was seen and what to write instead.
    pub fn problems(&self) -> Vec<(String, String)> {
        let checks = [
            self.paths(),
            self.memory(),
            self.bind(),
            self.cpus(),
            self.volumes(),
            self.extra_args(),
            self.labels(),
        ];
        checks.into_iter().flatten().collect()
    }

    fn paths(&self) -> Option<(String, String)> {
        let outside = self.dockerfile.starts_with('/') || self.dockerfile.split('/').any(|part| part == "..");
        (outside || self.dockerfile.is_empty()).then(|| {
            (
                format!("`dockerfile` is `{}`, which is not inside the service's folder", self.dockerfile),
                "write a path relative to the service's folder".into(),
            )
        })
    }

    fn memory(&self) -> Option<(String, String)> {
        let memory = self.memory.as_ref()?;
        match bytes(memory) {
            Some(bytes) if bytes >= LEAST_MEMORY => None,
            Some(_) => Some((format!("`memory` is `{memory}`"), "the minimum is 6m".into())),
            None => {
                Some((format!("`memory` is `{memory}`"), "write a number and a unit, such as 512m".into()))
            }
        }
    }

    fn bind(&self) -> Option<(String, String)> {
        let bind = self.bind.as_ref()?;
        let next = "write one of the target's IP addresses, such as 127.0.0.1";
        bind.parse::<IpAddr>()
            .is_err()
            .then(|| (format!("`bind` is `{bind}`, which is not an IP address"), next.into()))
    }

    fn cpus(&self) -> Option<(String, String)> {
        let cpus = self.cpus?;
        (cpus.is_nan() || cpus < 0.01)
            .then(|| (format!("`cpus` is {cpus}"), "write a number of processors, 0.01 or more".into()))
    }

    fn volumes(&self) -> Option<(String, String)> {
        let wrong = self.volumes.iter().find(|volume| {
            let mut parts = volume.split(':');
            let source = parts.next().unwrap_or_default();
            let inside = parts.next().unwrap_or_default();
            !inside.starts_with('/') || source.starts_with('.') || source.is_empty()
        })?;
        let next = "write NAME:/inside or /outside:/inside, with absolute paths";
        Some((format!("`volumes` has `{wrong}`"), next.into()))
    }

    fn extra_args(&self) -> Option<(String, String)> {
        let own = self.extra_args.iter().find(|argument| {
            let name = argument.split('=').next().unwrap_or_default();
            OWN.contains(&name)
        })?;
        let next =
            "remove it; this method sets it, and the port and the restart policy have settings of their own";
        Some((format!("`extra_args` has `{own}`"), next.into()))
    }

    /// By these labels this method knows its containers.
    fn labels(&self) -> Option<(String, String)> {
        let own = self.extra_args.iter().enumerate().find_map(|(place, argument)| {
            let after = |flag: &str| argument.strip_prefix(flag).map(|rest| rest.trim_start_matches('='));
            let label = match argument.as_str() {
                "--label" | "-l" => self.extra_args.get(place + 1).map(String::as_str),
                _ => after("--label=").or_else(|| after("-l")),
            };
            label.filter(|label| label.starts_with("io.deployer."))
        })?;
        Some((
            format!("`extra_args` sets the label `{own}`"),
            "choose a label that does not begin with `io.deployer.`".into(),
        ))
    }
}

/// A number with Docker's units, in bytes.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|next: char| next.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_shl(shift)
}

#[cfg(test)]
mod tests {
    use super::Settings;

    fn problems(json: &str) -> Vec<String> {
        let settings: Settings = serde_json::from_str(json).expect("settings");
        settings.problems().into_iter().map(|(seen, _)| seen).collect()
    }

    #[test]
    fn nothing_is_wrong_with_the_defaults() {
        assert!(problems("{}").is_empty());
    }

    #[test]
    fn each_wrong_setting_is_named() {
        let check = |json: &str, expect: &str| {
            let found = problems(json);
            assert!(found.iter().any(|seen| seen.contains(expect)), "{json}: {found:?}");
        };
        check(r#"{"dockerfile": "../Dockerfile"}"#, "`dockerfile`");
        check(r#"{"memory": "1m"}"#, "`memory`");
        check(r#"{"memory": "lots"}"#, "`memory`");
        check(r#"{"bind": "localhost"}"#, "`bind`");
        check(r#"{"cpus": 0}"#, "`cpus`");
        check(r#"{"volumes": ["./data:/data"]}"#, "`volumes`");
        check(r#"{"volumes": ["data"]}"#, "`volumes`");
        check(r#"{"extra_args": ["--restart=always"]}"#, "`extra_args`");
        check(
            r#"{"extra_args": ["--init", "--label", "io.deployer.service=shop"]}"#,
            "the label `io.deployer.service",
        );
        check(r#"{"extra_args": ["--label=io.deployer.container=x"]}"#, "the label `io.deployer.container");
        check(r#"{"extra_args": ["-l=io.deployer.root=/"]}"#, "the label `io.deployer.root");
    }

    #[test]
    fn what_is_right_passes() {
        let check = |json: &str| assert!(problems(json).is_empty(), "{json}");
        check(r#"{"memory": "512m", "cpus": 1.5, "bind": "::1"}"#);
        check(
            r#"{"volumes": ["data:/data", "/srv:/srv:ro"], "extra_args": ["--init", "--label", "team=a"]}"#,
        );
        check(
            r#"{"dockerfile": "deploy/Dockerfile", "restart": "on-failure", "command": "serve --port {port}"}"#,
        );
    }
}
