//! The small twin of the crash matrix: every kind of job is driven by the real decisions through a world in memory,
//! cut before each of its records and each of its effects, and driven again from what was recorded by then. It ends
//! as it would have ended uncut, with one verified release that serves.

use std::time::Instant;

use self::case::{BEFORE, Case, OLD, OTHERS, OWN, Trouble, cases};
use self::journal::Known;
use self::world::World;
use crate::model::{Aftermath, JobKind, JobState, Phase, PhaseStatus, ReleaseStatus};

pub mod case;
mod journal;
mod target;
mod world;

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
        Trouble::None | Trouble::TakenOver => JobState::Completed,
        Trouble::Fails(phase) | Trouble::FailsOnce(phase) => {
            of(phase).map_or(JobState::Completed, JobState::Failed)
        }
        Trouble::Cancelled(phase) => of(phase).map_or(JobState::Completed, JobState::Cancelled),
        Trouble::Lacks => JobState::Failed(lacks),
    }
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
        if case.trouble == Trouble::TakenOver {
            world.take_over();
        }
    }
    (world.passed, world.cut) = (0, None);
    assert!(world.start().is_ok(), "nothing cuts it any more");
    Some(world)
}

/// What the world has to look like at a job's end.
fn check(world: &World, end: &JobState) {
    let Known { job, releases, .. } = &world.known;
    assert_eq!(job.state, *end);
    let completed = *end == JobState::Completed;
    let serves = if completed { Some(OWN) } else { world.case.runs.then_some(BEFORE) };
    let status = |id: &str| releases.iter().find(|release| release.id == id).map(|release| release.status);
    let live: Vec<&str> = releases
        .iter()
        .filter(|release| release.status == ReleaseStatus::Live)
        .map(|release| release.id.as_str())
        .collect();
    assert_eq!(live, serves.into_iter().collect::<Vec<_>>(), "one release is live");
    assert_eq!(world.target.running, serves, "it serves");
    assert_eq!(world.target.current, serves, "`current` leads to it");
    assert!(serves.is_none_or(|serves| world.target.verified.contains(serves)), "it was verified");
    let own = match (completed, world.case.kind) {
        (true, _) => ReleaseStatus::Live,
        (false, JobKind::Deploy) => ReleaseStatus::Bad,
        (false, JobKind::Rollback) => ReleaseStatus::Retired,
    };
    assert_eq!(status(OWN), Some(own));
    if completed {
        for record in &job.phases {
            assert!(matches!(record.status, PhaseStatus::Success | PhaseStatus::Skipped), "{record:?}");
        }
        assert!(world.target.registered > 0, "it is registered");
        if world.case.runs {
            assert_eq!(status(BEFORE), Some(ReleaseStatus::Retired));
        }
        if world.case.runs && world.case.kind == JobKind::Deploy {
            assert_eq!(status(OLD), Some(ReleaseStatus::Removed), "what is no longer kept is removed");
            assert!(world.target.removed.contains(OLD));
        }
    }
}

/// What the world has to look like where another deployer took the service over: it is left alone.
fn check_left_alone(world: &World) {
    let Known { job, releases, .. } = &world.known;
    assert_eq!(
        (world.target.running, world.target.current),
        (Some(OTHERS), Some(OTHERS)),
        "{:#?}",
        world.records
    );
    let own = releases.iter().find(|release| release.id == OWN).map(|release| release.status);
    let expect = match (&job.state, world.case.kind) {
        (JobState::Completed, _) if world.target.own_was_live => ReleaseStatus::Live,
        (JobState::Failed(Aftermath::TakenOver(_) | Aftermath::Untouched), JobKind::Deploy) => {
            ReleaseStatus::Bad
        }
        (JobState::Failed(Aftermath::TakenOver(_) | Aftermath::Untouched), JobKind::Rollback) => {
            ReleaseStatus::Retired
        }
        (state, kind) => panic!("{kind:?} ended as {state:?}: {:#?}", world.records),
    };
    assert_eq!(own, Some(expect), "{:#?}", world.records);
}

#[test]
fn every_job_ends_as_it_would_wherever_it_is_cut() {
    let begun = Instant::now();
    let (mut points, mut runs) = (0, 0);
    for case in cases() {
        let expect = end(case);
        let checked = |world: &World, cuts: &[usize]| {
            if world.taken_over {
                return check_left_alone(world);
            }
            let found = &world.known.job.state;
            // What fails only once may pass when it is called again after a cut.
            let passed = matches!(case.trouble, Trouble::FailsOnce(_)) && *found == JobState::Completed;
            let expect = if passed { found } else { &expect };
            let well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(world, expect)));
            assert!(well.is_ok(), "{case:?}, cut at {cuts:?}: {:#?}", world.records);
        };
        let whole = cut_at(case, &[]).expect("nothing cuts it");
        assert_eq!(whole.known.job.state, expect, "{case:?}");
        checked(&whole, &[]);
        points += whole.passed;
        for first in 0..whole.passed {
            let Some(world) = cut_at(case, &[first]) else { break };
            checked(&world, &[first]);
            runs += 1;
            // And once more while it goes on.
            for second in 0.. {
                let Some(world) = cut_at(case, &[first, second]) else { break };
                checked(&world, &[first, second]);
                runs += 1;
            }
        }
    }
    let cases = cases().len();
    println!("{cases} jobs, {points} points, {runs} runs with one cut or two, in {:?}", begun.elapsed());
    assert!(points > 500, "the jobs have their records");
}
