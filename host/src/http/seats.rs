//! Who is connected, and what each is doing. Which of them has to go is decided in `bounds`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::bounds::{Activity, Bounds, Caller, End, Here, Room, State, overdue, room};

/// All connections that are open.
pub struct Seats {
    bounds: Bounds,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    last: u64,
    seats: HashMap<u64, Arc<Seat>>,
}

/// One connection.
pub struct Seat {
    id: u64,
    caller: Caller,
    state: Mutex<State>,
    end: OnceLock<End>,
    ended: CancellationToken,
}

impl Seats {
    pub fn new(bounds: Bounds) -> Self {
        Seats { bounds, taken: Mutex::default() }
    }

    /// A seat, at the cost of another one where that is fair.
    ///
    /// # Errors
    /// `Soon` when it is worth to ask again in a moment, otherwise `Full`.
    pub fn take(&self, caller: Caller, now: Instant) -> Result<Arc<Seat>, Room> {
        let mut taken = lock(&self.taken);
        loop {
            match room(&self.bounds, &taken.here(), caller, now) {
                Room::Free => break,
                Room::InPlaceOf(id) => taken.end(id, End::Crowded),
                no => return Err(no),
            }
        }
        taken.last += 1;
        let state =
            State { activity: Activity::Awaiting { since: now, first: true }, known: false, stalled: None };
        let seat = Arc::new(Seat {
            id: taken.last,
            caller,
            state: Mutex::new(state),
            end: OnceLock::new(),
            ended: CancellationToken::new(),
        });
        taken.seats.insert(seat.id, seat.clone());
        Ok(seat)
    }

    pub fn leave(&self, seat: &Seat) {
        lock(&self.taken).seats.remove(&seat.id);
    }

    /// Ends what takes too long.
    pub fn sweep(&self, now: Instant) {
        let mut taken = lock(&self.taken);
        let late: Vec<(u64, End)> =
            taken.here().iter().filter_map(|one| Some((one.id, overdue(&one.state, now)?))).collect();
        for (id, end) in late {
            taken.end(id, end);
        }
    }

    /// Ends one that can be spared, because the process has no descriptors left.
    pub fn spare_one(&self, now: Instant) {
        let mut taken = lock(&self.taken);
        let here = taken.here();
        let Some(first) = here.first() else { return };
        let none = Bounds { connections: 0, of_caller: usize::MAX, of_strangers: usize::MAX, ..self.bounds };
        if let Room::InPlaceOf(id) = room(&none, &here, first.caller, now) {
            taken.end(id, End::Crowded);
        }
    }
}

impl Taken {
    fn here(&self) -> Vec<Here> {
        let here = |seat: &Arc<Seat>| Here { id: seat.id, caller: seat.caller, state: *lock(&seat.state) };
        self.seats.values().map(here).collect()
    }

    /// The seat is free from now on, and its connection ends by itself.
    fn end(&mut self, id: u64, end: End) {
        if let Some(seat) = self.seats.remove(&id) {
            // The first reason stays.
            let _ = seat.end.set(end);
            seat.ended.cancel();
        }
    }
}

impl Seat {
    /// Waits until this connection is to end, and says why.
    pub async fn ended(&self) -> End {
        self.ended.cancelled().await;
        self.end.get().copied().unwrap_or(End::Crowded)
    }

    /// It has shown a token, or needs none.
    pub fn is_known(&self) {
        lock(&self.state).known = true;
    }

    /// Bytes came.
    pub fn hears(&self) {
        let mut state = lock(&self.state);
        if let Activity::Awaiting { .. } = state.activity {
            state.activity = Activity::Head { since: Instant::now() };
        }
    }

    /// A request's head is whole.
    pub fn answers(&self) {
        lock(&self.state).activity = Activity::Answering;
    }

    /// A handler waits for the body.
    pub fn awaits_body(&self) {
        let mut state = lock(&self.state);
        if state.activity == Activity::Answering {
            let now = Instant::now();
            state.activity = Activity::Body { since: now, last: now };
        }
    }

    /// A piece of the body came.
    pub fn hears_body(&self) {
        if let Activity::Body { last, .. } = &mut lock(&self.state).activity {
            *last = Instant::now();
        }
    }

    /// The answer is complete, but for what is still on its way.
    pub fn has_answered(&self) {
        lock(&self.state).activity = Activity::Awaiting { since: Instant::now(), first: false };
    }

    /// Whether the caller takes what is sent to it.
    pub fn is_taking(&self, taking: bool) {
        let mut state = lock(&self.state);
        match (taking, state.stalled) {
            (true, Some(_)) => state.stalled = None,
            (false, None) => state.stalled = Some(Instant::now()),
            (true, None) | (false, Some(_)) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
