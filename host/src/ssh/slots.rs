//! Who works on the target at the same time. There are as many slots as commands have sessions, so whoever
//! has a slot does not wait for a session in the middle of its work, while its time runs. Who has none yet
//! waits in order, and nothing of its time has begun.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::lanes::{MOST_SESSIONS, Shares};

/// The smallest comes first: those that are in the middle of something, then by their name.
pub type Priority = (bool, String);

/// A slot on the target, for as long as this lives.
pub struct Slot {
    slots: Arc<Slots>,
    kind: SlotKind,
}

/// Somebody who waits for a slot. Nothing is left when it is dropped.
pub struct QueuedRequest {
    slots: Arc<Slots>,
    priority: Priority,
    called: oneshot::Receiver<()>,
    is_in: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotKind {
    /// Has one session for commands, whenever it needs it.
    Worker,
    /// One more session of somebody who is in already, for an upload.
    Extra,
}

/// The slots of one target.
#[derive(Default)]
pub(super) struct Slots {
    queue: Mutex<Queue<oneshot::Sender<()>>>,
}

/// Who is in, and who waits. Pure: whom to call is what its functions give back.
struct Queue<W> {
    /// How many slots there are, once that is known. There always is one.
    slots: Option<usize>,
    workers: usize,
    extras: usize,
    waiting: BTreeMap<Priority, W>,
}

impl Slots {
    /// Commands have this many sessions.
    pub(super) fn learn(&self, sessions: usize) {
        let mut queue = self.queue();
        queue.slots = Some(sessions);
        let called = queue.call();
        drop(queue);
        call(called);
    }

    pub(super) fn extra(self: &Arc<Self>) -> Option<Slot> {
        let mut queue = self.queue();
        if !queue.has_room() || !queue.waiting.is_empty() {
            return None;
        }
        queue.enter(SlotKind::Extra);
        Some(Slot { slots: self.clone(), kind: SlotKind::Extra })
    }

    pub(super) fn are_known(&self) -> bool {
        self.queue().slots.is_some()
    }

    /// As many as there are with sshd's default, where nothing else is known.
    pub(super) fn assume(&self) {
        if let (false, Some(shares)) = (self.are_known(), Shares::of(MOST_SESSIONS)) {
            self.learn(shares.commands);
        }
    }

    pub(super) fn request(self: &Arc<Self>, priority: Priority) -> QueuedRequest {
        let (caller, called) = oneshot::channel();
        let mut queue = self.queue();
        queue.waiting.insert(priority.clone(), caller);
        let now = queue.call();
        drop(queue);
        call(now);
        QueuedRequest { slots: self.clone(), priority, called, is_in: false }
    }

    fn leave(&self, kind: SlotKind) {
        let mut queue = self.queue();
        queue.leave(kind);
        let called = queue.call();
        drop(queue);
        call(called);
    }

    fn queue(&self) -> MutexGuard<'_, Queue<oneshot::Sender<()>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is called has entered, and leaves again by itself if it is gone.
fn call(called: Vec<oneshot::Sender<()>>) {
    for caller in called {
        let _ = caller.send(());
    }
}

impl QueuedRequest {
    /// How many work on the target now.
    pub fn workers(&self) -> usize {
        self.slots.queue().workers
    }

    pub async fn slot(mut self) -> Slot {
        // The sender lives in the queue for as long as this waits there.
        let _ = (&mut self.called).await;
        self.enter()
    }

    /// The slot, if this was called already.
    pub(super) fn granted(mut self) -> Result<Slot, QueuedRequest> {
        match self.called.try_recv() {
            Ok(()) => Ok(self.enter()),
            Err(_) => Err(self),
        }
    }

    fn enter(mut self) -> Slot {
        self.is_in = true;
        Slot { slots: self.slots.clone(), kind: SlotKind::Worker }
    }
}

impl Drop for QueuedRequest {
    fn drop(&mut self) {
        if self.is_in {
            return;
        }
        let waited = self.slots.queue().waiting.remove(&self.priority).is_some();
        if !waited {
            self.slots.leave(SlotKind::Worker);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.leave(self.kind);
    }
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Queue { slots: None, workers: 0, extras: 0, waiting: BTreeMap::new() }
    }
}

impl<W> Queue<W> {
    fn has_room(&self) -> bool {
        self.workers + self.extras < self.slots.unwrap_or(1)
    }

    fn enter(&mut self, kind: SlotKind) {
        match kind {
            SlotKind::Worker => self.workers += 1,
            SlotKind::Extra => self.extras += 1,
        }
    }

    fn leave(&mut self, kind: SlotKind) {
        match kind {
            SlotKind::Worker => self.workers = self.workers.saturating_sub(1),
            SlotKind::Extra => self.extras = self.extras.saturating_sub(1),
        }
    }

    /// Lets in whom there is room for, in order.
    fn call(&mut self) -> Vec<W> {
        let mut called = Vec::new();
        while self.has_room() {
            let Some((_, next)) = self.waiting.pop_first() else { break };
            self.enter(SlotKind::Worker);
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
        Enter(SlotKind),
        Leave(SlotKind),
        /// Fresh or not, and its name.
        Wait(bool, &'static str),
    }

    /// What happens in turn, and who is let in at each event.
    fn check(events: Vec<(Event, &[&str])>) {
        let mut queue: Queue<&str> = Queue::default();
        for (number, (event, expect)) in events.into_iter().enumerate() {
            match event {
                Event::Learn(slots) => queue.slots = Some(slots),
                Event::Enter(kind) => queue.enter(kind),
                Event::Leave(kind) => queue.leave(kind),
                Event::Wait(fresh, name) => {
                    queue.waiting.insert((fresh, name.into()), name);
                }
            }
            assert_eq!(queue.call(), expect, "event {number}");
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
            (Leave(SlotKind::Worker), &["d"]),
        ]);
    }

    #[test]
    fn the_interrupted_come_first_and_then_the_oldest() {
        use Event::{Enter, Learn, Leave, Wait};
        check(vec![
            (Learn(1), &[]),
            (Enter(SlotKind::Worker), &[]),
            (Wait(true, "3"), &[]),
            (Wait(true, "1"), &[]),
            (Wait(false, "4"), &[]),
            (Wait(true, "2"), &[]),
            (Leave(SlotKind::Worker), &["4"]),
            (Leave(SlotKind::Worker), &["1"]),
            (Leave(SlotKind::Worker), &["2"]),
            (Leave(SlotKind::Worker), &["3"]),
        ]);
    }

    #[test]
    fn extras_take_places_and_fewer_places_let_nobody_in() {
        use Event::{Enter, Learn, Leave, Wait};
        check(vec![
            (Learn(3), &[]),
            (Enter(SlotKind::Worker), &[]),
            (Enter(SlotKind::Extra), &[]),
            (Enter(SlotKind::Extra), &[]),
            (Wait(true, "a"), &[]),
            (Leave(SlotKind::Extra), &["a"]),
            (Learn(1), &[]),
            (Wait(true, "b"), &[]),
            (Leave(SlotKind::Extra), &[]),
            (Leave(SlotKind::Worker), &[]),
            (Leave(SlotKind::Worker), &["b"]),
        ]);
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_leaves_nothing() {
        let slots = Arc::new(Slots::default());
        let request = |name: &str| slots.request((true, name.into()));
        let Ok(first) = request("a").granted() else { panic!("there is a slot") };
        let (second, third) = (request("b"), request("c"));
        assert_eq!(third.workers(), 1);
        assert!(slots.extra().is_none(), "others wait");
        // Called, and gone before it heard of it.
        drop(first);
        drop(second);
        let third = third.slot().await;
        let Err(fourth) = request("d").granted() else { panic!("there is one slot") };
        drop(fourth);
        drop(third);
        let extra = slots.extra();
        assert!(extra.is_some());
        drop(extra);
        let queue = slots.queue();
        assert_eq!((queue.workers, queue.extras, queue.waiting.len()), (0, 0, 0));
    }
}
