//! Tables of decisions.

mod twin;

use self::twin::case::job;
use super::*;
use crate::model::PhaseUpdate;

const ALL: [Phase; 6] = Phase::ALL;

fn with(kind: JobKind, state: JobState, done: &[Phase]) -> JobRecord {
    let mut job = job(kind);
    job.state = state;
    for record in &mut job.phases {
        if done.contains(&record.phase) {
            record.status = PhaseStatus::Success;
        }
    }
    job
}

#[track_caller]
fn check(job: &JobRecord, last: Last, expect: Action) {
    check_facts(job, &Facts { last, start_begun: true, has_lease: true }, expect);
}

#[track_caller]
fn check_facts(job: &JobRecord, facts: &Facts, expect: Action) {
    assert_eq!(next(job, facts), expect, "{:?} {facts:?}", job.state);
}

#[test]
fn phases_follow_one_another() {
    let deploy = |state, done: &[Phase]| with(JobKind::Deploy, state, done);
    check(&deploy(JobState::Pending, &[]), Last::Begins, Action::Enter(Phase::Validation));
    for (index, phase) in ALL.into_iter().enumerate() {
        let running = deploy(JobState::Running(phase), &ALL[..index]);
        // A run that begins in its middle, whatever had been reached of the phase.
        check(&running, Last::Begins, Action::Enter(phase));
        check(&running, Last::Entered(phase), Action::RunSteps(phase));
        let passed = deploy(JobState::Running(phase), &ALL[..=index]);
        let following = ALL.get(index + 1).map_or(Action::Retain, |phase| Action::Enter(*phase));
        check(&passed, Last::Done, following);
        let ran = if phase == Phase::VerifyHealth { Action::Promote } else { Action::Pass(phase) };
        check(&running, Last::Ran(phase), ran);
    }
    let verified = deploy(JobState::Running(Phase::VerifyHealth), &ALL[..4]);
    check(&verified, Last::Promoted, Action::Pass(Phase::VerifyHealth));
    let all = deploy(JobState::Running(Phase::Register), &ALL);
    check(&all, Last::Retained, Action::Finish(End::Completed));
    check(&deploy(JobState::Running(Phase::VerifyHealth), &ALL), Last::Done, Action::PassOverRegister);
}

#[test]
fn a_rollback_is_checked_before_it_begins() {
    let mut job = with(JobKind::Rollback, JobState::Pending, &ALL[..3]);
    check(&job, Last::Begins, Action::CheckRollbackTarget);
    check(&job, Last::Done, Action::Enter(Phase::StartService));
    check(
        &job,
        Last::Interrupted(Phase::StartService, Cause::Failed),
        Action::Finish(End::Unsuccessful { aftermath: Aftermath::Untouched, bad: false }),
    );
    job.state = JobState::Running(Phase::StartService);
    check(&job, Last::Begins, Action::Enter(Phase::StartService));
}

#[test]
fn what_failed_ends_as_what_it_may_have_touched_demands() {
    for (kind, bad) in [(JobKind::Deploy, true), (JobKind::Rollback, false)] {
        for cause in [Cause::Failed, Cause::Cancelled] {
            for (index, phase) in ALL.into_iter().enumerate() {
                let job = with(kind, JobState::Running(phase), &ALL[..index]);
                check(&job, Last::Interrupted(phase, cause.clone()), Action::Fail(phase, cause.clone()));
                let untouched = End::Unsuccessful { aftermath: Aftermath::Untouched, bad };
                let recorded = Last::FailureRecorded(phase, cause.clone());
                check(
                    &job,
                    recorded.clone(),
                    match phase {
                        Phase::Validation | Phase::Transfer | Phase::Build => Action::Finish(untouched),
                        Phase::StartService | Phase::VerifyHealth => Action::BeginUnwinding,
                        Phase::Register => Action::Retain,
                    },
                );
                if phase == Phase::StartService {
                    let facts = Facts { last: recorded, start_begun: false, has_lease: true };
                    check_facts(&job, &facts, Action::LookAtPrevious);
                }
            }
        }
        let still = Aftermath::StillRuns("r1".into());
        let job = with(kind, JobState::Running(Phase::StartService), &ALL[..3]);
        let end = |aftermath: &Aftermath| End::Unsuccessful { aftermath: aftermath.clone(), bad };
        check(&job, Last::Seen(still.clone()), Action::Finish(end(&still)));
        let job = with(kind, JobState::Unwinding(Phase::VerifyHealth), &ALL[..4]);
        check(&job, Last::Begins, Action::Unwind(Phase::VerifyHealth));
        check(&job, Last::Done, Action::Unwind(Phase::VerifyHealth));
        let restored = Aftermath::Restored("r1".into());
        check(&job, Last::Seen(restored.clone()), Action::Finish(end(&restored)));
    }
}

#[test]
fn a_job_that_lost_its_service_leaves_it_alone() {
    let taken = || Cause::TakenOver("b".into());
    for (index, phase) in ALL.into_iter().enumerate() {
        let job = with(JobKind::Deploy, JobState::Running(phase), &ALL[..index]);
        let look = Action::LookWhetherLive { holder: "b".into() };
        let first = if phase == Phase::VerifyHealth { look } else { Action::Fail(phase, taken()) };
        check(&job, Last::Interrupted(phase, taken()), first);
        let end = Action::Finish(End::TakenOver { holder: "b".into(), bad: true });
        // A release that is live stays what it is.
        let completed = Action::Finish(End::Completed);
        let end = if phase == Phase::Register { completed } else { end };
        check(&job, Last::FailureRecorded(phase, taken()), end);
    }
    let job = with(JobKind::Deploy, JobState::Running(Phase::VerifyHealth), &ALL[..4]);
    let before = Action::Finish(End::CompletedBefore { holder: "b".into() });
    check(&job, Last::WasLive { holder: "b".into(), live: true }, before);
    check(
        &job,
        Last::WasLive { holder: "b".into(), live: false },
        Action::Fail(Phase::VerifyHealth, taken()),
    );
    let job = with(JobKind::Rollback, JobState::Unwinding(Phase::VerifyHealth), &ALL[..4]);
    check(
        &job,
        Last::Interrupted(Phase::VerifyHealth, taken()),
        Action::Finish(End::TakenOver { holder: "b".into(), bad: false }),
    );
}

#[test]
fn without_a_lease_register_looks_first() {
    let job = with(JobKind::Deploy, JobState::Running(Phase::Register), &ALL[..5]);
    let without = |last| Facts { last, start_begun: true, has_lease: false };
    check_facts(&job, &without(Last::Entered(Phase::Register)), Action::LookForSuccessor);
    check_facts(&job, &without(Last::NoSuccessor), Action::RunSteps(Phase::Register));
    let skip = Action::SkipRegister { live: "deploy-2".into() };
    check_facts(&job, &without(Last::Successor("deploy-2".into())), skip);
}

#[test]
fn a_job_that_is_over_has_only_to_register() {
    let now: Timestamp = "2026-11-24T03:15:00Z".parse().unwrap();
    let retry = |next_at, superseded_by| Retry { attempts: 2, next_at, superseded_by };
    let over = |status, retry: Option<Retry>| {
        let mut job = with(JobKind::Deploy, JobState::Completed, &ALL[..5]);
        let mut update = PhaseUpdate::new(Phase::Register, status);
        update.details = Some(retry.map_or(Value::Null, |retry| retry.within(serde_json::json!({}))));
        job.phases[5].status = update.status;
        job.phases[5].details = update.details.unwrap();
        job
    };
    let check = |job: JobRecord, later: Option<&str>, expect: Action| {
        assert_eq!(after_end(&job, later, now), expect, "{:?} {later:?}", job.phases[5]);
        assert_eq!(
            next(&job, &Facts { last: Last::Begins, start_begun: true, has_lease: false }),
            Action::Nothing
        );
    };
    let in_a_minute = now + jiff::SignedDuration::from_mins(1);
    check(over(PhaseStatus::Success, Some(retry(None, None))), None, Action::Nothing);
    check(over(PhaseStatus::Failed, None), None, Action::Nothing);
    check(over(PhaseStatus::Failed, Some(retry(Some(now), None))), None, Action::Register);
    check(
        over(PhaseStatus::Failed, Some(retry(Some(in_a_minute), None))),
        None,
        Action::RetryAfter(Duration::from_secs(60)),
    );
    check(
        over(PhaseStatus::Failed, Some(retry(Some(now), None))),
        Some("deploy-2"),
        Action::GiveUpRegistering { later: "deploy-2".into() },
    );
    check(
        over(PhaseStatus::Failed, Some(retry(None, Some("deploy-2".into())))),
        Some("deploy-2"),
        Action::Nothing,
    );
    let mut failed = over(PhaseStatus::Failed, Some(retry(Some(now), None)));
    failed.state = JobState::Failed(Aftermath::Untouched);
    check(failed, None, Action::Nothing);
}

#[test]
fn a_job_that_cannot_run_ends_by_events_that_it_can_take() {
    let states = ALL.into_iter().flat_map(|phase| [JobState::Running(phase), JobState::Unwinding(phase)]);
    for state in states.chain([JobState::Pending]) {
        let mut job = with(JobKind::Deploy, state.clone(), &[]);
        for event in cannot_run(&job.clone(), "it is gone") {
            job.apply(&event).unwrap_or_else(|error| panic!("{state:?}: {error}"));
        }
        assert!(job.state.is_over(), "{state:?}");
    }
    let job = with(JobKind::Deploy, JobState::Completed, &[]);
    assert_eq!(cannot_run(&job, "it is gone"), []);
}

#[test]
fn only_an_answer_that_is_on_record_is_not_asked_for_again() {
    let step = |key: &str, function: &str, result: Option<Value>| StepRecord {
        id: 1,
        step: key.into(),
        plugin: "docker".into(),
        function: function.into(),
        digest: String::new(),
        started_at: Timestamp::UNIX_EPOCH,
        completed_at: None,
        result,
        error: None,
    };
    let done = [step("build/0", "build", None), step("build/0", "build", Some(Value::Bool(true)))];
    assert_eq!(recorded_answer(&done, "build/0", "build"), Some(&Value::Bool(true)));
    assert_eq!(recorded_answer(&done[..1], "build/0", "build"), None);
    assert_eq!(recorded_answer(&done, "build/0", "inspect"), None);
    assert_eq!(recorded_answer(&done, "build/1", "build"), None);
}
