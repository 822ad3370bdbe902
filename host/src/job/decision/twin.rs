//! The small twin of the crash matrix: every kind of job is driven by the real decisions through a world in memory,
//! cut before each of its records and each of its effects, and driven again from what was recorded by then. It ends
//! as it would have ended uncut, with one verified release that serves.

use std::collections::BTreeSet;
use std::time::Instant;

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::job::live::{self, Fate};
use crate::job::outcome::{self, Life, Restoring};
use crate::job::{release, retention};
use crate::model::{
    Actor, JobRequest, Keep, PhaseRecord, PhaseUpdate, ReleaseEvent, ReleaseRecord, ReleaseStatus, Stored,
};

/// The job's own release, the one that ran before it, and one that is no longer kept.
const OWN: &str = "r3";
const BEFORE: &str = "r2";
const OLD: &str = "r1";
/// How often the registry is away before it answers.
const AWAY: u32 = 3;

/// A job of a kind, with nothing done.
pub fn job(kind: JobKind) -> JobRecord {
    JobRecord {
        id: "deploy-3".into(),
        kind,
        service: "shop".into(),
        target: "root@server:22".into(),
        method: "docker".into(),
        release: OWN.into(),
        request: JobRequest {
            service_path: "shop".into(),
            service_folder: "/srv/shop".into(),
            folder_mark: None,
            droplet_id: None,
            service_port: 8001,
            auto_register: true,
            verification_job_id: None,
            environment: Vec::new(),
            digest: String::new(),
            actor: Actor { name: "ci".into(), from: "127.0.0.1".into() },
        },
        plan: Stored::Unknown { raw: Value::Null, why: "it has none".into() },
        state: JobState::Pending,
        cancelled_by: None,
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        completed_at: None,
        error: None,
        registration: None,
        previous: None,
        generation: None,
        retention: None,
        phases: Phase::ALL.map(phase).to_vec(),
    }
}

fn phase(phase: Phase) -> PhaseRecord {
    PhaseRecord {
        phase,
        status: PhaseStatus::Pending,
        started_at: None,
        completed_at: None,
        details: json!({}),
        error: None,
    }
}

fn release(id: &str, status: ReleaseStatus) -> ReleaseRecord {
    ReleaseRecord {
        service: "shop".into(),
        target: "root@server:22".into(),
        id: id.into(),
        job: format!("deploy-{id}"),
        status,
        method: "docker".into(),
        port: 8001,
        environment: Vec::new(),
        environment_digest: String::new(),
        files: None,
        artifact: None,
        instance: None,
        plugins: std::collections::BTreeMap::new(),
        plan: None,
        created_at: Timestamp::UNIX_EPOCH,
        promoted_at: None,
        promoted_by: None,
        origin: None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// A step of the phase fails, each time.
    Fails(Phase),
    /// A step of the phase fails, once.
    FailsOnce(Phase),
    /// Start sees that it lacks something, before it stops anything.
    Lacks,
    /// Somebody cancels the job in the middle of a step of the phase.
    Cancelled(Phase),
}

#[derive(Clone, Copy, Debug)]
struct Case {
    kind: JobKind,
    /// Whether a release runs when the job begins.
    runs: bool,
    trouble: Trouble,
}

/// What a journal has of it.
#[derive(Clone, Debug)]
enum Record {
    State(JobEvent),
    Phase(PhaseUpdate),
    StepStarted(String, &'static str),
    StepEnded(String, bool),
    CancelledBy,
    Release(&'static str, ReleaseEvent),
    Promoted,
}

/// What is known by the records.
#[derive(Clone)]
struct Known {
    job: JobRecord,
    steps: Vec<StepRecord>,
    releases: Vec<ReleaseRecord>,
}

impl Known {
    fn new(case: Case) -> Self {
        let mut job = job(case.kind);
        let mut releases = Vec::new();
        if case.runs {
            releases = vec![release(OLD, ReleaseStatus::Retired), release(BEFORE, ReleaseStatus::Live)];
            job.previous = releases.last().cloned();
        }
        match case.kind {
            JobKind::Deploy => releases.push(release(OWN, ReleaseStatus::Candidate)),
            JobKind::Rollback => {
                releases.push(release(OWN, ReleaseStatus::Retired));
                for record in job.phases.iter_mut().take(3) {
                    record.status = PhaseStatus::Skipped;
                }
            }
        }
        Known { job, steps: Vec::new(), releases }
    }

    /// By the functions that change a job's and a release's state in earnest: what they refuse ends the test.
    fn take(&mut self, record: &Record) {
        match record {
            Record::State(event) => self.job.apply(event).unwrap(),
            Record::Phase(update) => {
                let record = self.job.phases.iter_mut().find(|record| record.phase == update.phase).unwrap();
                record.status = update.status;
                if let Some(details) = &update.details {
                    record.details = details.clone();
                }
            }
            Record::StepStarted(key, function) => {
                let known = recorded_answer(&self.steps, key, function);
                assert_eq!(known, None, "{key} is called again, though its answer is on record");
                self.steps.push(StepRecord {
                    id: 0,
                    step: key.clone(),
                    plugin: "docker".into(),
                    function: (*function).into(),
                    digest: String::new(),
                    started_at: Timestamp::UNIX_EPOCH,
                    completed_at: None,
                    result: None,
                    error: None,
                });
            }
            Record::StepEnded(key, well) => {
                let step = self.steps.iter_mut().rev().find(|step| step.step == *key).unwrap();
                step.result = well.then(|| json!(true));
            }
            Record::CancelledBy => self.job.cancelled_by = Some("ci".into()),
            Record::Release(id, event) => {
                let release = self.releases.iter_mut().find(|release| release.id == *id).unwrap();
                release.apply(*event).unwrap();
            }
            Record::Promoted => {
                let own = self.releases.iter().find(|release| release.id == OWN).unwrap();
                for changed in own.promoted(&self.releases).unwrap() {
                    let at = self.releases.iter().position(|release| release.id == changed.id).unwrap();
                    self.releases[at] = changed;
                }
            }
        }
        let live = self.releases.iter().filter(|release| release.status == ReleaseStatus::Live);
        assert!(live.count() <= 1, "two releases are live after {record:?}");
    }
}

/// What is on the target. It stays when the deployer dies.
#[derive(Clone, Default)]
struct Target {
    running: Option<&'static str>,
    current: Option<&'static str>,
    verified: BTreeSet<&'static str>,
    removed: BTreeSet<String>,
    registered: u32,
}

/// The deployer is gone.
struct Cut;

/// What is only in memory, while the deployer lives.
struct World {
    case: Case,
    records: Vec<Record>,
    known: Known,
    target: Target,
    /// How many points were passed, and where the next cut is.
    passed: usize,
    cut: Option<usize>,
    cancelled: bool,
    clock: Timestamp,
}

type Step = Result<Result<(), Cause>, Cut>;

impl World {
    fn new(case: Case) -> Self {
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
        let live = self.known.releases.iter().find(|release| release.status == ReleaseStatus::Live);
        if live.is_some_and(|live| live.id == OWN) {
            assert_eq!(release, Some(OWN), "a verified release is taken down");
        }
        self.target.running = release;
        Ok(())
    }

    /// The first run, or one after the deployer died: all it knows is what was recorded.
    fn start(&mut self) -> Result<(), Cut> {
        let mut known = Known::new(self.case);
        self.records.iter().for_each(|record| known.take(record));
        self.known = known;
        self.cancelled = live::fate(&self.known.job, &self.known.steps) == Fate::Cancelled;
        if !self.known.job.state.is_over() {
            self.drive()?;
        }
        self.register_later()
    }

    /// What `drive` does in earnest.
    fn drive(&mut self) -> Result<(), Cut> {
        let unwinding = matches!(self.known.job.state, JobState::Unwinding(_));
        if self.case.kind == JobKind::Deploy && !unwinding {
            self.record(Record::Release(OWN, ReleaseEvent::Attempted))?;
        }
        let mut last = Last::Begins;
        let mut has_lease = false;
        loop {
            let start_begun = start_begun(self.known.steps.iter().map(|step| step.step.as_str()));
            let facts = Facts { last, start_begun, has_lease };
            last = match next(&self.known.job, &facts) {
                Action::CheckRollbackTarget => {
                    has_lease = true;
                    release::rollback_target(&self.known.releases, Some(OWN)).unwrap();
                    Last::Done
                }
                Action::Enter(phase) => {
                    self.record(Record::State(JobEvent::Entered(phase)))?;
                    self.record(Record::Phase(PhaseUpdate::new(phase, PhaseStatus::Running)))?;
                    Last::Entered(phase)
                }
                Action::LookForSuccessor => {
                    assert_eq!(self.target.current, Some(OWN));
                    Last::NoSuccessor
                }
                Action::RunSteps(phase) => {
                    has_lease |= phase != Phase::Register;
                    match self.steps_of(phase)? {
                        Ok(()) => Last::Ran(phase),
                        Err(cause) => Last::Interrupted(phase, cause),
                    }
                }
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
                Action::Unwind(phase) => Last::Seen(self.unwind(phase)?),
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
                action @ (Action::SkipRegister { .. }
                | Action::LookWhetherLive { .. }
                | Action::Finish(End::TakenOver { .. } | End::CompletedBefore { .. })
                | Action::Register
                | Action::RetryAfter(_)
                | Action::GiveUpRegistering { .. }
                | Action::Nothing) => panic!("there is no reason for {action:?}"),
            };
        }
    }

    fn steps_of(&mut self, phase: Phase) -> Step {
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
            Trouble::None => false,
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
        self.target.current = Some(OWN);
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
        if self.case.kind == JobKind::Rollback {
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

    fn check(&self, end: &JobState) {
        let Known { job, releases, .. } = &self.known;
        assert_eq!(job.state, *end);
        let completed = *end == JobState::Completed;
        let serves = if completed { Some(OWN) } else { self.case.runs.then_some(BEFORE) };
        let status =
            |id: &str| releases.iter().find(|release| release.id == id).map(|release| release.status);
        let live: Vec<&str> = releases
            .iter()
            .filter(|release| release.status == ReleaseStatus::Live)
            .map(|release| release.id.as_str())
            .collect();
        assert_eq!(live, serves.into_iter().collect::<Vec<_>>(), "one release is live");
        assert_eq!(self.target.running, serves, "it serves");
        assert_eq!(self.target.current, serves, "`current` leads to it");
        assert!(serves.is_none_or(|serves| self.target.verified.contains(serves)), "it was verified");
        let own = match (completed, self.case.kind) {
            (true, _) => ReleaseStatus::Live,
            (false, JobKind::Deploy) => ReleaseStatus::Bad,
            (false, JobKind::Rollback) => ReleaseStatus::Retired,
        };
        assert_eq!(status(OWN), Some(own));
        if completed {
            for record in &job.phases {
                assert!(matches!(record.status, PhaseStatus::Success | PhaseStatus::Skipped), "{record:?}");
            }
            assert!(self.target.registered > 0, "it is registered");
            if self.case.runs {
                assert_eq!(status(BEFORE), Some(ReleaseStatus::Retired));
            }
            if self.case.runs && self.case.kind == JobKind::Deploy {
                assert_eq!(status(OLD), Some(ReleaseStatus::Removed), "what is no longer kept is removed");
                assert!(self.target.removed.contains(OLD));
            }
        }
    }
}

/// How a job ends that nothing cuts.
fn end(case: Case) -> JobState {
    let restored = if case.runs { Aftermath::Restored(BEFORE.into()) } else { Aftermath::NothingBefore };
    let of = |phase: Phase| match phase {
        Phase::Validation | Phase::Transfer | Phase::Build => Some(Aftermath::Untouched),
        Phase::StartService | Phase::VerifyHealth => Some(restored.clone()),
        Phase::Register => None,
    };
    let lacks = if case.runs { Aftermath::StillRuns(BEFORE.into()) } else { Aftermath::Untouched };
    match case.trouble {
        Trouble::None => JobState::Completed,
        Trouble::Fails(phase) | Trouble::FailsOnce(phase) => {
            of(phase).map_or(JobState::Completed, JobState::Failed)
        }
        Trouble::Cancelled(phase) => of(phase).map_or(JobState::Completed, JobState::Cancelled),
        Trouble::Lacks => JobState::Failed(lacks),
    }
}

fn cases() -> Vec<Case> {
    let kinds = [(JobKind::Deploy, true), (JobKind::Deploy, false), (JobKind::Rollback, true)];
    let mut cases = Vec::new();
    for (kind, runs) in kinds {
        let first = if kind == JobKind::Deploy { 0 } else { 3 };
        let phases = Phase::ALL.into_iter().skip(first);
        let troubles = phases
            .flat_map(|phase| [Trouble::Fails(phase), Trouble::FailsOnce(phase), Trouble::Cancelled(phase)])
            .chain([Trouble::None, Trouble::Lacks]);
        cases.extend(troubles.map(|trouble| Case { kind, runs, trouble }));
    }
    cases
}

/// Runs a job with a cut at each of these points, counted from the one before, and to its end. None where it came to
/// its end before the last of them.
fn cut_at(case: Case, cuts: &[usize]) -> Option<World> {
    let mut world = World::new(case);
    for cut in cuts {
        (world.passed, world.cut) = (0, Some(*cut));
        if world.start().is_ok() {
            return None;
        }
    }
    (world.passed, world.cut) = (0, None);
    assert!(world.start().is_ok(), "nothing cuts it any more");
    Some(world)
}

#[test]
fn every_job_ends_as_it_would_wherever_it_is_cut() {
    let begun = Instant::now();
    let (mut points, mut runs) = (0, 0);
    for case in cases() {
        let expect = end(case);
        let check = |world: &World, cuts: &[usize]| {
            let found = &world.known.job.state;
            // What fails only once may pass when it is called again after a cut.
            let passed = matches!(case.trouble, Trouble::FailsOnce(_)) && *found == JobState::Completed;
            let expect = if passed { found } else { &expect };
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.check(expect)));
            assert!(checked.is_ok(), "{case:?}, cut at {cuts:?}: {:#?}", world.records);
        };
        let whole = cut_at(case, &[]).expect("nothing cuts it");
        assert_eq!(whole.known.job.state, expect, "{case:?}");
        check(&whole, &[]);
        points += whole.passed;
        for first in 0..whole.passed {
            let Some(world) = cut_at(case, &[first]) else { break };
            check(&world, &[first]);
            runs += 1;
            // And once more while it goes on.
            for second in 0.. {
                let Some(world) = cut_at(case, &[first, second]) else { break };
                check(&world, &[first, second]);
                runs += 1;
            }
        }
    }
    let cases = cases().len();
    println!("{cases} jobs, {points} points, {runs} runs with one cut or two, in {:?}", begun.elapsed());
    assert!(points > 500, "the jobs have their records");
}
