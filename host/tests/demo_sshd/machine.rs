//! The demo's server and the clients that talk to it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use deployer::demo::sshd::Sshd;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

pub const USER: &str = "demo";
pub const LIMIT: Duration = Duration::from_secs(60);

/// The demo's server, with a folder for it and for the test's files.
pub struct Machine {
    pub folder: TempDir,
    pub server: Sshd,
}

impl Machine {
    pub async fn start() -> Result<Machine> {
        Machine::start_in(tempfile::tempdir()?).await
    }

    pub async fn start_in(folder: TempDir) -> Result<Machine> {
        let server = Sshd::start(folder.path(), USER).await?;
        Ok(Machine { folder, server })
    }

    pub async fn stop(self) -> Result<()> {
        tokio::time::timeout(LIMIT, self.server.stop()).await.context("the server does not stop")
    }

    pub async fn ssh(&self, script: &str) -> Result<Output> {
        self.ssh_input(script, b"").await
    }

    pub async fn ssh_input(&self, script: &str, input: &[u8]) -> Result<Output> {
        let mut command = self.command("ssh");
        if !script.is_empty() {
            command.arg(script);
        }
        self.run(command, input).await
    }

    pub async fn sftp(&self, commands: &str) -> Result<String> {
        let said = self.run(self.command_with("sftp", &["-b", "-"]), commands.as_bytes()).await?;
        ensure!(said.status.success(), "sftp failed: {}", transcript(&said));
        Ok(String::from_utf8(said.stdout)?)
    }

    pub fn command(&self, program: &str) -> Command {
        self.command_with(program, &[])
    }

    pub fn command_with(&self, program: &str, options: &[&str]) -> Command {
        let server = &self.server;
        let mut command =
            client(program, server.key_file(), server.known_hosts(), server.address().port(), USER);
        // Before the destination for sftp; ssh takes them after it as well.
        if !options.is_empty() {
            let before = command.as_std().get_args().map(ToOwned::to_owned).collect::<Vec<_>>();
            let (destination, rest) =
                before.split_last().map(|(last, rest)| (last.clone(), rest)).unwrap_or_default();
            command = Command::new(program);
            command.args(rest).args(options).arg(destination);
        }
        command
    }

    pub async fn run(&self, mut command: Command, input: &[u8]) -> Result<Output> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut client = match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("these tests use the clients ssh, sftp and ssh-keygen: install openssh-client")
            }
            spawned => spawned?,
        };
        let mut stdin = client.stdin.take().context("no stdin")?;
        let feed = async move {
            // A client may end before it has read everything.
            let _ = stdin.write_all(input).await;
        };
        let both = async { tokio::join!(feed, client.wait_with_output()) };
        let ((), output) =
            tokio::time::timeout(LIMIT, both).await.with_context(|| format!("hangs: {command:?}"))?;
        Ok(output?)
    }
}

pub fn client(program: &str, key: &Path, known_hosts: &Path, port: u16, user: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-F", "none"]);
    for option in [
        "LogLevel=INFO",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "RequestTTY=no",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
    ] {
        command.arg("-o").arg(option);
    }
    command.arg("-o").arg(format!("UserKnownHostsFile={}", known_hosts.display()));
    command.arg("-i").arg(key).arg("-o").arg(format!("Port={port}")).arg(format!("{user}@127.0.0.1"));
    command
}

pub fn transcript(said: &Output) -> String {
    let mut lines = Vec::new();
    for (name, bytes) in [("out", &said.stdout), ("err", &said.stderr)] {
        lines.extend(String::from_utf8_lossy(bytes).lines().map(|line| format!("{name}: {line}")));
    }
    lines.push(said.status.code().map_or("ended by a signal".to_owned(), |code| format!("status: {code}")));
    lines.join("\n")
}

pub fn assert_refused(said: &Output) {
    let told = transcript(said);
    assert!(told.contains("Permission denied (publickey)") && told.ends_with("status: 255"), "{told}");
}

pub async fn wait_for(condition: impl Fn() -> bool) -> Result<()> {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.context("what was waited for did not happen")
}

pub async fn read_pid(file: &Path) -> Result<u32> {
    wait_for(|| file.exists()).await?;
    Ok(fs::read_to_string(file)?.trim().parse()?)
}

pub fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Every path below, with its mode, its time, and what it holds.
pub fn tree(root: &Path) -> Result<BTreeMap<PathBuf, (u32, String)>> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let content = if metadata.is_file() {
                format!("{} {}", metadata.mtime(), fs::read_to_string(&path)?)
            } else {
                folders.push(path.clone());
                String::new()
            };
            seen.insert(path.strip_prefix(root)?.to_owned(), (metadata.mode(), content));
        }
    }
    Ok(seen)
}
