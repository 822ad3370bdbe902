//! A crash on demand, for the tests: it kills this process at a chosen record, so that a test can see what the
//! next start makes of what is left. Without the variable, nothing is counted and nothing is asked.

use std::sync::{Mutex, PoisonError};

use rustix::process::{Signal, getpid, kill_process};

use crate::journal::JournalError;

/// `12.3:before` is the moment before the third record of the twelfth part is made durable, `12.3:after` the one
/// right after it. A part begins with the process, and where a step begins or ends: so a record keeps its place
/// when a step before it makes one call more. `0.0:after` never comes, and leaves all places in the log.
const VARIABLE: &str = "DEPLOYER_CRASH_AT";

pub struct Crash {
    at: (Place, Side),
    /// Of the record that was begun last.
    place: Mutex<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    part: u64,
    record: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

impl Crash {
    /// The crash that the environment asks for.
    ///
    /// # Errors
    /// When the variable says no such moment.
    pub fn from_environment() -> Result<Option<Self>, JournalError> {
        let Some(text) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let text = text.to_string_lossy();
        let at = parse(&text).ok_or_else(|| JournalError::CrashPoint(format!("{VARIABLE}={text}")))?;
        Ok(Some(Crash { at, place: Mutex::new(Place { part: 1, record: 0 }) }))
    }

    /// The next record is the first of a new part.
    pub fn begin_part(&self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Place { part: place.part + 1, record: 0 };
    }

    /// Makes a change durable, unless this is where the process ends.
    pub async fn around<T>(
        &self,
        what: &str,
        change: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        let place = {
            let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            place.record += 1;
            *place
        };
        tracing::info!("record {}.{}: {what}", place.part, place.record);
        self.end_if((place, Side::Before));
        let outcome = change.await;
        self.end_if((place, Side::After));
        outcome
    }

    /// A signal that cannot be caught, as from an out-of-memory killer: nothing is flushed, closed or undone.
    fn end_if(&self, now: (Place, Side)) {
        if now == self.at {
            // A process may always end itself, and does not come back from this.
            let _ = kill_process(getpid(), Signal::KILL);
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
        let check = |text: &str, expect: Option<(u64, u64, Side)>| {
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
