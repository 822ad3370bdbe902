//! The target: asked once, with one command, for all that Validation wants to know of it.

use std::collections::BTreeMap;

use deployer_plugin::command::{Run, read};
use deployer_plugin::text::bytes;
use deployer_plugin::types::{Deployment, Error, Finding};

use crate::port::{Holder, Named, Port};

/// What the target says of itself.
#[derive(Debug, Default)]
pub struct Machine {
    system: String,
    /// The SSH user.
    pub user: String,
    /// Tools, with the option that was tried.
    lacks: Vec<String>,
    /// The service's folder, or the nearest one above it that exists.
    near: String,
    unwritable: Vec<String>,
    /// What is wrong with the link to the live release.
    astray: Option<String>,
    /// Bytes there.
    free: Option<u64>,
    pub port: Port,
}

/// Runs the probe.
///
/// # Errors
/// When the target does not answer, or has no shell.
pub fn ask(deployment: &Deployment) -> Result<Machine, Error> {
    const SECONDS: u32 = 30;
    let port = deployment.port.to_string();
    let argv =
        ["sh", "-c", include_str!("probe.sh"), "sh", &deployment.layout.root, &port, &deployment.service];
    let output = read(argv).timeout_seconds(SECONDS).checked(
        "inspect the target",
        "check that the target is a Linux server, and that the SSH user has sh and GNU coreutils there",
    )?;
    Ok(Machine::parse(&output.stdout))
}

impl Machine {
    pub fn parse(text: &str) -> Self {
        let mut machine = Machine::default();
        let mut holders: BTreeMap<u32, Holder> = BTreeMap::new();
        for (word, fact) in text.lines().filter_map(|line| line.split_once('\t')) {
            machine.learn(word, fact);
            let Some((pid, fact)) = fact.split_once(' ') else { continue };
            let Ok(pid) = pid.parse() else { continue };
            if ["holder", "unit", "kin", "within"].contains(&word) {
                let holder = holders.entry(pid).or_insert_with(|| Holder { pid, ..Holder::default() });
                learn_of_holder(holder, word, fact);
            }
        }
        machine.port.holders = holders.into_values().collect();
        machine
    }

    /// `size` is the service's, in bytes, and `root` its folder on the target.
    pub fn findings(&self, size: u64, min_free: u64, root: &str) -> Vec<Finding> {
        let findings = [self.tools(), self.root(), self.room(size, min_free)];
        findings.into_iter().chain(self.current(root)).collect()
    }

    /// The link is replaced with each release, but not another thing of that name.
    fn current(&self, root: &str) -> Option<Finding> {
        let astray = self.astray.as_ref()?;
        Some(Finding::failed(
            format!("{root}/current belongs to this tool"),
            format!("{astray}, which this tool did not create"),
            format!("rename it: mv {root}/current {root}/OTHER-NAME"),
        ))
    }

    fn tools(&self) -> Finding {
        const CHECK: &str = "the target has what a transfer needs";
        if self.system != "Linux" {
            let system = if self.system.is_empty() { "uname did not answer" } else { &self.system };
            return Finding::failed(
                CHECK,
                format!("it is not Linux: {system}"),
                "choose a Linux server as the target: --target",
            );
        }
        if !self.lacks.is_empty() {
            return Finding::failed(
                CHECK,
                format!("these tools or options do not work on the target: {}", self.lacks.join(", ")),
                "install GNU coreutils, findutils, grep and sed on the target",
            );
        }
        Finding::passed(CHECK, "Linux with GNU tools")
    }

    fn root(&self) -> Finding {
        const CHECK: &str = "the service's folder on the target can be written";
        if self.unwritable.is_empty() {
            return Finding::passed(CHECK, format!("{} may write to {}", self.user, self.near));
        }
        Finding::failed(
            CHECK,
            format!("{} may not write to {}", self.user, self.unwritable.join(", ")),
            format!(
                "run as root on the target: mkdir -p DIR && chown -R {} DIR; or choose another folder with --root",
                self.user
            ),
        )
    }

    fn room(&self, size: u64, min_free: u64) -> Finding {
        const CHECK: &str = "the target's disk has room";
        let needed = size.saturating_mul(2).saturating_add(min_free);
        let Some(free) = self.free else {
            return Finding::warning(
                CHECK,
                format!("df does not report the free space at {}", self.near),
                format!("check that {} are free there", bytes(needed)),
            );
        };
        if free < needed {
            return Finding::failed(
                CHECK,
                format!("{} are free at {}, but {} are needed", bytes(free), self.near, bytes(needed)),
                "free space on the target, or lower `min_free_bytes` in [settings.preflight]",
            );
        }
        Finding::passed(CHECK, format!("{} are free, and {} are needed", bytes(free), bytes(needed)))
    }

    fn learn(&mut self, word: &str, fact: &str) {
        match word {
            "system" => self.system = fact.into(),
            "user" => self.user = fact.into(),
            "lacks" => self.lacks.push(fact.into()),
            "near" => self.near = fact.into(),
            "unwritable" => self.unwritable.push(fact.into()),
            "astray" => self.astray = Some(fact.into()),
            "free" => self.free = fact.parse::<u64>().ok().map(|kib| kib.saturating_mul(1024)),
            "listener" => self.port.listeners.push(fact.into()),
            "listening" => self.port.units.extend(named(fact)),
            "published" => self.port.published.extend(named(fact)),
            "noted" => self.port.noted.extend(fact.parse::<u32>()),
            _ => {}
        }
    }
}

fn learn_of_holder(holder: &mut Holder, word: &str, fact: &str) {
    match word {
        "holder" => holder.program = fact.into(),
        "unit" => holder.unit = named(fact),
        "kin" => holder.kin = fact.split(' ').filter_map(|number| number.parse().ok()).collect(),
        "within" => holder.container = named(fact),
        _ => {}
    }
}

/// `own NAME` or `other NAME`.
fn named(text: &str) -> Option<Named> {
    let (whose, name) = text.split_once(' ')?;
    Some(Named { name: name.into(), own: whose == "own" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use deployer_plugin::types::Severity::{self, Failed, Passed, Warning};

    fn check(text: &str, expected: &[(Severity, &str)]) {
        let findings = Machine::parse(text).findings(1_000_000, 500_000_000, "/opt/web");
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, (severity, text)) in findings.iter().zip(expected) {
            assert_eq!(finding.severity, *severity, "{finding:?}");
            assert!(finding.message.contains(text), "{finding:?}");
        }
    }

    #[test]
    fn what_a_machine_is_told() {
        check(
            "system\tLinux\nuser\troot\nnear\t/opt\nfree\t1000000\n",
            &[
                (Passed, "GNU"),
                (Passed, "root may write to /opt"),
                (Passed, "1.0 GB are free, and 502 MB are needed"),
            ],
        );
        check(
            "system\tLinux\nuser\tweb\nnear\t/opt\nlacks\tsort -z\nlacks\tcomm -z\nunwritable\t/opt\nfree\t1000\n",
            &[
                (Failed, "sort -z, comm -z"),
                (Failed, "web may not write to /opt"),
                (Failed, "1.0 MB are free at /opt, but 502 MB are needed"),
            ],
        );
        check(
            "system\tDarwin\nuser\tweb\nnear\t/opt\nfree\t\n",
            &[(Failed, "Darwin"), (Passed, "/opt"), (Warning, "df does not report")],
        );
    }

    #[test]
    fn holders_are_put_together() {
        let machine = Machine::parse(
            "listener\twww-data\nlistening\tother nginx.service\nholder\t812 my prog\nunit\t812 other nginx.service\n\
             kin\t812 800 812 800\nwithin\t812 own web-r1\npublished\tother db\nnoted\t77\nholder\tx y\n",
        );
        assert_eq!(machine.port.listeners, ["www-data"]);
        assert_eq!(machine.port.units, [Named { name: "nginx.service".into(), own: false }]);
        assert_eq!(machine.port.noted, [77]);
        assert_eq!(machine.port.published, [Named { name: "db".into(), own: false }]);
        assert_eq!(
            machine.port.holders,
            [Holder {
                pid: 812,
                program: "my prog".into(),
                unit: Some(Named { name: "nginx.service".into(), own: false }),
                container: Some(Named { name: "web-r1".into(), own: true }),
                kin: vec![800, 812, 800],
            }]
        );
    }

    /// This machine, with a port that this test holds.
    #[test]
    fn the_probe_finds_who_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port().to_string();
        let output = std::process::Command::new("sh")
            .args(["-c", include_str!("probe.sh"), "sh", "/opt/no such folder/web", &port, "web"])
            .output()
            .expect("an output");
        let machine = Machine::parse(&String::from_utf8_lossy(&output.stdout));
        assert_eq!(machine.port.listeners, [machine.user.as_str()]);
        let pids: Vec<u32> = machine.port.holders.iter().map(|holder| holder.pid).collect();
        assert_eq!(pids, [std::process::id()], "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(machine.near, "/opt");
        assert!(machine.free.is_some());
        assert_eq!(machine.system, "Linux");
    }
}
