//! A release's statuses, and the one function that changes them: pure and total. No clock, no I/O.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a release is to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseStatus {
    /// A job is making it.
    Candidate,
    /// It serves, and was verified.
    Live,
    /// It was live before, and can be again.
    Retired,
    /// It failed. No rollback takes it.
    Bad,
    /// Its removal has begun. Some of it may still be there, so no rollback takes it.
    Removing,
    /// Nothing of it is on the target. Its record stays for the history.
    Removed,
}

/// What can happen to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseEvent {
    /// The job that makes it runs, for the first time or again after a crash.
    Attempted,
    /// It was verified, and callers reach it from now on.
    Promoted,
    /// Another release is live, or it was started again and never verified.
    Superseded,
    /// The release that was to follow it failed, and it serves again.
    Restored,
    /// The job that made it failed, or another deployer left it unfinished.
    Failed,
    RemovalBegan,
    Removed,
    /// The target's `current` leads to it.
    FoundLive,
    /// The target no longer has its files.
    FoundGone,
    /// The target's own record of it says this, and the target knows better than this journal.
    Corrected(ReleaseStatus),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a release that is {status:?} cannot take {event:?}: this is a defect of the deployer; please report it"
)]
pub struct IllegalReleaseEvent {
    status: ReleaseStatus,
    event: ReleaseEvent,
}

impl ReleaseStatus {
    pub const ALL: [ReleaseStatus; 6] = [
        ReleaseStatus::Candidate,
        ReleaseStatus::Live,
        ReleaseStatus::Retired,
        ReleaseStatus::Bad,
        ReleaseStatus::Removing,
        ReleaseStatus::Removed,
    ];

    /// The one way from a status to the next.
    ///
    /// # Errors
    /// When the event cannot happen to such a release.
    pub fn after(self, event: ReleaseEvent) -> Result<ReleaseStatus, IllegalReleaseEvent> {
        use ReleaseEvent as E;
        use ReleaseStatus as S;
        let illegal = || Err(IllegalReleaseEvent { status: self, event });
        match (self, event) {
            // A crash may have come between the release's failure and its job's end: the job is tried again.
            (S::Candidate | S::Bad, E::Attempted) => Ok(S::Candidate),
            // It was promoted before the crash, and may have been superseded by another deployer since.
            (S::Live | S::Retired, E::Attempted) => Ok(self),
            (S::Removing | S::Removed, E::Attempted) => illegal(),

            (S::Candidate | S::Live | S::Retired, E::Promoted) => Ok(S::Live),
            (S::Bad | S::Removing | S::Removed, E::Promoted) => illegal(),

            (S::Live | S::Retired, E::Superseded) => Ok(S::Retired),
            (S::Candidate | S::Bad | S::Removing | S::Removed, E::Superseded) => illegal(),

            (S::Live | S::Retired, E::Restored) => Ok(S::Live),
            (S::Candidate | S::Bad | S::Removing | S::Removed, E::Restored) => illegal(),

            // A live one: its job recorded it as live, and lost the service before the target had that.
            (S::Candidate | S::Live | S::Bad, E::Failed) => Ok(S::Bad),
            // It was live all the same, and another deployer has put another release in its place since.
            (S::Retired, E::Failed) => Ok(S::Retired),
            (S::Removing | S::Removed, E::Failed) => illegal(),

            // What serves is never removed.
            (S::Candidate | S::Retired | S::Bad | S::Removing, E::RemovalBegan) => Ok(S::Removing),
            (S::Live | S::Removed, E::RemovalBegan) => illegal(),

            (S::Removing, E::Removed) => Ok(S::Removed),
            (S::Candidate | S::Live | S::Retired | S::Bad | S::Removed, E::Removed) => illegal(),

            (S::Candidate | S::Live | S::Retired | S::Bad | S::Removing, E::FoundLive) => Ok(S::Live),
            (S::Removed, E::FoundLive) => illegal(),

            (
                S::Candidate | S::Live | S::Retired | S::Bad | S::Removing | S::Removed,
                E::FoundGone | E::Corrected(S::Removed),
            ) => Ok(S::Removed),

            (
                S::Candidate | S::Live | S::Retired | S::Bad | S::Removing,
                E::Corrected(found @ (S::Candidate | S::Live | S::Retired | S::Bad | S::Removing)),
            ) => Ok(found),
            (S::Removed, E::Corrected(S::Candidate | S::Live | S::Retired | S::Bad | S::Removing)) => {
                illegal()
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            ReleaseStatus::Candidate => "candidate",
            ReleaseStatus::Live => "live",
            ReleaseStatus::Retired => "retired",
            ReleaseStatus::Bad => "bad",
            ReleaseStatus::Removing => "removing",
            ReleaseStatus::Removed => "removed",
        }
    }

    pub fn from_name(name: &str) -> Option<ReleaseStatus> {
        ReleaseStatus::ALL.into_iter().find(|status| status.name() == name)
    }
}

#[cfg(test)]
impl ReleaseEvent {
    /// Every event that there is.
    pub fn all() -> Vec<ReleaseEvent> {
        use ReleaseEvent as E;
        let corrected = ReleaseStatus::ALL.map(E::Corrected);
        let others = [
            E::Attempted,
            E::Promoted,
            E::Superseded,
            E::Restored,
            E::Failed,
            E::RemovalBegan,
            E::Removed,
            E::FoundLive,
            E::FoundGone,
        ];
        others.into_iter().chain(corrected).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReleaseStatus::{Bad, Candidate, Live, Removed, Removing, Retired};

    /// What each status becomes, in the order of `ReleaseStatus::ALL`.
    fn check(event: ReleaseEvent, expect: [Option<ReleaseStatus>; 6]) {
        for (status, expect) in ReleaseStatus::ALL.into_iter().zip(expect) {
            assert_eq!(status.after(event).ok(), expect, "{status:?} + {event:?}");
        }
    }

    #[test]
    fn the_ways_that_there_are() {
        use ReleaseEvent as E;
        let to = Some;
        check(E::Attempted, [to(Candidate), to(Live), to(Retired), to(Candidate), None, None]);
        check(E::Promoted, [to(Live), to(Live), to(Live), None, None, None]);
        check(E::Superseded, [None, to(Retired), to(Retired), None, None, None]);
        check(E::Restored, [None, to(Live), to(Live), None, None, None]);
        check(E::Failed, [to(Bad), to(Bad), to(Retired), to(Bad), None, None]);
        check(E::RemovalBegan, [to(Removing), None, to(Removing), to(Removing), to(Removing), None]);
        check(E::Removed, [None, None, None, None, to(Removed), None]);
        check(E::FoundLive, [to(Live), to(Live), to(Live), to(Live), to(Live), None]);
        check(E::FoundGone, [to(Removed); 6]);
        check(E::Corrected(Bad), [to(Bad), to(Bad), to(Bad), to(Bad), to(Bad), None]);
        check(E::Corrected(Removed), [to(Removed); 6]);
    }

    #[test]
    fn nothing_leaves_removed() {
        for event in ReleaseEvent::all() {
            let after = Removed.after(event);
            assert!(after.is_err() || after == Ok(Removed), "{event:?}: {after:?}");
        }
    }

    #[test]
    fn what_failed_is_live_only_by_another_attempt_or_by_what_the_target_says() {
        for event in ReleaseEvent::all() {
            let made_live = Bad.after(event) == Ok(Live);
            let seen = matches!(event, ReleaseEvent::FoundLive | ReleaseEvent::Corrected(Live));
            assert_eq!(made_live, seen, "{event:?}");
        }
    }
}
