//! The program as users run it: `deployer serve` in a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::target::Target;

/// A running `deployer serve`. It is killed when dropped.
pub struct Program {
    pub folder: tempfile::TempDir,
    pub url: String,
    pub target: Target,
    pub registry: Option<String>,
    /// Where the next start kills itself, as in `12.3:before`: before its twelfth part's third record.
    pub crash_at: Option<String>,
    /// For the next start, besides what every start has.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// How many files the next start may open.
    pub descriptors: Option<u32>,
    child: Option<Child>,
    listen: String,
}

/// The built program.
pub fn program() -> PathBuf {
    beside_the_tests("deployer")
}

fn beside_the_tests(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join(name);
    assert!(path.exists(), "{} is not built: run the tests with tests/run", path.display());
    path
}

/// A client for the tests, of plain HTTP on loopback.
pub fn client() -> reqwest::Client {
    // Already installed is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap()
}

impl Program {
    /// Starts it with a data folder, a plugins folder and a pipelines folder of its own.
    pub async fn start(target: Target, registry: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["plugins", "pipelines", "services"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut count = 0;
        for entry in std::fs::read_dir(root.join("plugins")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "wasm") {
                std::fs::copy(&path, folder.path().join("plugins").join(path.file_name().unwrap())).unwrap();
                count += 1;
            }
        }
        assert!(count > 0, "no plugin is built: run `deployer plugin build`, or the tests with tests/run");
        std::fs::copy(root.join("pipelines/default.toml"), folder.path().join("pipelines/default.toml"))
            .unwrap();
        let mut program = Program {
            folder,
            url: String::new(),
            target,
            registry: registry.map(Into::into),
            crash_at: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            descriptors: None,
            child: None,
            listen: "127.0.0.1:0".into(),
        };
        program.run().await;
        program
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn services(&self) -> PathBuf {
        self.folder.path().join("services")
    }

    pub fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// Writes a service's pipeline.
    pub fn pipeline(&self, service: &str, text: &str) {
        std::fs::write(self.folder.path().join(format!("pipelines/{service}.toml")), text).unwrap();
    }

    /// Kills it as a crash would: SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it as its operator would: SIGTERM, and it ends by itself.
    pub fn stop(&mut self) {
        self.signal("TERM");
        let status = self.child.take().unwrap().wait().unwrap();
        assert!(status.success(), "deployer serve ended: {status}\n{}", self.log());
    }

    /// Whether it has ended by itself.
    pub fn has_died(&mut self) -> bool {
        let died = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
        if died {
            self.child = None;
        }
        died
    }

    /// Sends it a signal: `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
        assert!(status.success());
    }

    /// Starts it again, with the same folders and the same address.
    pub async fn run(&mut self) {
        let folder = self.folder.path();
        let program = match self.crash_at {
            Some(_) => beside_the_tests("deployer-with-crash-points"),
            None => program(),
        };
        let mut command = match self.descriptors {
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &limit.to_string()]).arg(program);
                shell
            }
            None => Command::new(program),
        };
        command
            .arg("serve")
            .args(["--listen", &self.listen])
            .args(["--target", &self.target.address])
            .args(["--key", &self.target.key])
            .args(["--known-hosts", &self.target.known_hosts])
            .args(["--services", folder.join("services").to_str().unwrap()])
            .args(["--plugins", folder.join("plugins").to_str().unwrap()])
            .args(["--pipelines", folder.join("pipelines").to_str().unwrap()])
            .args(["--data", folder.join("data").to_str().unwrap()])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log(folder))
            .args(&self.arguments)
            .envs(self.environment.clone());
        if let Some(registry) = &self.registry {
            command.args(["--registry", registry]);
        }
        if let Some(moment) = &self.crash_at {
            command.env("DEPLOYER_CRASH_AT", moment);
        }
        self.child = Some(command.spawn().unwrap());
        self.url = self.wait_until_it_listens().await;
        self.listen = self.url.trim_start_matches("http://").into();
    }

    /// The program says its address in its log; it listens from then on.
    async fn wait_until_it_listens(&mut self) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = self.log();
            let line = text.lines().rev().find(|line| line.contains("listening on http://"));
            if let Some((_, url)) = line.and_then(|line| line.split_once("listening on ")) {
                let url = url.split_whitespace().next().unwrap().to_owned();
                if client().get(format!("{url}/health")).send().await.is_ok() {
                    return url;
                }
            }
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("deployer serve ended: {status}\n{text}");
            }
            assert!(Instant::now() < deadline, "deployer serve does not listen\n{text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        let id = self.child.as_ref().unwrap().id();
        std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("serve.log")).unwrap_or_default()
    }

    /// The command line, pointed at this server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).args(["--server", &self.url]).current_dir(self.folder.path());
        command
    }
}

fn log(folder: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().create(true).append(true).open(folder.join("serve.log")).unwrap()
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the program's log:\n{}", self.log());
        }
    }
}
