//! The settings, and what is wrong with them before anything runs.

use deployer_plugin::method::CommandLine;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Debug, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The start command: a string, split as a shell would (of variables, only `$PORT`), or a list.
    /// `{port}` is the service's port, `{release}` the release's id. Default: the Procfile's `web:` line,
    /// else uvicorn for a FastAPI application in app/main.py or main.py.
    pub start: Option<CommandLine>,
    /// Commands that run in the release's folder after the virtual environment is created, as the SSH user,
    /// with the service's environment: strings are lines for `sh`, lists go without a shell. They may run
    /// again after a crash.
    pub build: Vec<CommandLine>,
    /// The Python that creates the virtual environment.
    pub python: String,
    /// The requirements file, inside the service's folder. Without such a file, no virtual environment is
    /// made. Releases with equal requirements share one.
    pub requirements: String,
    /// The user that the service runs as, created when missing. Default: `svc-` and the service's name.
    #[schemars(regex(pattern = r"^[a-z_][a-z0-9_-]{0,31}$"))]
    pub user: Option<String>,
    /// When systemd restarts the service.
    pub restart: Restart,
    /// How many seconds systemd waits before it restarts the service.
    pub restart_delay: u32,
    /// How many seconds the service may take to stop before it is killed.
    pub stop_timeout: u32,
    /// The most memory the service may use: a number with `k`, `m` or `g`, such as `512m`.
    #[schemars(regex(pattern = r"^[0-9]+[bkmgBKMG]?$"))]
    pub memory: Option<String>,
    /// The most processors it may use, such as 1.5.
    #[schemars(range(min = 0.01))]
    pub cpus: Option<f64>,
    /// Whether the service is isolated from the rest of the target: a read-only file system, no devices, no
    /// kernel settings, no new privileges. It can always write to its state folder, `$STATE_DIRECTORY`.
    pub hardening: bool,
    /// More folders that the service may write to; absolute paths.
    pub writable: Vec<String>,
    /// Lines for the unit's [Service] section, after all others, so that they win: `LimitNOFILE=65536`.
    pub service_lines: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    No,
    OnFailure,
    Always,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            start: None,
            build: Vec::new(),
            python: "python3".into(),
            requirements: "requirements.txt".into(),
            user: None,
            restart: Restart::OnFailure,
            restart_delay: 2,
            stop_timeout: 10,
            memory: None,
            cpus: None,
            hardening: true,
            writable: Vec::new(),
            service_lines: Vec::new(),
        }
    }
}

impl Restart {
    pub fn policy(self) -> &'static str {
        match self {
            Restart::No => "no",
            Restart::OnFailure => "on-failure",
            Restart::Always => "always",
        }
    }
}

impl Settings {
    /// What is wrong, each as what was seen and what to write instead.
    pub fn problems(&self) -> Vec<(String, String)> {
        let checks =
            [self.requirements(), self.memory_problem(), self.cpus_problem(), self.writable(), self.lines()];
        checks.into_iter().flatten().collect()
    }

    /// `MemoryMax=`.
    pub fn memory_max(&self) -> Option<String> {
        let memory = self.memory.as_ref()?.to_ascii_uppercase();
        let digits = memory.trim_end_matches(['B', 'K', 'M', 'G']);
        digits.parse::<u64>().ok().filter(|number| *number > 0)?;
        Some(memory.trim_end_matches('B').to_string())
    }

    /// `CPUQuota=`, in percent of one processor.
    pub fn cpu_quota(&self) -> Option<String> {
        let percent = self.cpus.filter(|cpus| *cpus >= 0.01)? * 100.0;
        Some(format!("{percent:.0}%"))
    }

    fn requirements(&self) -> Option<(String, String)> {
        let outside =
            self.requirements.starts_with('/') || self.requirements.split('/').any(|part| part == "..");
        outside.then(|| {
            (
                format!(
                    "`requirements` is `{}`, which is not inside the service's folder",
                    self.requirements
                ),
                "write a path relative to the service's folder".into(),
            )
        })
    }

    fn memory_problem(&self) -> Option<(String, String)> {
        let memory = self.memory.as_ref().filter(|_| self.memory_max().is_none())?;
        Some((format!("`memory` is `{memory}`"), "write a number and a unit, such as 512m".into()))
    }

    fn cpus_problem(&self) -> Option<(String, String)> {
        let cpus = self.cpus.filter(|_| self.cpu_quota().is_none())?;
        Some((format!("`cpus` is {cpus}"), "write a number of processors, 0.01 or more".into()))
    }

    fn writable(&self) -> Option<(String, String)> {
        let wrong =
            self.writable.iter().find(|path| !path.starts_with('/') || path.contains(['\n', '\r']))?;
        Some((format!("`writable` has `{wrong}`"), "write absolute paths".into()))
    }

    fn lines(&self) -> Option<(String, String)> {
        let wrong = self.service_lines.iter().find(|line| !is_line(line))?;
        let next = "write one NAME=VALUE per entry, as in a [Service] section: LimitNOFILE=65536";
        Some((format!("`service_lines` has `{}`", wrong.escape_debug()), next.into()))
    }
}

fn is_line(line: &str) -> bool {
    let name = line.split_once('=').map(|(name, _)| name.trim()).unwrap_or_default();
    !name.is_empty()
        && name.chars().all(|next| next.is_ascii_alphanumeric())
        && !line.contains(['\n', '\r'])
        && !line.ends_with('\\')
}

#[cfg(test)]
mod tests {
    use super::Settings;

    fn read(json: &str) -> Settings {
        serde_json::from_str(json).expect("settings")
    }

    #[test]
    fn each_wrong_setting_is_named() {
        let check = |json: &str, expect: Option<&str>| {
            let found = read(json).problems();
            match expect {
                None => assert!(found.is_empty(), "{json}: {found:?}"),
                Some(name) => assert!(found.iter().any(|(seen, _)| seen.contains(name)), "{json}: {found:?}"),
            }
        };
        check("{}", None);
        check(
            r#"{"memory": "512m", "cpus": 0.5, "writable": ["/srv/data"], "service_lines": ["Nice=5"]}"#,
            None,
        );
        check(r#"{"memory": "0m"}"#, Some("`memory`"));
        check(r#"{"memory": "much"}"#, Some("`memory`"));
        check(r#"{"cpus": 0}"#, Some("`cpus`"));
        check(r#"{"writable": ["data"]}"#, Some("`writable`"));
        check(r#"{"requirements": "../requirements.txt"}"#, Some("`requirements`"));
        check(r#"{"service_lines": ["Nice=5\nUser=root"]}"#, Some("`service_lines`"));
        check(r#"{"service_lines": ["[Install]"]}"#, Some("`service_lines`"));
    }

    #[test]
    fn limits_are_in_systemds_units() {
        let settings = read(r#"{"memory": "512m", "cpus": 1.5}"#);
        assert_eq!((settings.memory_max(), settings.cpu_quota()), (Some("512M".into()), Some("150%".into())));
        assert_eq!(read(r#"{"memory": "1000b"}"#).memory_max().as_deref(), Some("1000"));
    }
}
