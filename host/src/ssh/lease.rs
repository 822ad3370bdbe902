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
use super::{Exit, RemoteCommand, Ssh, SshError};
use crate::model::RemoteProcess;

/// How long a lease lasts that nobody renews.
pub const LEASE_TIME: Duration = Duration::from_secs(30);
/// A lease that was confirmed this recently is believed without asking. The rest of its time is for what was
/// sent in that belief.
const BELIEVED: Duration = Duration::from_secs(15);
/// Taking, renewing and giving up are one short command each.
const LIMIT: Duration = Duration::from_secs(30);

/// What a lease is asked for.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// The folder on the target. It is made when it is missing.
    pub folder: String,
    /// The deployer, by an id that it keeps: its own lease from before a crash is no obstacle.
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

/// Who has a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub job: String,
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
    ssh: Ssh,
    folder: String,
    token: String,
    generation: u64,
    /// Who had it last, which may be the same job.
    last: Option<Generation>,
    /// Whose time had run out, and the command that it may have left running.
    before: Option<(Holder, Option<RemoteProcess>)>,
    confidence: Mutex<Confidence>,
    renewing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
enum Confidence {
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

impl Ssh {
    /// Takes a lease, if nobody else holds it.
    ///
    /// # Errors
    /// When the target cannot be asked, or its folder cannot be written.
    pub async fn take_lease(&self, request: &LeaseRequest) -> Result<Taken, SshError> {
        let token = format!("{:032x}", rand::random::<u128>());
        let asked = Moment::now();
        let expected = request.expected.map(|number| number.to_string()).unwrap_or_default();
        let words = [request.owner.as_str(), &token, &request.job, &request.who, &expected];
        let said = self.lease_command(&request.folder, "take", words).await?;
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
                        ssh: self.without_lease(),
                        folder: request.folder.clone(),
                        token: (*token).to_owned(),
                        generation: number.parse().unwrap_or_default(),
                        last: (last.number > 0).then_some(last),
                        before,
                        confidence: Mutex::new(Confidence::Confirmed(asked)),
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
    pub async fn give_up_lease_of(&self, folder: &str, owner: &str) -> Result<(), SshError> {
        self.lease_command(folder, "give-up", [owner, "", "", "", ""]).await.map(drop)
    }

    async fn lease_command(&self, folder: &str, action: &str, words: [&str; 5]) -> Result<String, SshError> {
        let seconds = LEASE_TIME.as_secs().to_string();
        let argv = ["sh", "-c", SCRIPT, "lease", folder, action, seconds.as_str()].into_iter().chain(words);
        let command = RemoteCommand::new(argv).timeout(LIMIT);
        // Boxed: running a command asks for the lease, and asking for the lease runs a command.
        let output = Box::pin(self.without_lease().run_in(Lane::Lease, &command, &mut ())).await?;
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
        match self.confidence() {
            Confidence::Confirmed(_) => None,
            Confidence::Lost(holder) => Some(holder),
        }
    }

    /// Makes sure of the lease. Without a question as long as the last answer is young.
    ///
    /// # Errors
    /// `LeaseLost`, or that the target cannot be asked.
    pub async fn held(&self) -> Result<(), SshError> {
        match self.confidence() {
            Confidence::Confirmed(when) if when.elapsed() < BELIEVED => Ok(()),
            Confidence::Confirmed(_) => self.renew().await,
            Confidence::Lost(holder) => Err(self.lost(holder)),
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
        let confidence = match lines.next() {
            Some("ours") => Confidence::Confirmed(asked),
            Some("lost") => Confidence::Lost(Holder {
                job: lines.next().unwrap_or_default().to_owned(),
                who: lines.next().unwrap_or_default().to_owned(),
            }),
            _ => return Err(not_understood(&self.inner.folder, &said)),
        };
        *self.inner.confidence.lock().unwrap_or_else(PoisonError::into_inner) = confidence.clone();
        match confidence {
            Confidence::Confirmed(_) => Ok(()),
            Confidence::Lost(holder) => Err(self.lost(holder)),
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
        self.inner.ssh.lease_command(&self.inner.folder, action, words).await
    }

    fn confidence(&self) -> Confidence {
        self.inner.confidence.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.who.as_str(), self.job.as_str()) {
            ("", _) => f.write_str("nobody (its lease was taken away)"),
            (who, "") => f.write_str(who),
            (who, job) => write!(f, "{who}, for {job}"),
        }
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
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// A real shell, as on a target. On a full disk, nothing can be written, and everything can be renamed.
    fn run(folder: &Path, disk_is_full: bool, words: [&str; 6]) -> (Option<i32>, String) {
        let full = if disk_is_full { "trap '' XFSZ; ulimit -f 0\n" } else { "" };
        let output = Command::new("sh")
            .args(["-c", &format!("{full}{SCRIPT}"), "lease"])
            .arg(folder)
            .args([words[0], "30"])
            .args(&words[1..])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    #[track_caller]
    fn check(folder: &Path, words: [&str; 6], expect: &str) {
        let (code, said) = run(folder, false, words);
        let first = said.lines().next().unwrap_or_default().to_owned();
        assert_eq!((code, first.as_str()), (Some(0), expect), "{words:?}: {said}");
    }

    fn read(folder: &Path, name: &str) -> String {
        std::fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn the_generation_only_grows_and_outlives_the_lease() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("shop");
        check(&folder, ["take", "A", "t1", "job1", "a", ""], "ours t1 1 0");
        // The same job of the same deployer: after a crash.
        check(&folder, ["take", "A", "t2", "job1", "a", "1"], "ours t2 1 1");
        check(&folder, ["give-up", "A", "t2", "", "", ""], "free");
        check(&folder, ["take", "B", "t3", "job2", "b", ""], "ours t3 2 1");
        // It goes on, and somebody else had the service meanwhile, whether it still has it or not.
        check(&folder, ["take", "A", "t4", "job1", "a", "1"], "passed");
        check(&folder, ["give-up", "B", "t3", "", "", ""], "free");
        let (_, said) = run(&folder, false, ["take", "A", "t4", "job1", "a", "1"]);
        assert_eq!(said, "passed\njob2\nb\n");
        assert!(!folder.join("lock").exists(), "it was not taken");
        check(&folder, ["take", "B", "t5", "job3", "b", ""], "ours t5 3 2");
        assert_eq!(read(&folder, "generation"), "3\nB\njob3\nb\n");
        // The file is lost: a job that knows better goes on from there.
        std::fs::remove_file(folder.join("generation")).unwrap();
        check(&folder, ["take", "B", "t6", "job3", "b", "3"], "ours t6 3 0");
    }

    #[test]
    fn on_a_full_disk_neither_the_lock_nor_the_generation_changes_alone() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("shop");
        check(&folder, ["take", "A", "t1", "job1", "a", ""], "ours t1 1 0");
        let there = || (read(&folder, "lock"), read(&folder, "generation"));
        let before = there();
        let (code, said) = run(&folder, true, ["take", "A", "t2", "job1", "a", "1"]);
        assert_eq!((code, said.lines().next()), (Some(0), Some("ours t1 1 1")), "our own from before");
        assert_eq!(there(), before);
        check(&folder, ["give-up", "A", "t1", "", "", ""], "free");
        let (code, _) = run(&folder, true, ["take", "B", "t3", "job2", "b", ""]);
        assert_eq!(code, Some(23));
        assert_eq!(read(&folder, "generation"), before.1);
        assert!(!folder.join("lock").exists() && !folder.join("generation.new").exists());
        // So the first one's job goes on as if nobody had asked.
        check(&folder, ["take", "A", "t4", "job1", "a", "1"], "ours t4 1 1");
    }

    /// Each sees the folder while the other makes it its own.
    #[test]
    fn two_that_come_first_at_once_know_each_other() {
        for round in 0..40 {
            let outer = tempfile::tempdir().unwrap();
            let folder = outer.path().join("shop");
            let take = |owner: &'static str| {
                let folder = folder.clone();
                std::thread::spawn(move || run(&folder, false, ["take", owner, "t", "job", "who", ""]))
            };
            let (one, other) = (take("A"), take("B"));
            let mut said = [one, other].map(|taken| taken.join().unwrap().1);
            said.sort();
            assert!(said[0].starts_with("held ") && said[1].starts_with("ours "), "{round}: {said:?}");
        }
    }

    #[test]
    fn who_took_a_lease_is_named_after_it_was_given_up() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("shop");
        check(&folder, ["take", "A", "t1", "job1", "a", ""], "ours t1 1 0");
        std::fs::remove_file(folder.join("lock")).unwrap();
        check(&folder, ["take", "B", "t2", "job2", "b", ""], "ours t2 2 1");
        check(&folder, ["give-up", "B", "t2", "", "", ""], "free");
        assert_eq!(run(&folder, false, ["keep", "A", "t1", "", "", ""]).1, "lost\njob2\nb\n");
    }

    #[test]
    fn what_is_somebody_elses_is_not_touched() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("shop");
        let take = ["take", "A", "t1", "job1", "a", ""];
        std::fs::write(&folder, "a file").unwrap();
        check(&folder, take, "foreign file");
        std::fs::remove_file(&folder).unwrap();
        for (mark, expect) in [
            ("env/bin", "foreign folder"),
            ("releases/20241124031500", "foreign folder"),
            ("lost+found", "ours t1 1 0"),
            ("env/20241124-031500-001", "ours t1 1 0"),
            ("releases/20241124-031500-001", "ours t1 1 0"),
            ("records", "ours t1 1 0"),
            // Left by one that died in the middle of taking it.
            ("generation.new", "ours t1 1 0"),
            ("lock.new", "ours t1 1 0"),
        ] {
            std::fs::create_dir_all(folder.join(mark)).unwrap();
            check(&folder, take, expect);
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
}
