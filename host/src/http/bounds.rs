//! How many connections there may be, how long each may take, and which one makes room for a new one. Decisions
//! only: who is here is in `seats`.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// From a connection's or a head's first sign to the head's end.
const HEAD: Duration = Duration::from_secs(10);
/// From an answer's end to the next request, on the same connection.
const IDLE: Duration = Duration::from_secs(75);
/// Between two pieces of a body.
const BODY_PAUSE: Duration = Duration::from_secs(15);
/// For a whole body.
const BODY: Duration = Duration::from_secs(60);
/// For a caller who takes nothing of an answer.
const STALL: Duration = Duration::from_secs(30);
/// A caller who has taken nothing for so long makes room, if there is no other.
const STALL_IN_NEED: Duration = Duration::from_secs(5);
/// A connection younger than this may just be about to ask.
const YOUNG: Duration = Duration::from_millis(250);

/// How many there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub connections: usize,
    /// From one address. The rest is for others.
    pub of_caller: usize,
    /// That have shown no token yet. The rest is for those that have.
    pub of_strangers: usize,
    /// Streams of events.
    pub streams: usize,
    pub streams_of_caller: usize,
}

impl Bounds {
    /// Half of the process's descriptors is for callers; the journal, SSH, plugins and requests have the rest.
    pub fn of_descriptors(limit: u64) -> Self {
        let connections = usize::try_from(limit / 2).unwrap_or(usize::MAX).clamp(32, 2048);
        Bounds {
            connections,
            of_caller: connections * 3 / 4,
            of_strangers: connections * 3 / 4,
            streams: connections / 2,
            streams_of_caller: connections / 4,
        }
    }

    /// By the descriptors that this process may have now.
    pub fn of_this_process() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Bounds::of_descriptors(limit.current.unwrap_or(u64::MAX))
    }
}

/// Who is counted as one: an address, or the network that one customer of a provider has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller(IpAddr);

impl Caller {
    pub fn at(address: IpAddr) -> Self {
        Caller(match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            other => other,
        })
    }
}

/// A connection, as far as these decisions go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    pub activity: Activity,
    /// It has shown a token, or needs none.
    pub known: bool,
    /// Since when it takes nothing of what is being sent to it.
    pub stalled: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activity {
    /// For a head: of its first request, or of another one.
    Awaiting { since: Instant, first: bool },
    /// A head has begun.
    Head { since: Instant },
    /// A handler waits for the body.
    Body { since: Instant, last: Instant },
    /// A handler works, or its answer is on its way.
    Answering,
}

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing was asked.
    Silent,
    SlowHead,
    SlowBody,
    /// Nothing of the answer is taken.
    Stalled,
    /// Another one needs the room.
    Crowded,
}

/// Whether a connection has taken too long.
pub fn overdue(state: &State, now: Instant) -> Option<End> {
    let late = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
    if let Some(since) = state.stalled {
        return late(since, STALL).then_some(End::Stalled);
    }
    match state.activity {
        Activity::Awaiting { since, first } => {
            late(since, if first { HEAD } else { IDLE }).then_some(End::Silent)
        }
        Activity::Head { since } => late(since, HEAD).then_some(End::SlowHead),
        Activity::Body { since, last } => {
            (late(since, BODY) || late(last, BODY_PAUSE)).then_some(End::SlowBody)
        }
        Activity::Answering => None,
    }
}

/// Whether there is room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Free,
    /// When this one is ended.
    InPlaceOf(u64),
    /// When those that have just come are not about to ask.
    Soon,
    Full,
}

/// A connection that is here.
#[derive(Clone, Copy, Debug)]
pub struct Here {
    pub id: u64,
    pub caller: Caller,
    pub state: State,
}

/// Whether a caller gets in. What makes room first: who has shown no token and asks nothing, then who asks
/// nothing, then whose body does not come, then who takes no answer. Among them the one whose address has the
/// most, and of those the oldest.
pub fn room(bounds: &Bounds, here: &[Here], caller: Caller, now: Instant) -> Room {
    let of = |caller: Caller| here.iter().filter(move |one| one.caller == caller).count();
    let strangers = here.iter().filter(|one| !one.state.known).count();
    let makes_room: &dyn Fn(&Here) -> bool = if of(caller) >= bounds.of_caller {
        &|one| one.caller == caller
    } else if strangers >= bounds.of_strangers {
        &|one| !one.state.known
    } else if here.len() >= bounds.connections {
        &|_| true
    } else {
        return Room::Free;
    };
    let mut young = false;
    let mut counts = std::collections::HashMap::new();
    for one in here {
        *counts.entry(one.caller).or_insert(0_usize) += 1;
    }
    let candidates = here.iter().filter(|one| makes_room(one)).filter_map(|one| {
        let (rank, since) = dispensable(&one.state, now)?;
        if now.saturating_duration_since(since) < YOUNG {
            young = true;
            return None;
        }
        let count = counts.get(&one.caller).copied().unwrap_or_default();
        Some(((rank, std::cmp::Reverse(count), since), one.id))
    });
    match candidates.min() {
        Some((_, id)) => Room::InPlaceOf(id),
        None if young => Room::Soon,
        None => Room::Full,
    }
}

/// How soon a connection may make room, lowest first, and since when it does not deserve it.
fn dispensable(state: &State, now: Instant) -> Option<(u8, Instant)> {
    if let Some(since) = state.stalled {
        return (now.saturating_duration_since(since) >= STALL_IN_NEED).then_some((3, since));
    }
    match state.activity {
        Activity::Awaiting { since, .. } | Activity::Head { since } => Some((u8::from(state.known), since)),
        Activity::Body { since, .. } => Some((2, since)),
        Activity::Answering => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { connections: 4, of_caller: 3, of_strangers: 3, streams: 2, streams_of_caller: 1 };

    fn caller(text: &str) -> Caller {
        Caller::at(text.parse().unwrap())
    }

    fn state(activity: Activity) -> State {
        State { activity, known: false, stalled: None }
    }

    #[test]
    fn half_of_the_descriptors_are_for_callers() {
        let check = |limit, connections, strangers| {
            let bounds = Bounds::of_descriptors(limit);
            assert_eq!((bounds.connections, bounds.of_strangers), (connections, strangers), "{limit}");
        };
        check(1024, 512, 384);
        check(256, 128, 96);
        check(10, 32, 24);
        check(u64::MAX, 2048, 1536);
    }

    #[test]
    fn a_caller_is_an_address_or_a_network() {
        let check = |one, other, same: bool| assert_eq!(caller(one) == caller(other), same, "{one} {other}");
        check("192.0.2.7", "::ffff:192.0.2.7", true);
        check("192.0.2.7", "192.0.2.8", false);
        check("2001:db8::1", "2001:db8::2", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
        check("::1", "::2", false);
    }

    #[test]
    fn each_slowness_has_its_end() {
        let start = Instant::now();
        let check = |state: State, seconds: u64, expect: Option<End>| {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(overdue(&state, now), expect, "{state:?} after {seconds} s");
        };
        let first = state(Activity::Awaiting { since: start, first: true });
        check(first, 9, None);
        check(first, 10, Some(End::Silent));
        let kept = state(Activity::Awaiting { since: start, first: false });
        check(kept, 74, None);
        check(kept, 75, Some(End::Silent));
        let head = state(Activity::Head { since: start });
        check(head, 9, None);
        check(head, 10, Some(End::SlowHead));
        let body = |last| state(Activity::Body { since: start, last: start + Duration::from_secs(last) });
        check(body(0), 14, None);
        check(body(0), 15, Some(End::SlowBody));
        check(body(50), 59, None);
        check(body(59), 60, Some(End::SlowBody));
        check(state(Activity::Answering), 3600, None);
        let stalled = State { stalled: Some(start), ..state(Activity::Answering) };
        check(stalled, 29, None);
        check(stalled, 30, Some(End::Stalled));
        // What is still to be sent does not count as a request that does not come.
        check(State { stalled: Some(start), ..first }, 10, None);
    }

    #[test]
    fn who_asks_nothing_makes_room_and_who_works_does_not() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let now = at(10_000);
        let waits = |since| Activity::Awaiting { since: at(since), first: true };
        let one = |id, address, activity, known| {
            let state = State { activity, known, stalled: None };
            Here { id, caller: caller(address), state }
        };
        let check = |here: &[Here], address: &str, expect: Room| {
            assert_eq!(room(&BOUNDS, here, caller(address), now), expect, "{here:#?}");
        };
        let work = Activity::Answering;
        let body = Activity::Body { since: at(0), last: at(9_999) };
        let (a, b, c, d) = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4");

        check(&[], a, Room::Free);
        check(&[one(1, a, waits(0), false), one(2, a, waits(0), false)], a, Room::Free);
        // One address has its share, and makes room in it.
        let greedy = [one(1, a, waits(5), false), one(2, a, waits(1), false), one(3, a, work, true)];
        check(&greedy, a, Room::InPlaceOf(2));
        check(&greedy, b, Room::Free);
        let busy = [one(1, a, work, true), one(2, a, work, true), one(3, a, work, true)];
        check(&busy, a, Room::Full);
        // Strangers leave room for those with a token, and the address with the most goes first.
        let strangers = [one(1, a, waits(0), false), one(2, b, waits(7), false), one(3, b, waits(8), false)];
        check(&strangers, c, Room::InPlaceOf(2));
        // Who has a token is ended last.
        let known = [
            one(1, a, waits(0), true),
            one(2, b, waits(9), false),
            one(3, b, body, true),
            one(4, c, work, true),
        ];
        check(&known, d, Room::InPlaceOf(2));
        let known =
            [one(1, a, waits(5), true), one(2, b, work, true), one(3, b, body, true), one(4, c, work, true)];
        check(&known, d, Room::InPlaceOf(1));
        let known =
            [one(1, a, work, true), one(2, b, work, true), one(3, b, body, true), one(4, c, work, true)];
        check(&known, d, Room::InPlaceOf(3));
        let full =
            [one(1, a, work, true), one(2, b, work, true), one(3, b, work, true), one(4, c, work, true)];
        check(&full, d, Room::Full);
        // Who has just come may be about to ask.
        let young = [one(1, a, waits(9_900), false), one(2, a, waits(9_800), false), one(3, a, work, true)];
        check(&young, a, Room::Soon);

        // Who takes no answer is ended in need only.
        let mut stalled = full;
        stalled[1].state.stalled = Some(at(9_000));
        check(&stalled, d, Room::Full);
        stalled[1].state.stalled = Some(at(4_000));
        check(&stalled, d, Room::InPlaceOf(2));
    }
}
