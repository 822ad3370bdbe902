//! The contract's `target`: commands, files and uploads, over the one SSH connection. How they are done is
//! `ssh`'s.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::boundary::{Use, folder_of};
use super::call::{Made, View};
use super::cancellation::{CancelCause, Cancellation};
use super::checks::{checked_command, checked_content, checked_entries, checked_path};
use super::folder::ServiceFolder;
use super::grant::Call;
use super::limits;
use super::log_queue::LogQueue;
use super::progress::Progress;
use super::reach::Reach;
use super::record::{Amount, Effect, Level, Recorder, Source};
use super::ssh_error::ssh_error;
use crate::contract::bindings::deployer::pipeline::target::{
    self, Attributes, Command, Content, Echo, Entry, Exit, Kind, Output,
};
use crate::contract::{Error, Fault};
use crate::model::RemoteProcess;
use crate::ssh::{self, RemoteCommand, SshError, Stream, Watch};

/// The mode of folders that are made for a file.
const FOLDER_MODE: u32 = 0o755;
const PERMISSIONS: u32 = 0o7777;
/// How often an upload says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// What work on the target takes.
pub struct Target {
    pub(super) reach: Arc<Reach>,
    /// A command has no more time than its step.
    pub(super) timeout: Duration,
    pub(super) cancellation: Cancellation,
    pub(super) recorder: Arc<dyn Recorder>,
    pub(super) log: LogQueue,
    pub(super) progress: Arc<Progress>,
    /// What an upload sends from.
    pub(super) service: Option<ServiceFolder>,
}

impl target::Host for View<'_, Target> {
    async fn run(&mut self, command: Command) -> wasmtime::Result<Result<Output, Error>> {
        let (call, effect) = match command.effect {
            target::Effect::Reads => (Call::RunReads, Effect::Reads),
            target::Effect::Changes => (Call::RunChanges, Effect::Changes),
        };
        let arguments = json!({
            "argv": command.argv,
            "directory": command.directory,
            "environment_file": command.environment_file,
            "input_bytes": command.input.as_ref().map(Vec::len),
        });
        let checked = checked_command(&command);
        self.make_checked(call, effect, arguments, checked, |target, id| Box::pin(target.run(id, command)))
            .await
    }

    async fn read_file(&mut self, path: String) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        let arguments = json!({ "path": path });
        let checked = checked_path(&path);
        self.make_checked(Call::ReadFile, Effect::Reads, arguments, checked, |target, _| {
            Box::pin(async move {
                target.reach.path("target.read-file", Use::Read, &path).await?;
                let content = target.reach.ssh().read_file(&path, limits::FILE).await;
                let content = content.map_err(|error| ssh_error(&format!("read {path}"), &error))?;
                let output = format!("{} bytes", content.len());
                Ok(Made { answer: content, exit: None, output })
            })
        })
        .await
    }

    async fn stat(&mut self, path: String) -> wasmtime::Result<Result<Option<Attributes>, Error>> {
        let arguments = json!({ "path": path });
        let checked = checked_path(&path);
        self.make_checked(Call::Stat, Effect::Reads, arguments, checked, |target, _| {
            Box::pin(async move {
                let stat = target.reach.ssh().stat(&path).await;
                let stat = stat.map_err(|error| ssh_error(&format!("look at {path}"), &error))?;
                let output = stat.map_or_else(|| "nothing is there".into(), |stat| format!("{stat:?}"));
                Ok(Made { answer: stat.map(attributes), exit: None, output })
            })
        })
        .await
    }

    async fn free_bytes(&mut self, path: String) -> wasmtime::Result<Result<u64, Error>> {
        let arguments = json!({ "path": path });
        let checked = checked_path(&path);
        self.make_checked(Call::FreeBytes, Effect::Reads, arguments, checked, |target, _| {
            Box::pin(async move {
                let free = target.reach.ssh().free_bytes(&path).await;
                let free =
                    free.map_err(|error| ssh_error(&format!("ask for the free space at {path}"), &error))?;
                Ok(Made { answer: free, exit: None, output: format!("{free} bytes") })
            })
        })
        .await
    }

    async fn write_file(
        &mut self,
        path: String,
        content: Vec<u8>,
        mode: u32,
    ) -> wasmtime::Result<Result<(), Error>> {
        let arguments =
            json!({ "path": path, "bytes": content.len(), "mode": format!("{:04o}", mode & PERMISSIONS) });
        let checked = checked_path(&path).and_then(|()| checked_content(&path, content.len()));
        self.make_checked(Call::WriteFile, Effect::Changes, arguments, checked, |target, _| {
            Box::pin(async move {
                target.reach.path("target.write-file", Use::Write, &path).await?;
                let made = target.reach.ssh().make_directory(folder_of(&path), FOLDER_MODE).await;
                done(made, || format!("create the folder of {path}"))?;
                let written = target.reach.ssh().write_file(&path, &content, mode & PERMISSIONS).await;
                done(written, || format!("write {path}"))
            })
        })
        .await
    }

    async fn rename(&mut self, old: String, new: String) -> wasmtime::Result<Result<(), Error>> {
        let arguments = json!({ "old": old, "new": new });
        let checked = checked_path(&old).and_then(|()| checked_path(&new));
        self.make_checked(Call::Rename, Effect::Changes, arguments, checked, |target, _| {
            Box::pin(async move {
                for path in [&old, &new] {
                    target.reach.path("target.rename", Use::Write, path).await?;
                }
                target.reach.forget_folders();
                done(target.reach.ssh().rename(&old, &new).await, || format!("rename {old} to {new}"))
            })
        })
        .await
    }

    async fn remove(&mut self, path: String) -> wasmtime::Result<Result<(), Error>> {
        let arguments = json!({ "path": path });
        let checked = checked_path(&path);
        self.make_checked(Call::Remove, Effect::Changes, arguments, checked, |target, _| {
            Box::pin(async move {
                target.reach.path("target.remove", Use::Write, &path).await?;
                target.reach.forget_folders();
                done(target.reach.ssh().remove(&path).await, || format!("remove {path}"))
            })
        })
        .await
    }

    async fn upload(
        &mut self,
        entries: Vec<Entry>,
        destination: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        let arguments = json!({
            "entries": entries.len(), "bytes": entries.iter().map(size).sum::<u64>(), "destination": destination,
        });
        let checked = checked_path(&destination).and_then(|()| checked_entries(&entries));
        self.make_checked(Call::Upload, Effect::Changes, arguments, checked, |target, _| {
            Box::pin(target.upload(entries, destination))
        })
        .await
    }
}

impl Target {
    pub(super) async fn run(&self, id: u64, command: Command) -> Result<Made<Output>, Error> {
        let reads = match command.effect {
            target::Effect::Reads => true,
            target::Effect::Changes => false,
        };
        let (directory, environment_file) =
            (command.directory.as_deref(), command.environment_file.as_deref());
        self.reach.command(&command.argv, directory, environment_file, reads).await?;
        let limit = self.timeout;
        let command_timeout = command.timeout_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let remote = RemoteCommand {
            argv: command.argv,
            directory: command.directory,
            environment_file: command.environment_file,
            input: command.input,
            // Where the command has no limit of its own, the step's ends it, through `cancel`.
            timeout: command_timeout.unwrap_or(limit).min(limit),
            cancel: self.cancellation.token().clone(),
        };
        let (told, mut started) = mpsc::unbounded_channel();
        let mut watch = Follow { log: &self.log, echo: command.echo, told };
        let result = {
            let running = self.reach.ssh().run(&remote, &mut watch);
            tokio::pin!(running);
            loop {
                tokio::select! {
                    result = &mut running => break result,
                    Some(process) = started.recv() => self.running_is(id, &process).await,
                }
            }
        };
        // A command may begin and end, or be lost, between two looks.
        if let Ok(process) = started.try_recv() {
            self.running_is(id, &process).await;
        }
        let output = result.map_err(|error| match (&error, self.cancellation.cause()) {
            // Whose fault it is depends on why the step was cancelled.
            (SshError::Cancelled { .. }, Some(cause)) => Error {
                fault: match cause {
                    CancelCause::Cancelled => Fault::Request,
                    CancelCause::TimedOut => Fault::Target,
                    CancelCause::Unrecorded(_) => Fault::Host,
                },
                ..ssh_error(&format!("run `{}`", remote.shown()), &error)
            },
            _ => ssh_error(&format!("run `{}`", remote.shown()), &error),
        })?;
        let ssh::Output { exit, stdout, stderr, duration: _ } = output;
        let (exit, shown) = match exit {
            ssh::Exit::Code(code) => (Exit::Code(code), format!("exit status {code}")),
            ssh::Exit::Signal(name) => (Exit::Signal(name.clone()), format!("SIG{name}")),
        };
        let said = if stderr.trim().is_empty() { stdout.clone() } else { format!("{stdout}{stderr}") };
        Ok(Made { answer: Output { exit, stdout, stderr }, exit: Some(shown), output: said })
    }

    /// When this cannot be recorded the step ends, and the command with it.
    async fn running_is(&self, id: u64, process: &RemoteProcess) {
        let recorded = self.recorder.call_running(id, process).await;
        let _ = self.cancellation.unless_recorded(recorded);
    }

    async fn upload(&self, entries: Vec<Entry>, destination: String) -> Result<Made<()>, Error> {
        self.reach.path("target.upload", Use::Upload, &destination).await?;
        self.reach.forget_folders();
        let Some(source) = &self.service else {
            return Err(Error {
                fault: Fault::Request,
                attempted: format!("upload to {destination}"),
                seen: "this step has no service folder".into(),
                next: "upload in a step that has the grant `service.read`".into(),
            });
        };
        let folder = source.path();
        let entries: Vec<ssh::UploadEntry> = entries.into_iter().map(entry).collect();
        let before = self.progress.amount();
        let latest = Mutex::new(ssh::Progress::default());
        let note = |progress| *latest.lock().unwrap_or_else(PoisonError::into_inner) = progress;
        let read = || {
            let progress = *latest.lock().unwrap_or_else(PoisonError::into_inner);
            Amount {
                files_done: before.files_done.saturating_add(progress.files),
                bytes_done: before.bytes_done.saturating_add(progress.bytes),
                ..before
            }
        };
        let result = {
            let sending = self.reach.ssh().upload(&folder, &entries, &destination, &note);
            tokio::pin!(sending);
            let mut tick = tokio::time::interval(PROGRESS_EVERY);
            loop {
                tokio::select! {
                    result = &mut sending => break result,
                    // When this cannot be recorded the step ends, and the upload with it.
                    _ = tick.tick() => { let _ = self.progress.advance(read()).await; }
                }
            }
        };
        let sent = result.map_err(|error| ssh_error(&format!("upload to {destination}"), &error))?;
        let _ = self.progress.advance(read()).await;
        let output = format!(
            "{} files, {} bytes, {} links in {:.1} s; reconnected {} times",
            sent.files,
            sent.bytes,
            sent.links,
            sent.duration.as_secs_f64(),
            sent.reconnects
        );
        Ok(Made { answer: (), exit: None, output })
    }
}

/// Follows a command: its process is told of, and its lines go to the step's log.
struct Follow<'s> {
    log: &'s LogQueue,
    echo: Echo,
    told: mpsc::UnboundedSender<RemoteProcess>,
}

impl Watch for Follow<'_> {
    fn started(&mut self, process: &RemoteProcess) {
        let _ = self.told.send(process.clone());
    }

    fn line(&mut self, _: Stream, line: &str) {
        match self.echo {
            Echo::Quiet => {}
            Echo::Lines => self.log.add(Level::Info, Source::Target, line),
        }
    }
}

fn entry(entry: Entry) -> ssh::UploadEntry {
    ssh::UploadEntry {
        path: entry.path,
        kind: match entry.content {
            Content::File(file) => ssh::UploadKind::File { size: file.size, sha256: file.sha256 },
            Content::Link(target) => ssh::UploadKind::Link { target },
            Content::Directory => ssh::UploadKind::Directory,
        },
        mode: entry.mode & PERMISSIONS,
    }
}

fn size(entry: &Entry) -> u64 {
    match &entry.content {
        Content::File(file) => file.size,
        Content::Link(_) | Content::Directory => 0,
    }
}

fn attributes(stat: ssh::Stat) -> Attributes {
    let kind = match stat.kind {
        ssh::Kind::File => Kind::File,
        ssh::Kind::Directory => Kind::Directory,
        ssh::Kind::Link => Kind::Link,
        ssh::Kind::Other => Kind::Other,
    };
    Attributes { kind, size: stat.size, mode: stat.mode }
}

fn done(result: Result<(), SshError>, attempted: impl FnOnce() -> String) -> Result<Made<()>, Error> {
    result.map(Made::plain).map_err(|error| ssh_error(&attempted(), &error))
}
