//! Releases: their ids, and which one to go back to. Pure.

use std::fmt;
use std::sync::Mutex;

use jiff::Timestamp;

use crate::model::{ReleaseEvent, ReleaseRecord, ReleaseStatus};

/// Ids of releases: the time in UTC to the millisecond, so that they sort by age and people can read them.
/// They are valid in file names, image tags and unit names.
#[derive(Default)]
pub struct ReleaseIds {
    last: Mutex<Option<Timestamp>>,
}

impl ReleaseIds {
    /// A new id: later than all that this one gave before.
    pub fn next(&self, now: Timestamp) -> String {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let millisecond = std::time::Duration::from_millis(1);
        let at = match *last {
            Some(last) if last >= now => last.checked_add(millisecond).unwrap_or(now),
            _ => now,
        };
        *last = Some(at);
        let time = at.strftime("%Y%m%d-%H%M%S").to_string();
        format!("{time}-{:03}", at.subsec_millisecond())
    }
}

/// Why there is no release to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRollbackTarget {
    /// Nothing of this service runs.
    NothingRuns,
    /// The one that runs is the oldest that is still there.
    NothingBefore { live: String },
    /// The one that was asked for is not there, or was bad.
    Unfit { wanted: String, because: &'static str },
}

impl fmt::Display for NoRollbackTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoRollbackTarget::NothingRuns => f.write_str("no release of the service runs"),
            NoRollbackTarget::NothingBefore { live } => {
                write!(f, "release {live} runs, and there is no older one to roll back to")
            }
            NoRollbackTarget::Unfit { because, .. } => f.write_str(because),
        }
    }
}

/// A release after an event. Where the event is illegal, its record must stay true: the release stays as it is, and
/// the defect is said where it can be seen.
pub fn after(release: &ReleaseRecord, event: ReleaseEvent) -> ReleaseRecord {
    release.after(event).unwrap_or_else(|error| {
        tracing::error!(service = release.service, release = release.id, %error);
        release.clone()
    })
}

/// The release that runs now.
pub fn live(releases: &[ReleaseRecord]) -> Option<&ReleaseRecord> {
    releases.iter().find(|release| release.status == ReleaseStatus::Live)
}

/// The release that a rollback takes: the one that was asked for, or of those that are older than the one that
/// runs the one that ran last. So a second rollback goes one further back, and none takes again what an earlier
/// one had left.
///
/// # Errors
/// When there is none.
pub fn rollback_target<'a>(
    releases: &'a [ReleaseRecord],
    wanted: Option<&str>,
) -> Result<&'a ReleaseRecord, NoRollbackTarget> {
    let live = live(releases).ok_or(NoRollbackTarget::NothingRuns)?;
    let Some(wanted) = wanted else {
        return releases
            .iter()
            .filter(|release| release.status == ReleaseStatus::Retired && release.id < live.id)
            .max_by(|a, b| (a.promoted_at, &a.id).cmp(&(b.promoted_at, &b.id)))
            .ok_or_else(|| NoRollbackTarget::NothingBefore { live: live.id.clone() });
    };
    let unfit = |because| NoRollbackTarget::Unfit { wanted: wanted.into(), because };
    let release = releases
        .iter()
        .find(|release| release.id == wanted)
        .ok_or_else(|| unfit("there is no such release"))?;
    match release.status {
        ReleaseStatus::Retired => Ok(release),
        ReleaseStatus::Live => Err(unfit("it is the one that runs")),
        ReleaseStatus::Bad => Err(unfit("its deployment failed")),
        ReleaseStatus::Candidate => Err(unfit("it was never verified")),
        ReleaseStatus::Removing | ReleaseStatus::Removed => Err(unfit("it was removed from the target")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::samples;

    fn releases(statuses: &[(&str, ReleaseStatus)]) -> Vec<ReleaseRecord> {
        statuses.iter().map(|(id, status)| samples::release(id, *status)).collect()
    }

    fn check(
        statuses: &[(&str, ReleaseStatus)],
        wanted: Option<&str>,
        expect: Result<&str, NoRollbackTarget>,
    ) {
        let releases = releases(statuses);
        let found = rollback_target(&releases, wanted).map(|release| release.id.as_str());
        assert_eq!(found, expect, "{statuses:?} {wanted:?}");
    }

    #[test]
    fn the_rollback_target_is_the_release_before() {
        use ReleaseStatus::{Bad, Candidate, Live, Removing, Retired};
        check(&[], None, Err(NoRollbackTarget::NothingRuns));
        check(&[("a", Live)], None, Err(NoRollbackTarget::NothingBefore { live: "a".into() }));
        check(&[("b", Live), ("a", Retired)], None, Ok("a"));
        check(&[("c", Live), ("b", Bad), ("a", Retired)], None, Ok("a"));
        check(&[("c", Live), ("b", Removing), ("a", Retired)], None, Ok("a"));
        // After a rollback from c to b, the next one goes to a, and not to c again.
        check(&[("c", Retired), ("b", Live), ("a", Retired)], None, Ok("a"));
        check(
            &[("c", Retired), ("b", Retired), ("a", Live)],
            None,
            Err(NoRollbackTarget::NothingBefore { live: "a".into() }),
        );
        check(&[("c", Retired), ("b", Live), ("a", Retired)], Some("c"), Ok("c"));
        for (status, because) in [
            (Live, "it is the one that runs"),
            (Bad, "its deployment failed"),
            (Candidate, "it was never verified"),
            (Removing, "it was removed from the target"),
        ] {
            let unfit = NoRollbackTarget::Unfit { wanted: "b".into(), because };
            check(&[("b", status), ("a", Live)], Some("b"), Err(unfit));
        }
    }

    #[test]
    fn what_a_rollback_left_is_not_its_target() {
        use ReleaseStatus::{Live, Retired};
        // a, b and c ran, then b again by a rollback, and now d does.
        let mut ran = releases(&[("d", Live), ("c", Retired), ("b", Retired), ("a", Retired)]);
        for (release, second) in ran.iter_mut().zip([5, 3, 4, 1]) {
            release.promoted_at = Timestamp::from_second(second).ok();
        }
        assert_eq!(rollback_target(&ran, None).map(|release| release.id.as_str()), Ok("b"));
    }

    #[test]
    fn ids_sort_by_time_and_never_repeat() {
        let ids = ReleaseIds::default();
        let at: Timestamp = "2026-11-24T03:15:00.999Z".parse().unwrap();
        assert_eq!(ids.next(at), "20261124-031500-999");
        assert_eq!(ids.next(at), "20261124-031501-000");
        assert_eq!(ids.next(at), "20261124-031501-001");
    }
}
