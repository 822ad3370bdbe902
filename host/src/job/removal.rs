//! Removes what retention no longer keeps, as the last thing of a deployment that succeeded.
//!
//! It is a part of the job, and not something that goes on behind a job that is over: so it has the service's
//! lease and its place in the service's order, its lines are in the job's log before the log ends, and a crash
//! in its middle is taken up like any other. What it cannot do is a warning, and never fails the job. A rollback
//! removes nothing: whoever goes back may have to go elsewhere next.

use std::time::Duration;

use super::interrupt::Interrupt;
use super::lease_guard::LeaseGuard;
use super::retention::{self, Expired};
use super::runner::Runner;
use super::{looking, reconcile, records, release};
use crate::journal::{JournalError, now};
use crate::model::{Artifact, JobKind, Left, Phase, PlannedStep, ReleaseEvent, ReleaseRecord, Removed};

/// The job ends no later than this because of what it removes. The rest goes after the next deployment.
const LIMIT: Duration = Duration::from_secs(120);

impl Runner {
    /// # Errors
    /// When the journal cannot record.
    pub(super) async fn remove_expired(&mut self) -> Result<(), JournalError> {
        if self.job.kind != JobKind::Deploy {
            return Ok(());
        }
        let on_target = self.host.journal.releases_on(&self.job.target).await?;
        let ran_before = self.job.previous.as_ref().map(|previous| previous.id.as_str());
        let expired = retention::expired(&on_target, &self.job.service, ran_before, now(), self.plan.keep);
        if expired.is_empty() && self.seen.is_none() {
            return Ok(());
        }
        let due: Vec<String> = expired.iter().map(|gone| gone.release.id.clone()).collect();
        if !due.is_empty() {
            // An earlier run of this job may have removed some; what it left is tried again.
            self.job.retention.get_or_insert_default().left.clear();
        }
        let warning = match tokio::time::timeout(LIMIT, self.remove_all(expired)).await {
            Ok(Ok(())) => None,
            Ok(Err(Interrupt::Journal(error))) => return Err(error),
            Ok(Err(Interrupt::Failed { failure, .. })) => Some(failure.to_string()),
            Ok(Err(Interrupt::TakenOver(holder))) => Some(format!("{holder} took the service over")),
            Ok(Err(Interrupt::Cancelled)) => Some("the job was cancelled".into()),
            Err(_) => Some(format!("it took longer than {LIMIT:?}")),
        };
        if let Some(because) = warning {
            self.warn(&format!(
                "could not remove some older releases: {because}; the next deployment tries again"
            ))
            .await?;
            for release in due {
                let retention = self.job.retention.get_or_insert_default();
                if !retention.names(&release) {
                    retention.left.push(Left { release, because: because.clone() });
                }
            }
        }
        self.record_retention().await
    }

    async fn remove_all(&mut self, expired: Vec<Expired>) -> Result<(), Interrupt> {
        let guard = self.guard().await?;
        for Expired { release, because, bytes } in expired {
            let left = self.remove(&guard, &release).await?;
            if let Some(holder) = self.taken_over_by() {
                return Err(Interrupt::TakenOver(holder));
            }
            let retention = self.job.retention.get_or_insert_default();
            match left {
                None => {
                    let because = because.to_string();
                    let line = format!("removed release {}: {because}", release.id);
                    retention.freed_bytes = retention.freed_bytes.saturating_add(bytes);
                    retention.removed.push(Removed { release: release.id, because, bytes });
                    self.say(&line).await?;
                }
                Some(because) => {
                    let line = format!("could not remove release {}: {because}", release.id);
                    retention.left.push(Left { release: release.id, because });
                    self.warn(&line).await?;
                }
            }
            self.record_retention().await?;
        }
        self.remove_leftovers(&guard).await
    }

    /// What is left of releases that are gone: environments of a deployer that never came back, and records that
    /// nobody needs any more.
    async fn remove_leftovers(&mut self, guard: &LeaseGuard) -> Result<(), Interrupt> {
        let Some(seen) = self.seen.take() else { return Ok(()) };
        let kept = self.host.journal.releases(&self.job.service, &self.job.target).await?;
        let root = self.job.layout(&self.host.root).root;
        let records = records::outdated(&seen).into_iter().map(|release| format!("records/{release}.json"));
        let environments: Vec<&str> = reconcile::leftovers(&seen, &kept);
        for name in &environments {
            self.say(&format!("removed env/{name}, whose release is gone")).await?;
        }
        let environments = environments.into_iter().map(|name| format!("env/{name}"));
        for path in records.chain(environments) {
            if let Err(error) = guard.ssh.remove(&format!("{root}/{path}")).await {
                self.warn(&format!("could not remove {root}/{path}: {error}")).await?;
            }
        }
        Ok(())
    }

    /// Removes a release's artifact, its files and its environment. Answers what is left, and why.
    ///
    /// That its removal begins is recorded first, so that nobody goes back to a part of a release.
    async fn remove(
        &mut self,
        guard: &LeaseGuard,
        release: &ReleaseRecord,
    ) -> Result<Option<String>, Interrupt> {
        let mut record = release::after(release, ReleaseEvent::RemovalBegan);
        self.host.journal.put_release(&record).await?;
        if let Err(error) = records::publish(&guard.ssh, &self.host, &record).await {
            return Ok(Some(format!("could not record on the target that its removal begins: {error}")));
        }
        let unremoved = match release.artifact() {
            Some(artifact) => match self.discarding(release).await? {
                Ok(planned) => match self.discard(release, &planned, artifact).await {
                    Ok(()) => None,
                    Err(Interrupt::Failed { failure, .. }) => return Ok(Some(failure.to_string())),
                    Err(interrupt) => return Err(interrupt),
                },
                Err(because) => {
                    Some(format!("its {} {} was not removed: {because}", artifact.kind, artifact.reference))
                }
            },
            None => None,
        };
        let layout = release.layout(&self.host.root);
        // Where a method keeps variables of several lines. Its own `discard` may not have been called.
        let multiline = format!("{}.multiline", layout.environment);
        for path in [&layout.files, &layout.environment, &multiline] {
            if let Err(error) = guard.ssh.remove(path).await {
                return Ok(Some(format!("could not remove {path}: {error}")));
            }
        }
        if unremoved.is_none() {
            record = release::after(&record, ReleaseEvent::Removed);
            if let Err(error) = records::publish(&guard.ssh, &self.host, &record).await {
                return Ok(Some(format!("could not record on the target that it was removed: {error}")));
            }
            self.host.journal.put_release(&record).await?;
        }
        Ok(unremoved)
    }

    /// The step that discards a release's artifact, by the plan that it was built by; or why there can be none.
    async fn discarding(&self, release: &ReleaseRecord) -> Result<Result<PlannedStep, String>, Interrupt> {
        let plan = looking::plan_of(&self.host, release).await?;
        let Some(planned) = plan.and_then(|plan| plan.steps(Phase::Build).next().cloned()) else {
            return Ok(Err("the journal has no plan that this version can read; remove it by hand".into()));
        };
        if self.plugin(&planned.plugin).await.is_none() {
            return Ok(Err(format!(
                "the plugin `{}` is no longer in the plugins folder; put it back, and deploy again",
                planned.plugin
            )));
        }
        // What it says is said in the phase that this job is in.
        Ok(Ok(PlannedStep { phase: Phase::Register, ..planned }))
    }

    async fn discard(
        &mut self,
        release: &ReleaseRecord,
        planned: &PlannedStep,
        artifact: &Artifact,
    ) -> Result<(), Interrupt> {
        self.touched_releases.push(release.clone());
        let mut deployment = self.deployment(planned);
        deployment.method = release.method.clone();
        deployment.release = release.id.clone();
        deployment.layout = release.layout(&self.host.root).into();
        let deployment = &deployment;
        self.step(&format!("retention/{}", release.id), planned, "discard", |call| async move {
            call.discard(deployment, artifact).await
        })
        .await
    }

    async fn record_retention(&self) -> Result<(), JournalError> {
        match &self.job.retention {
            Some(retention) => self.host.journal.set_retention(&self.job.id, retention).await,
            None => Ok(()),
        }
    }
}
