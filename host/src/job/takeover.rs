//! What a job does on the target beside its phases, so that every deployer sees the same there: it takes in what
//! others deployed, undoes what a dead one left half done, says what it is about to start, and records what runs.

use super::host::who;
use super::interrupt::{Interrupt, fail};
use super::lease_guard::LeaseGuard;
use super::reconcile::Changes;
use super::records::{self, Intent};
use super::runner::Runner;
use super::{conversions, release};
use crate::journal::{JournalError, now};
use crate::model::{Fault, JobKind, Phase, PhaseStatus, PlannedStep, ReleaseEvent, ReleaseRecord};
use crate::ssh::SshError;

impl Runner {
    /// Brings the journal in line with the target. What runs there is what a failure has to bring back, whoever
    /// put it there.
    pub(super) async fn see_what_runs(&mut self, guard: &LeaseGuard) -> Result<Changes, Interrupt> {
        let seen =
            self.insist("see what runs there", || records::look(&self.host, &self.job.service)).await?;
        for name in &seen.unreadable {
            self.warn(&format!("could not read the target's record {name}; it is left as it is")).await?;
        }
        let right = records::right(&self.host, guard.lease.last()).await?;
        let service = self.job.service.clone();
        let changes = records::apply(&self.host, &service, &seen, right, Some(&self.job.id)).await?;
        for said in &changes.said {
            tracing::info!(job = %self.job.id, service, "{said}");
            self.say(said).await?;
        }
        let releases = self.host.journal.releases(&service, &self.job.target).await?;
        self.job.previous =
            release::live(&releases).filter(|live| live.id != self.job.release || !self.makes()).cloned();
        self.host.journal.set_previous(&self.job.id, self.job.previous.as_ref()).await?;
        // A journal that was restored from a backup may have jobs to do that were done long ago.
        let done_before = |record: &ReleaseRecord| record.id == self.job.release && record.job == self.job.id;
        if self.makes() && seen.there.records.iter().any(done_before) {
            return Err(fail(
                Fault::Host,
                "begin",
                &format!(
                    "this job ran before, and its release {} is on the target: this deployer's journal is older \
                     than that",
                    self.job.release
                ),
                "see `deployer releases SERVICE`, and deploy again if you want another version",
            ));
        }
        self.seen = Some(seen.there);
        Ok(changes)
    }

    /// Corrects the target's records. That one cannot be written now is not a reason to do nothing.
    pub(super) async fn correct_target(&self, guard: &LeaseGuard, changes: Changes) -> Result<(), Interrupt> {
        for release in &changes.target {
            if let Err(error) = records::publish(&guard.ssh, &self.host, release).await {
                self.warn(&format!("could not correct release {}'s record: {error}", release.id)).await?;
            }
        }
        if let Some(live) = changes.current {
            self.say(&format!(
                "`current` on the target did not point to release {live}, which is live; correcting it"
            ))
            .await?;
            let root = self.job.layout(&self.host.root).root;
            if let Err(error) = guard.point_current(&root, &live).await {
                self.warn(&format!("could not set {root}/current: {error}")).await?;
            }
        }
        Ok(())
    }

    /// A deployer that died between Start and the end of Verify left a release that was never verified in the
    /// place of the one that was. Whoever has the lease next takes the one away and brings the other back.
    pub(super) async fn undo_what_others_left(&mut self, guard: &LeaseGuard) -> Result<(), Interrupt> {
        if self.unwinding() || self.done.iter().any(|step| step.step == "start/0") {
            return Ok(());
        }
        let service = self.job.service.clone();
        let intent =
            self.insist("see what was started there", || records::intent(&self.host, &service)).await?;
        let Some(intent) =
            intent.filter(|intent| intent.job != self.job.id && intent.release.service == service)
        else {
            return Ok(());
        };
        let live = self.job.previous.as_ref().map(|live| live.id.clone());
        if live.as_ref() != Some(&intent.release.id) {
            self.undo(guard, &intent).await?;
        }
        if let Err(error) = records::forget_intent(&guard.ssh, &self.host, &service).await {
            self.warn(&format!("could not record on the target that the start is over: {error}")).await?;
        }
        Ok(())
    }

    async fn undo(&mut self, guard: &LeaseGuard, intent: &Intent) -> Result<(), Interrupt> {
        let id = &intent.release.id;
        let previous = intent.previous.as_ref();
        let back =
            previous.map_or_else(|| "nothing".to_owned(), |previous| format!("release {}", previous.id));
        self.say(&format!(
            "{} was starting release {id} for {}, and did not finish: undoing its start now, and restoring \
             {back}",
            intent.who, intent.job
        ))
        .await?;
        let plan = intent.release.plan();
        let planned = plan.and_then(|plan| plan.steps(Phase::StartService).next().cloned());
        let outcome = match planned {
            // What it says is said in the phase that this job is in.
            Some(planned) => {
                self.touched_releases.extend(previous.cloned().into_iter().chain([intent.release.clone()]));
                self.undoing = true;
                let taken =
                    self.take_away(intent, &PlannedStep { phase: Phase::Validation, ..planned }).await;
                self.undoing = false;
                taken
            }
            None => Err(fail(
                Fault::Host,
                "find how it was started",
                "its record has no plan that this version can read",
                "see on the target what runs",
            )),
        };
        match outcome {
            Ok(()) => {}
            Err(Interrupt::Failed { failure, .. }) => {
                self.warn(&format!("could not undo the start of release {id}: {failure}")).await?;
            }
            Err(stop) => return Err(stop),
        }
        // It was not verified by the job that started it, or was not yet the one that callers reach.
        let event = if intent.made { ReleaseEvent::Failed } else { ReleaseEvent::Superseded };
        let undone = ReleaseRecord { promoted_by: None, ..release::after(&intent.release, event) };
        if let Err(error) = records::publish(&guard.ssh, &self.host, &undone).await {
            self.warn(&format!("could not write the record of release {id}: {error}")).await?;
        }
        let target = self.job.target.clone();
        Ok(self.host.journal.put_release(&ReleaseRecord { target, ..undone }).await?)
    }

    async fn take_away(&mut self, intent: &Intent, planned: &PlannedStep) -> Result<(), Interrupt> {
        let release = &intent.release;
        let mut deployment = self.deployment(planned);
        deployment.method = release.method.clone();
        deployment.release = release.id.clone();
        deployment.port = release.port;
        deployment.layout = release.layout(&self.host.root).into();
        deployment.environment = conversions::variables(&release.environment);
        deployment.previous =
            intent.previous.as_ref().and_then(|previous| conversions::release(&self.host.root, previous));
        let deployment = &deployment;
        self.step(&format!("undo/{}", release.id), planned, "restore", |call| async move {
            call.restore(deployment).await
        })
        .await
        .map(drop)
    }

    /// Says on the target what is about to be started, before anything is stopped for it: if this deployer dies
    /// in the middle, the next one knows what to take away and what to bring back.
    pub(super) async fn intend(&self, guard: &LeaseGuard) -> Result<(), Interrupt> {
        let intent = Intent {
            job: self.job.id.clone(),
            who: who(),
            made: self.makes(),
            release: self.release.clone(),
            previous: self.job.previous.clone(),
        };
        self.insist("record on the target what is about to start", || {
            records::intend(&guard.ssh, &self.host, &intent)
        })
        .await
    }

    /// Records on the target that the release is live. From the moment that `current` leads to it, it is, for
    /// every deployer. Answers what could not be written.
    pub(super) async fn record_live(&mut self, guard: &LeaseGuard) -> Vec<String> {
        self.release = release::after(&self.release, ReleaseEvent::Promoted);
        self.release.promoted_at = Some(now());
        self.release.promoted_by = Some(self.job.id.clone());
        let (host, ssh) = (&self.host, &guard.ssh);
        let unwritten = |what: &str, error: SshError| format!("could not write {what}: {error}");
        let mut warnings = Vec::new();
        warnings.extend(
            records::publish(ssh, host, &self.release)
                .await
                .err()
                .map(|error| unwritten("its record", error)),
        );
        let root = self.job.layout(&host.root).root;
        let switched = guard.point_current(&root, &self.job.release).await;
        warnings.extend(switched.err().map(|error| format!("could not switch {root}/current: {error}")));
        if let Some(previous) = self.job.previous.as_ref().filter(|previous| previous.id != self.release.id) {
            let retired = release::after(previous, ReleaseEvent::Superseded);
            let written = records::publish(ssh, host, &retired).await;
            warnings.extend(written.err().map(|error| unwritten("the previous release's record", error)));
        }
        let written = records::publish_live(ssh, host, &self.release).await;
        warnings.extend(written.err().map(|error| unwritten("live.json", error)));
        let forgotten = records::forget_intent(ssh, host, &self.job.service).await;
        warnings.extend(forgotten.err().map(|error| unwritten("that the start is over", error)));
        warnings
    }

    /// Records on the target what a release of this job is now, as far as it can be written.
    pub(super) async fn record_release(&self) -> Result<(), JournalError> {
        let Some(guard) = &self.guard else { return Ok(()) };
        if let Err(error) = records::publish(&guard.ssh, &self.host, &self.release).await {
            self.warn(&format!("could not record release {} on the target: {error}", self.release.id))
                .await?;
        }
        Ok(())
    }

    /// What ran before runs again, though the records may say already that this job's release does.
    pub(super) async fn record_restored(&self) -> Result<(), JournalError> {
        let (Some(guard), Some(previous)) = (&self.guard, &self.job.previous) else { return Ok(()) };
        if self.release.promoted_by.as_ref() != Some(&self.job.id) {
            return Ok(());
        }
        let live = release::after(previous, ReleaseEvent::Restored);
        let written = match records::publish(&guard.ssh, &self.host, &live).await {
            Ok(()) => records::publish_live(&guard.ssh, &self.host, &live).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => Ok(()),
            Err(error) => self.warn(&format!("could not record release {} as live: {error}", live.id)).await,
        }
    }

    /// The start that this job announced did not come to pass, and what ran before runs.
    pub(super) async fn withdraw_intent(&self) -> Result<(), JournalError> {
        let Some(guard) = &self.guard else { return Ok(()) };
        if let Err(error) = records::forget_intent(&guard.ssh, &self.host, &self.job.service).await {
            self.warn(&format!("could not record on the target that the start is over: {error}")).await?;
        }
        Ok(())
    }

    /// Whether this job's release was live before somebody else took the service over: then the job did what it
    /// was to do.
    pub(super) async fn was_live(&self) -> Result<bool, Interrupt> {
        let seen =
            self.insist("see what became of the release", || records::look(&self.host, &self.job.service));
        let seen = seen.await?;
        Ok(became_live(&seen.there.records, &self.job.release, &self.job.id))
    }

    /// Who put another release in the place of this job's, if somebody did: it is not to be registered then.
    pub(super) async fn superseded(&self) -> Result<Option<String>, Interrupt> {
        let seen =
            self.insist("see which release is live", || records::look(&self.host, &self.job.service)).await?;
        let Some(live) = seen.there.live.filter(|live| *live != self.job.release) else { return Ok(None) };
        let record = seen.there.records.iter().find(|record| record.id == live);
        let job = record.map(|record| record.promoted_by.clone().unwrap_or_else(|| record.job.clone()));
        Ok(Some(job.unwrap_or(live)))
    }

    /// Has the lease before a rollback begins, and makes sure that its release can still be gone back to.
    pub(super) async fn check_rollback_target(&mut self) -> Result<(), Interrupt> {
        self.guard().await?;
        let releases = self.host.journal.releases(&self.job.service, &self.job.target).await?;
        release::rollback_target(&releases, Some(&self.job.release)).map(drop).map_err(|unfit| {
            fail(
                Fault::Request,
                &format!("roll back to release {}", self.job.release),
                &unfit.to_string(),
                "see `deployer releases SERVICE`, and roll back to one of those listed",
            )
        })
    }

    /// Whether this job makes its release, and does not go back to one that there is.
    pub(super) fn makes(&self) -> bool {
        self.job.kind == JobKind::Deploy
    }

    /// Whether the release may have anything on the target.
    pub(super) fn sent_something(&self) -> bool {
        self.makes()
            && self.job.phase(Phase::Transfer).is_some_and(|phase| match phase.status {
                PhaseStatus::Running | PhaseStatus::Success | PhaseStatus::Failed => true,
                PhaseStatus::Pending | PhaseStatus::Skipped => false,
            })
    }

    /// Asks the target for something that may be asked again, and waits for it where it was lost.
    async fn insist<T, F>(&self, attempted: &str, ask: impl Fn() -> F) -> Result<T, Interrupt>
    where
        F: Future<Output = Result<T, SshError>>,
    {
        let mut budget = self.retry_budget();
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if let (Some(holder), SshError::LeaseLost { .. }) = (self.taken_over_by(), &error) {
                return Err(Interrupt::TakenOver(holder));
            }
            // The lease was taken just now: a target that does not answer is one that was lost.
            if !(error.retryable() && self.wait_for_target(&mut budget, &error.problem()).await?) {
                return Err(fail(Fault::Target, attempted, &error.problem(), &error.next_move()));
            }
        }
    }
}

/// Whether a job made a release the live one, by the target's records.
fn became_live(records: &[ReleaseRecord], release: &str, job: &str) -> bool {
    records.iter().any(|record| record.id == release && record.promoted_by.as_deref() == Some(job))
}
