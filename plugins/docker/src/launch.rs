//! How a release is run: decided once, kept on the target, and used again when the release is restored.

use std::net::IpAddr;

use deployer_plugin::environment;
use deployer_plugin::method::{Values, has, multi_line, one_line, read_json, write_json};
use deployer_plugin::types::{Deployment, Error, Instance};
use serde::{Deserialize, Serialize};

use crate::client::{CONTAINER, KIND, ROOT, container_name, image_tag, labels};
use crate::image::Image;
use crate::settings::Settings;

/// A release's way to run, in `{root}/docker/{release}.json`. It has names of variables, and no values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    pub container: String,
    pub image: String,
    /// What `docker` is given to run it.
    pub arguments: Vec<String>,
    /// The network to make when it is missing.
    pub network: Option<String>,
    /// The file with the variables that have line breaks: the client's own environment has them.
    pub environment_file: Option<String>,
    /// The port on the target.
    pub port: u16,
    /// The restart policy, once it is verified.
    pub restart: String,
    /// In seconds.
    pub stop_timeout: u32,
}

/// A launch, and whether an earlier call decided it: a container may have been made by it already.
pub struct Decided {
    pub launch: Launch,
    pub earlier: bool,
}

impl Launch {
    /// Where a release's launch is kept.
    pub fn path(root: &str, release: &str) -> String {
        format!("{root}/docker/{release}.json")
    }

    /// A release's launch, if it was started once.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn kept(root: &str, release: &str) -> Result<Option<Launch>, Error> {
        read_json(&Self::path(root, release))
    }

    /// The deployment's launch: the kept one, else one by the settings, which is kept from now on.
    ///
    /// # Errors
    /// When a command in the settings cannot be read, or it cannot be kept.
    pub fn decide(deployment: &Deployment, image: &Image, settings: &Settings) -> Result<Decided, Error> {
        if let Some(launch) = Self::kept(&deployment.layout.root, &deployment.release)? {
            return Ok(Decided { launch, earlier: true });
        }
        let launch = compose(deployment, image, settings)?;
        write_json(&Self::path(&deployment.layout.root, &deployment.release), &launch)?;
        Ok(Decided { launch, earlier: false })
    }

    /// The instance that it makes.
    pub fn instance(&self, docker: &str) -> Instance {
        let script =
            |text: &str| ["sh", "-c", text, "sh", docker, &self.container].map(String::from).to_vec();
        Instance {
            kind: KIND.into(),
            name: self.container.clone(),
            port: self.port,
            alive: script(ALIVE),
            log_tail: script("exec \"$1\" logs --tail 100 \"$2\" 2>&1"),
        }
    }
}

/// Puts the service's variables into files on the target: those that docker's own files can hold, and the
/// others, which the client gets as its environment.
///
/// # Errors
/// Those of the host, such as that the files of an earlier release are gone.
pub fn place_environment(deployment: &Deployment) -> Result<(), Error> {
    let path = &deployment.layout.environment;
    environment::place(path, &one_line(&deployment.environment), environment::Form::Plain)?;
    let others = multi_line(&deployment.environment);
    if others.is_empty() {
        return Ok(());
    }
    environment::place(&multi_line_file(path), &others, environment::Form::Quoted)
}

/// Exits 0 only while the container runs and never had to be started again.
const ALIVE: &str = r#"
state=$("$1" container inspect --format '{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}' "$2" 2>&1) || { printf '%s\n' "$state"; exit 1; }
case "$state" in "running 0 "*) exit 0 ;; esac
read -r status restarts code memory error <<END
$state
END
printf 'the container %s is %s: exit status %s, out of memory: %s, restarted %s times' "$2" "$status" "$code" "$memory" "$restarts"
[ -z "$error" ] || printf ', %s' "$error"
printf '\n'
exit 1
"#;

fn multi_line_file(path: &str) -> String {
    format!("{path}.multiline")
}

fn compose(deployment: &Deployment, image: &Image, settings: &Settings) -> Result<Launch, Error> {
    let container = container_name(&deployment.service, &deployment.release);
    let tag = image_tag(&deployment.service, &deployment.release);
    let on_host = settings.network.as_deref() == Some("host");
    let inner = inner_port(deployment, image, settings, on_host);
    let values = Values { port: inner, release: &deployment.release };

    let mut arguments: Vec<String> = ["run", "--detach", "--name", &container].map(String::from).to_vec();
    // A container that is not verified stays down when it dies, with its exit code; `promote` sets the policy.
    arguments.push("--restart=no".into());
    if !on_host {
        arguments.extend(publish(settings.bind.as_deref(), deployment.port, inner));
    }
    arguments.extend(variables(deployment, inner));
    arguments.extend(settings.network.iter().map(|network| format!("--network={network}")));
    arguments.extend(settings.memory.iter().map(|memory| format!("--memory={memory}")));
    arguments.extend(settings.cpus.iter().map(|cpus| format!("--cpus={cpus}")));
    arguments.extend(settings.volumes.iter().flat_map(|volume| ["--volume".into(), volume.clone()]));
    arguments.extend(settings.extra_args.iter().cloned());
    // The last label of a name is the one that counts.
    arguments.extend(labels(&deployment.service, &deployment.release));
    for (label, value) in [(CONTAINER, &container), (ROOT, &deployment.layout.root)] {
        arguments.extend(["--label".into(), format!("{label}={value}")]);
    }
    arguments.push(tag.clone());
    if let Some(command) = &settings.command {
        arguments.extend(command.arguments(values).map_err(|problem| {
            Error::request("read the setting `command`", problem, "fix the setting `command`")
        })?);
    }

    let has_multi_line = !multi_line(&deployment.environment).is_empty();
    Ok(Launch {
        container,
        image: tag,
        arguments,
        network: settings.network.clone().filter(|network| !is_built_in(network)),
        environment_file: has_multi_line.then(|| multi_line_file(&deployment.layout.environment)),
        port: deployment.port,
        restart: settings.restart.policy().into(),
        stop_timeout: settings.stop_timeout,
    })
}

fn inner_port(deployment: &Deployment, image: &Image, settings: &Settings, on_host: bool) -> u16 {
    if on_host {
        return deployment.port;
    }
    match (settings.container_port, image.ports.as_slice()) {
        (Some(port), _) => port,
        (None, [only]) => *only,
        (None, _) => deployment.port,
    }
}

/// The server's loopback always has the port, for the health check comes from there.
fn publish(bind: Option<&str>, port: u16, inner: u16) -> Vec<String> {
    let address = bind.and_then(|bind| bind.parse::<IpAddr>().ok());
    let at = |address: IpAddr| match address {
        IpAddr::V4(address) => format!("--publish={address}:{port}:{inner}"),
        IpAddr::V6(address) => format!("--publish=[{address}]:{port}:{inner}"),
    };
    match address {
        None => vec![format!("--publish={port}:{inner}")],
        Some(address) if address.is_unspecified() || address == IpAddr::from([127, 0, 0, 1]) => {
            vec![at(address)]
        }
        Some(address) => vec![at(address), at(IpAddr::from([127, 0, 0, 1]))],
    }
}

fn variables(deployment: &Deployment, inner: u16) -> Vec<String> {
    let mut arguments = vec!["--env-file".into(), deployment.layout.environment.clone()];
    arguments.extend(multi_line(&deployment.environment).into_iter().flat_map(|name| ["--env".into(), name]));
    let own = [("PORT", inner.to_string()), ("RELEASE", deployment.release.clone())];
    for (name, value) in own {
        if !has(&deployment.environment, name) {
            arguments.extend(["--env".into(), format!("{name}={value}")]);
        }
    }
    arguments
}

/// Networks that every engine has.
fn is_built_in(network: &str) -> bool {
    matches!(network, "bridge" | "host" | "none" | "default") || network.starts_with("container:")
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;

    use deployer_plugin::types::{Deployment, Layout, Variable};

    use super::{Image, Launch, compose};

    pub fn deployment() -> Deployment {
        let variable = |name: &str, one_line: bool| Variable { name: name.into(), one_line };
        Deployment {
            job: "deploy-1".into(),
            service: "web".into(),
            method: "docker".into(),
            release: "r2".into(),
            port: 8001,
            layout: Layout {
                root: "/opt/web".into(),
                files: "/opt/web/releases/r2".into(),
                environment: "/opt/web/env/r2".into(),
            },
            environment: vec![variable("TOKEN", true), variable("KEY", false)],
            settings: "{}".into(),
            previous: None,
        }
    }

    pub fn launch(settings: &str, ports: &[u16]) -> Launch {
        let image =
            Image { id: "sha256:1".into(), bytes: None, labels: BTreeMap::new(), ports: ports.to_vec() };
        compose(&deployment(), &image, &serde_json::from_str(settings).expect("settings")).expect("a launch")
    }

    #[test]
    fn a_plain_launch() {
        let launch = launch("{}", &[]);
        assert_eq!(
            launch.arguments.join(" "),
            "run --detach --name web-r2 --restart=no --publish=8001:8001 --env-file /opt/web/env/r2 --env KEY \
             --env PORT=8001 --env RELEASE=r2 --label io.deployer.service=web --label io.deployer.release=r2 \
             --label io.deployer.container=web-r2 --label io.deployer.root=/opt/web web:r2"
        );
        assert_eq!(launch.environment_file.as_deref(), Some("/opt/web/env/r2.multiline"));
        assert_eq!((launch.restart.as_str(), launch.network), ("unless-stopped", None));
    }

    #[test]
    fn every_setting_arrives() {
        let settings = r#"{"network": "fpai", "memory": "512m", "cpus": 1.5, "volumes": ["data:/data"],
            "bind": "10.0.0.5", "container_port": 80, "extra_args": ["--init"], "restart": "always",
            "command": "serve --port {port} --as 'x y'"}"#;
        let launch = launch(settings, &[8000]);
        let line = launch.arguments.join("|");
        let middle = "|--network=fpai|--memory=512m|--cpus=1.5|--volume|data:/data|--init|--label|";
        assert!(line.contains(middle), "{line}");
        assert!(line.ends_with("|web:r2|serve|--port|80|--as|x y"), "{line}");
        assert!(line.contains("--publish=10.0.0.5:8001:80|--publish=127.0.0.1:8001:80"), "{line}");
        assert!(line.contains("--env|PORT=80|"), "{line}");
        assert_eq!((launch.restart.as_str(), launch.network.as_deref()), ("always", Some("fpai")));
    }

    #[test]
    fn the_port_inside_is_the_images_only_one_else_the_services() {
        let check = |settings: &str, ports: &[u16], expect: &str| {
            let line = launch(settings, ports).arguments.join(" ");
            assert!(line.contains(expect), "{settings} {ports:?}: {line}");
        };
        check("{}", &[8000], "--publish=8001:8000 ");
        check("{}", &[80, 443], "--publish=8001:8001 ");
        check(r#"{"container_port": 443}"#, &[80, 443], "--publish=8001:443 ");
        check(r#"{"bind": "::1"}"#, &[], "--publish=[::1]:8001:8001 --publish=127.0.0.1:8001:8001 ");
        check(r#"{"bind": "127.0.0.1"}"#, &[], "--restart=no --publish=127.0.0.1:8001:8001 --env-file");
        check(r#"{"network": "host"}"#, &[8000], "--restart=no --env-file");
        check(r#"{"network": "host"}"#, &[8000], "PORT=8001");
    }

    #[test]
    fn variables_of_the_service_go_before_the_methods_own() {
        let mut deployment = deployment();
        deployment.environment.push(Variable { name: "PORT".into(), one_line: true });
        let image = Image { id: String::new(), bytes: None, labels: BTreeMap::new(), ports: vec![] };
        let launch =
            compose(&deployment, &image, &serde_json::from_str("{}").expect("settings")).expect("a launch");
        assert!(!launch.arguments.join(" ").contains("PORT="), "{launch:?}");
    }
}
