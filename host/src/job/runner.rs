//! Takes one job through its phases. Intent before effect: what begins is in the journal before it begins,
//! and what the journal already has as done is not done again. So a first run and one that goes on after a
//! crash are the same code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::ending::end_unstarted;
use super::host::Host;
use super::interruption::Interrupted;
use super::lease::{self, Hold};
use super::live::LiveJob;
use super::reconcile::OnTarget;
use super::{outage, release};
use crate::capability::{EnvironmentSource, FolderError, ServiceFolder, Started};
use crate::journal::{JournalError, now};
use crate::model::{
    self, Failure, Fault, JobEvent, JobKind, JobRecord, JobState, Origin, Phase, PhaseStatus, PhaseUpdate,
    Plan, ReleaseRecord, ReleaseStatus, StepRecord,
};
use crate::plugin::Snapshot;
use crate::secret::{Redactor, Secret};

/// One job on its way.
pub(super) struct Runner {
    pub host: Arc<Host>,
    pub live: Arc<LiveJob>,
    pub job: JobRecord,
    pub plan: Plan,
    pub plugins: Arc<Snapshot>,
    /// What earlier runs of this job have done.
    pub done: Vec<StepRecord>,
    /// Whether there was an earlier run.
    pub resumed: bool,
    /// The turns that plugins had in this job, by their key and their number in the journal.
    pub turns: Vec<(String, i64)>,
    pub hold: Option<Arc<Hold>>,
    /// From Start on, where something ran before.
    pub watch: Option<outage::Watch>,
    pub environment: EnvironmentSource,
    /// Takes out of what is recorded what must not be shown.
    pub redactor: Redactor,
    /// The releases whose environments were read from the target for it.
    pub revealed: BTreeSet<String>,
    /// Releases of earlier jobs that this one has to do with, beside the one that ran before.
    pub met: Vec<ReleaseRecord>,
    /// What another deployer left half done is being settled: like bringing back what ran before, it is not cut off.
    pub settling: bool,
    pub release: ReleaseRecord,
    /// The service's folder, as it was when the job was accepted; or why it is not.
    pub folder: Result<ServiceFolder, FolderError>,
    /// What was on the target when the lease was taken. None in a later run of the job.
    pub seen: Option<OnTarget>,
    /// The instance that is being verified, and what may be run to look at it.
    pub started: Option<Started>,
}

/// Why a step or a phase did not come to its end.
pub(super) enum Stop {
    Failed {
        failure: Box<Failure>,
        details: Value,
    },
    Cancelled,
    /// Another deployer has the service now, so nothing more must happen.
    TakenOver(String),
    /// What happens cannot be recorded, so nothing more must happen.
    Journal(JournalError),
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        Stop::Journal(error)
    }
}

/// Runs a job to its end, from its beginning or from where it was cut off.
///
/// # Errors
/// When the journal cannot record.
pub(super) async fn run(host: Arc<Host>, live: Arc<LiveJob>, job: JobRecord) -> Result<(), Interrupted> {
    match Runner::prepare(host.clone(), live, job.clone()).await {
        Ok(mut runner) => {
            // Boxed, as the larger parts of it are: their types together are more than the compiler looks into.
            let driven = Box::pin(runner.drive()).await;
            driven.map_err(|error| Interrupted::under(runner.hold.take(), error))
        }
        Err(Stop::Journal(error)) => Err(error.into()),
        Err(Stop::Failed { failure, .. }) => Ok(end_unstarted(&host, job, *failure).await?),
        Err(Stop::Cancelled | Stop::TakenOver(_)) => Ok(()),
    }
}

impl Runner {
    pub(super) async fn prepare(
        host: Arc<Host>,
        live: Arc<LiveJob>,
        mut job: JobRecord,
    ) -> Result<Self, Stop> {
        let plan = job.plan.read().cloned().map_err(|why| {
            let seen = format!("it was written by another version: {why}");
            fail(Fault::Host, "read the job's plan", &seen, "deploy again")
        })?;
        let done = host.journal.steps(&job.id).await?;
        let releases = host.journal.releases(&job.service, &job.target).await?;
        if job.started_at.is_none() {
            job.previous = release::live(&releases).cloned();
            host.journal.set_previous(&job.id, job.previous.as_ref()).await?;
        }
        let values = match host.journal.encrypted_environment(&job.id).await? {
            Some(encrypted) => Some(host.cipher.decrypt(&job.id, &encrypted).map_err(|error| {
                fail(Fault::Host, "open the job's environment", &error.to_string(), "deploy again")
            })?),
            None => None,
        };
        let there =
            |release: &ReleaseRecord| release.id == job.release && release.status != ReleaseStatus::Removing;
        let release = match releases.into_iter().find(there) {
            Some(release) => release,
            // Retention may have come before this job's turn.
            None if job.kind == JobKind::Rollback => {
                return Err(fail(
                    Fault::Request,
                    &format!("go back to release {}", job.release),
                    "it was removed from the target while this job waited",
                    "see GET /releases/{service} for those that are there, and roll back to one of them",
                ));
            }
            None => ReleaseRecord {
                service: job.service.clone(),
                target: job.target.clone(),
                id: job.release.clone(),
                job: job.id.clone(),
                status: ReleaseStatus::Candidate,
                method: job.method.clone(),
                port: job.request.service_port,
                environment: job.request.environment.clone(),
                environment_digest: host.cipher.digest(values.as_ref().unwrap_or(&BTreeMap::new())),
                files: None,
                artifact: None,
                instance: None,
                plugins: plan.steps.iter().map(|step| (step.plugin.clone(), step.digest.clone())).collect(),
                plan: Some(job.plan.clone()),
                created_at: job.created_at,
                promoted_at: None,
                promoted_by: None,
                origin: Some(Origin {
                    deployer: lease::who(),
                    service_path: job.request.service_path.clone(),
                    droplet_id: job.request.droplet_id,
                    auto_register: job.request.auto_register,
                    verification_job_id: job.request.verification_job_id.clone(),
                }),
            },
        };
        let environment = match values {
            Some(values) => EnvironmentSource::Held(Arc::new(
                values.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
            )),
            None => EnvironmentSource::OnTarget,
        };
        let redactor = Runner::first_redactor(&host, &job, &plan, &environment).await;
        // Those of the job, and of what it may have to bring back.
        let before = job.previous.as_ref().and_then(ReleaseRecord::plan);
        let steps = plan.steps.iter().chain(before.into_iter().flat_map(|plan| &plan.steps));
        let plugins = host.catalog.with(&steps.map(|step| step.plugin.clone()).collect()).await;
        let resumed = job.started_at.is_some();
        let folder = ServiceFolder::open_marked(
            job.request.service_folder.as_ref(),
            job.request.folder_mark.as_deref(),
        );
        let turns = done.iter().map(|step| (step.step.clone(), step.id)).collect();
        Ok(Runner {
            host,
            live,
            job,
            plan,
            plugins,
            done,
            resumed,
            turns,
            hold: None,
            watch: None,
            environment,
            redactor,
            revealed: BTreeSet::new(),
            met: Vec::new(),
            settling: false,
            release,
            folder,
            seen: None,
            started: None,
        })
    }

    async fn drive(&mut self) -> Result<(), JournalError> {
        if self.job.started_at.is_none() {
            self.job.started_at = Some(now());
        }
        if let Some(why) = self.live.take_interruption() {
            let line = format!("the job was cut off, and goes on from what is recorded: {why}");
            // Said again should this be cut off, too.
            self.say(&line).await.inspect_err(|_| self.live.interrupted(why))?;
        } else if self.resumed {
            self.say("the deployer was stopped in the middle of this job, and goes on with it").await?;
        }
        if let JobState::Unwinding(phase) = self.job.state {
            return Box::pin(self.unwind(phase)).await;
        }
        if self.makes() {
            self.host.journal.put_release(&self.release).await?;
        } else if self.job.state == JobState::Pending
            && let Err(stop) = self.ready_to_go_back().await
        {
            return self.end_before_it_began(stop).await;
        }
        let deadline = Instant::now() + self.plan.job_timeout;
        for phase in Phase::ALL {
            let status = self.job.phase(phase).map_or(PhaseStatus::Pending, |record| record.status);
            if matches!(status, PhaseStatus::Success | PhaseStatus::Skipped) {
                continue;
            }
            self.enter(phase).await?;
            let outcome = match self.registered_by_others(phase).await {
                Ok(Some(details)) => {
                    self.phase_ended(phase, PhaseStatus::Skipped, details, None).await?;
                    continue;
                }
                Ok(None) => self.limited(phase, deadline).await,
                Err(stop) => Err(stop),
            };
            match outcome {
                Ok(details) => self.phase_ended(phase, PhaseStatus::Success, details, None).await?,
                Err(Stop::Journal(error)) => return Err(error),
                Err(stop) => {
                    if self.stopped(phase, stop).await? {
                        return Ok(());
                    }
                }
            }
        }
        // A job whose Register is skipped is complete all the same; the state machine asks for the phase.
        self.advance(JobEvent::Entered(Phase::Register)).await?;
        self.remove_surplus().await?;
        self.give_up_lease().await;
        self.job.completed_at = Some(now());
        self.advance(JobEvent::Completed).await
    }

    async fn enter(&mut self, phase: Phase) -> Result<(), JournalError> {
        self.advance(JobEvent::Entered(phase)).await?;
        let mut update = PhaseUpdate::new(phase, PhaseStatus::Running);
        let known = self.job.phase(phase).and_then(|record| record.started_at);
        update.started_at = known.or_else(|| Some(now()));
        self.live.clear_progress();
        self.set_phase(update).await
    }

    /// Runs a phase within its own limit of time and the job's.
    pub(super) async fn limited(&mut self, phase: Phase, deadline: Instant) -> Result<Value, Stop> {
        self.needs_folder(phase)?;
        // Before the clock begins: a lease of another deployer may have to end, and what that one left half done be
        // settled. Nothing after Verify changes the target.
        if phase != Phase::Register {
            Box::pin(self.hold()).await?;
        }
        let own = Instant::now() + self.plan.phase_timeout(phase);
        // Past the point of no return, only the phase's own limit counts: a slow registry is no reason to
        // call a healthy deployment failed.
        let until = if phase == Phase::Register { own } else { own.min(deadline) };
        let whose = if until == deadline {
            ("job", self.plan.job_timeout)
        } else {
            ("phase", self.plan.phase_timeout(phase))
        };
        let work = async {
            match phase {
                Phase::Validation => self.validation().await,
                Phase::Transfer => self.transfer().await,
                Phase::Build => self.build().await,
                Phase::StartService => self.start().await,
                Phase::VerifyHealth => self.probe().await,
                Phase::Register => self.register().await,
            }
        };
        let Ok(end) = tokio::time::timeout_at(until, Box::pin(work)).await else {
            return Err(fail(
                Fault::Target,
                &format!("finish {phase} in time"),
                &format!("the {}'s limit of {:?} is over", whose.0, whose.1),
                "see the log for what took so long, or raise the limit under [timeouts] in the pipeline",
            ));
        };
        match phase {
            // Nothing takes a verified release down, a limit of time as little as anything else.
            Phase::VerifyHealth => Box::pin(self.make_live(end?)).await,
            Phase::Validation | Phase::Transfer | Phase::Build | Phase::StartService | Phase::Register => end,
        }
    }

    pub(super) async fn advance(&mut self, event: JobEvent) -> Result<(), JournalError> {
        if let Some(error) = self.job.error.take() {
            self.job.error = Some(self.redacted_failure(error).await);
        }
        match model::next(&self.job.state, &event) {
            Ok(state) => self.job.state = state,
            // The record must stay true, so the state stays; the defect is said where it can be seen.
            Err(error) => tracing::error!(job = %self.job.id, %error),
        }
        self.host.journal.set_state(&self.job).await
    }

    pub(super) async fn phase_ended(
        &mut self,
        phase: Phase,
        status: PhaseStatus,
        details: Value,
        error: Option<Failure>,
    ) -> Result<(), JournalError> {
        let mut update = PhaseUpdate::new(phase, status);
        update.completed_at = Some(now());
        update.details = Some(details);
        update.error = error;
        self.set_phase(update).await
    }

    pub(super) async fn set_phase(&mut self, update: PhaseUpdate) -> Result<(), JournalError> {
        let update = self.redacted_update(update).await;
        self.host.journal.set_phase(&self.job.id, &update).await?;
        if let Some(record) = self.job.phases.iter_mut().find(|record| record.phase == update.phase) {
            record.status = update.status;
            record.started_at = update.started_at.or(record.started_at);
            record.completed_at = update.completed_at.or(record.completed_at);
            if let Some(details) = update.details {
                record.details = details;
            }
            record.error = update.error;
        }
        Ok(())
    }
}

pub(super) fn fail(fault: Fault, attempted: &str, seen: &str, next: &str) -> Stop {
    let failure =
        Failure { fault, plugin: None, attempted: attempted.into(), seen: seen.into(), next: next.into() };
    Stop::Failed { failure: Box::new(failure), details: json!({}) }
}
