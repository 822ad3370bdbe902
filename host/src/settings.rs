//! The deployer's settings: flags, then the environment, then `deployer.toml`, then defaults. It reads the
//! settings; whether a file that they name is any good is found out by whoever opens it.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use thiserror::Error;

use crate::capability::{Login, split_login, without_user};

/// The settings file's name, looked for in the current folder.
pub const FILE: &str = "deployer.toml";

/// All settings, with nothing left open but what may be absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `HOST:PORT`.
    pub listen: String,
    /// The server to deploy to, as in `root@203.0.113.7:22`. Only a server of the API needs one.
    pub target: Option<String>,
    pub key: PathBuf,
    pub known_hosts: PathBuf,
    /// The droplet registry's URL, without a user.
    pub registry: Option<String>,
    /// The user and the password that stood in it.
    pub registry_login: Option<Login>,
    /// A file with the bearer token for the registry.
    pub registry_token_file: Option<PathBuf>,
    /// The folder that every service's folder lies in.
    pub services: PathBuf,
    pub plugins: PathBuf,
    pub pipelines: PathBuf,
    pub data: PathBuf,
    /// The services' folder on the target.
    pub root: String,
    pub token_file: Option<PathBuf>,
}

/// One source of settings: each may be there or not. Flags, the environment and the file all have this shape.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Where the API listens [env: DEPLOYER_LISTEN] [default: 127.0.0.1:8007]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// The server to deploy to, as in root@203.0.113.7:22 [env: DEPLOYER_TARGET]
    #[arg(long, value_name = "USER@HOST:PORT")]
    pub target: Option<String>,
    /// The SSH key [env: DEPLOYER_KEY] [default: ~/.ssh/id_ed25519]
    #[arg(long, value_name = "FILE")]
    pub key: Option<String>,
    /// The host keys that are trusted [env: DEPLOYER_KNOWN_HOSTS] [default: ~/.ssh/known_hosts]
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<String>,
    /// The droplet registry; without one, Register is skipped [env: DEPLOYER_REGISTRY]
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
    /// A file with the bearer token for the registry [env: DEPLOYER_REGISTRY_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub registry_token_file: Option<String>,
    /// The folder with the services; a service_path must be inside it [env: DEPLOYER_SERVICES] [default: .]
    #[arg(long, value_name = "DIR")]
    pub services: Option<String>,
    /// The plugins' folder [env: DEPLOYER_PLUGINS] [default: plugins]
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<String>,
    /// The pipelines' folder [env: DEPLOYER_PIPELINES] [default: pipelines]
    #[arg(long, value_name = "DIR")]
    pub pipelines: Option<String>,
    /// The journal's folder [env: DEPLOYER_DATA] [default: ~/.local/state/deployer]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// The services' folder on the target [env: DEPLOYER_ROOT] [default: /opt/fpai/services]
    #[arg(long, value_name = "DIR")]
    pub root: Option<String>,
    /// A file with the tokens that the API accepts, one per line; required unless it listens on the loopback
    /// [env: DEPLOYER_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
}

#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("cannot read the settings file {path}: {source}; check --config and DEPLOYER_CONFIG")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} has an error: {message}")]
    File { path: PathBuf, message: String },
    #[error("{name} is {value:?}, which is not {expected}; write for example {example}")]
    Value { name: String, value: String, expected: &'static str, example: &'static str },
    #[error("the registry's URL has a user, and --registry-token-file has a token: remove one of the two")]
    TwoRegistryLogins,
    #[error("there is no home folder for the default of {flag}: HOME is not set; give {flag}")]
    NoHome { flag: &'static str },
    #[error(
        "there is no server to deploy to; give --target root@HOST:22 (DEPLOYER_TARGET, or `target` in \
         deployer.toml), or try `deployer demo`"
    )]
    NoTarget,
}

impl Settings {
    /// Reads all sources. `config` is the settings file that was named, and `variable` looks into the
    /// environment, where an empty value counts as none.
    ///
    /// # Errors
    /// When the file cannot be read, a key in it is unknown, or a value is not right.
    pub fn read(
        config: Option<&Path>,
        flags: Layer,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Settings, SettingsError> {
        Sources::gather(config, flags, variable)?.settle()
    }

    /// Reads only where the tokens are, for a client, which needs none of the other settings.
    ///
    /// # Errors
    /// When the file cannot be read, or a key in it is unknown.
    pub fn read_token_file(
        config: Option<&Path>,
        flag: Option<String>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<PathBuf>, SettingsError> {
        let flags = Layer { token_file: flag, ..Layer::default() };
        Ok(Sources::gather(config, flags, variable)?.token_file())
    }

    /// # Errors
    /// When no target is set.
    pub fn required_target(&self) -> Result<&str, SettingsError> {
        self.target.as_deref().ok_or(SettingsError::NoTarget)
    }
}

fn file_layer(path: &Path) -> Result<(PathBuf, Layer), SettingsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    let layer = toml::from_str(&text)
        .map_err(|error| SettingsError::File { path: path.to_owned(), message: error.to_string() })?;
    Ok((path.to_owned(), layer))
}

fn environment_layer(variable: &dyn Fn(&str) -> Option<String>) -> Layer {
    Layer {
        listen: variable("DEPLOYER_LISTEN"),
        target: variable("DEPLOYER_TARGET"),
        key: variable("DEPLOYER_KEY"),
        known_hosts: variable("DEPLOYER_KNOWN_HOSTS"),
        registry: variable("DEPLOYER_REGISTRY"),
        registry_token_file: variable("DEPLOYER_REGISTRY_TOKEN_FILE"),
        services: variable("DEPLOYER_SERVICES"),
        plugins: variable("DEPLOYER_PLUGINS"),
        pipelines: variable("DEPLOYER_PIPELINES"),
        data: variable("DEPLOYER_DATA"),
        root: variable("DEPLOYER_ROOT"),
        token_file: variable("DEPLOYER_TOKEN_FILE"),
    }
}

struct Sources {
    flags: Layer,
    environment: Layer,
    file: Layer,
    /// The settings file, and the folder that its relative paths start at.
    path: PathBuf,
    folder: PathBuf,
    home: Option<String>,
    state: Option<String>,
}

/// A setting's value, and where it was found.
struct Found {
    value: String,
    /// As people know the place: `--listen`, `DEPLOYER_LISTEN`, `listen` in a file.
    name: String,
    in_file: bool,
}

type Field = fn(&Layer) -> Option<&String>;

impl Sources {
    fn gather(
        config: Option<&Path>,
        flags: Layer,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Sources, SettingsError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let named = config.map(Path::to_owned).or_else(|| variable("DEPLOYER_CONFIG").map(PathBuf::from));
        let file = match named {
            Some(path) => Some(file_layer(&path)?),
            None if Path::new(FILE).is_file() => Some(file_layer(Path::new(FILE))?),
            None => None,
        };
        let (path, file) = file.unwrap_or_default();
        Ok(Sources {
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
            flags,
            environment: environment_layer(&variable),
            path,
            file,
            home: variable("HOME"),
            state: variable("XDG_STATE_HOME"),
        })
    }

    fn settle(&self) -> Result<Settings, SettingsError> {
        let plain = |name, field| self.find(name, field).map(|found| found.value);
        let (registry, registry_login) = self.registry()?.unzip();
        let registry_login = registry_login.flatten();
        let registry_token_file =
            self.path_of("registry_token_file", |layer| layer.registry_token_file.as_ref());
        if registry_login.is_some() && registry_token_file.is_some() {
            return Err(SettingsError::TwoRegistryLogins);
        }
        Ok(Settings {
            listen: self.listen()?,
            target: plain("target", |layer| layer.target.as_ref()),
            key: self.path_or(
                "key",
                |layer| layer.key.as_ref(),
                || self.at_home("--key", ".ssh/id_ed25519"),
            )?,
            known_hosts: self.path_or(
                "known_hosts",
                |layer| layer.known_hosts.as_ref(),
                || self.at_home("--known-hosts", ".ssh/known_hosts"),
            )?,
            registry,
            registry_login,
            registry_token_file,
            services: self.path_or("services", |layer| layer.services.as_ref(), || Ok(".".into()))?,
            plugins: self.path_or("plugins", |layer| layer.plugins.as_ref(), || Ok("plugins".into()))?,
            pipelines: self.path_or(
                "pipelines",
                |layer| layer.pipelines.as_ref(),
                || Ok("pipelines".into()),
            )?,
            data: self.path_or("data", |layer| layer.data.as_ref(), || self.default_data())?,
            root: self.root()?,
            token_file: self.token_file(),
        })
    }

    fn find(&self, key: &str, field: Field) -> Option<Found> {
        let found = |value: &String, name, in_file| Found { value: value.clone(), name, in_file };
        if let Some(value) = field(&self.flags) {
            return Some(found(value, format!("--{}", key.replace('_', "-")), false));
        }
        if let Some(value) = field(&self.environment) {
            return Some(found(value, format!("DEPLOYER_{}", key.to_ascii_uppercase()), false));
        }
        let value = field(&self.file)?;
        Some(found(value, format!("`{key}` in {}", self.path.display()), true))
    }

    fn path_of(&self, key: &str, field: Field) -> Option<PathBuf> {
        let found = self.find(key, field)?;
        let path = match (found.value.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => PathBuf::from(&found.value),
        };
        // An absolute path stays what it is.
        Some(if found.in_file { self.folder.join(path) } else { path })
    }

    fn path_or(
        &self,
        key: &str,
        field: Field,
        default: impl FnOnce() -> Result<PathBuf, SettingsError>,
    ) -> Result<PathBuf, SettingsError> {
        self.path_of(key, field).map_or_else(default, Ok)
    }

    fn at_home(&self, flag: &'static str, rest: &str) -> Result<PathBuf, SettingsError> {
        let home = self.home.as_ref().ok_or(SettingsError::NoHome { flag })?;
        Ok(Path::new(home).join(rest))
    }

    fn default_data(&self) -> Result<PathBuf, SettingsError> {
        // The XDG specification has relative paths ignored.
        match self.state.as_ref().map(Path::new).filter(|path| path.is_absolute()) {
            Some(state) => Ok(state.join("deployer")),
            None => self.at_home("--data", ".local/state/deployer"),
        }
    }

    fn token_file(&self) -> Option<PathBuf> {
        self.path_of("token_file", |layer| layer.token_file.as_ref())
    }

    fn listen(&self) -> Result<String, SettingsError> {
        let Some(found) = self.find("listen", |layer| layer.listen.as_ref()) else {
            return Ok("127.0.0.1:8007".to_owned());
        };
        let is_address = found
            .value
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if is_address { Ok(found.value) } else { Err(found.wrong("an address", "127.0.0.1:8007")) }
    }

    fn registry(&self) -> Result<Option<(String, Option<Login>)>, SettingsError> {
        let Some(mut found) = self.find("registry", |layer| layer.registry.as_ref()) else { return Ok(None) };
        // Paths are put behind it: what stands behind its own path would come before them.
        let is_base = reqwest::Url::parse(&found.value).is_ok_and(|url| {
            let bare = url.query().is_none() && url.fragment().is_none();
            matches!(url.scheme(), "http" | "https") && url.has_host() && bare
        });
        if is_base {
            let (url, login) = split_login(&found.value);
            Ok(Some((url.trim_end_matches('/').to_owned(), login)))
        } else {
            found.value = without_secrets(&found.value);
            Err(found.wrong("a URL of a scheme, a host and perhaps a path", "http://127.0.0.1:8000"))
        }
    }

    fn root(&self) -> Result<String, SettingsError> {
        let Some(found) = self.find("root", |layer| layer.root.as_ref()) else {
            return Ok("/opt/fpai/services".to_owned());
        };
        let root = found.value.trim_end_matches('/');
        let is_folder = root.len() > 1
            && root.starts_with('/')
            && root.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."))
            && !root.contains(char::is_control);
        if is_folder {
            Ok(root.to_owned())
        } else {
            Err(found.wrong("an absolute path below `/`", "/opt/fpai/services"))
        }
    }
}

/// A registry's URL as it may be shown: a query may have a token in it, as a user has a password.
fn without_secrets(url: &str) -> String {
    let url = without_user(url);
    match url.find(['?', '#']) {
        Some(at) => format!("{}\u{2026}", url.get(..=at).unwrap_or_default()),
        None => url,
    }
}

impl Found {
    fn wrong(self, expected: &'static str, example: &'static str) -> SettingsError {
        SettingsError::Value { name: self.name, value: self.value, expected, example }
    }
}
