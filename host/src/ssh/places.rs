//! Who works on the target at the same time. There are as many places as commands have sessions, so whoever
//! has a place does not wait for a session in the middle of its work, while its time runs. Who has none yet
//! waits in order, and nothing of its time has begun.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::lanes::{MOST_SESSIONS, Shares};
use super::{Ssh, SshError};

/// The smallest comes first: those that are in the middle of something, then by their name.
pub type Order = (bool, String);

/// A place on the target, for as long as this lives.
pub struct Place {
    places: Arc<Places>,
    kind: Kind,
}

/// What came of asking for a place.
pub enum Asked {
    Now(Place),
    Later(Waiting),
}

/// Somebody who waits for a place. Nothing is left when it is dropped.
pub struct Waiting {
    places: Arc<Places>,
    order: Order,
    called: oneshot::Receiver<()>,
    is_in: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Has one session for commands, whenever it needs it.
    Worker,
    /// One more session of somebody who is in already, for an upload.
    Extra,
}

/// The places of one target.
#[derive(Default)]
pub(super) struct Places {
    line: Mutex<Line<oneshot::Sender<()>>>,
}

/// Who is in, and who waits. Pure: whom to call is what its functions give back.
struct Line<W> {
    /// How many places there are, once that is known. There always is one.
    places: Option<usize>,
    workers: usize,
    extras: usize,
    waiting: BTreeMap<Order, W>,
}

impl Ssh {
    /// Asks for a place to work on the target.
    pub async fn ask_for_place(&self, order: Order) -> Asked {
        let places = &self.inner.places;
        // In the line at once, so that nobody who comes later is earlier.
        let waiting = match places.ask(order).now() {
            Ok(place) => return Asked::Now(place),
            Err(waiting) => waiting,
        };
        // How many places there are is the server's to say. While it cannot be asked, nobody has to wait: they
        // all find out for themselves that it is away.
        if !places.are_known()
            && let Err(error) = self.find_room().await
        {
            tracing::debug!(%error, "it is not known how many sessions the target allows");
            places.assume();
        }
        match waiting.now() {
            Ok(place) => Asked::Now(place),
            Err(waiting) => Asked::Later(waiting),
        }
    }

    /// One more session beside the worker's own, if nobody else needs it.
    pub(super) fn extra_place(&self) -> Option<Place> {
        self.inner.places.extra()
    }

    async fn find_room(&self) -> Result<(), SshError> {
        self.connection().await?.lanes().await.map(drop)
    }
}

impl Places {
    /// Commands have this many sessions.
    pub(super) fn learn(&self, sessions: usize) {
        let mut line = self.line();
        line.places = Some(sessions);
        let called = line.call();
        drop(line);
        call(called);
    }

    fn extra(self: &Arc<Self>) -> Option<Place> {
        let mut line = self.line();
        if !line.has_room() || !line.waiting.is_empty() {
            return None;
        }
        line.enter(Kind::Extra);
        Some(Place { places: self.clone(), kind: Kind::Extra })
    }

    fn are_known(&self) -> bool {
        self.line().places.is_some()
    }

    /// As many as there are with sshd's default, where nothing else is known.
    fn assume(&self) {
        if let (false, Some(shares)) = (self.are_known(), Shares::of(MOST_SESSIONS)) {
            self.learn(shares.commands);
        }
    }

    fn ask(self: &Arc<Self>, order: Order) -> Waiting {
        let (caller, called) = oneshot::channel();
        let mut line = self.line();
        line.waiting.insert(order.clone(), caller);
        let now = line.call();
        drop(line);
        call(now);
        Waiting { places: self.clone(), order, called, is_in: false }
    }

    fn leave(&self, kind: Kind) {
        let mut line = self.line();
        line.leave(kind);
        let called = line.call();
        drop(line);
        call(called);
    }

    fn line(&self) -> MutexGuard<'_, Line<oneshot::Sender<()>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is called has entered, and leaves again by itself if it is gone.
fn call(called: Vec<oneshot::Sender<()>>) {
    for caller in called {
        let _ = caller.send(());
    }
}

impl Waiting {
    /// How many work on the target now.
    pub fn workers(&self) -> usize {
        self.places.line().workers
    }

    pub async fn place(mut self) -> Place {
        // The sender lives in the line for as long as this waits there.
        let _ = (&mut self.called).await;
        self.enter()
    }

    /// The place, if this was called already.
    fn now(mut self) -> Result<Place, Waiting> {
        match self.called.try_recv() {
            Ok(()) => Ok(self.enter()),
            Err(_) => Err(self),
        }
    }

    fn enter(mut self) -> Place {
        self.is_in = true;
        Place { places: self.places.clone(), kind: Kind::Worker }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_in {
            return;
        }
        let waited = self.places.line().waiting.remove(&self.order).is_some();
        if !waited {
            self.places.leave(Kind::Worker);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.leave(self.kind);
    }
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Line { places: None, workers: 0, extras: 0, waiting: BTreeMap::new() }
    }
}

impl<W> Line<W> {
    fn has_room(&self) -> bool {
        self.workers + self.extras < self.places.unwrap_or(1)
    }

    fn enter(&mut self, kind: Kind) {
        match kind {
            Kind::Worker => self.workers += 1,
            Kind::Extra => self.extras += 1,
        }
    }

    fn leave(&mut self, kind: Kind) {
        match kind {
            Kind::Worker => self.workers = self.workers.saturating_sub(1),
            Kind::Extra => self.extras = self.extras.saturating_sub(1),
        }
    }

    /// Lets in whom there is room for, in order.
    fn call(&mut self) -> Vec<W> {
        let mut called = Vec::new();
        while self.has_room() {
            let Some((_, next)) = self.waiting.pop_first() else { break };
            self.enter(Kind::Worker);
            called.push(next);
        }
        called
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Event {
        Learn(usize),
        /// A worker or an extra that is in.
        Enter(Kind),
        Leave(Kind),
        /// Fresh or not, and its name.
        Wait(bool, &'static str),
    }

    /// What happens in turn, and who is let in at each event.
    fn check(events: Vec<(Event, &[&str])>) {
        let mut line: Line<&str> = Line::default();
        for (number, (event, expect)) in events.into_iter().enumerate() {
            match event {
                Event::Learn(places) => line.places = Some(places),
                Event::Enter(kind) => line.enter(kind),
                Event::Leave(kind) => line.leave(kind),
                Event::Wait(fresh, name) => {
                    line.waiting.insert((fresh, name.into()), name);
                }
            }
            assert_eq!(line.call(), expect, "event {number}");
        }
    }

    #[test]
    fn there_is_a_place_for_one_before_anything_is_known() {
        use Event::{Learn, Leave, Wait};
        check(vec![
            (Wait(true, "a"), &["a"]),
            (Wait(true, "b"), &[]),
            (Wait(true, "c"), &[]),
            (Wait(true, "d"), &[]),
            (Learn(3), &["b", "c"]),
            (Leave(Kind::Worker), &["d"]),
        ]);
    }

    #[test]
    fn the_interrupted_come_first_and_then_the_oldest() {
        use Event::{Enter, Learn, Leave, Wait};
        check(vec![
            (Learn(1), &[]),
            (Enter(Kind::Worker), &[]),
            (Wait(true, "3"), &[]),
            (Wait(true, "1"), &[]),
            (Wait(false, "4"), &[]),
            (Wait(true, "2"), &[]),
            (Leave(Kind::Worker), &["4"]),
            (Leave(Kind::Worker), &["1"]),
            (Leave(Kind::Worker), &["2"]),
            (Leave(Kind::Worker), &["3"]),
        ]);
    }

    #[test]
    fn extras_take_places_and_fewer_places_let_nobody_in() {
        use Event::{Enter, Learn, Leave, Wait};
        check(vec![
            (Learn(3), &[]),
            (Enter(Kind::Worker), &[]),
            (Enter(Kind::Extra), &[]),
            (Enter(Kind::Extra), &[]),
            (Wait(true, "a"), &[]),
            (Leave(Kind::Extra), &["a"]),
            (Learn(1), &[]),
            (Wait(true, "b"), &[]),
            (Leave(Kind::Extra), &[]),
            (Leave(Kind::Worker), &[]),
            (Leave(Kind::Worker), &["b"]),
        ]);
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_leaves_nothing() {
        let places = Arc::new(Places::default());
        let ask = |name: &str| places.ask((true, name.into()));
        let Ok(first) = ask("a").now() else { panic!("there is a place") };
        let (second, third) = (ask("b"), ask("c"));
        assert_eq!(third.workers(), 1);
        assert!(places.extra().is_none(), "others wait");
        // Called, and gone before it heard of it.
        drop(first);
        drop(second);
        let third = third.place().await;
        let Err(fourth) = ask("d").now() else { panic!("there is one place") };
        drop(fourth);
        drop(third);
        let extra = places.extra();
        assert!(extra.is_some());
        drop(extra);
        let line = places.line();
        assert_eq!((line.workers, line.extras, line.waiting.len()), (0, 0, 0));
    }
}
