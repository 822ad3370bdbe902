//! A unit's text, and systemd's way to quote. No call is made from here.

use crate::settings::Settings;

/// What the unit of one release runs.
pub struct Plan<'a> {
    pub service: &'a str,
    pub release: &'a str,
    pub user: &'a str,
    /// The service's folder on the target.
    pub root: &'a str,
    /// The release's files, in which it runs.
    pub files: &'a str,
    pub environment_file: &'a str,
    pub virtual_environment: Option<&'a str>,
    pub port: u16,
    /// The program by its absolute path, and its arguments.
    pub argv: &'a [String],
}

/// The name is the tool's own, so that a service called `ssh` is not the system's.
pub fn unit_name(service: &str) -> String {
    format!("deployer-{service}.service")
}

/// The folder below /var/lib that is the service's own to write. It is not /var/lib/{service}: a service
/// called `docker` would be given Docker's.
pub fn state_directory(service: &str) -> String {
    format!("deployer/{service}")
}

/// The unit's text.
pub fn text(plan: &Plan, settings: &Settings) -> String {
    let mut lines = head(plan);
    lines.extend(process(plan, settings));
    lines.extend(limits(settings));
    if settings.hardening {
        lines.extend(hardening(plan));
    }
    lines.extend(
        settings.writable.iter().map(|path| format!("ReadWritePaths={}", quote(path, Dollar::Plain))),
    );
    lines.extend(settings.service_lines.iter().cloned());
    lines.extend(["", "[Install]", "WantedBy=multi-user.target", ""].map(String::from));
    lines.join("\n")
}

/// The user of a unit's text that this tool wrote for a service with this folder; none where it has not the mark.
/// Another deployer may have a service of the same name in another folder.
pub fn marked(text: &str, service: &str, root: &str) -> Option<String> {
    let mark = format!("X-Deployer-Service={service}");
    let folder = format!("{}/releases/", percent(root));
    let first = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name));
    let ours =
        text.lines().any(|line| line.trim() == mark) && first("WorkingDirectory=")?.starts_with(&folder);
    ours.then(|| first("User=").unwrap_or("root").replace("%%", "%"))
}

fn head(plan: &Plan) -> Vec<String> {
    vec![
        "# Written by deployer, and replaced by each deployment.".into(),
        "[Unit]".into(),
        format!("Description={}, release {}", percent(plan.service), percent(plan.release)),
        "After=network.target".into(),
        "StartLimitIntervalSec=0".into(),
        format!("X-Deployer-Service={}", plan.service),
        format!("X-Deployer-Release={}", plan.release),
        String::new(),
        "[Service]".into(),
    ]
}

fn process(plan: &Plan, settings: &Settings) -> Vec<String> {
    let path = plan.virtual_environment.map(|venv| format!("{venv}/bin:")).unwrap_or_default();
    let mut environment = vec![
        format!("PATH={path}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        format!("PORT={}", plan.port),
        format!("RELEASE={}", plan.release),
        "PYTHONUNBUFFERED=1".into(),
    ];
    environment.extend(plan.virtual_environment.map(|venv| format!("VIRTUAL_ENV={venv}")));
    let mut lines: Vec<String> = vec![
        // `systemctl start` then waits until the program runs, and says so when it cannot.
        "Type=exec".into(),
        format!("User={}", percent(plan.user)),
        format!("WorkingDirectory={}", percent(plan.files)),
    ];
    lines.extend(environment.iter().map(|pair| format!("Environment={}", quote(pair, Dollar::Plain))));
    lines.extend([
        // The service's own variables win over those above.
        format!("EnvironmentFile={}", percent(plan.environment_file)),
        format!("ExecStart={}", exec(plan.argv)),
        format!("Restart={}", settings.restart.policy()),
        format!("RestartSec={}", settings.restart_delay),
        format!("TimeoutStopSec={}", settings.stop_timeout),
        "KillMode=mixed".into(),
        format!("StateDirectory={}", percent(&state_directory(plan.service))),
        format!("SyslogIdentifier={}", percent(plan.service)),
    ]);
    lines
}

fn limits(settings: &Settings) -> Vec<String> {
    let memory = settings.memory_max().map(|memory| format!("MemoryMax={memory}"));
    let cpus = settings.cpu_quota().map(|quota| format!("CPUQuota={quota}"));
    memory.into_iter().chain(cpus).collect()
}

/// What hardly any service needs. Each can be set otherwise by a later line.
const HARDENING: [&str; 16] = [
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictSUIDSGID=yes",
    "RestrictRealtime=yes",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "UMask=0027",
];

fn hardening(plan: &Plan) -> Vec<String> {
    let mut lines: Vec<String> = HARDENING.map(String::from).to_vec();
    let within = |folder: &str| plan.root == folder || plan.root.starts_with(&format!("{folder}/"));
    // A folder that holds the service's files cannot be hidden from it.
    let in_home = ["/home", "/root", "/run/user"].into_iter().any(within);
    lines.push(if in_home { "ProtectHome=read-only" } else { "ProtectHome=yes" }.into());
    if !["/tmp", "/var/tmp"].into_iter().any(within) {
        lines.push("PrivateTmp=yes".into());
    }
    if plan.port < 1024 {
        lines.push("AmbientCapabilities=CAP_NET_BIND_SERVICE".into());
        lines.push("CapabilityBoundingSet=CAP_NET_BIND_SERVICE".into());
    } else {
        lines.push("CapabilityBoundingSet=".into());
    }
    lines
}

fn exec(argv: &[String]) -> String {
    let words: Vec<String> = argv.iter().map(|word| quote(word, Dollar::Variable)).collect();
    words.join(" ")
}

/// What `$` is at a place: the start of a variable, so that a real one is written twice, or itself.
#[derive(Clone, Copy, PartialEq)]
enum Dollar {
    Variable,
    Plain,
}

/// One word of a line that systemd splits: quoted unless it is plain, `\` and `"` escaped, `%` doubled
/// (it starts a specifier), `$` doubled where it starts a variable, control characters by their number.
fn quote(word: &str, dollar: Dollar) -> String {
    let plain = |next: char| next.is_ascii_alphanumeric() || "_-./:=,+@".contains(next);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    let mut quoted = String::from("\"");
    for next in word.chars() {
        match next {
            '"' | '\\' => quoted.extend(['\\', next]),
            '%' => quoted.push_str("%%"),
            '$' if dollar == Dollar::Variable => quoted.push_str("$$"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(control)))
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A value that systemd does not split: only specifiers need care.
fn percent(value: &str) -> String {
    value.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::{Dollar, Plan, exec, marked, quote, text, unit_name};

    fn unit(settings: &str, change: impl Fn(&mut Plan)) -> String {
        let argv = ["/opt/web/venvs/1/bin/uvicorn", "app.main:app", "--log", "100% $x"].map(String::from);
        let mut plan = Plan {
            service: "web",
            release: "r2",
            user: "svc-web",
            root: "/opt/web",
            files: "/opt/web/releases/r2",
            environment_file: "/opt/web/env/r2",
            virtual_environment: Some("/opt/web/venvs/1"),
            port: 8001,
            argv: &argv,
        };
        change(&mut plan);
        text(&plan, &serde_json::from_str(settings).expect("settings"))
    }

    #[test]
    fn what_this_tool_wrote_has_its_mark() {
        let text = unit(r#"{"service_lines": ["WorkingDirectory=/srv", "User=other"]}"#, |_| {});
        assert_eq!(marked(&text, "web", "/opt/web").as_deref(), Some("svc-web"));
        assert_eq!(marked(&text, "we", "/opt/web"), None);
        assert_eq!(marked(&text, "web", "/opt/we"), None);
        assert_eq!(marked(&text, "web", "/srv/web"), None);
        let percent = unit("{}", |plan| plan.files = "/opt/50%/releases/r2");
        assert_eq!(marked(&percent, "web", "/opt/50%").as_deref(), Some("svc-web"));
        assert_eq!(marked("[Service]\nWorkingDirectory=/opt/web/releases/r2\n", "web", "/opt/web"), None);
    }

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        let check = |word: &str, expect: &str| assert_eq!(quote(word, Dollar::Variable), expect, "{word}");
        check("app.main:app", "app.main:app");
        check("--port=8001", "--port=8001");
        check("", "\"\"");
        check("a b", "\"a b\"");
        check("say \"hi\"", "\"say \\\"hi\\\"\"");
        check("back\\slash", "\"back\\\\slash\"");
        check("100%", "\"100%%\"");
        check("$HOME ${X}", "\"$$HOME $${X}\"");
        check("it's", "\"it's\"");
        check(";", "\";\"");
        check("a\nb\tc\u{1}", "\"a\\nb\\tc\\x01\"");
        check("größe", "\"größe\"");
        assert_eq!(quote("A=$x", Dollar::Plain), "\"A=$x\"");
    }

    #[test]
    fn a_command_that_looks_like_more_than_one_stays_one() {
        let argv = ["/bin/sh", "-c", "exec a --port \"$PORT\" ; b"].map(String::from);
        assert_eq!(exec(&argv), r#"/bin/sh -c "exec a --port \"$$PORT\" ; b""#);
    }

    #[test]
    fn a_unit_with_the_defaults() {
        let text = unit("{}", |_| {});
        let service = text.split("NoNewPrivileges").next().unwrap_or_default();
        assert_eq!(
            service,
            "# Written by deployer, and replaced by each deployment.\n\
             [Unit]\n\
             Description=web, release r2\n\
             After=network.target\n\
             StartLimitIntervalSec=0\n\
             X-Deployer-Service=web\n\
             X-Deployer-Release=r2\n\
             \n\
             [Service]\n\
             Type=exec\n\
             User=svc-web\n\
             WorkingDirectory=/opt/web/releases/r2\n\
             Environment=PATH=/opt/web/venvs/1/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
             Environment=PORT=8001\n\
             Environment=RELEASE=r2\n\
             Environment=PYTHONUNBUFFERED=1\n\
             Environment=VIRTUAL_ENV=/opt/web/venvs/1\n\
             EnvironmentFile=/opt/web/env/r2\n\
             ExecStart=/opt/web/venvs/1/bin/uvicorn app.main:app --log \"100%% $$x\"\n\
             Restart=on-failure\n\
             RestartSec=2\n\
             TimeoutStopSec=10\n\
             KillMode=mixed\n\
             StateDirectory=deployer/web\n\
             SyslogIdentifier=web\n"
        );
        assert!(
            text.ends_with(
                "PrivateTmp=yes\nCapabilityBoundingSet=\n\n[Install]\nWantedBy=multi-user.target\n"
            )
        );
        assert_eq!(unit_name("ssh"), "deployer-ssh.service");
    }

    #[test]
    fn settings_and_places_change_the_unit() {
        let has = |text: &str, lines: &[&str]| {
            for line in lines {
                assert!(text.lines().any(|other| other == *line), "{line} is not in\n{text}");
            }
        };
        let limits = unit(
            r#"{"memory": "512m", "cpus": 0.5, "writable": ["/srv/my data"], "service_lines": ["ProtectSystem=full"],
                "restart": "always", "restart_delay": 5, "stop_timeout": 30}"#,
            |_| {},
        );
        has(
            &limits,
            &["MemoryMax=512M", "CPUQuota=50%", "ReadWritePaths=\"/srv/my data\"", "Restart=always"],
        );
        has(&limits, &["RestartSec=5", "TimeoutStopSec=30", "ProtectSystem=full"]);
        assert!(limits.find("ProtectSystem=full") > limits.find("ProtectSystem=strict"));
        has(&unit("{}", |plan| plan.root = "/root/services/web"), &["ProtectHome=read-only"]);
        has(&unit("{}", |plan| plan.port = 80), &["AmbientCapabilities=CAP_NET_BIND_SERVICE"]);
        assert!(!unit("{}", |plan| plan.root = "/var/tmp/web").contains("PrivateTmp"));
        assert!(!unit(r#"{"hardening": false}"#, |_| {}).contains("Protect"));
    }
}
