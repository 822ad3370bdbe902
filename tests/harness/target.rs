//! The server that the tests deploy to, looked at without the program under test.

use std::process::{Command, Output};

/// Where the server is, and how to log in.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: String,
    pub key: String,
    pub known_hosts: String,
    pub(crate) first_port: u16,
}

/// The server that `tests/target/up` made.
pub fn target() -> Target {
    let read = |name: &str| {
        std::env::var(name).unwrap_or_else(|_| {
            panic!("{name} is not set: run the tests with tests/run, which makes the server")
        })
    };
    Target {
        address: read("DEPLOYER_TEST_TARGET"),
        key: read("DEPLOYER_TEST_KEY"),
        known_hosts: read("DEPLOYER_TEST_KNOWN_HOSTS"),
        first_port: read("DEPLOYER_TEST_FIRST_PORT").parse().unwrap(),
    }
}

impl Target {
    /// One of the server's ports that are reachable from here, from 0 to 99.
    pub fn port(&self, place: u16) -> u16 {
        self.first_port + place
    }

    /// Runs a shell line on the server with the system's own ssh, and gives its trimmed output.
    pub fn shell(&self, line: &str) -> String {
        let output = self.ssh(line);
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success(), "{line}: {}\n{text}\n{}", output.status, stderr(&output));
        text
    }

    /// As `shell`, for a line that may fail: its exit status is 0 or not.
    pub fn succeeds(&self, line: &str) -> bool {
        self.ssh(line).status.success()
    }

    /// Runs a shell line inside the server without its sshd, for a test that takes that away.
    pub fn inside(&self, line: &str) {
        let engine = std::env::var("DEPLOYER_TEST_DOCKER_HOST").unwrap();
        let container = std::env::var("DEPLOYER_TEST_CONTAINER").unwrap();
        let output = Command::new("docker")
            .args(["--host", &engine, "exec", &container, "sh", "-c", line])
            .output()
            .expect("docker is there: tests/target/up installs docker.io");
        assert!(output.status.success(), "{line}: {}\n{}", output.status, stderr(&output));
    }

    fn ssh(&self, line: &str) -> Output {
        let (login, port) = self.address.rsplit_once(':').unwrap();
        Command::new("ssh")
            .args(["-p", port, "-i", &self.key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"])
            .args(["-o", &format!("UserKnownHostsFile={}", self.known_hosts)])
            .args(["-o", "StrictHostKeyChecking=yes", login, line])
            .output()
            .expect("ssh is there: tests/run installs openssh-client")
    }

    /// Removes every trace of a service, so that a test begins with a clean server. What others made of its images
    /// stays, and so does what they call as the service is called.
    pub fn forget(&self, service: &str) {
        let own = format!("--filter label=io.deployer.service={service}");
        self.shell(&format!(
            "systemctl disable --now deployer-{service}.service 2>/dev/null; \
             rm -f /etc/systemd/system/deployer-{service}.service; systemctl daemon-reload; \
             docker ps -aq {own} --filter label=io.deployer.container --filter name=^/{service}- \
               | xargs -r docker rm -f >/dev/null; \
             docker images {own} --format '{{{{.Repository}}}}:{{{{.Tag}}}}' {service} \
               | xargs -r docker rmi -f >/dev/null; \
             cat /opt/fpai/services/{service}/run/*.pid 2>/dev/null | while read -r pid rest; do \
               kill -KILL -- \"-$pid\" 2>/dev/null; done; \
             for process in /proc/[0-9]*; do case $(readlink $process/cwd) in /opt/fpai/services/{service}/*) \
             kill -9 ${{process#/proc/}};; esac; done; \
             rm -rf /opt/fpai/services/{service}; true"
        ));
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
