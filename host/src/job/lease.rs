//! The lease under which a job works on its service: taken before the first look at the target, given up at the job's
//! end.

use std::sync::Arc;
use std::time::Duration;

use super::host::who;
use super::interrupt::{Interrupt, fail};
use super::lease_guard::LeaseGuard;
use super::runner::Runner;
use crate::capability::Level;
use crate::journal::JournalError;
use crate::model::{Fault, Phase};
use crate::ssh::{Foreign, HostKey, LEASE_TIME, Lease, LeaseRequest, Taken};

const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

impl Runner {
    /// Makes sure that this job has the service's lease. A dead deployer's is waited for; that a living one
    /// has it is an error that says who.
    pub(super) async fn guard(&mut self) -> Result<Arc<LeaseGuard>, Interrupt> {
        if let Some(guard) = &self.guard {
            return Ok(guard.clone());
        }
        let request = LeaseRequest {
            folder: self.job.layout(&self.host.root).root,
            owner: self.host.owner.clone(),
            job: self.job.id.clone(),
            who: who(),
            expected: self.goes_on().then(|| self.job.generation.unwrap_or_default()),
        };
        let lease = self.take(&request).await?;
        // A connection that was lost just now is told of when the target is back.
        if let Ok(key) = self.host.ssh.connect().await {
            self.keep_host_key(&key).await?;
        }
        if let Some((holder, process)) = lease.before() {
            self.say(&format!("took over the lease of {holder}, which had expired")).await?;
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
        let guard = Arc::new(LeaseGuard::new(&self.host.ssh, lease, &self.live.cancel));
        self.guard = Some(guard.clone());
        let changes = if request.expected.is_none() { Some(self.see_what_runs(&guard).await?) } else { None };
        self.job.generation = Some(guard.lease.generation());
        self.host.journal.set_generation(&self.job.id, guard.lease.generation()).await?;
        if let Some(changes) = changes {
            self.correct_target(&guard, changes).await?;
        }
        self.undo_what_others_left(&guard).await?;
        Ok(guard)
    }

    /// Whether an earlier run of this job had the lease, and may have changed something under it.
    fn goes_on(&self) -> bool {
        self.resumed && (self.job.generation.is_some() || !self.done.is_empty())
    }

    async fn take(&self, request: &LeaseRequest) -> Result<Lease, Interrupt> {
        let attempted = format!("take the lease of {} on the target", self.job.service);
        let mut first_until = None;
        let mut waits = self.resumed;
        let mut budget = self.retry_budget();
        loop {
            let taken = {
                let _nobody_compares = self.host.reconciling.lock().await;
                self.host.ssh.take_lease(request).await
            };
            let error = match taken {
                Ok(Taken::Ours(lease)) => return Ok(lease),
                Ok(Taken::Passed(holder)) => return Err(Interrupt::TakenOver(holder.to_string())),
                Ok(Taken::Foreign(foreign)) => {
                    return Err(somebody_elses(&self.job.service, request, &foreign));
                }
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
                    self.sleep(LOOKED_AT_EVERY).await?;
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
            if !self.wait_for_target(&mut budget, &error.problem()).await? {
                return Err(fail(Fault::Target, attempted, &error.problem(), &error.next_move()));
            }
        }
    }

    /// Nobody has to wait for the end of a lease that is no longer needed. One that an earlier run of this job
    /// took may still be there, even where this run had no use for it.
    pub(super) async fn give_up_lease(&mut self) {
        let given_up = match self.guard.take() {
            Some(guard) => guard.lease.give_up().await,
            None if self.resumed => {
                let layout = self.job.layout(&self.host.root);
                self.host.ssh.give_up_lease_of(&layout.root, &self.host.owner).await
            }
            None => return,
        };
        if let Err(error) = given_up {
            tracing::warn!(job = %self.job.id, %error, "the lease expires by itself in {LEASE_TIME:?}");
        }
    }

    /// Who has the lease, if this job lost it.
    pub(super) fn taken_over_by(&self) -> Option<String> {
        self.guard.as_ref()?.lease.lost_to().map(|holder| holder.to_string())
    }

    /// Keeps for the audit which machine this job works on.
    pub(super) async fn keep_host_key(&self, key: &HostKey) -> Result<(), Interrupt> {
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
        let line = self.redactor.redact(line);
        super::recorder::say(&*self.host.journal, &self.job.id, phase, level, &line).await
    }
}

/// Why there is no lease on what is not a service's folder.
fn somebody_elses(service: &str, request: &LeaseRequest, foreign: &Foreign) -> Interrupt {
    let folder = &request.folder;
    let seen = match foreign {
        Foreign::NotAFolder => format!("{folder} is not a folder"),
        Foreign::Folder(names) => format!(
            "{folder} belongs to somebody else: it contains {}, and nothing that a deployer put there",
            names.join(", ")
        ),
    };
    fail(
        Fault::Target,
        &format!("use {folder} on the target for {service}"),
        &seen,
        "deploy under another service name, start the deployer with another --root, or move away what is there",
    )
}
