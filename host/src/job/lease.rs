//! The lease under which a job works on its service: taken before the first look at the target, kept up while
//! the job lives, given up at its end. And what the target itself says runs there, which another deployer may
//! have put in place.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::flow;
use super::runner::{Runner, Stop, fail};
use super::state::Phase;
use crate::capability::Level;
use crate::journal::{Fault, JournalError, ReleaseRecord, StepRecord};
use crate::ssh::{HostKey, LEASE_TIME, Lease, LeaseRequest, Ssh, SshError, Taken};

/// How often a lease is renewed: two renewals may fail before it ends.
const RENEWED_EVERY: Duration = Duration::from_secs(10);
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);
/// The record of the release that runs, in the service's folder on the target.
const LIVE: &str = "live.json";
const LARGEST_RECORD: u64 = 1 << 20;

/// A lease that is kept up for as long as this lives.
pub(super) struct Hold {
    pub lease: Lease,
    /// Changes what it may only under the lease.
    pub ssh: Ssh,
    /// The lease is lost.
    pub lost: CancellationToken,
    /// The lease is lost, or the job was cancelled.
    pub halt: CancellationToken,
    _keeper: JoinSet<()>,
}

impl Hold {
    fn new(ssh: &Ssh, lease: Lease, cancel: &CancellationToken) -> Self {
        let (lost, halt) = (CancellationToken::new(), cancel.child_token());
        let mut keeper = JoinSet::new();
        keeper.spawn(keep_up(lease.clone(), lost.clone(), halt.clone()));
        Hold { ssh: ssh.under(&lease), lease, lost, halt, _keeper: keeper }
    }
}

/// A target that cannot be asked may be back before the lease ends.
async fn keep_up(lease: Lease, lost: CancellationToken, halt: CancellationToken) {
    loop {
        tokio::time::sleep(RENEWED_EVERY).await;
        match lease.renew().await {
            Ok(()) => {}
            Err(SshError::LeaseLost { .. }) => {
                lost.cancel();
                return halt.cancel();
            }
            Err(error) => tracing::warn!(%error, "a lease could not be renewed"),
        }
    }
}

impl Runner {
    /// Makes sure that this job has the service's lease. A dead deployer's is waited for; that a living one
    /// has it is an error that says who.
    pub(super) async fn hold(&mut self) -> Result<Arc<Hold>, Stop> {
        if let Some(hold) = &self.hold {
            return Ok(hold.clone());
        }
        let request = LeaseRequest {
            folder: flow::layout(&self.host.root, &self.job.service, &self.job.release).root,
            owner: self.host.owner.clone(),
            job: self.job.id.clone(),
            who: who(),
        };
        let lease = self.take(&request).await?;
        // A connection that was lost just now is told of when the target is back.
        if let Ok(key) = self.host.ssh.connect().await {
            self.keep_host_key(&key).await?;
        }
        if let Some((holder, process)) = lease.before() {
            self.say(&format!("took over the lease of {holder}: its time had run out")).await?;
            if let Some(process) = process {
                self.host.end_leftover(process).await.map_err(|error| {
                    fail(
                        Fault::Target,
                        "end the command that the lease's last holder left",
                        &error,
                        "deploy again",
                    )
                })?;
            }
        }
        let hold = Arc::new(Hold::new(&self.host.ssh, lease, &self.live.cancel));
        self.hold = Some(hold.clone());
        if !self.done.iter().any(StepRecord::touches_what_runs) {
            self.adopt().await?;
        }
        Ok(hold)
    }

    async fn take(&self, request: &LeaseRequest) -> Result<Lease, Stop> {
        let attempted = format!("take the lease of {} on the target", self.job.service);
        let mut first_until = None;
        let mut waits = self.resumed;
        let mut patience = self.patience();
        loop {
            let error = match self.host.ssh.take_lease(request).await {
                Ok(Taken::Ours(lease)) => return Ok(lease),
                Ok(Taken::Held { holder, until, now }) => {
                    let first = *first_until.get_or_insert(until);
                    if until != first {
                        return Err(fail(
                            Fault::Target,
                            &attempted,
                            &format!("it is held by {holder}, which is alive"),
                            "wait for that deployment to end, or cancel it there",
                        ));
                    }
                    let left = until.saturating_sub(now);
                    tracing::info!(job = %self.job.id, %holder, left, "waiting for a lease to end");
                    self.rest(LOOKED_AT_EVERY).await?;
                    continue;
                }
                Err(error) => error,
            };
            // A job that goes on after a crash may find its target still down, and a connection may be lost right
            // now. But that there is no way to a target is said at once.
            waits |= error.is_lost();
            let attempted = if error.keeps_out() { "reach the target" } else { attempted.as_str() };
            if !(error.retryable() && waits) {
                let fault = match error.fault() {
                    crate::ssh::Fault::Request => Fault::Request,
                    crate::ssh::Fault::Target => Fault::Target,
                    crate::ssh::Fault::Host => Fault::Host,
                };
                return Err(fail(fault, attempted, &error.problem(), &error.next_move()));
            }
            if !self.wait_for_target(&mut patience, &error.problem()).await? {
                return Err(fail(Fault::Target, attempted, &error.problem(), &error.next_move()));
            }
        }
    }

    /// Nobody has to wait for the end of a lease that is no longer needed. One that an earlier run of this job
    /// took may still be there, even where this run had no use for it.
    pub(super) async fn give_up_lease(&mut self) {
        let given_up = match self.hold.take() {
            Some(hold) => hold.lease.give_up().await,
            None if self.resumed => {
                let layout = flow::layout(&self.host.root, &self.job.service, &self.job.release);
                self.host.ssh.give_up_lease_of(&layout.root, &self.host.owner).await
            }
            None => return,
        };
        if let Err(error) = given_up {
            tracing::warn!(job = %self.job.id, %error, "the lease ends by itself in {LEASE_TIME:?}");
        }
    }

    /// Who has the lease, if this job lost it.
    pub(super) fn taken_over_by(&self) -> Option<String> {
        self.hold.as_ref()?.lease.lost_to().map(|holder| holder.to_string())
    }

    /// What runs on the target is what a failure has to bring back, whoever put it there.
    async fn adopt(&mut self) -> Result<(), Stop> {
        let layout = flow::layout(&self.host.root, &self.job.service, &self.job.release);
        let path = format!("{}/{LIVE}", layout.root);
        let mut patience = self.patience();
        let content = loop {
            let error = match self.host.ssh.read_file(&path, LARGEST_RECORD).await {
                Ok(content) => break content,
                Err(SshError::NotFound { .. }) => return Ok(()),
                // Written by a build that let a plugin's words be as long as it liked: no reason to deploy nothing more.
                Err(error @ SshError::TooLarge { .. }) => {
                    let line = format!(
                        "{path} cannot be a release's record, and is left alone: {}",
                        error.problem()
                    );
                    return Ok(self.say(&line).await?);
                }
                Err(error) => error,
            };
            // The lease was taken just now: a target that does not answer is one that was lost.
            if !(error.retryable() && self.wait_for_target(&mut patience, &error.problem()).await?) {
                return Err(fail(Fault::Target, "see what runs there", &error.problem(), &error.next_move()));
            }
        };
        let Ok(found) = serde_json::from_slice::<ReleaseRecord>(&content) else {
            let line = format!("{path} cannot be read as a release's record, and is left alone");
            return Ok(self.say(&line).await?);
        };
        let known = self.job.previous.as_ref().is_some_and(|previous| previous.id == found.id);
        if known || found.service != self.job.service || found.id == self.job.release {
            return Ok(());
        }
        self.say(&format!("release {} runs there, which another deployer deployed", found.id)).await?;
        self.job.previous = Some(found);
        Ok(self.host.journal.set_previous(&self.job.id, self.job.previous.as_ref()).await?)
    }

    /// Tells whoever deploys next what runs.
    pub(super) async fn publish_live(&self, hold: &Hold) -> Result<(), String> {
        let layout = flow::layout(&self.host.root, &self.job.service, &self.job.release);
        let path = format!("{}/{LIVE}", layout.root);
        let record = serde_json::to_vec_pretty(&self.release).map_err(|error| error.to_string())?;
        hold.ssh
            .write_file(&path, &record, 0o644)
            .await
            .map_err(|error| format!("could not write {path}: {error}"))
    }

    /// Keeps for the audit which machine this job works on.
    pub(super) async fn keep_host_key(&self, key: &HostKey) -> Result<(), Stop> {
        Ok(self.host.journal.set_host_key(&self.job.id, &key.fingerprint).await?)
    }

    /// A line of the job's log, by the deployer itself.
    pub(super) async fn say(&self, line: &str) -> Result<(), JournalError> {
        self.log(Level::Info, line).await
    }

    pub(super) async fn warn(&self, line: &str) -> Result<(), JournalError> {
        self.log(Level::Warn, line).await
    }

    async fn log(&self, level: Level, line: &str) -> Result<(), JournalError> {
        let phase = self.job.state.phase().unwrap_or(Phase::Validation);
        super::recorder::say(&*self.host.journal, &self.job.id, phase, level, line).await
    }
}

/// This deployer, for people.
fn who() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = if machine.trim().is_empty() { "a machine without a name" } else { machine.trim() };
    format!("the deployer on {machine} (process {})", std::process::id())
}
