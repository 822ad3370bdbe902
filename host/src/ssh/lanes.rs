//! What the sessions on a connection are kept for, so that none of it ever waits behind a long command: a
//! lease is renewed and a process ended whatever else the connection carries. Who waits for what is decided
//! here; the sessions are opened elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// As many sessions as sshd allows on a connection by default. More are not asked for.
pub(super) const MOST_SESSIONS: usize = 10;
/// One for commands, one for files, and one that is free for leases and endings.
pub(super) const FEWEST_SESSIONS: usize = 3;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// A command, which may take as long as a build does.
    Command,
    /// The connection's own SFTP session.
    Files,
    /// Taking, renewing or giving up a lease: short, and never to be kept waiting.
    Lease,
    /// Ending what runs in another session.
    Ending,
    /// A short command of somebody who has a session for commands already, and would otherwise wait for
    /// others who may be waiting for the same.
    Aside,
}

/// How a server's room for sessions is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) commands: usize,
    /// Leases and endings have a session each; where there is little room, they share one.
    pub(super) apart: bool,
}

impl Shares {
    /// None when the room is too small to work in.
    pub(super) fn of(room: usize) -> Option<Shares> {
        match room.min(MOST_SESSIONS) {
            0..FEWEST_SESSIONS => None,
            FEWEST_SESSIONS => Some(Shares { commands: 1, apart: false }),
            room => Some(Shares { commands: room - 3, apart: true }),
        }
    }
}

/// The sessions of one connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lanes {
    commands: Arc<Semaphore>,
    /// How many sessions commands have in all.
    size: Arc<AtomicUsize>,
    lease: Arc<Semaphore>,
    ending: Arc<Semaphore>,
}

impl Lanes {
    pub(super) fn new(shares: Shares) -> Self {
        let lease = Arc::new(Semaphore::new(1));
        let ending = if shares.apart { Arc::new(Semaphore::new(1)) } else { lease.clone() };
        let size = Arc::new(AtomicUsize::new(shares.commands));
        Lanes { commands: Arc::new(Semaphore::new(shares.commands)), size, lease, ending }
    }

    /// Waits until there is a session for this.
    pub(super) async fn enter(&self, lane: Lane) -> Option<OwnedSemaphorePermit> {
        let (commands, ending) = (self.commands.clone(), self.ending.clone());
        match lane {
            Lane::Command => commands.acquire_owned().await.ok(),
            // There is one, which its owner keeps.
            Lane::Files => None,
            Lane::Lease => self.lease.clone().acquire_owned().await.ok(),
            // Each ending gives back the session of what it ended: many are ended side by side then.
            Lane::Ending => tokio::select! {
                biased;
                permit = ending.acquire_owned() => permit.ok(),
                permit = commands.acquire_owned() => permit.ok(),
            },
            Lane::Aside => tokio::select! {
                biased;
                permit = commands.acquire_owned() => permit.ok(),
                permit = ending.acquire_owned() => permit.ok(),
            },
        }
    }

    /// A session for commands, if one is free.
    pub(super) fn enter_if_free(&self) -> Option<OwnedSemaphorePermit> {
        self.commands.clone().try_acquire_owned().ok()
    }

    /// One session fewer for commands, as soon as one is free, but never none. How many there are then.
    pub(super) fn lose_one(&self) -> usize {
        let fewer = |size: usize| size.checked_sub(1).filter(|left| *left > 0);
        match self.size.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer) {
            Ok(size) => {
                let commands = self.commands.clone();
                tokio::spawn(async move {
                    if let Ok(permit) = commands.acquire_owned().await {
                        permit.forget();
                    }
                });
                size - 1
            }
            Err(size) => size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_what_the_others_leave() {
        let check = |room: usize, expect: Option<(usize, bool)>| {
            let found = Shares::of(room).map(|shares| (shares.commands, shares.apart));
            assert_eq!(found, expect, "{room}");
        };
        check(0, None);
        check(1, None);
        check(2, None);
        check(3, Some((1, false)));
        check(4, Some((1, true)));
        check(5, Some((2, true)));
        check(10, Some((7, true)));
        check(100, Some((7, true)));
    }

    #[tokio::test]
    async fn what_is_reserved_does_not_wait_for_commands() {
        for room in [3, 10] {
            let shares = Shares::of(room).expect("there is room");
            let lanes = Lanes::new(shares);
            let mut busy = Vec::new();
            for _ in 0..shares.commands {
                busy.push(lanes.enter(Lane::Command).await);
            }
            assert!(lanes.enter_if_free().is_none());
            drop(lanes.enter(Lane::Lease).await.expect("a session for leases"));
            let ending = lanes.enter(Lane::Ending).await.expect("a session for endings");
            // The first ending is under way; the command that it ended leaves its session to the next.
            busy.pop();
            let next = lanes.enter(Lane::Ending).await.expect("another session for endings");
            drop((ending, next));
        }
    }

    #[tokio::test]
    async fn what_is_lost_is_not_given_again() {
        let lanes = Lanes::new(Shares { commands: 2, apart: true });
        let (first, second) = (lanes.enter(Lane::Command).await, lanes.enter(Lane::Command).await);
        assert_eq!(lanes.lose_one(), 1);
        assert_eq!(lanes.lose_one(), 1, "one stays");
        tokio::task::yield_now().await;
        drop(first);
        tokio::task::yield_now().await;
        assert!(lanes.enter_if_free().is_none());
        drop(second);
        assert!(lanes.enter_if_free().is_some());
    }
}
