//! The transfer: one loop of comparing, repairing and sending, until nothing differs.
//!
//! The first round of a first deployment finds nothing there; of a redeployment, what the previous release
//! has; of one that was cut, what it had brought. The last round finds nothing to do. So resuming and
//! verifying need no code of their own, and the number of commands does not depend on the number of files.

use std::collections::BTreeSet;
use std::path::Path;

use deployer_plugin::command::{Run, change};
use deployer_plugin::log::Level;
use deployer_plugin::progress::Amount;
use deployer_plugin::target::{Command, Entry, Output};
use deployer_plugin::text::{bytes, counted, number};
use deployer_plugin::types::{Deployment, Error, Files};

use crate::compare::{Report, State, Todo};
use crate::manifest::{self, Manifest};
use crate::server::Server;
use crate::settings::Settings;

/// Brings the files of `source` to `deployment.layout.files`, whole or not at all.
///
/// # Errors
/// When the service's files cannot be transferred as they are, or the target cannot take them.
pub fn transfer(
    source: &Path,
    settings: &Settings,
    deployment: &Deployment,
    server: &mut dyn Server,
) -> Result<Files, Error> {
    let mut manifest = Manifest::read(source, settings, &|| server.cancelled())?;
    manifest.permit(&server.permissions(&manifest.paths())?);
    tell_what_stays(&manifest, server);
    let mut transfer = Transfer {
        places: Places::new(deployment)?,
        text: manifest.text(),
        manifest: &manifest,
        server,
        sent: Sent::default(),
        taken: 0,
    };
    transfer.rounds()?;
    transfer.tell_the_result(deployment);
    Ok(Files {
        path: deployment.layout.files.clone(),
        count: manifest.file_count(),
        bytes: manifest.bytes(),
        sent_count: transfer.sent.paths.len() as u64,
        sent_bytes: transfer.sent.bytes,
        digest: manifest::digest(transfer.text.as_bytes()),
    })
}

/// Rounds that may find something to do: first to send all, then to repair what a running service had written
/// into the previous release's files, then once more for a disturbance.
const ROUNDS: u32 = 4;
const COMPARING: &str = "compare the files on the target with the service's";
/// Paths that an error names.
const NAMED: usize = 5;

struct Transfer<'a> {
    places: Places,
    manifest: &'a Manifest,
    /// The manifest's text.
    text: String,
    server: &'a mut dyn Server,
    sent: Sent,
    /// Files that the previous release had.
    taken: u64,
}

#[derive(Default)]
struct Sent {
    paths: BTreeSet<String>,
    bytes: u64,
}

struct Places {
    release: String,
    staging: String,
    manifest: String,
    /// For the scripts' notes.
    work: String,
    /// The previous release's files, or empty.
    previous: String,
    previous_manifest: String,
}

impl Transfer<'_> {
    fn rounds(&mut self) -> Result<(), Error> {
        let mut differing = vec![];
        for round in 1..=ROUNDS {
            let report = self.settle(round)?;
            let manifest = self.manifest;
            let todo = report.todo(manifest);
            if report.state == State::Whole {
                self.taken += report.taken;
                self.report_done(&Todo::default());
                return Ok(());
            }
            self.taken += todo.copy.len() as u64;
            self.repair(&todo)?;
            self.send(&todo)?;
            differing = names(&todo);
        }
        Err(Error::target(
            "transfer the files to the target",
            format!("after {ROUNDS} rounds, these still differ from what was sent: {}", differing.join(", ")),
            "find out what else writes into the release's folder, and check the target's disk",
        ))
    }

    fn settle(&mut self, round: u32) -> Result<Report, Error> {
        let places = &self.places;
        let round_text = round.to_string();
        let mut command = change(script(
            include_str!("settle.sh"),
            &[
                &places.release,
                &places.staging,
                &places.manifest,
                &places.work,
                &places.previous,
                &places.previous_manifest,
                &round_text,
            ],
        ));
        if round == 1 {
            command = command.input(self.text.as_bytes());
        }
        let output = self.run(&command, COMPARING)?;
        let senseless = |seen| {
            Error::target(
                COMPARING,
                seen,
                "check what the SSH user's shell prints at its start (~/.bashrc, ~/.profile), and stop it from doing so",
            )
        };
        let mut report = Report::parse(&output.stdout).map_err(senseless)?;
        if report.state == State::Large {
            let records = self.server.read_file(&format!("{}/report", self.places.work))?;
            report.add(&records).map_err(senseless)?;
        }
        Ok(report)
    }

    fn repair(&mut self, todo: &Todo<'_>) -> Result<(), Error> {
        if !todo.needs_repair() {
            return Ok(());
        }
        let places = &self.places;
        let modes: BTreeSet<String> = todo.modes.values().map(|mode| format!("{mode:o}")).collect();
        let mut arguments = vec![places.staging.as_str(), &places.work, &places.previous];
        arguments.extend(modes.iter().map(String::as_str));
        let command = change(script(include_str!("repair.sh"), &arguments))
            .input(todo.instructions(&places.staging).into_bytes());
        self.run(&command, "update the files on the target").map(drop)
    }

    fn send(&mut self, todo: &Todo<'_>) -> Result<(), Error> {
        self.report_done(todo);
        if todo.send.is_empty() {
            return Ok(());
        }
        let entries: Vec<Entry> = todo.send.iter().map(|&entry| entry.clone()).collect();
        self.server.upload(&entries, &self.places.staging)?;
        for entry in entries {
            if let Some(size) = manifest::size(&entry) {
                self.sent.bytes += size;
                self.sent.paths.insert(entry.path);
            }
        }
        Ok(())
    }

    fn run(&mut self, command: &Command, attempted: &str) -> Result<Output, Error> {
        let output = self.server.run(command)?;
        if output.succeeded() {
            return Ok(output);
        }
        Err(Error::target(
            attempted,
            output.ending(),
            "check that the SSH user may write there, that the disk has space, and that GNU coreutils, findutils, \
             grep and sed are installed on the target",
        ))
    }

    fn report_done(&mut self, todo: &Todo<'_>) {
        let (files_total, bytes_total) = (self.manifest.file_count(), self.manifest.bytes());
        self.server.report(Amount {
            files_done: files_total.saturating_sub(todo.send_count()),
            files_total,
            bytes_done: bytes_total.saturating_sub(todo.send_bytes()),
            bytes_total,
        });
    }

    fn tell_the_result(&mut self, deployment: &Deployment) {
        let total = self.manifest.file_count();
        let sent = self.sent.paths.len() as u64;
        let mut line =
            format!("{} of {} sent ({})", number(sent), counted(total, "file"), bytes(self.sent.bytes));
        // What was taken and had been changed there was sent after all.
        let taken = self.taken.min(total.saturating_sub(sent));
        if let Some(previous) = deployment.previous.as_ref().filter(|_| taken > 0) {
            line.push_str(&format!(", {} taken from release {}", number(taken), previous.id));
        }
        let there = total.saturating_sub(sent + taken);
        if there > 0 {
            line.push_str(&format!(", {} already there", number(there)));
        }
        self.server.log(Level::Info, &line);
    }
}

impl Places {
    fn new(deployment: &Deployment) -> Result<Self, Error> {
        let layout = &deployment.layout;
        let Some((releases, name)) = layout.files.rsplit_once('/') else {
            return Err(Error::new(
                deployer_plugin::types::Fault::Host,
                "find the release's folder",
                format!("`{}` is not an absolute path", layout.files),
                "report this as a defect of the deployer",
            ));
        };
        let previous = deployment.previous.as_ref();
        let previous_manifest = previous.and_then(|release| {
            let (_, name) = release.layout.files.rsplit_once('/')?;
            Some(format!("{}/manifests/{name}", release.layout.root))
        });
        Ok(Self {
            release: layout.files.clone(),
            staging: format!("{releases}/.{name}.partial"),
            manifest: format!("{}/manifests/{name}", layout.root),
            work: format!("{}/manifests/.{name}", layout.root),
            previous: previous.map(|release| release.layout.files.clone()).unwrap_or_default(),
            previous_manifest: previous_manifest.unwrap_or_default(),
        })
    }
}

/// A script with its arguments, which no shell reads as anything but that.
fn script(text: &str, arguments: &[&str]) -> Vec<String> {
    ["sh", "-c", text, "sh"].iter().chain(arguments).map(ToString::to_string).collect()
}

fn names(todo: &Todo<'_>) -> Vec<String> {
    let sent = todo.send.iter().map(|entry| entry.path.clone());
    let copied = todo.copy.iter().map(|(_, new)| new.clone());
    sent.chain(copied)
        .chain(todo.modes.keys().cloned())
        .chain(todo.remove.iter().cloned())
        .take(NAMED)
        .collect()
}

fn tell_what_stays(manifest: &Manifest, server: &mut dyn Server) {
    const LISTED: usize = 10;
    if !manifest.left_out.is_empty() {
        let mut names: Vec<&str> = manifest.left_out.iter().map(String::as_str).take(LISTED).collect();
        if manifest.left_out.len() > LISTED {
            names.push("…");
        }
        server.log(Level::Info, &format!("excluded: {}", names.join(", ")));
    }
    for link in &manifest.dangling {
        server.log(Level::Warn, &format!("the link {link} points to nothing that is transferred"));
    }
}

#[cfg(test)]
mod tests;
