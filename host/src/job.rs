//! A job's life, from its acceptance to its end.
//!
//! `state` says which states there are, and is pure. `release` chooses what to go back to, and is pure.
//! `runner` takes one job through its phases, `phases` says what it does in each, `step` is one
//! plugin's turn, `reconnect` what becomes of one that loses the target, `unwind` brings back what ran before,
//! `lease` keeps other deployers out, `outage` measures how long
//! callers had no answer, `retention` says which releases are no longer kept, and is pure, `removal` removes
//! them, `recorder` writes down what plugins do. `supervisor` owns the jobs that live: their queues, their cancelling, their resuming.

mod flow;
mod lease;
mod outage;
mod phases;
mod reconnect;
mod recorder;
mod registering;
pub mod release;
mod removal;
mod retention;
mod runner;
pub mod state;
mod step;
mod submission;
mod supervisor;
mod unwind;

pub use release::ReleaseIds;
pub use supervisor::{Host, Jobs, Supervisor};
