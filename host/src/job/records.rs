//! What the target itself says of a service's releases, in the service's folder: `records/{release}.json` has what
//! a deployer needs in order to list, verify, go back to and remove a release that another one made, `current`
//! leads to the one that is live, `intent.json` says what is being started right now, and `live.json` is the live
//! one's record once more, for deployers that know of no others.
//!
//! No secrets: of the environment, the names. They are written only under the lease, each whole or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::host::Host;
use super::reconcile::{self, Changes, OnTarget, Right};
use crate::journal::JournalError;
use crate::model::{Layout, ReleaseRecord, ReleaseStatus};
use crate::ssh::{Exit, Generation, RemoteCommand, Ssh, SshError};

const LIMIT: Duration = Duration::from_secs(10);
const LARGEST_RECORD: u64 = 1 << 20;
/// Plans may have settings that not everybody on the target is to read.
const MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// Records of releases that were removed, the latest ones: so that a journal that still has one learns of it.
const REMOVED_RECORDS: usize = 50;

/// A release that is being started in the place of another. It is there from before anything is stopped until the
/// one or the other is known to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Intent {
    pub job: String,
    /// The deployer, for people.
    pub who: String,
    /// Whether the job made the release, or goes back to it.
    pub made: bool,
    pub release: ReleaseRecord,
    pub previous: Option<ReleaseRecord>,
}

impl Intent {
    /// Whether its releases are names and not paths: what it says is done below the service's folder.
    fn is_in_its_place(&self) -> bool {
        let releases = self.previous.iter().chain([&self.release]);
        releases.into_iter().all(|release| !release.id.contains('/') && !release.id.starts_with('.'))
    }
}

/// What is seen of a service on its target.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub there: OnTarget,
    /// Who had the lease last.
    pub generation: Option<Generation>,
    /// Records that cannot be read, which are left alone.
    pub unreadable: Vec<String>,
}

/// FOLDER: prints what is in it, one thing a line, and behind each `\036 NAME` a record, as far as they are few
/// enough to be printed.
const LOOK: &str = r#"
cd -- "$1" 2>/dev/null || exit 0
printf 'current %s\n' "$(readlink current 2>/dev/null)"
if [ -f generation ]; then
  { IFS= read -r n; IFS= read -r o; IFS= read -r j; IFS= read -r w; } <generation
  printf 'generation %s\nowner %s\njob %s\nwho %s\n' "$n" "$o" "$j" "$w"
fi
list() {
  for entry in "$1"/*; do
    [ ! -e "$entry" ] || printf '%s %s\n' "$2" "${entry##*/}"
  done
}
list releases files
list env environment
total=$(cat records/*.json live.json 2>/dev/null | wc -c)
list records record
[ "$total" -gt 800000 ] || for entry in records/*.json live.json; do
  [ ! -f "$entry" ] || { printf '\036 %s\n' "${entry##*/}"; cat -- "$entry"; echo; }
done
"#;

/// Looks at what the target says of a service.
pub(super) async fn look(host: &Host, service: &str) -> Result<Seen, SshError> {
    let root = Layout::new(&host.root, service, "").root;
    let command = RemoteCommand::new(["sh", "-c", LOOK, "look", &root]).timeout(LIMIT);
    let output = host.ssh.ask(&command).await?;
    if output.exit != Exit::Code(0) {
        return Err(SshError::Remote {
            doing: "looking at",
            path: root,
            said: output.stderr.trim().to_owned(),
        });
    }
    let (lines, mut texts) = parse(&output.stdout);
    if texts.is_empty() {
        for name in lines.records.iter().filter(|name| name.ends_with(".json")) {
            let content = host.ssh.read_file(&format!("{root}/records/{name}"), LARGEST_RECORD).await;
            match content {
                Ok(content) => texts.push((name.clone(), String::from_utf8_lossy(&content).into_owned())),
                // Removed between the two looks.
                Err(SshError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(lines.with(texts, service, &host.ssh.target().to_string()))
}

/// What the first part of the output says.
#[derive(Default)]
struct Lines {
    seen: Seen,
    records: Vec<String>,
}

fn parse(output: &str) -> (Lines, Vec<(String, String)>) {
    let mut parts = output.split('\u{1e}');
    let mut lines = Lines::default();
    let mut last = Generation { number: 0, owner: String::new(), job: String::new(), who: String::new() };
    for line in parts.next().unwrap_or_default().lines() {
        let Some((what, rest)) = line.split_once(' ') else { continue };
        let rest = rest.to_owned();
        match what {
            "current" => lines.seen.there.live = rest.strip_prefix("releases/").map(str::to_owned),
            "generation" => last.number = rest.parse().unwrap_or_default(),
            "owner" => last.owner = rest,
            "job" => last.job = rest,
            "who" => last.who = rest,
            "files" => {
                lines.seen.there.files.insert(rest);
            }
            "environment" => lines.seen.there.environments.push(rest),
            "record" => lines.records.push(rest),
            _ => {}
        }
    }
    lines.seen.generation = (last.number > 0).then_some(last);
    let record = |part: &str| {
        let (name, text) = part.split_once('\n')?;
        Some((name.trim().to_owned(), text.to_owned()))
    };
    (lines, parts.filter_map(record).collect())
}

impl Lines {
    /// With the records' texts. The journal's name for the target goes before another deployer's.
    fn with(mut self, texts: Vec<(String, String)>, service: &str, target: &str) -> Seen {
        let mut live = None;
        for (name, text) in texts {
            // An id becomes a part of paths.
            let is_its = |read: &ReleaseRecord| {
                let named = name == "live.json" || name == format!("{}.json", read.id);
                read.service == service && named && !read.id.contains('/')
            };
            match serde_json::from_str::<ReleaseRecord>(&text).ok().filter(is_its) {
                Some(mut release) => {
                    target.clone_into(&mut release.target);
                    if name == "live.json" {
                        live = Some(release);
                    } else {
                        self.seen.there.records.push(release);
                    }
                }
                None => self.seen.unreadable.push(name),
            }
        }
        // An older version left no other record than that.
        if let Some(live) = live {
            let there = &mut self.seen.there;
            there.live.get_or_insert_with(|| live.id.clone());
            if !there.records.iter().any(|record| record.id == live.id) {
                there.records.push(live);
            }
        }
        self.seen
    }
}

/// Whether this journal or the target knows what happened last. `last` is who had the lease.
pub(super) async fn right(host: &Host, last: Option<&Generation>) -> Result<Right, JournalError> {
    let Some(last) = last.filter(|last| last.owner == host.owner) else { return Ok(Right::Target) };
    let job = host.journal.job(&last.job).await?;
    let known = job.is_some_and(|job| job.generation == Some(last.number));
    Ok(if known { Right::Journal } else { Right::Target })
}

/// Brings the journal in line with the target, for somebody who asks and has no lease.
pub(super) async fn refresh(host: &Host, service: &str) -> Result<Result<Seen, SshError>, JournalError> {
    // A job of this deployer that takes the lease meanwhile would know better than what was seen.
    let _no_job_begins = host.reconciling.lock().await;
    let seen = match tokio::time::timeout(LIMIT, look(host, service)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => return Ok(Err(error)),
        Err(_) => {
            let target = host.ssh.target().to_string();
            return Ok(Err(SshError::Lost {
                target,
                during: format!("looking at {service}"),
                cause: format!("no answer within {LIMIT:?}"),
                process: None,
            }));
        }
    };
    let right = right(host, seen.generation.as_ref()).await?;
    let changes = apply(host, service, &seen, right, None).await?;
    for said in &changes.said {
        tracing::info!(service, "{said}");
    }
    Ok(Ok(seen))
}

/// Reconciles the journal with what was seen, and says what is to change on the target.
pub(super) async fn apply(
    host: &Host,
    service: &str,
    seen: &Seen,
    right: Right,
    job: Option<&str>,
) -> Result<Changes, JournalError> {
    let journal = host.journal.releases(service, &host.ssh.target().to_string()).await?;
    let changes = reconcile::reconcile(&journal, &seen.there, right, job);
    if !changes.journal.is_empty() {
        host.journal.put_releases(&changes.journal).await?;
    }
    Ok(changes)
}

/// Writes a release's record. `ssh` is under the lease.
pub(super) async fn publish(ssh: &Ssh, host: &Host, release: &ReleaseRecord) -> Result<(), SshError> {
    let root = release.layout(&host.root).root;
    ssh.make_directory(&format!("{root}/records"), FOLDER_MODE).await?;
    let path = format!("{root}/records/{}.json", release.id);
    ssh.write_file(&path, text(release).as_bytes(), MODE).await
}

/// The record of a release: whole, or of one that was removed only that it was.
fn text(release: &ReleaseRecord) -> String {
    let removed = ReleaseRecord {
        environment: Vec::new(),
        files: None,
        artifact: None,
        instance: None,
        plugins: BTreeMap::new(),
        plan: None,
        ..release.clone()
    };
    json!(if release.status == ReleaseStatus::Removed { &removed } else { release }).to_string()
}

/// Which records of removed releases have been there long enough.
pub(super) fn outdated(there: &OnTarget) -> Vec<&str> {
    let removed = there.records.iter().filter(|record| record.status == ReleaseStatus::Removed);
    let mut removed: Vec<&str> = removed.map(|record| record.id.as_str()).collect();
    removed.sort_unstable_by(|a, b| b.cmp(a));
    removed.split_off(removed.len().min(REMOVED_RECORDS))
}

/// For deployers that know of no other record. `ssh` is under the lease.
pub(super) async fn publish_live(ssh: &Ssh, host: &Host, release: &ReleaseRecord) -> Result<(), SshError> {
    let root = release.layout(&host.root).root;
    ssh.write_file(&format!("{root}/live.json"), text(release).as_bytes(), MODE).await
}

fn intent_path(host: &Host, service: &str) -> String {
    format!("{}/intent.json", Layout::new(&host.root, service, "").root)
}

/// Says that a release is about to be started. `ssh` is under the lease.
pub(super) async fn intend(ssh: &Ssh, host: &Host, intent: &Intent) -> Result<(), SshError> {
    let path = intent_path(host, &intent.release.service);
    ssh.write_file(&path, json!(intent).to_string().as_bytes(), MODE).await
}

pub(super) async fn forget_intent(ssh: &Ssh, host: &Host, service: &str) -> Result<(), SshError> {
    ssh.remove(&intent_path(host, service)).await
}

/// What was being started last, if that was not settled.
pub(super) async fn intent(host: &Host, service: &str) -> Result<Option<Intent>, SshError> {
    match host.ssh.read_file(&intent_path(host, service), LARGEST_RECORD).await {
        Ok(content) => Ok(serde_json::from_slice(&content).ok().filter(Intent::is_in_its_place)),
        Err(SshError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"service":"shop","target":"root@elsewhere:22","id":"r2","job":"deploy-2",
        "status":"live","method":"docker","port":8001,"environment":[],"environment_digest":"","files":null,
        "artifact":null,"instance":null,"plugins":{},"created_at":"2026-11-24T03:15:00Z"}"#;

    fn seen(output: &str) -> Seen {
        let (lines, texts) = parse(output);
        lines.with(texts, "shop", "root@server:22")
    }

    #[test]
    fn what_is_there_is_read() {
        let found = seen(&format!(
            "current releases/r2\ngeneration 7\nowner a b\njob deploy-2\nwho the deployer on x (process 1)\n\
             files r1\nfiles r2\nenvironment r2.multiline\nrecord r2.json\n\
             \u{1e} r2.json\n{RECORD}\n\u{1e} r1.json\n{{\"half\n"
        ));
        assert_eq!(found.there.live.as_deref(), Some("r2"));
        let generation = found.generation.expect("a generation");
        assert_eq!((generation.number, generation.owner.as_str()), (7, "a b"));
        assert_eq!(generation.who, "the deployer on x (process 1)");
        assert_eq!(found.there.environments, ["r2.multiline"]);
        assert_eq!(found.there.records.len(), 1);
        assert_eq!(found.there.records[0].target, "root@server:22", "it is this deployer's own name for it");
        assert_eq!(found.unreadable, ["r1.json"]);
        assert_eq!(seen(""), Seen::default(), "there is no such folder");
    }

    #[test]
    fn what_an_older_version_left_is_read() {
        let found = seen(&format!("current \nfiles r2\n\u{1e} live.json\n{RECORD}\n"));
        assert_eq!(found.there.live.as_deref(), Some("r2"));
        assert_eq!(found.there.records.len(), 1);
        assert_eq!(found.generation, None);
        // `current` is newer than a record that could not be written.
        let found = seen(&format!("current releases/r3\nfiles r2\nfiles r3\n\u{1e} live.json\n{RECORD}\n"));
        assert_eq!(found.there.live.as_deref(), Some("r3"));
    }

    #[test]
    fn a_removed_release_leaves_only_that_it_was() {
        let release: ReleaseRecord = serde_json::from_str(RECORD).expect("a record");
        let removed = ReleaseRecord {
            status: ReleaseStatus::Removed,
            plan: Some(crate::model::samples::plan()),
            ..release
        };
        let read: ReleaseRecord = serde_json::from_str(&text(&removed)).expect("a record");
        assert_eq!((read.status, read.plan), (ReleaseStatus::Removed, None));
    }

    #[test]
    fn the_latest_removed_ones_stay_on_record() {
        let release: ReleaseRecord = serde_json::from_str(RECORD).expect("a record");
        let removed = |number: usize| ReleaseRecord {
            id: format!("r{number:03}"),
            status: ReleaseStatus::Removed,
            ..release.clone()
        };
        let there = |count| OnTarget { records: (0..count).map(removed).collect(), ..OnTarget::default() };
        assert!(outdated(&there(REMOVED_RECORDS)).is_empty());
        assert_eq!(outdated(&there(REMOVED_RECORDS + 2)), ["r001", "r000"]);
    }
}
