//! Which of a service's releases are no longer kept. Pure.

use std::fmt;
use std::time::Duration;

use indicatif::DecimalBytes;
use jiff::Timestamp;

use super::release;
use crate::model::{Keep, ReleaseRecord, ReleaseStatus};

/// A release that is removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Expired {
    pub release: ReleaseRecord,
    pub because: Because,
    /// What its removal frees, by what was recorded when it was made.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// An earlier removal did not come to its end.
    Begun,
    OlderThan {
        days: u32,
    },
    /// The releases on the target, it among them, take more than this.
    MoreThan {
        bytes: u64,
    },
}

/// What goes of a service's releases, oldest first: never the one that runs, nor the one that a rollback would
/// take, nor the one that ran before, which is another where that was gone back to by its name.
///
/// The storage is the target's, so the releases of all services count against it. Those of this service alone
/// go, because the job that removes them has the lease of this service alone; the others' turn comes after a
/// deployment of theirs. What several releases share counts once.
pub fn expired(
    on_target: &[ReleaseRecord],
    service: &str,
    ran_before: Option<&str>,
    now: Timestamp,
    keep: Keep,
) -> Vec<Expired> {
    let mut own: Vec<ReleaseRecord> =
        on_target.iter().filter(|release| release.service == service).cloned().collect();
    own.sort_by(|a, b| a.id.cmp(&b.id));
    let Some(live) = release::live(&own) else { return Vec::new() };
    let rollback_target = release::rollback_target(&own, None).ok().map(|release| release.id.as_str());
    let stays = [Some(live.id.as_str()), rollback_target, ran_before];
    let mut kept: Vec<&ReleaseRecord> = on_target.iter().collect();
    let mut stored = stored(&kept);
    let mut expired = Vec::new();
    for release in own.iter().filter(|release| !stays.contains(&Some(&release.id))) {
        let because = if release.status == ReleaseStatus::Removing {
            Because::Begun
        } else if age(release, now) > Duration::from_secs(u64::from(keep.days) * 24 * 60 * 60) {
            Because::OlderThan { days: keep.days }
        } else if stored > keep.storage_bytes {
            Because::MoreThan { bytes: keep.storage_bytes }
        } else {
            continue;
        };
        kept.retain(|other| !same(other, release));
        let bytes = own_bytes(release, &kept);
        stored = stored.saturating_sub(bytes);
        expired.push(Expired { release: release.clone(), because, bytes });
    }
    expired
}

fn stored(releases: &[&ReleaseRecord]) -> u64 {
    let counted = |(index, release): (usize, &&ReleaseRecord)| {
        own_bytes(release, releases.get(..index).unwrap_or_default())
    };
    releases.iter().enumerate().map(counted).fold(0, u64::saturating_add)
}

/// What a release takes beside these others.
fn own_bytes(release: &ReleaseRecord, others: &[&ReleaseRecord]) -> u64 {
    let shared = others.iter().any(|other| share_artifact(release, other));
    let artifact = release.artifact().and_then(|artifact| artifact.bytes).filter(|_| !shared);
    let files = release.files().map(|files| files.bytes);
    files.unwrap_or_default().saturating_add(artifact.unwrap_or_default())
}

/// A service's releases may share an artifact: a virtual environment, where the requirements are equal.
fn share_artifact(one: &ReleaseRecord, other: &ReleaseRecord) -> bool {
    let what = |release: &ReleaseRecord| {
        let artifact = release.artifact().filter(|artifact| !artifact.digest.is_empty())?;
        Some((artifact.kind.clone(), artifact.digest.clone()))
    };
    one.service == other.service && what(one).is_some_and(|one| what(other) == Some(one))
}

fn age(release: &ReleaseRecord, now: Timestamp) -> Duration {
    // One from the future, by a clock that was set back since, is new.
    Duration::try_from(now.duration_since(release.created_at)).unwrap_or_default()
}

fn same(one: &ReleaseRecord, other: &ReleaseRecord) -> bool {
    (&one.service, &one.id) == (&other.service, &other.id)
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Because::Begun => f.write_str("an earlier removal was interrupted"),
            Because::OlderThan { days: 0 } => {
                f.write_str("only the running release and the one before it are kept")
            }
            Because::OlderThan { days } => write!(f, "older than {days} days"),
            Because::MoreThan { bytes } => {
                write!(f, "the releases on the target take more than {}", DecimalBytes(*bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Artifact, Stored, samples};

    const NOW: &str = "2026-11-25T00:00:00Z";

    /// A release of so many days ago, with files of one byte.
    fn release(
        id: &str,
        days: i64,
        status: ReleaseStatus,
        artifact: Option<Stored<Artifact>>,
    ) -> ReleaseRecord {
        let (service, id) = id.split_once('/').unwrap_or(("shop", id));
        let now: Timestamp = NOW.parse().unwrap();
        ReleaseRecord {
            service: service.into(),
            files: samples::files(1),
            artifact,
            created_at: now - jiff::SignedDuration::from_hours(24 * days),
            ..samples::release(id, status)
        }
    }

    fn image(id: &str, days: i64, status: ReleaseStatus, bytes: u64) -> ReleaseRecord {
        release(id, days, status, samples::artifact("image", id, bytes))
    }

    fn venv(id: &str, days: i64, status: ReleaseStatus, digest: &str) -> ReleaseRecord {
        release(id, days, status, samples::artifact("virtual-environment", digest, 99))
    }

    fn check(releases: &[ReleaseRecord], days: u32, storage_bytes: u64, expect: &[(&str, Because, u64)]) {
        let keep = Keep { days, storage_bytes };
        let found: Vec<_> = expired(releases, "shop", None, NOW.parse().unwrap(), keep)
            .into_iter()
            .map(|gone| (gone.release.id, gone.because, gone.bytes))
            .collect();
        let found: Vec<_> =
            found.iter().map(|(id, because, bytes)| (id.as_str(), *because, *bytes)).collect();
        let names: Vec<_> = releases.iter().map(|release| (&release.id, release.status)).collect();
        assert_eq!(found, expect, "{names:?} {days} {storage_bytes}");
    }

    #[test]
    fn what_is_old_goes() {
        use ReleaseStatus::{Bad, Candidate, Live, Retired};
        let old = Because::OlderThan { days: 7 };
        let many = 1 << 40;
        check(&[], 7, many, &[]);
        // However old: what runs and the one before it stay.
        check(&[image("b", 90, Live, 9), image("a", 99, Retired, 9)], 7, many, &[]);
        check(
            &[image("c", 0, Live, 9), image("b", 8, Retired, 9), image("a", 8, Retired, 9)],
            7,
            many,
            &[("a", old, 10)],
        );
        check(&[image("c", 0, Live, 9), image("b", 8, Retired, 9), image("a", 7, Retired, 9)], 7, many, &[]);
        // What failed is kept aside to be looked at until it is old, and is nobody's rollback target.
        check(
            &[
                image("e", 0, Live, 9),
                image("d", 6, Bad, 9),
                image("c", 8, Bad, 9),
                image("b", 9, Candidate, 9),
                image("a", 10, Retired, 9),
            ],
            7,
            many,
            &[("b", old, 10), ("c", old, 10)],
        );
        // Where nothing runs, nothing says what is worth keeping.
        check(&[image("b", 90, Bad, 9), image("a", 99, Retired, 9)], 7, 0, &[]);
        // Another service's are its own to remove.
        check(&[image("b", 0, Live, 9), image("other/a", 99, Retired, 9)], 7, many, &[]);
        // After a rollback, the newer one is as old as it is.
        check(
            &[image("c", 8, Retired, 9), image("b", 9, Live, 9), image("a", 10, Retired, 9)],
            7,
            many,
            &[("c", old, 10)],
        );
        check(
            &[image("c", 0, Live, 9), image("b", 0, Retired, 9), image("a", 1, Retired, 9)],
            0,
            many,
            &[("a", Because::OlderThan { days: 0 }, 10)],
        );
    }

    #[test]
    fn what_ran_before_stays_too() {
        use ReleaseStatus::{Live, Retired};
        // From c back to a by its name, and then on to d.
        let releases = [
            image("d", 0, Live, 9),
            image("c", 8, Retired, 9),
            image("b", 9, Retired, 9),
            image("a", 9, Retired, 9),
        ];
        let keep = Keep { days: 0, storage_bytes: 0 };
        let gone = expired(&releases, "shop", Some("a"), NOW.parse().unwrap(), keep);
        assert_eq!(gone.iter().map(|gone| gone.release.id.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn what_is_too_much_goes_from_the_oldest_on() {
        use ReleaseStatus::{Live, Removing, Retired};
        let much = |bytes| Because::MoreThan { bytes };
        let four = [
            image("d", 0, Live, 9),
            image("c", 1, Retired, 9),
            image("b", 2, Retired, 9),
            image("a", 3, Retired, 9),
        ];
        check(&four, 7, 40, &[]);
        check(&four, 7, 39, &[("a", much(39), 10)]);
        check(&four, 7, 29, &[("a", much(29), 10), ("b", much(29), 10)]);
        check(&four, 7, 0, &[("a", much(0), 10), ("b", much(0), 10)]);
        // The storage is the target's.
        let crowded = [&four[..], &[image("other/z", 1, Live, 999)]].concat();
        check(&crowded, 7, 1030, &[("a", much(1030), 10)]);
        // What is old goes first, and makes room.
        let aged = [&four[..3], &[image("a", 8, Retired, 9)]].concat();
        check(&aged, 7, 30, &[("a", Because::OlderThan { days: 7 }, 10)]);
        // A removal that was cut off is brought to its end.
        let begun = [&four[..3], &[image("a", 3, Removing, 9)]].concat();
        check(&begun, 7, 40, &[("a", Because::Begun, 10)]);
        // What is shared takes its bytes once, and frees them with its last user.
        let shared = [
            venv("d", 0, Live, "new"),
            venv("c", 1, Retired, "new"),
            venv("b", 2, Retired, "old"),
            venv("a", 3, Retired, "old"),
        ];
        check(&shared, 7, 202, &[]);
        check(&shared, 7, 201, &[("a", much(201), 1)]);
        check(&shared, 7, 200, &[("a", much(200), 1), ("b", much(200), 100)]);
    }
}
