//! What runs after a job that failed in Start or Verify, judged by what was seen. Pure: `unwind` looks.

use crate::model::{Aftermath, Phase};

/// What an instance's own way to tell says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    Lives,
    /// With what became of it.
    Dead(String),
    /// Nobody could be asked, or there is no way to tell. With the reason.
    Unseen(String),
}

/// How far bringing the previous release back came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restoring {
    /// What failed is gone. With a previous release, nothing was restored for it.
    TakenAway,
    /// Its checks passed.
    Verified,
    /// Its checks fail. With what was seen.
    ChecksFail(String),
    /// It could not be brought back. With the reason.
    Failed(String),
}

/// Whether the previous release was never stopped: it still lives although Start failed, nothing has begun to bring
/// it back, and callers had an answer all the time, where they were asked for.
pub fn never_stopped(phase: Phase, restore_begun: bool, before: &Life, gap_seen: bool) -> bool {
    let lived = match before {
        Life::Lives => true,
        Life::Dead(_) | Life::Unseen(_) => false,
    };
    phase == Phase::StartService && !restore_begun && lived && !gap_seen
}

/// What runs now. `life` is the previous release's, seen after it was brought back, or could not be; `answers` is who
/// answers at its port, in words, where somebody does.
pub fn aftermath(
    previous: Option<&str>,
    never_stopped: bool,
    restoring: &Restoring,
    life: &Life,
    answers: Option<&str>,
) -> Aftermath {
    let Some(release) = previous.map(str::to_owned) else {
        return match restoring {
            Restoring::TakenAway | Restoring::Verified => Aftermath::NothingBefore,
            Restoring::ChecksFail(because) | Restoring::Failed(because) => {
                Aftermath::LeftBehind { because: because.clone() }
            }
        };
    };
    let because = match restoring {
        Restoring::Verified if never_stopped => return Aftermath::StillRuns(release),
        Restoring::Verified => return Aftermath::Restored(release),
        Restoring::TakenAway => "nothing was restored",
        Restoring::ChecksFail(because) | Restoring::Failed(because) => because,
    };
    let because = because.to_owned();
    match (life, answers, restoring) {
        (Life::Lives, _, _) => Aftermath::Unverified { release, because },
        // It was brought back, and answers: one that was once started again by itself does not count as living.
        (Life::Dead(_), Some(_), Restoring::ChecksFail(_)) => Aftermath::Unverified { release, because },
        (
            Life::Dead(how),
            answers,
            Restoring::ChecksFail(_) | Restoring::Failed(_) | Restoring::TakenAway | Restoring::Verified,
        ) => {
            let parts = [Some(how.trim_end()), answers, Some(because.as_str())];
            let because = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
            Aftermath::Down { release, because }
        }
        (Life::Unseen(_), _, _) => Aftermath::NotRestored(release),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_stopped_is_known_by_looking() {
        let check = |phase, begun, before: Life, gap, expect: bool| {
            assert_eq!(never_stopped(phase, begun, &before, gap), expect, "{phase} {begun} {before:?} {gap}");
        };
        let dead = || Life::Dead("exit status 1".into());
        check(Phase::StartService, false, Life::Lives, false, true);
        check(Phase::StartService, false, Life::Lives, true, false);
        check(Phase::StartService, true, Life::Lives, false, false);
        check(Phase::StartService, false, dead(), false, false);
        check(Phase::StartService, false, Life::Unseen("lost".into()), false, false);
        // What was verified had taken its place.
        check(Phase::VerifyHealth, false, Life::Lives, false, false);
    }

    #[test]
    fn what_runs_is_what_was_seen() {
        use Restoring::{ChecksFail, Failed, TakenAway, Verified};
        let with = |previous: Option<&str>,
                    never_stopped,
                    restoring: Restoring,
                    life: Life,
                    answers: Option<&str>,
                    expect: &str| {
            let found = aftermath(previous, never_stopped, &restoring, &life, answers).to_string();
            assert_eq!(found, expect, "{previous:?} {never_stopped} {restoring:?} {life:?} {answers:?}");
        };
        let check =
            |previous: Option<&str>, never_stopped, restoring: Restoring, life: Life, expect: &str| {
                with(previous, never_stopped, restoring, life, None, expect);
            };
        let dead = || Life::Dead("the container shop-r1 is exited\n".into());
        let unseen = || Life::Unseen("the connection is lost".into());
        let (r1, fail) = (Some("r1"), || Failed("no such image".into()));
        check(None, false, TakenAway, unseen(), "there was no release before; nothing is left running");
        check(
            None,
            false,
            fail(),
            unseen(),
            "there was no release before, and what failed may still be there: no such image",
        );
        check(r1, true, Verified, Life::Lives, "release r1 still runs and was not touched");
        check(r1, false, Verified, Life::Lives, "release r1 restored and healthy");
        check(r1, false, Verified, unseen(), "release r1 restored and healthy");
        let closed = || ChecksFail("no way to port 8001".into());
        let running = "release r1 is running, but its checks fail: no way to port 8001";
        check(r1, false, closed(), Life::Lives, running);
        check(r1, true, closed(), Life::Lives, running);
        check(r1, false, fail(), Life::Lives, "release r1 is running, but its checks fail: no such image");
        check(
            r1,
            false,
            fail(),
            dead(),
            "release r1 is not running: the container shop-r1 is exited; no such image",
        );
        check(
            r1,
            false,
            TakenAway,
            dead(),
            "release r1 is not running: the container shop-r1 is exited; nothing was restored",
        );
        check(
            r1,
            false,
            fail(),
            unseen(),
            "release r1 was not restored, and it is not known whether it runs: check the target",
        );
        let answers = Some("something answers on port 8001 with 200");
        with(r1, false, closed(), dead(), answers, running);
        // Nobody knows whose answer it is.
        with(
            r1,
            false,
            fail(),
            dead(),
            answers,
            "release r1 is not running: the container shop-r1 is exited; something answers on port 8001 with 200; \
             no such image",
        );
    }
}
