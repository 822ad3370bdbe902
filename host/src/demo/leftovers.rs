//! Finds and ends every process that the demo's SSH server started, however far it has detached.
//!
//! A service is started in the background, in its own session, and outlives its SSH channel; its parent
//! is then init. What it keeps is its environment, so each command gets a variable with this run's mark,
//! and whoever carries it, with all its descendants, belongs to the run. A process that both detaches
//! and drops its environment (`env -i setsid …`) is the one kind that is not found.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// The environment variable that every command of the demo's server carries.
pub const VARIABLE: &str = "DEPLOYER_DEMO_ID";

/// What tells one run's processes from everyone else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    pub fn new() -> Mark {
        Mark(format!("{:032x}", rand::random::<u128>()))
    }

    /// The mark of an earlier run, as it was written down; nothing when it is not one.
    pub fn parse(text: &str) -> Option<Mark> {
        let text = text.trim();
        (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| Mark(text.to_owned()))
    }

    pub fn value(&self) -> &str {
        &self.0
    }

    /// Asks every marked process to end, and after the grace period makes it. Returns when none is left,
    /// or, for one that even SIGKILL does not end (it hangs in the kernel), after two seconds more.
    pub async fn end_all(&self, grace: Duration) {
        if !self.signal(Signal::TERM) || self.all_gone_within(grace).await {
            return;
        }
        self.signal(Signal::KILL);
        if !self.all_gone_within(Duration::from_secs(2)).await {
            tracing::warn!(processes = ?self.processes(), "the demo's processes do not end, not even by SIGKILL");
        }
    }

    /// Ends every marked process at once, without waiting: for when there is no time left to be polite.
    pub fn kill_all(&self) {
        self.signal(Signal::KILL);
    }

    async fn all_gone_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if self.processes().is_empty() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            // These are not our children, so there is no event to wait for.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether there was any process to send it to.
    fn signal(&self, signal: Signal) -> bool {
        let processes = self.processes();
        for pid in &processes {
            // One that has ended in between is what we wanted.
            let _ = kill_process(*pid, signal);
        }
        !processes.is_empty()
    }

    /// All living processes that carry the mark, and their descendants.
    fn processes(&self) -> Vec<Pid> {
        let entry = format!("{VARIABLE}={}", self.0);
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        let mut living = HashSet::new();
        let mut next = Vec::new();
        for pid in every_pid() {
            let Some(Status { parent, state }) = status(pid) else { continue };
            if matches!(state, 'Z' | 'X') {
                continue;
            }
            living.insert(pid);
            children.entry(parent).or_default().push(pid);
            // Another user's environment cannot be read, and is no concern of ours.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes()) {
                next.push(pid);
            }
        }
        let mut found = HashSet::new();
        while let Some(pid) = next.pop() {
            if found.insert(pid) {
                next.extend(children.get(&pid).into_iter().flatten());
            }
        }
        found.into_iter().filter(|pid| living.contains(pid)).filter_map(Pid::from_raw).collect()
    }
}

struct Status {
    parent: i32,
    state: char,
}

fn every_pid() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Reads `/proc/PID/stat`: "pid (name) state parent …", where the name may hold anything, even ")".
fn status(pid: i32) -> Option<Status> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Status { parent, state })
}
