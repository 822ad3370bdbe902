//! How many streams of events are open: each holds a connection until its job is over, so nobody may have them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;

use super::bounds::Bounds;
use super::problem::Problem;

pub struct Streams {
    most: usize,
    most_of_caller: usize,
    open: Arc<Mutex<HashMap<String, usize>>>,
}

/// One stream, until it is dropped.
pub struct OpenStream {
    open: Arc<Mutex<HashMap<String, usize>>>,
    caller: String,
}

impl Streams {
    pub fn new(bounds: &Bounds) -> Self {
        Streams { most: bounds.streams, most_of_caller: bounds.streams_of_caller, open: Arc::default() }
    }

    /// # Errors
    /// When the caller has as many as one may, or all callers together have.
    pub fn open(&self, caller: String) -> Result<OpenStream, Problem> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.get(&caller).copied().unwrap_or_default();
        if own >= self.most_of_caller {
            return Err(too_many(format!("{own} event streams are open for you, which is the maximum")));
        }
        let all: usize = open.values().sum();
        if all >= self.most {
            return Err(too_many(format!("{all} event streams are open, which is the maximum")));
        }
        open.insert(caller.clone(), own + 1);
        Ok(OpenStream { open: self.open.clone(), caller })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

fn too_many(detail: String) -> Problem {
    let hint = "close one, or poll GET /deploy/{id} instead";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-streams", detail, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_all_of_them_and_one_that_ends_makes_room() {
        let bounds = Bounds { streams: 3, streams_of_caller: 2, ..Bounds::of_descriptors(1024) };
        let streams = Streams::new(&bounds);
        let open = |caller: &str| streams.open(caller.to_owned()).map_err(|problem| problem.detail);
        let first = open("ann").ok();
        let second = open("ann").ok();
        assert!(first.is_some() && second.is_some());
        assert!(open("ann").is_err_and(|detail| detail.starts_with("2 event streams are open for you")));
        let third = open("bob").ok();
        assert!(third.is_some());
        assert!(open("eve").is_err_and(|detail| detail.starts_with("3 event streams")));
        drop(first);
        assert!(open("ann").is_ok());
        drop((second, third));
        assert!(streams.open.lock().is_ok_and(|open| open.is_empty()));
    }
}
