//! Which record the process ends at, and counting up to it.

use std::sync::{Mutex, PoisonError};

use deployer::journal::Observer;
use rustix::process::{Signal, getpid, kill_process};

/// Ends the process at its moment.
pub struct CrashPoint {
    at: (Place, Side),
    /// Of the record that was begun last.
    place: Mutex<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    part: u32,
    record: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

impl CrashPoint {
    pub fn parse(text: &str) -> Option<Self> {
        Some(CrashPoint { at: parse(text)?, place: Mutex::new(Place { part: 1, record: 0 }) })
    }

    /// A signal that cannot be caught, as from an out-of-memory killer: nothing is flushed, closed or undone.
    fn end_if(&self, now: (Place, Side)) {
        if now == self.at {
            // A process may always end itself, and does not come back from this.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}

impl Observer for CrashPoint {
    fn part(&self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Place { part: place.part + 1, record: 0 };
    }

    fn recording(&self, what: &'static str) -> u64 {
        let place = {
            let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            place.record += 1;
            *place
        };
        // The crash matrix reads these lines in the program's log.
        eprintln!("crash points: record {}.{}: {what}", place.part, place.record);
        self.end_if((place, Side::Before));
        u64::from(place.part) << 32 | u64::from(place.record)
    }

    fn recorded(&self, number: u64) {
        let [part, record] = [number >> 32, number & u64::from(u32::MAX)];
        if let (Ok(part), Ok(record)) = (u32::try_from(part), u32::try_from(record)) {
            self.end_if((Place { part, record }, Side::After));
        }
    }
}

fn parse(text: &str) -> Option<(Place, Side)> {
    let (place, side) = text.split_once(':')?;
    let (part, record) = place.split_once('.')?;
    let side = match side {
        "before" => Side::Before,
        "after" => Side::After,
        _ => return None,
    };
    Some((Place { part: part.parse().ok()?, record: record.parse().ok()? }, side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_place_and_a_side() {
        let check = |text: &str, expect: Option<(u32, u32, Side)>| {
            let expect = expect.map(|(part, record, side)| (Place { part, record }, side));
            assert_eq!(parse(text), expect, "{text}");
        };
        check("12.3:before", Some((12, 3, Side::Before)));
        check("1.1:after", Some((1, 1, Side::After)));
        check("0.0:after", Some((0, 0, Side::After)));
        for wrong in ["", "12:after", "12.3", "before", "12.3:between", "x.1:after", "1.-1:after"] {
            check(wrong, None);
        }
    }
}
