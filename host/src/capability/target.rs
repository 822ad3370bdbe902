//! The contract's `target`: commands, files and uploads, over the one SSH connection. How they are done is
//! `ssh`'s.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::boundary::Use;
use super::call::{Host, Made, Step};
use super::checks::{checked_command, checked_content, checked_entries, checked_path};
use super::grant::Call;
use super::limits;
use super::record::{Amount, Effect, Level, Source};
use super::stop::StopCause;
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

impl target::Host for Host {
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
        self.make_checked(call, effect, arguments, checked, |step, id| Box::pin(run(step, id, command))).await
    }

    async fn read_file(&mut self, path: String) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        let arguments = json!({ "path": path });
        let checked = checked_path(&path);
        self.make_checked(Call::ReadFile, Effect::Reads, arguments, checked, |step, _| {
            Box::pin(async move {
                step.reach("target.read-file", Use::Read, &path).await?;
                let content = step.context.ssh.read_file(&path, limits::FILE).await;
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
        self.make_checked(Call::Stat, Effect::Reads, arguments, checked, |step, _| {
            Box::pin(async move {
                let stat = step.context.ssh.stat(&path).await;
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
        self.make_checked(Call::FreeBytes, Effect::Reads, arguments, checked, |step, _| {
            Box::pin(async move {
                let free = step.context.ssh.free_bytes(&path).await;
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
        self.make_checked(Call::WriteFile, Effect::Changes, arguments, checked, |step, _| {
            Box::pin(async move {
                step.reach("target.write-file", Use::Write, &path).await?;
                let made = step.context.ssh.make_directory(folder_of(&path), FOLDER_MODE).await;
                done(made, || format!("make the folder of {path}"))?;
                let written = step.context.ssh.write_file(&path, &content, mode & PERMISSIONS).await;
                done(written, || format!("write {path}"))
            })
        })
        .await
    }

    async fn rename(&mut self, old: String, new: String) -> wasmtime::Result<Result<(), Error>> {
        let arguments = json!({ "old": old, "new": new });
        let checked = checked_path(&old).and_then(|()| checked_path(&new));
        self.make_checked(Call::Rename, Effect::Changes, arguments, checked, |step, _| {
            Box::pin(async move {
                for path in [&old, &new] {
                    step.reach("target.rename", Use::Write, path).await?;
                }
                step.forget_folders();
                done(step.context.ssh.rename(&old, &new).await, || format!("rename {old} to {new}"))
            })
        })
        .await
    }

    async fn remove(&mut self, path: String) -> wasmtime::Result<Result<(), Error>> {
        let arguments = json!({ "path": path });
        let checked = checked_path(&path);
        self.make_checked(Call::Remove, Effect::Changes, arguments, checked, |step, _| {
            Box::pin(async move {
                step.reach("target.remove", Use::Write, &path).await?;
                step.forget_folders();
                done(step.context.ssh.remove(&path).await, || format!("remove {path}"))
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
        self.make_checked(Call::Upload, Effect::Changes, arguments, checked, |step, _| {
            Box::pin(upload(step, entries, destination))
        })
        .await
    }
}

/// The folder that a path is in.
pub(super) fn folder_of(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((folder, _)) => folder,
    }
}

pub(super) async fn run(step: &Step, id: u64, command: Command) -> Result<Made<Output>, Error> {
    let reads = match command.effect {
        target::Effect::Reads => true,
        target::Effect::Changes => false,
    };
    let (directory, environment_file) = (command.directory.as_deref(), command.environment_file.as_deref());
    step.reach_by_command(&command.argv, directory, environment_file, reads).await?;
    let limit = step.context.limits.timeout;
    let command_timeout = command.timeout_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let remote = RemoteCommand {
        argv: command.argv,
        directory: command.directory,
        environment_file: command.environment_file,
        input: command.input,
        // Where the command has no limit of its own, the step's ends it, through `cancel`.
        timeout: command_timeout.unwrap_or(limit).min(limit),
        cancel: step.stop.token().clone(),
    };
    let (told, mut started) = mpsc::unbounded_channel();
    let mut watch = Follow { step, echo: command.echo, told };
    let result = {
        let running = step.context.ssh.run(&remote, &mut watch);
        tokio::pin!(running);
        loop {
            tokio::select! {
                result = &mut running => break result,
                Some(process) = started.recv() => running_is(step, id, &process).await,
            }
        }
    };
    // A command may begin and end, or be lost, between two looks.
    if let Ok(process) = started.try_recv() {
        running_is(step, id, &process).await;
    }
    let output = result.map_err(|error| match (&error, step.stop.cause()) {
        // Whose fault it is depends on why the step was stopped.
        (SshError::Cancelled { .. }, Some(cause)) => Error {
            fault: match cause {
                StopCause::Cancelled => Fault::Request,
                StopCause::TimedOut => Fault::Target,
                StopCause::Unrecorded(_) => Fault::Host,
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

/// When this cannot be recorded the step stops, and the command with it.
async fn running_is(step: &Step, id: u64, process: &RemoteProcess) {
    let _ = step.recorded(step.context.recorder.call_running(id, process).await);
}

/// Tells the step what its command does.
struct Follow<'s> {
    step: &'s Step,
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
            Echo::Lines => self.step.log.add(Level::Info, Source::Target, line),
        }
    }
}

async fn upload(step: &Step, entries: Vec<Entry>, destination: String) -> Result<Made<()>, Error> {
    step.reach("target.upload", Use::Upload, &destination).await?;
    step.forget_folders();
    let Some(source) = &step.context.service_dir else {
        return Err(Error {
            fault: Fault::Request,
            attempted: format!("upload to {destination}"),
            seen: "this step has no service folder".into(),
            next: "upload in a step that has the grant `service.read`".into(),
        });
    };
    let folder = source.path();
    let entries: Vec<ssh::Entry> = entries.into_iter().map(entry).collect();
    let before = step.amount();
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
        let sending = step.context.ssh.upload(&folder, &entries, &destination, &note);
        tokio::pin!(sending);
        let mut tick = tokio::time::interval(PROGRESS_EVERY);
        loop {
            tokio::select! {
                result = &mut sending => break result,
                // When this cannot be recorded the step stops, and the upload with it.
                _ = tick.tick() => { let _ = step.advance(read()).await; }
            }
        }
    };
    let sent = result.map_err(|error| ssh_error(&format!("upload to {destination}"), &error))?;
    let _ = step.advance(read()).await;
    let output = format!(
        "{} files, {} bytes, {} links in {:.1} s; the connection was re-made {} times",
        sent.files,
        sent.bytes,
        sent.links,
        sent.duration.as_secs_f64(),
        sent.reconnects
    );
    Ok(Made { answer: (), exit: None, output })
}

fn entry(entry: Entry) -> ssh::Entry {
    ssh::Entry {
        path: entry.path,
        kind: match entry.content {
            Content::File(file) => ssh::EntryKind::File { size: file.size, sha256: file.sha256 },
            Content::Link(target) => ssh::EntryKind::Link { target },
            Content::Directory => ssh::EntryKind::Directory,
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

pub(super) fn ssh_error(attempted: &str, error: &SshError) -> Error {
    Error {
        fault: match error.fault() {
            ssh::Fault::Request => Fault::Request,
            ssh::Fault::Target => Fault::Target,
            ssh::Fault::Host => Fault::Host,
        },
        attempted: attempted.into(),
        seen: error.problem(),
        next: error.next_move(),
    }
}
