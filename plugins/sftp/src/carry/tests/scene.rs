//! A service's folder, and this machine as its target: with its own shell and tools.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{self, Stdio};

use deployer_plugin::target::{Content, Exit};
use deployer_plugin::types::{Artifact, Instance, Layout, Release};

use crate::carry::*;

/// A service's folder, and a target beside it.
pub struct Scene {
    pub folder: tempfile::TempDir,
    pub settings: Settings,
}

/// The target: this machine. The last of so many commands and uploads is cut.
pub struct Local {
    pub source: PathBuf,
    pub left: usize,
    /// Which of its changes a command is cut before.
    pub cut_at: usize,
    /// Whether it was, or came to its end before that.
    pub killed: bool,
    pub commands: usize,
    pub uploaded: Vec<String>,
    pub log: Vec<String>,
    pub amounts: Vec<Amount>,
}

impl Server for Local {
    fn run(&mut self, command: &Command) -> Result<Output, Error> {
        self.commands += 1;
        let cut = self.step();
        let mut argv = command.argv.clone();
        if cut {
            let script = argv.get_mut(2).expect("a script");
            *script = cut_script(script, self.cut_at);
        }
        let mut child = process::Command::new(argv.first().expect("a program"))
            .args(argv.get(1..).expect("arguments"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let input = command.input.clone().unwrap_or_default();
        let mut stdin = child.stdin.take().expect("an input");
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("an output");
        // A script that ends early does not read its input to the end.
        let _ = writer.join().expect("a writer");
        if cut {
            self.killed = output.status.code().is_none();
            return Err(cut_off());
        }
        Ok(Output {
            exit: Exit::Code(output.status.code().expect("a code").try_into().expect("no sign")),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Error> {
        Ok(fs::read(path).expect("a file"))
    }

    fn upload(&mut self, entries: &[Entry], destination: &str) -> Result<(), Error> {
        let cut = self.step();
        let count = if cut { entries.len() / 2 } else { entries.len() };
        for (index, entry) in entries.iter().take(count).enumerate() {
            let place = Path::new(destination).join(&entry.path);
            fs::create_dir_all(place.parent().expect("a parent")).expect("folders");
            match &entry.content {
                Content::Directory => fs::create_dir_all(&place).expect("a folder"),
                Content::Link(text) => symlink(text, &place).expect("a link"),
                Content::File(_) => {
                    let content = fs::read(self.source.join(&entry.path)).expect("a file");
                    // The last one is only half there.
                    let half = cut && index + 1 == count;
                    let length = if half { content.len() / 2 } else { content.len() };
                    fs::write(&place, content.get(..length).expect("bytes")).expect("a file");
                    self.uploaded.push(entry.path.clone());
                }
            }
            if !matches!(entry.content, Content::Link(_)) {
                fs::set_permissions(&place, fs::Permissions::from_mode(entry.mode)).expect("a mode");
            }
        }
        if cut { Err(cut_off()) } else { Ok(()) }
    }

    fn permissions(&mut self, paths: &[String]) -> Result<Vec<u32>, Error> {
        let bits = |path: &String| {
            let found = self.source.join(path).symlink_metadata().expect("it is there");
            found.permissions().mode() & 0o777
        };
        Ok(paths.iter().map(bits).collect())
    }

    fn report(&mut self, amount: Amount) {
        self.amounts.push(amount);
    }

    fn log(&mut self, _level: Level, message: &str) {
        self.log.push(message.into());
    }

    fn cancelled(&self) -> bool {
        false
    }
}

impl Local {
    /// Whether this is where it ends.
    pub fn step(&mut self) -> bool {
        assert!(self.left > 0, "nothing happens after the end");
        self.left -= 1;
        self.left == 0
    }
}

/// A script that is killed before its `at`th program that changes anything. At 0, before its first line.
pub fn cut_script(script: &str, at: usize) -> String {
    let mut text = format!("left={at}\n[ $left -gt 0 ] || kill -9 $$\n");
    text.push_str("cut() { left=$((left - 1)); [ $left -gt 0 ] || { kill -9 $$; exit 1; }; }\n");
    for program in ["mkdir", "mv", "rm", "find", "cat", "xargs", "sync"] {
        text.push_str(&format!("{program}() {{ cut; command {program} \"$@\"; }}\n"));
    }
    text + script
}

pub fn cut_off() -> Error {
    Error::target("go on", "cut off", "call again")
}

impl Scene {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("service")).expect("a folder");
        Scene { folder, settings: Settings::default() }
    }

    pub fn service(&self) -> PathBuf {
        self.folder.path().join("service")
    }

    pub fn write(&self, path: &str, content: &str) {
        let place = self.service().join(path);
        fs::create_dir_all(place.parent().expect("a parent")).expect("folders");
        fs::write(place, content).expect("a file");
    }

    pub fn layout(&self, release: &str) -> Layout {
        let root = self.folder.path().join("target").display().to_string();
        Layout {
            files: format!("{root}/releases/{release}"),
            environment: format!("{root}/env/{release}"),
            root,
        }
    }

    pub fn deployment(&self, release: &str, previous: Option<&str>) -> Deployment {
        Deployment {
            job: "job".into(),
            service: "web".into(),
            method: "process".into(),
            release: release.into(),
            port: 8001,
            layout: self.layout(release),
            environment: vec![],
            settings: "{}".into(),
            previous: previous.map(|id| Release {
                id: id.into(),
                layout: self.layout(id),
                artifact: Artifact {
                    kind: "files".into(),
                    reference: String::new(),
                    digest: String::new(),
                    bytes: None,
                },
                instance: Instance {
                    kind: "process".into(),
                    name: String::new(),
                    port: 8001,
                    alive: vec![],
                    log_tail: vec![],
                },
            }),
        }
    }

    pub fn server(&self, left: usize) -> Local {
        Local {
            source: self.service(),
            left,
            cut_at: 0,
            killed: false,
            commands: 0,
            uploaded: vec![],
            log: vec![],
            amounts: vec![],
        }
    }

    pub fn transfer(&self, release: &str, previous: Option<&str>) -> (Files, Local) {
        let mut server = self.server(100);
        let deployment = self.deployment(release, previous);
        let files = transfer(&self.service(), &self.settings, &deployment, &mut server)
            .unwrap_or_else(|error| panic!("{error:?}"));
        self.assert_whole(release);
        (files, server)
    }

    pub fn refusal(&self) -> Error {
        let mut server = self.server(100);
        let refused = transfer(&self.service(), &self.settings, &self.deployment("r1", None), &mut server);
        assert_eq!(server.commands, 0, "a refusal comes before anything is changed");
        refused.expect_err("a refusal")
    }

    pub fn release(&self, release: &str) -> PathBuf {
        PathBuf::from(self.layout(release).files)
    }

    /// The release is what the service's folder is, and nothing but releases and manifests is left around it.
    pub fn assert_whole(&self, release: &str) {
        let left_out = |path: &str| path.contains("__pycache__");
        assert_eq!(tree(&self.release(release), &left_out), tree(&self.service(), &left_out));
        let manifests = self.folder.path().join("target/manifests");
        assert_eq!(listed(&manifests), listed(&self.folder.path().join("target/releases")));
    }
}

/// Paths with kinds, contents and modes.
pub fn tree(root: &Path, left_out: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut lines = vec![];
    let walk = deployer_plugin::source::walk(root, |path, _| !left_out(path));
    assert_eq!(walk.unreadable, []);
    for item in walk.items {
        let place = root.join(&item.path);
        let mode = fs::symlink_metadata(&place).expect("attributes").permissions().mode() & 0o7777;
        let content = match &item.kind {
            deployer_plugin::source::Kind::File => fs::read_to_string(&place).expect("a file"),
            other => format!("{other:?}"),
        };
        lines.push(format!("{} {mode:o} {content}", item.path));
    }
    lines
}

pub fn listed(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub fn small() -> Scene {
    let scene = Scene::new();
    scene.write("app/main.py", "print(1)\n");
    scene.write("app/sub dir/näme", "x");
    scene.write("requirements.txt", "fastapi\n");
    scene.write("start.sh", "#!/bin/sh\nexec true\n");
    fs::set_permissions(scene.service().join("start.sh"), fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::create_dir(scene.service().join("empty")).expect("a folder");
    symlink("app/main.py", scene.service().join("link")).expect("a link");
    symlink("nowhere", scene.service().join("app/dangling")).expect("a link");
    scene.write("app/__pycache__/main.pyc", "compiled");
    scene
}
