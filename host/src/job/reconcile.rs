//! Where this journal and the target disagree about a service's releases, and which of the two is right. Pure.
//!
//! Nothing changes on a target without its lease, and the lease's generation says who had it last. If that was a
//! job of this journal, the journal knows all that happened, and what the target's records lack is what could not
//! be written there. If it was anybody else, the target is right.

use std::collections::BTreeSet;

use super::release;
use crate::model::{ReleaseEvent, ReleaseRecord, ReleaseStatus};

/// What there is of a service on its target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OnTarget {
    /// The release that `current` leads to.
    pub live: Option<String>,
    /// As their records say, each as it was written.
    pub records: Vec<ReleaseRecord>,
    /// The releases that have files.
    pub files: BTreeSet<String>,
    /// The names in the folder of environments.
    pub environments: Vec<String>,
}

/// Who knows what happened last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// The last who had the lease was a job of this journal.
    Journal,
    /// It was another deployer's, or one that this journal does not know.
    Target,
}

/// What has to change so that the two say the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Releases as the journal is to have them.
    pub journal: Vec<ReleaseRecord>,
    /// Releases as their records on the target are to say. Only who has the lease may write them.
    pub target: Vec<ReleaseRecord>,
    /// Where `current` has to lead, if it leads elsewhere.
    pub current: Option<String>,
    /// For people: where the journal was wrong.
    pub said: Vec<String>,
}

/// Compares a service's releases in the journal, without those that were removed, with the target. `job` is the
/// one that has the lease, where one has: releases that others have not finished are failures then.
pub fn reconcile(journal: &[ReleaseRecord], there: &OnTarget, right: Right, job: Option<&str>) -> Changes {
    let mut changes = Changes::default();
    let find = |id: &str| journal.iter().find(|release| release.id == id);
    for record in &there.records {
        let found = happened(record, there, job)
            .map_or_else(|| record.clone(), |event| release::after(record, event));
        match (find(&record.id), right) {
            (None, _) => {
                if found.status != ReleaseStatus::Removed {
                    let status = found.status.name();
                    changes.said.push(format!("found release {} on the target ({status})", found.id));
                    changes.journal.push(found.clone());
                }
                changes.note_target(record, found);
            }
            (Some(known), Right::Journal) => changes.note_target(record, known.clone()),
            (Some(known), Right::Target) => {
                if known.status != found.status {
                    changes.said.push(corrected(known, found.status));
                }
                let merged = merged(known, &found);
                if merged != *known {
                    changes.journal.push(merged);
                }
                changes.note_target(record, found);
            }
        }
    }
    for known in journal.iter().filter(|known| !there.records.iter().any(|record| record.id == known.id)) {
        let release = unrecorded(known, there, right)
            .map_or_else(|| known.clone(), |event| release::after(known, event));
        if release.status != known.status {
            changes.said.push(corrected(known, release.status));
            changes.journal.push(release.clone());
        }
        if there.files.contains(&known.id) && job != Some(known.job.as_str()) {
            changes.target.push(release);
        }
    }
    if right == Right::Journal {
        let live = journal.iter().find(|release| release.status == ReleaseStatus::Live);
        changes.current = live
            .filter(|live| there.files.contains(&live.id) && there.live.as_ref() != Some(&live.id))
            .map(|live| live.id.clone());
    }
    changes
}

impl Changes {
    fn note_target(&mut self, record: &ReleaseRecord, is: ReleaseRecord) {
        if record.status != is.status && record.status != ReleaseStatus::Removed {
            self.target.push(is);
        }
    }
}

/// A release of the journal with what the target says of it. What a record does not say, the journal knows.
fn merged(known: &ReleaseRecord, found: &ReleaseRecord) -> ReleaseRecord {
    fn or<T: Clone>(found: &Option<T>, known: &Option<T>) -> Option<T> {
        found.clone().or_else(|| known.clone())
    }
    ReleaseRecord {
        files: or(&found.files, &known.files),
        artifact: or(&found.artifact, &known.artifact),
        instance: or(&found.instance, &known.instance),
        plan: or(&found.plan, &known.plan),
        promoted_at: found.promoted_at.or(known.promoted_at),
        promoted_by: found.promoted_by.clone().or_else(|| known.promoted_by.clone()),
        origin: found.origin.clone().or_else(|| known.origin.clone()),
        ..release::after(known, ReleaseEvent::Corrected(found.status))
    }
}

/// What became of a release since its record was written: which one is live, `current` alone says.
fn happened(record: &ReleaseRecord, there: &OnTarget, job: Option<&str>) -> Option<ReleaseEvent> {
    if there.live.as_ref() == Some(&record.id) {
        return Some(ReleaseEvent::FoundLive);
    }
    match record.status {
        ReleaseStatus::Live if there.live.is_some() => Some(ReleaseEvent::Superseded),
        ReleaseStatus::Candidate if job.is_some_and(|job| job != record.job) => Some(ReleaseEvent::Failed),
        ReleaseStatus::Live
        | ReleaseStatus::Candidate
        | ReleaseStatus::Retired
        | ReleaseStatus::Bad
        | ReleaseStatus::Removing
        | ReleaseStatus::Removed => None,
    }
}

/// What became of a release of which the target has no record: it was made by an older version, or before its record
/// could be written, or is gone with all that was there.
fn unrecorded(known: &ReleaseRecord, there: &OnTarget, right: Right) -> Option<ReleaseEvent> {
    let has_files = there.files.contains(&known.id);
    let should = match known.status {
        ReleaseStatus::Live | ReleaseStatus::Retired | ReleaseStatus::Removing => true,
        ReleaseStatus::Bad => known.files.is_some(),
        ReleaseStatus::Candidate | ReleaseStatus::Removed => false,
    };
    if should && !has_files {
        return Some(ReleaseEvent::FoundGone);
    }
    match (right, &there.live, known.status) {
        (Right::Journal, _, _) => None,
        (Right::Target, Some(live), _) if *live == known.id => Some(ReleaseEvent::FoundLive),
        (Right::Target, Some(_), ReleaseStatus::Live) => Some(ReleaseEvent::Superseded),
        (Right::Target, _, _) => None,
    }
}

fn corrected(known: &ReleaseRecord, status: ReleaseStatus) -> String {
    format!(
        "release {} is {} on the target; this deployer's journal had it as {}",
        known.id,
        status.name(),
        known.status.name()
    )
}

/// Environment files of releases that are gone: neither the target nor the journal has the release any more.
pub fn leftovers<'a>(there: &'a OnTarget, kept: &[ReleaseRecord]) -> Vec<&'a str> {
    let gone = |name: &&str| {
        let Some(release) = release_of(name) else { return false };
        let is_kept = kept.iter().any(|kept| kept.id == release && kept.status != ReleaseStatus::Removed);
        !is_kept && !there.files.contains(release)
    };
    there.environments.iter().map(String::as_str).filter(gone).collect()
}

/// The release whose environment a file is, by a name as this tool gives it: `20261124-031500-999.multiline`.
fn release_of(name: &str) -> Option<&str> {
    let id = name.split('.').next()?;
    let parts: Vec<&str> = id.split('-').collect();
    let digits = |part: &str, count: usize| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    match parts.as_slice() {
        [day, time, rest] if digits(day, 8) && digits(time, 6) && digits(rest, 3) => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::samples;
    use ReleaseStatus::{Bad, Candidate, Live, Removed, Removing, Retired};

    fn release(id: &str, status: ReleaseStatus) -> ReleaseRecord {
        ReleaseRecord { job: format!("job-{id}"), files: samples::files(1), ..samples::release(id, status) }
    }

    fn releases(of: &[(&str, ReleaseStatus)]) -> Vec<ReleaseRecord> {
        of.iter().map(|(id, status)| release(id, *status)).collect()
    }

    fn there(live: Option<&str>, records: &[(&str, ReleaseStatus)], files: &[&str]) -> OnTarget {
        OnTarget {
            live: live.map(Into::into),
            records: releases(records),
            files: files.iter().map(|id| (*id).to_owned()).collect(),
            environments: Vec::new(),
        }
    }

    fn pairs(releases: &[ReleaseRecord]) -> Vec<(&str, ReleaseStatus)> {
        releases.iter().map(|release| (release.id.as_str(), release.status)).collect()
    }

    /// By a listing: nobody has the lease.
    #[track_caller]
    fn check(
        journal: &[(&str, ReleaseStatus)],
        there: &OnTarget,
        right: Right,
        expect: &[(&str, ReleaseStatus)],
    ) {
        let changes = reconcile(&releases(journal), there, right, None);
        assert_eq!(pairs(&changes.journal), expect, "{journal:?} {there:?} {right:?}");
    }

    #[test]
    fn the_target_is_right_when_another_deployer_was_there() {
        // The same: nothing.
        let same = there(Some("b"), &[("a", Retired), ("b", Live)], &["a", "b"]);
        check(&[("a", Retired), ("b", Live)], &same, Right::Target, &[]);
        // Another one deployed since.
        let newer = there(Some("c"), &[("a", Retired), ("b", Retired), ("c", Live)], &["a", "b", "c"]);
        check(&[("a", Retired), ("b", Live)], &newer, Right::Target, &[("b", Retired), ("c", Live)]);
        // A journal that knows nothing takes all of it, but what was removed.
        let all = there(Some("c"), &[("a", Removed), ("b", Retired), ("c", Live)], &["b", "c"]);
        check(&[], &all, Right::Target, &[("b", Retired), ("c", Live)]);
        // What another one removed is gone.
        check(
            &[("a", Retired), ("b", Live)],
            &all,
            Right::Target,
            &[("a", Removed), ("b", Retired), ("c", Live)],
        );
        // What another one has begun to remove is nobody's rollback target.
        let removing = there(Some("b"), &[("a", Removing), ("b", Live)], &["a", "b"]);
        check(&[("a", Retired), ("b", Live)], &removing, Right::Target, &[("a", Removing)]);
        // Another one rolled back, and was cut off before it could write every record.
        let half = there(Some("a"), &[("a", Retired), ("b", Live)], &["a", "b"]);
        check(&[("a", Retired), ("b", Live)], &half, Right::Target, &[("a", Live), ("b", Retired)]);
        // Nothing is live: what was never verified stays what it is.
        let first = there(None, &[("a", Candidate)], &["a"]);
        check(&[], &first, Right::Target, &[("a", Candidate)]);
    }

    #[test]
    fn the_journal_is_right_when_nobody_was_there_since() {
        // The target's disk was full when the release went live.
        let behind = there(Some("a"), &[("a", Live), ("b", Candidate)], &["a", "b"]);
        let journal = releases(&[("a", Retired), ("b", Live)]);
        let changes = reconcile(&journal, &behind, Right::Journal, Some("job-c"));
        assert_eq!(pairs(&changes.journal), []);
        assert_eq!(pairs(&changes.target), [("a", Retired), ("b", Live)]);
        assert_eq!(changes.current.as_deref(), Some("b"));
        // A failure that could not be told.
        let behind = there(Some("a"), &[("a", Live), ("b", Candidate)], &["a", "b"]);
        let journal = releases(&[("a", Live), ("b", Bad)]);
        let changes = reconcile(&journal, &behind, Right::Journal, Some("job-c"));
        assert_eq!(pairs(&changes.target), [("b", Bad)]);
        assert_eq!(changes.current, None);
    }

    #[test]
    fn a_target_without_records_was_used_by_an_older_version() {
        let old = there(Some("c"), &[], &["a", "b", "c"]);
        let journal = releases(&[("a", Retired), ("b", Live)]);
        let changes = reconcile(&journal, &old, Right::Target, Some("job-d"));
        assert_eq!(pairs(&changes.journal), [("b", Retired)]);
        assert_eq!(pairs(&changes.target), [("a", Retired), ("b", Retired)], "they are recorded there now");
        // A rollback by hand, or by one that kept no records.
        check(
            &[("a", Retired), ("b", Live)],
            &there(Some("a"), &[], &["a", "b"]),
            Right::Target,
            &[("a", Live), ("b", Retired)],
        );
        // A server that was set up anew.
        check(
            &[("a", Retired), ("b", Live), ("c", Bad)],
            &OnTarget::default(),
            Right::Target,
            &[("a", Removed), ("b", Removed), ("c", Removed)],
        );
    }

    #[test]
    fn who_has_the_lease_settles_what_others_left() {
        let left = there(Some("a"), &[("a", Live), ("b", Candidate), ("c", Candidate)], &["a", "b", "c"]);
        let changes = reconcile(&releases(&[("a", Live)]), &left, Right::Target, Some("job-c"));
        assert_eq!(pairs(&changes.journal), [("b", Bad), ("c", Candidate)]);
        assert_eq!(pairs(&changes.target), [("b", Bad)]);
    }

    /// Every small service: two releases, each with a record or without, with files or without, known or not.
    #[test]
    fn one_release_is_live_whatever_the_two_say() {
        let may_be: Vec<Option<ReleaseStatus>> =
            ReleaseStatus::ALL.into_iter().map(Some).chain([None]).collect();
        let of = |a: Option<ReleaseStatus>, b: Option<ReleaseStatus>| -> Vec<(&str, ReleaseStatus)> {
            [("a", a), ("b", b)].into_iter().filter_map(|(id, status)| Some((id, status?))).collect()
        };
        let is_live = |release: &&ReleaseRecord| release.status == Live;
        let mut tried = 0;
        let pairs_of = |one: &[Option<ReleaseStatus>]| -> Vec<_> {
            one.iter().flat_map(|a| one.iter().map(|b| (*a, *b))).collect()
        };
        for (known_a, known_b) in pairs_of(&may_be) {
            let known = releases(&of(known_a, known_b));
            // The journal has those that were removed apart, and never two that are live.
            if known.iter().filter(is_live).count() > 1 || known.iter().any(|known| known.status == Removed) {
                continue;
            }
            for (record_a, record_b) in pairs_of(&may_be) {
                for files in [&["a", "b"][..], &["a"], &["b"], &[]] {
                    for live in files {
                        let there = there(Some(live), &of(record_a, record_b), files);
                        let mut after = known.clone();
                        for changed in reconcile(&known, &there, Right::Target, Some("job-c")).journal {
                            after.retain(|release| release.id != changed.id);
                            after.push(changed);
                        }
                        let found: Vec<&str> =
                            after.iter().filter(is_live).map(|release| release.id.as_str()).collect();
                        let removed = there
                            .records
                            .iter()
                            .any(|record| record.id == **live && record.status == Removed);
                        let known_at_all = after.iter().any(|release| release.id == **live);
                        let expect: &[&str] = if known_at_all && !removed { &[live] } else { &[] };
                        assert_eq!(found, expect, "{known:?} {there:?}");
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 1000, "{tried}");
    }

    #[test]
    fn what_changed_is_said() {
        let newer = there(Some("b"), &[("a", Live), ("b", Live)], &["a", "b"]);
        let changes = reconcile(&releases(&[("a", Live)]), &newer, Right::Target, None);
        assert_eq!(
            changes.said,
            [
                "release a is retired on the target; this deployer's journal had it as live",
                "found release b on the target (live)",
            ]
        );
    }

    #[test]
    fn environments_without_their_release_are_leftovers() {
        let (kept, gone) = ("20261124-031500-001", "20261124-031500-002");
        let mut there = there(None, &[], &["20261124-031500-003"]);
        there.environments = [
            kept,
            "20261124-031500-001.multiline",
            gone,
            "20261124-031500-002.multiline",
            "20261124-031500-003",
            "notes",
            "2026-11-24",
        ]
        .map(String::from)
        .to_vec();
        let kept = releases(&[(kept, Live), (gone, Removed)]);
        assert_eq!(leftovers(&there, &kept), [gone, "20261124-031500-002.multiline"]);
    }
}
