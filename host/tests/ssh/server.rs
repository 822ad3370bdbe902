//! An sshd for one test: its own keys, its own settings, gone when dropped.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deployer::ssh::{Credentials, Ssh, Target};
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";

pub struct Server {
    pub directory: TempDir,
    pub port: u16,
    daemon: Child,
}

impl Server {
    /// With a host key of each of these kinds, and these lines added to its settings.
    pub fn start_with(kinds: &[&str], settings: &str) -> Self {
        assert!(
            Path::new(SSHD).exists(),
            "{SSHD} is missing, and these tests need a real one: apt-get install openssh-server"
        );
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        // sshd enters this empty directory before anyone has logged in.
        if user() == "root" {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        make_key(&at.join("id"), "ed25519");
        std::fs::copy(at.join("id.pub"), at.join("authorized_keys")).unwrap();
        let mut config = format!(
            "ListenAddress 127.0.0.1\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
             PrintMotd no\nMaxStartups 100\nAuthorizedKeysFile {}\n{settings}\n",
            at.join("authorized_keys").display()
        );
        if !settings.contains("Subsystem") {
            config.push_str("Subsystem sftp internal-sftp\n");
        }
        for kind in kinds {
            let key = at.join(format!("host_{kind}"));
            make_key(&key, kind);
            config.push_str(&format!("HostKey {}\n", key.display()));
        }
        std::fs::write(at.join("sshd_config"), config).unwrap();

        let port = free_port();
        let daemon = launch(at, port);
        let server = Self { directory, port, daemon };
        server.know(&server.host_line(kinds[0]));
        server
    }

    pub fn start() -> Self {
        Self::start_with(&["ed25519"], "")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A path as the target's.
    pub fn remote(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn target(&self) -> Target {
        format!("{}@127.0.0.1:{}", user(), self.port).parse().unwrap()
    }

    pub fn credentials(&self) -> Credentials {
        Credentials { key: self.path("id"), known_hosts: self.path("known_hosts") }
    }

    pub fn ssh(&self) -> Ssh {
        Ssh::new(self.target(), self.credentials())
    }

    /// The known_hosts line that is right for this server.
    pub fn host_line(&self, kind: &str) -> String {
        let key = std::fs::read_to_string(self.path(&format!("host_{kind}.pub"))).unwrap();
        let words: Vec<&str> = key.split_whitespace().take(2).collect();
        format!("[127.0.0.1]:{} {}\n", self.port, words.join(" "))
    }

    pub fn know(&self, lines: &str) {
        std::fs::write(self.path("known_hosts"), lines).unwrap();
    }

    /// Ends every connection, as a crash or a cut line does; new ones are let in.
    pub fn cut(&self) {
        for child in descendants(self.daemon.id()) {
            kill("-KILL", child);
        }
    }

    /// Ends the daemon and its connections, and lets it come back on the same port.
    pub fn restart(&mut self) {
        self.cut();
        kill("-KILL", self.daemon.id());
        self.daemon.wait().unwrap();
        self.daemon = launch(self.directory.path(), self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cut();
        kill("-KILL", self.daemon.id());
        let _ = self.daemon.wait();
    }
}

pub fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn make_key(path: &Path, kind: &str) {
    make_key_with(path, kind, "");
}

pub fn make_key_with(path: &Path, kind: &str, passphrase: &str) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"]).arg(path);
    if kind == "rsa" {
        command.args(["-b", "2048"]);
    }
    assert!(command.status().unwrap().success(), "ssh-keygen failed");
}

pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for something that nothing announces.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "in ten seconds, not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether any process of this group is running. A zombie is not.
pub fn group_runs(group: u32) -> bool {
    processes().any(|(stat, _)| stat.group == group && stat.state != "Z")
}

struct Stat {
    state: String,
    parent: u32,
    group: u32,
}

fn processes() -> impl Iterator<Item = (Stat, u32)> {
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut words = stat.rsplit_once(") ")?.1.split(' ');
        let stat = Stat {
            state: words.next()?.to_owned(),
            parent: words.next()?.parse().ok()?,
            group: words.next()?.parse().ok()?,
        };
        Some((stat, pid))
    })
}

/// sshd's own processes below the daemon: one or two for each connection.
fn descendants(daemon: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = processes()
        .filter(|(_, pid)| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("sshd"))
        })
        .map(|(stat, pid)| (stat.parent, pid))
        .collect();
    let mut found = vec![daemon];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(all.iter().filter(|(of, _)| *of == parent).map(|(_, pid)| *pid));
        at += 1;
    }
    found.split_off(1)
}

fn kill(signal: &str, pid: u32) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

fn launch(at: &Path, port: u16) -> Child {
    let mut daemon = Command::new(SSHD)
        .args(["-D", "-e", "-f"])
        .arg(at.join("sshd_config"))
        .args(["-p", &port.to_string()])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(daemon.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Server listening") {
        let length = log.read_line(&mut said).unwrap();
        assert!(length > 0, "sshd did not start:\n{said}");
    }
    // Its log goes on, and a full pipe would stop it.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    daemon
}
