//! What is still to do, from what `settle.sh` says differs: a pure function.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use deployer_plugin::target::{Content, Entry};
use deployer_plugin::text::beginning;

use crate::manifest::{Manifest, size};

/// What `settle.sh` says.
#[derive(Debug, Default, PartialEq)]
pub struct Report {
    pub state: State,
    /// Files taken from the previous release under their own paths, by all rounds so far.
    pub taken: u64,
    missing: Vec<Record>,
    extra: Vec<Record>,
    /// Paths in the previous release, by the hash of the content.
    elsewhere: BTreeMap<String, String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing differs, and the release is at its final place.
    Whole,
    #[default]
    Part,
    Empty,
    /// The records are in a file.
    Large,
}

/// What brings the staging folder to what the manifest says.
#[derive(Debug, Default, PartialEq)]
pub struct Todo<'a> {
    pub remove: BTreeSet<String>,
    /// Parents of what is copied.
    pub folders: BTreeSet<String>,
    /// From a path in the previous release to a new one.
    pub copy: Vec<(String, String)>,
    pub modes: BTreeMap<String, u32>,
    pub send: Vec<&'a Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Record {
    Hash {
        sha256: String,
        path: String,
    },
    Link {
        path: String,
    },
    /// Anything else, with the letter that `find` has for it.
    Node {
        kind: char,
        path: String,
    },
}

impl Report {
    /// What `settle.sh` prints.
    ///
    /// # Errors
    /// With what it printed instead.
    pub fn parse(output: &str) -> Result<Self, String> {
        let (head, records) = output.split_once('\n').unwrap_or((output, ""));
        let wrong = || format!("an answer that cannot be understood: {}", beginning(head, 200));
        let (state, taken) = head.split_once(' ').ok_or_else(wrong)?;
        let mut report = Report {
            state: match state {
                "whole" => State::Whole,
                "part" => State::Part,
                "empty" => State::Empty,
                "large" => State::Large,
                _ => return Err(wrong()),
            },
            taken: taken.trim().parse().map_err(|_| wrong())?,
            ..Report::default()
        };
        report.add(records.as_bytes())?;
        Ok(report)
    }

    /// Adds records in base64. What makes no sense in them is passed over: the next comparison finds what it
    /// meant.
    ///
    /// # Errors
    /// When it is not base64.
    pub fn add(&mut self, records: &[u8]) -> Result<(), String> {
        let bytes = STANDARD
            .decode(records.trim_ascii())
            .map_err(|error| format!("a list of differences that cannot be read: {error}"))?;
        for record in String::from_utf8_lossy(&bytes).split_terminator('\0') {
            self.add_record(record);
        }
        Ok(())
    }

    pub fn todo<'a>(&self, manifest: &'a Manifest) -> Todo<'a> {
        if self.state == State::Empty {
            return self.todo_of_nothing(manifest);
        }
        let mut todo = Todo::default();
        for record in &self.extra {
            todo.judge_extra(record, manifest);
        }
        let folders_there = paths(&self.extra, |record| matches!(record, Record::Node { kind: 'd', .. }));
        let content_missing = paths(&self.missing, |record| matches!(record, Record::Hash { .. }));
        for record in &self.missing {
            let path = record.path();
            let Some(entry) = manifest.entries.get(path) else { continue };
            match record {
                Record::Hash { sha256, .. } => match self.elsewhere.get(sha256) {
                    Some(old) => todo.copy(old, path, entry.mode),
                    None => todo.send.push(entry),
                },
                Record::Link { .. } => todo.send.push(entry),
                Record::Node { kind: 'd', .. } if !folders_there.contains(path) => todo.send.push(entry),
                // Content that is still to come brings its mode along.
                Record::Node { .. } if content_missing.contains(path) => {}
                Record::Node { .. } => todo.mode(path, entry.mode),
            }
        }
        todo.send.sort_by(|a, b| a.path.cmp(&b.path));
        todo
    }

    fn todo_of_nothing<'a>(&self, manifest: &'a Manifest) -> Todo<'a> {
        let mut todo = Todo::default();
        for (path, entry) in &manifest.entries {
            match &entry.content {
                Content::File(file) => match self.elsewhere.get(&file.sha256) {
                    Some(old) => todo.copy(old, path, entry.mode),
                    None => todo.send.push(entry),
                },
                Content::Link(_) | Content::Directory => todo.send.push(entry),
            }
        }
        todo
    }

    fn add_record(&mut self, record: &str) {
        if let Some(from) = record.strip_prefix("from ") {
            if let Some(Record::Hash { sha256, path }) = Record::parse(from) {
                self.elsewhere.insert(sha256, path);
            }
        } else if let Some(extra) = record.strip_prefix('\t') {
            self.extra.extend(Record::parse(extra));
        } else {
            self.missing.extend(Record::parse(record));
        }
    }
}

impl Todo<'_> {
    /// Whether something is to be done before anything is sent.
    pub fn needs_repair(&self) -> bool {
        !(self.remove.is_empty() && self.copy.is_empty() && self.modes.is_empty())
    }

    /// The words for `repair.sh`.
    pub fn instructions(&self, staging: &str) -> String {
        let mut text = String::new();
        let mut say = |word: &str, path: &str| {
            text.push_str(&format!("{word} {path}\0"));
        };
        for path in &self.remove {
            say("remove", &format!("./{path}"));
        }
        for path in &self.folders {
            say("folder", &format!("./{path}"));
        }
        for (old, new) in &self.copy {
            say("copy", &format!("./{old}"));
            say("copy", &format!("{staging}/{new}"));
        }
        for (path, mode) in &self.modes {
            say(&format!("{mode:o}"), &format!("./{path}"));
        }
        text
    }

    pub fn send_count(&self) -> u64 {
        self.send.iter().filter_map(|entry| size(entry)).count() as u64
    }

    pub fn send_bytes(&self) -> u64 {
        self.send.iter().filter_map(|entry| size(entry)).sum()
    }

    fn judge_extra(&mut self, record: &Record, manifest: &Manifest) {
        let path = record.path();
        if path == "." {
            self.modes.insert(path.into(), crate::manifest::EXECUTABLE);
            return;
        }
        let wanted = manifest.entries.get(path);
        match (record, wanted.map(|entry| (&entry.content, entry.mode))) {
            // The content is missing too, and is sent over this one.
            (Record::Hash { .. }, Some((Content::File(_), _))) => {}
            (Record::Node { kind: 'f', .. }, Some((Content::File(_), mode)))
            | (Record::Node { kind: 'd', .. }, Some((Content::Directory, mode))) => self.mode(path, mode),
            _ => {
                self.remove.insert(path.into());
            }
        }
    }

    fn mode(&mut self, path: &str, mode: u32) {
        self.modes.insert(path.into(), mode);
    }

    fn copy(&mut self, old: &str, new: &str, mode: u32) {
        self.copy.push((old.into(), new.into()));
        self.mode(new, mode);
        if let Some((folder, _)) = new.rsplit_once('/') {
            self.folders.insert(folder.into());
        }
    }
}

impl Record {
    fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("l ") {
            let (path, _) = rest.split_once("//")?;
            return Some(Record::Link { path: bare(path) });
        }
        if let Some((sha256, path)) = text.split_once("  ")
            && sha256.len() == 64
        {
            return Some(Record::Hash { sha256: sha256.into(), path: bare(path) });
        }
        let mut words = text.splitn(3, ' ');
        let kind = words.next()?.chars().next()?;
        let _mode = words.next()?;
        Some(Record::Node { kind, path: bare(words.next()?) })
    }

    fn path(&self) -> &str {
        match self {
            Record::Hash { path, .. } | Record::Link { path } | Record::Node { path, .. } => path,
        }
    }
}

fn paths(records: &[Record], which: impl Fn(&Record) -> bool) -> BTreeSet<&str> {
    records.iter().filter(|record| which(record)).map(Record::path).collect()
}

fn bare(path: &str) -> String {
    path.strip_prefix("./").unwrap_or(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_makes_no_sense_is_shown() {
        let check = |output: &str, expected: Result<State, &str>| match (Report::parse(output), expected) {
            (Ok(report), Ok(state)) => assert_eq!(report.state, state, "{output}"),
            (Err(seen), Err(part)) => assert!(seen.contains(part), "{seen}"),
            (found, _) => panic!("{output}: {found:?}"),
        };
        check("whole 3\n", Ok(State::Whole));
        check("part 0\nZiA3NTUgLi9hAA==\n", Ok(State::Part));
        check("large 17\n", Ok(State::Large));
        check("", Err("cannot be understood"));
        check("Welcome to the server!\nwhole 3\n", Err("Welcome to"));
        check("part 0\nWelcome!", Err("cannot be read"));
    }
}
