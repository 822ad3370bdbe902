//! A lease on a folder of the target: a file there that says who works on it, and until when. It keeps other
//! deployers out, runs out when its holder is dead, and stops a holder that was paused and lost it: nothing
//! is changed through a handle under a lease without the lease.
//!
//! Time is the target's alone: the file's modification time is when the lease ends. So two machines need not
//! agree on the time, and a full disk does not keep a lease from being renewed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::lanes::Lane;
use super::link::Link;
use super::{Exit, Holder, RemoteCommand, SshError};
use crate::model::RemoteProcess;

/// How long a lease lasts that nobody renews.
pub const LEASE_TIME: Duration = Duration::from_secs(30);
/// A lease that was confirmed this recently is trusted without asking. The rest of its time is for what was
/// sent in that trust.
const TRUSTED: Duration = Duration::from_secs(15);
/// Taking, renewing and giving up are one short command each.
const LIMIT: Duration = Duration::from_secs(30);

/// What a lease is asked for.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// The folder on the target. It is made when it is missing.
    pub folder: String,
    /// The deployer, by an id that it keeps: its own lease from before a crash is not an obstacle.
    pub owner: String,
    /// What it is taken for.
    pub job: String,
    /// The deployer, for people.
    pub who: String,
    /// For a job that goes on: the generation that it had. The lease is taken only if nobody else had one since.
    pub expected: Option<u64>,
}

/// Who had the lease last, by the count that outlives every lease: it grows with every owner and every job that
/// takes it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub number: u64,
    pub owner: String,
    pub job: String,
    /// The deployer, for people.
    pub who: String,
}

/// What came of asking for a lease.
pub enum Taken {
    Ours(Lease),
    /// Somebody else has it until then, in seconds of the target's clock since 1970. A holder that lives
    /// moves that time.
    Held {
        holder: Holder,
        until: u64,
        now: u64,
    },
    /// The job went on, and somebody else had the lease meanwhile. It was not taken.
    Passed(Holder),
    /// The folder has things in it, and none of what a deployer leaves there. Nothing was touched.
    Foreign(Foreign),
}

/// What is in the place of a service's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// Something that is not a folder.
    NotAFolder,
    /// A folder with these names in it, of which there may be more.
    Folder(Vec<String>),
}

/// A lease that was taken. Cheap to clone.
#[derive(Clone)]
pub struct Lease {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    folder: String,
    token: String,
    generation: u64,
    /// Who had it last, which may be the same job.
    last: Option<Generation>,
    /// Whose time had run out, and the command that it may have left running.
    before: Option<(Holder, Option<RemoteProcess>)>,
    state: Mutex<LeaseState>,
    renewing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
enum LeaseState {
    /// Confirmed by an answer to a question that was asked then.
    Confirmed(Moment),
    Lost(Holder),
}

/// A moment by two clocks: one stands still while the machine sleeps, the other can be set.
#[derive(Clone, Copy)]
struct Moment {
    steady: Instant,
    wall: SystemTime,
}

/// Takes a lease, if nobody else holds it.
///
/// # Errors
/// When the target cannot be asked, or its folder cannot be written.
pub(super) async fn take(link: &Link, request: &LeaseRequest) -> Result<Taken, SshError> {
    let token = format!("{:032x}", rand::random::<u128>());
    let asked = Moment::now();
    let expected = request.expected.map(|number| number.to_string()).unwrap_or_default();
    let words = [request.owner.as_str(), &token, &request.job, &request.who, &expected];
    let said = command(link, &request.folder, "take", words).await?;
    let mut lines = said.lines();
    let first = lines.next().unwrap_or_default();
    let holder = |lines: &mut std::str::Lines<'_>| Holder {
        job: lines.next().unwrap_or_default().to_owned(),
        who: lines.next().unwrap_or_default().to_owned(),
    };
    let words: Vec<&str> = first.split_whitespace().collect();
    match words.as_slice() {
        ["ours", token, number, before, others @ ..] => {
            let last = Generation {
                number: before.parse().unwrap_or_default(),
                owner: lines.next().unwrap_or_default().to_owned(),
                job: lines.next().unwrap_or_default().to_owned(),
                who: lines.next().unwrap_or_default().to_owned(),
            };
            let earlier = holder(&mut lines);
            let process = lines.next().and_then(process);
            let before = (!others.is_empty()).then_some((earlier, process));
            Ok(Taken::Ours(Lease {
                inner: Arc::new(Inner {
                    link: link.clone(),
                    folder: request.folder.clone(),
                    token: (*token).to_owned(),
                    generation: number.parse().unwrap_or_default(),
                    last: (last.number > 0).then_some(last),
                    before,
                    state: Mutex::new(LeaseState::Confirmed(asked)),
                    renewing: tokio::sync::Mutex::default(),
                }),
            }))
        }
        ["held", until, now] => Ok(Taken::Held {
            holder: holder(&mut lines),
            until: until.parse().unwrap_or_default(),
            now: now.parse().unwrap_or_default(),
        }),
        ["passed"] => Ok(Taken::Passed(holder(&mut lines))),
        ["foreign", "file"] => Ok(Taken::Foreign(Foreign::NotAFolder)),
        ["foreign", "folder"] => Ok(Taken::Foreign(Foreign::Folder(lines.map(str::to_owned).collect()))),
        _ => Err(not_understood(&request.folder, &said)),
    }
}

/// Gives up what a deployer has on a folder, by its id: for one that was killed, and knows of no lease.
///
/// # Errors
/// When the target cannot be asked: it ends by itself then.
pub(super) async fn give_up_of(link: &Link, folder: &str, owner: &str) -> Result<(), SshError> {
    command(link, folder, "give-up", [owner, "", "", "", ""]).await.map(drop)
}

async fn command(link: &Link, folder: &str, action: &str, words: [&str; 5]) -> Result<String, SshError> {
    let seconds = LEASE_TIME.as_secs().to_string();
    let argv = ["sh", "-c", SCRIPT, "lease", folder, action, seconds.as_str()].into_iter().chain(words);
    let command = RemoteCommand::new(argv).timeout(LIMIT);
    let output = link.run(Lane::Lease, &command, None, &mut ()).await?;
    let Some(output) = output else { return Err(not_understood(folder, "")) };
    match output.exit {
        Exit::Code(0) => Ok(output.stdout),
        Exit::Code(20) => Err(SshError::Denied { doing: "making and entering", path: folder.into() }),
        Exit::Code(21) => Err(SshError::Remote {
            doing: "locking",
            path: folder.into(),
            said: "there is no `flock`, which util-linux and busybox have".into(),
        }),
        Exit::Code(22) => Err(SshError::Remote {
            doing: "locking",
            path: folder.into(),
            said: "another process has had it locked for ten seconds".into(),
        }),
        _ => Err(SshError::Remote {
            doing: "writing the lease in",
            path: folder.into(),
            said: output.stderr.trim().to_owned(),
        }),
    }
}

impl Lease {
    /// How many times the lease was taken anew, this time included. It only grows.
    pub fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// Who had it last before this, or none where nobody ever had.
    pub fn last(&self) -> Option<&Generation> {
        self.inner.last.as_ref()
    }

    /// Whose lease had run out when this one was taken, and the command that they may have left running.
    pub fn before(&self) -> Option<&(Holder, Option<RemoteProcess>)> {
        self.inner.before.as_ref()
    }

    /// Who has it now, once it was lost.
    pub fn lost_to(&self) -> Option<Holder> {
        match self.state() {
            LeaseState::Confirmed(_) => None,
            LeaseState::Lost(holder) => Some(holder),
        }
    }

    /// Makes sure of the lease. Without a question as long as the last answer is young.
    ///
    /// # Errors
    /// `LeaseLost`, or that the target cannot be asked.
    pub async fn held(&self) -> Result<(), SshError> {
        match self.state() {
            LeaseState::Confirmed(when) if when.elapsed() < TRUSTED => Ok(()),
            LeaseState::Confirmed(_) => self.renew().await,
            LeaseState::Lost(holder) => Err(self.lost(holder)),
        }
    }

    /// Makes it last for its whole time again.
    ///
    /// # Errors
    /// As `held`.
    pub async fn renew(&self) -> Result<(), SshError> {
        let _one_at_a_time = self.inner.renewing.lock().await;
        let asked = Moment::now();
        let said = self.ask("keep").await?;
        let mut lines = said.lines();
        let state = match lines.next() {
            Some("ours") => LeaseState::Confirmed(asked),
            Some("lost") => LeaseState::Lost(Holder {
                job: lines.next().unwrap_or_default().to_owned(),
                who: lines.next().unwrap_or_default().to_owned(),
            }),
            _ => return Err(not_understood(&self.inner.folder, &said)),
        };
        *self.inner.state.lock().unwrap_or_else(PoisonError::into_inner) = state.clone();
        match state {
            LeaseState::Confirmed(_) => Ok(()),
            LeaseState::Lost(holder) => Err(self.lost(holder)),
        }
    }

    /// Gives it up, so that nobody has to wait for its end.
    ///
    /// # Errors
    /// When the target cannot be asked: it ends by itself then.
    pub async fn give_up(&self) -> Result<(), SshError> {
        self.ask("give-up").await.map(drop)
    }

    /// What a command's wrapper on the target compares before the command runs.
    pub(super) fn fence(&self) -> (&str, &str) {
        (&self.inner.folder, &self.inner.token)
    }

    async fn ask(&self, action: &str) -> Result<String, SshError> {
        let words = ["", self.inner.token.as_str(), "", "", ""];
        command(&self.inner.link, &self.inner.folder, action, words).await
    }

    fn state(&self) -> LeaseState {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lost(&self, holder: Holder) -> SshError {
        SshError::LeaseLost { folder: self.inner.folder.clone(), holder }
    }
}

impl Moment {
    fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// By the clock that says more. One that was set back says nothing.
    fn elapsed(self) -> Duration {
        self.steady.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

fn process(line: &str) -> Option<RemoteProcess> {
    let (group, started) = line.split_once(' ')?;
    Some(RemoteProcess {
        group: group.parse().ok().filter(|group| *group > 1)?,
        started: started.trim().to_owned(),
    })
}

fn not_understood(folder: &str, said: &str) -> SshError {
    SshError::Remote {
        doing: "asking for the lease in",
        path: folder.into(),
        said: format!("it answered {said:?}"),
    }
}

/// What runs on the target. Everything is decided there, under `flock` on the folder itself.
const SCRIPT: &str = include_str!("lease.sh");

#[cfg(test)]
mod tests;
