//! The twin's world: a target in memory, and what the job's shell does there.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::case::{AWAY, BEFORE, Case, OLD, OTHERS, OWN, Trouble};
use super::journal::{Known, Record};
use super::target::Target;
use crate::job::decision::{Action, Cause, End, Facts, Last, after_end, next, recorded_answer, start_begun};
use crate::job::live::{self, Fate};
use crate::job::outcome::{self, Life, Restoring};
use crate::job::{release, retention};
use crate::model::{
    Aftermath, JobEvent, JobKind, JobState, Keep, Phase, PhaseStatus, PhaseUpdate, ReleaseEvent,
    ReleaseRecord, ReleaseStatus, Retry,
};

/// The deployer is gone.
pub struct Cut;

/// What is only in memory, while the deployer lives.
pub struct World {
    pub case: Case,
    pub records: Vec<Record>,
    pub known: Known,
    pub target: Target,
    /// How many points were passed, and where the next cut is.
    pub passed: usize,
    pub cut: Option<usize>,
    cancelled: bool,
    has_lease: bool,
    /// Another deployer has the service.
    pub taken_over: bool,
    clock: Timestamp,
}

type Step = Result<Result<(), Cause>, Cut>;

impl World {
    pub fn new(case: Case) -> Self {
        let running = case.runs.then_some(BEFORE);
        let verified = running.into_iter().collect();
        World {
            case,
            records: Vec::new(),
            known: Known::new(case),
            target: Target { running, current: running, verified, ..Target::default() },
            passed: 0,
            cut: None,
            cancelled: false,
            has_lease: false,
            taken_over: false,
            clock: Timestamp::UNIX_EPOCH,
        }
    }

    /// A point at which the deployer may die.
    fn point(&mut self) -> Result<(), Cut> {
        if self.cut == Some(self.passed) {
            self.cut = None;
            return Err(Cut);
        }
        self.passed += 1;
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<(), Cut> {
        self.point()?;
        self.known.take(&record);
        self.records.push(record);
        Ok(())
    }

    fn run_on_target(&mut self, release: Option<&'static str>) -> Result<(), Cut> {
        self.point()?;
        assert!(!self.taken_over, "what another deployer runs is touched");
        let live = self.known.releases.iter().find(|release| release.status == ReleaseStatus::Live);
        if live.is_some_and(|live| live.id == OWN) {
            assert_eq!(release, Some(OWN), "a verified release is taken down");
        }
        self.target.running = release;
        Ok(())
    }

    /// The first run, or one after the deployer died: all it knows is what was recorded.
    pub fn start(&mut self) -> Result<(), Cut> {
        let mut known = Known::new(self.case);
        self.records.iter().for_each(|record| known.take(record));
        (self.known, self.has_lease) = (known, false);
        self.cancelled = live::fate(&self.known.job, &self.known.steps) == Fate::Cancelled;
        if !self.known.job.state.is_over() {
            self.drive()?;
        }
        self.register_later()
    }

    /// Another deployer deploys, while this one is gone.
    pub fn take_over(&mut self) {
        if self.known.job.generation.is_some() && !self.known.job.state.is_over() {
            self.taken_over = true;
            (self.target.running, self.target.current) = (Some(OTHERS), Some(OTHERS));
        }
    }

    /// The lease on the service, taken or kept.
    fn lease(&mut self) -> Step {
        if self.taken_over {
            return Ok(Err(Cause::TakenOver("b".into())));
        }
        if !std::mem::replace(&mut self.has_lease, true) {
            self.record(Record::Generation)?;
        }
        Ok(Ok(()))
    }

    /// What `drive` does in earnest.
    fn drive(&mut self) -> Result<(), Cut> {
        let unwinding = matches!(self.known.job.state, JobState::Unwinding(_));
        if self.case.kind == JobKind::Deploy && !unwinding {
            self.record(Record::Release(OWN, ReleaseEvent::Attempted))?;
        }
        let (mut last, mut rounds) = (Last::Begins, 0..100);
        loop {
            rounds.next().expect("the job ends");
            let start_begun = start_begun(self.known.steps.iter().map(|step| step.step.as_str()));
            let facts = Facts { last, start_begun, has_lease: self.has_lease };
            last = match next(&self.known.job, &facts) {
                Action::CheckRollbackTarget => match self.lease()? {
                    Ok(()) => {
                        release::rollback_target(&self.known.releases, Some(OWN)).unwrap();
                        Last::Done
                    }
                    Err(cause) => Last::Interrupted(Phase::StartService, cause),
                },
                Action::Enter(phase) => {
                    self.record(Record::State(JobEvent::Entered(phase)))?;
                    self.record(Record::Phase(PhaseUpdate::new(phase, PhaseStatus::Running)))?;
                    Last::Entered(phase)
                }
                Action::LookForSuccessor if self.taken_over => Last::Successor("b".into()),
                Action::LookForSuccessor => {
                    assert_eq!(self.target.current, Some(OWN));
                    Last::NoSuccessor
                }
                Action::SkipRegister { .. } => {
                    self.record(Record::Phase(PhaseUpdate::new(Phase::Register, PhaseStatus::Skipped)))?;
                    Last::Done
                }
                Action::LookWhetherLive { holder } => {
                    Last::WasLive { holder, live: self.target.own_was_live }
                }
                Action::RunSteps(phase) => match self.steps_of(phase)? {
                    Ok(()) => Last::Ran(phase),
                    Err(cause) => Last::Interrupted(phase, cause),
                },
                Action::Promote => match self.promote()? {
                    Ok(()) => Last::Promoted,
                    Err(cause) => Last::Interrupted(Phase::VerifyHealth, cause),
                },
                Action::Pass(phase) => {
                    self.record(Record::Phase(PhaseUpdate::new(phase, PhaseStatus::Success)))?;
                    Last::Done
                }
                Action::Fail(phase, cause) => {
                    let mut update = PhaseUpdate::new(phase, PhaseStatus::Failed);
                    if phase == Phase::Register {
                        update.details = Some(self.retry(1));
                    }
                    self.record(Record::Phase(update))?;
                    Last::FailureRecorded(phase, cause)
                }
                Action::LookAtPrevious => Last::Seen(match &self.known.job.previous {
                    Some(previous) if self.target.running == Some(BEFORE) => {
                        Aftermath::StillRuns(previous.id.clone())
                    }
                    Some(_) | None => Aftermath::Untouched,
                }),
                Action::BeginUnwinding => {
                    self.record(Record::State(JobEvent::UnwindingBegan))?;
                    Last::Done
                }
                Action::Unwind(phase) => match self.lease()? {
                    Ok(()) => Last::Seen(self.unwind(phase)?),
                    Err(cause) => Last::Interrupted(phase, cause),
                },
                Action::PassOverRegister => {
                    self.record(Record::State(JobEvent::Entered(Phase::Register)))?;
                    Last::Done
                }
                Action::Retain => {
                    self.retain()?;
                    Last::Retained
                }
                Action::Finish(End::Completed) => return self.record(Record::State(JobEvent::Completed)),
                Action::Finish(End::Unsuccessful { aftermath, bad }) => {
                    if bad {
                        self.record(Record::Release(OWN, ReleaseEvent::Failed))?;
                    }
                    let end = if self.cancelled {
                        JobEvent::Cancelled(aftermath)
                    } else {
                        JobEvent::Failed(aftermath)
                    };
                    return self.record(Record::State(end));
                }
                Action::Finish(End::TakenOver { holder, bad }) => {
                    if bad {
                        self.record(Record::Release(OWN, ReleaseEvent::Failed))?;
                    }
                    return self.record(Record::State(JobEvent::TakenOver(holder)));
                }
                Action::Finish(End::CompletedBefore { .. }) => {
                    self.record(Record::Promoted)?;
                    self.record(Record::Phase(PhaseUpdate::new(Phase::VerifyHealth, PhaseStatus::Success)))?;
                    self.record(Record::State(JobEvent::Entered(Phase::Register)))?;
                    self.record(Record::Phase(PhaseUpdate::new(Phase::Register, PhaseStatus::Skipped)))?;
                    return self.record(Record::State(JobEvent::Completed));
                }
                action @ (Action::Register
                | Action::RetryAfter(_)
                | Action::GiveUpRegistering { .. }
                | Action::Nothing) => panic!("there is no reason for {action:?}"),
            };
        }
    }

    fn steps_of(&mut self, phase: Phase) -> Step {
        if phase != Phase::Register
            && let Err(cause) = self.lease()?
        {
            return Ok(Err(cause));
        }
        match phase {
            Phase::Validation => self.step(phase, "validation/0", "validate", |_| Ok(())),
            Phase::Transfer => self.step(phase, "transfer/0", "transfer", |_| Ok(())),
            Phase::Build => self.step(phase, "build/0", "build", |_| Ok(())),
            Phase::StartService => {
                if self.case.trouble == Trouble::Lacks {
                    return self.step(phase, "start/inspect", "inspect", |_| Ok(()));
                }
                self.step(phase, "start/0", "start", |world| {
                    world.run_on_target(None)?;
                    world.run_on_target(Some(OWN))
                })
            }
            Phase::VerifyHealth => self.step(phase, "verify/0", "verify", |world| {
                assert_eq!(world.target.running, Some(OWN));
                world.target.verified.insert(OWN);
                Ok(())
            }),
            Phase::Register => self.step(phase, "register/0", "register", |world| {
                world.target.registered += 1;
                Ok(())
            }),
        }
    }

    /// What `step` does in earnest.
    fn step(
        &mut self,
        phase: Phase,
        key: &str,
        function: &'static str,
        effect: impl Fn(&mut Self) -> Result<(), Cut>,
    ) -> Step {
        if recorded_answer(&self.known.steps, key, function).is_some() {
            return Ok(Ok(()));
        }
        let unwinding = matches!(self.known.job.state, JobState::Unwinding(_));
        if self.cancelled && !unwinding {
            return Ok(Err(Cause::Cancelled));
        }
        self.record(Record::StepStarted(key.into(), function))?;
        self.point()?;
        let attempts = self.known.steps.iter().filter(|step| step.step == key).count();
        let fails = match self.case.trouble {
            Trouble::None | Trouble::TakenOver => false,
            Trouble::Lacks => phase == Phase::StartService,
            Trouble::FailsOnce(failing) => failing == phase && attempts == 1,
            Trouble::Fails(failing) | Trouble::Cancelled(failing) => failing == phase,
        };
        let fails = fails && !unwinding && function != "promote";
        if fails && phase == Phase::StartService && function == "start" {
            // It had stopped what ran before.
            self.run_on_target(None)?;
        }
        if !fails {
            effect(self)?;
            self.record(Record::StepEnded(key.into(), true))?;
            return Ok(Ok(()));
        }
        if self.case.trouble == Trouble::Cancelled(phase) {
            match live::fate(&self.known.job, &self.known.steps) {
                Fate::Open => {
                    self.record(Record::CancelledBy)?;
                    self.cancelled = true;
                }
                Fate::Cancelled => {}
                // It is too late.
                Fate::Settled => {
                    effect(self)?;
                    self.record(Record::StepEnded(key.into(), true))?;
                    return Ok(Ok(()));
                }
            }
        }
        self.record(Record::StepEnded(key.into(), false))?;
        Ok(Err(if self.cancelled { Cause::Cancelled } else { Cause::Failed }))
    }

    fn promote(&mut self) -> Step {
        if self.cancelled {
            return Ok(Err(Cause::Cancelled));
        }
        assert!(self.target.verified.contains(OWN), "what was not verified becomes live");
        if let Err(cause) = self.step(Phase::VerifyHealth, "promote", "promote", |_| Ok(()))? {
            return Ok(Err(cause));
        }
        self.point()?;
        (self.target.current, self.target.own_was_live) = (Some(OWN), true);
        self.record(Record::Promoted)?;
        Ok(Ok(()))
    }

    /// What `unwind` does in earnest, where the target does what it is asked for.
    fn unwind(&mut self, phase: Phase) -> Result<Aftermath, Cut> {
        let restore_begun = self.known.steps.iter().any(|step| step.step == "restore");
        let before = self.known.job.previous.as_ref().map(|_| BEFORE);
        let life = match self.target.running {
            Some(BEFORE) => Life::Lives,
            Some(_) | None => Life::Dead("it is gone".into()),
        };
        let restored = self.step(phase, "restore", "restore", |world| world.run_on_target(before))?;
        assert_eq!(restored, Ok(()), "what ran before is brought back, cancelled or not");
        if before.is_some() {
            let checked = self.step(phase, "restored/0", "verify", |world| {
                assert_eq!(world.target.running, Some(BEFORE));
                Ok(())
            })?;
            assert_eq!(checked, Ok(()));
        }
        self.point()?;
        self.target.current = before;
        self.record(Record::Phase(PhaseUpdate::new(phase, PhaseStatus::Failed)))?;
        let restoring = if before.is_some() { Restoring::Verified } else { Restoring::TakenAway };
        let never_stopped = outcome::never_stopped(phase, restore_begun, &life, false);
        Ok(outcome::aftermath(before, never_stopped, &restoring, &life, None))
    }

    fn retain(&mut self) -> Result<(), Cut> {
        if self.case.kind == JobKind::Rollback || self.taken_over {
            return Ok(());
        }
        let there: Vec<ReleaseRecord> = self
            .known
            .releases
            .iter()
            .filter(|release| release.status != ReleaseStatus::Removed)
            .cloned()
            .collect();
        let before = self.known.job.previous.as_ref().map(|_| BEFORE);
        let in_a_year = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365);
        for gone in retention::expired(&there, "shop", before, in_a_year, Keep::default()) {
            assert_eq!(gone.release.id, OLD, "what serves and the release before it are kept");
            self.record(Record::Release(OLD, ReleaseEvent::RemovalBegan))?;
            self.point()?;
            self.target.removed.insert(gone.release.id);
            self.record(Record::Release(OLD, ReleaseEvent::Removed))?;
        }
        Ok(())
    }

    fn retry(&self, attempts: u32) -> Value {
        let next_at = Some(self.clock + SignedDuration::from_secs(5));
        Retry { attempts, next_at, superseded_by: None }.within(json!({}))
    }

    /// What `registering` does in earnest.
    fn register_later(&mut self) -> Result<(), Cut> {
        loop {
            match after_end(&self.known.job, None, self.clock) {
                Action::RetryAfter(pause) => self.clock += pause,
                Action::Register => {
                    let made = Retry::of(&self.known.job.phases[5].details).unwrap().attempts;
                    let mut update = PhaseUpdate::new(Phase::Register, PhaseStatus::Success);
                    if made < AWAY {
                        update = PhaseUpdate::new(Phase::Register, PhaseStatus::Failed);
                        update.details = Some(self.retry(made + 1));
                    } else {
                        self.point()?;
                        self.target.registered += 1;
                    }
                    self.record(Record::Phase(update))?;
                }
                Action::Nothing => return Ok(()),
                action => panic!("there is no reason for {action:?}"),
            }
        }
    }
}
