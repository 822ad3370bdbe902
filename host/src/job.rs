//! A job's life, from its acceptance to its end.
//!
//! `supervisor` owns the jobs that live: a queue for each service, and what is between the jobs, `registering`
//! what a registry did not take. `jobs` is the API's way to it, `submission` makes a job of a request, `cancelling`
//! ends one that is no longer wanted, `live` is what there is of a job only in this process.
//!
//! `interruption` runs a job again that the journal cut off.
//!
//! `runner` takes one job through its phases, `phases` says what it does in each, `step` is one plugin's turn,
//! `recorder` writes down what it does, `reconnect` is what becomes of one that loses the target, `unwind` brings
//! back what ran before, `removal` removes what is no longer kept, `lease` keeps other deployers out, `outage`
//! measures how long callers had no answer. `host` is what they all work with.
//!
//! `state` says which states there are, `release` chooses what to go back to, `retention` says which releases are
//! no longer kept, `flow` makes the contract's records of the journal's: these are pure.

mod cancelling;
mod flow;
mod host;
mod interruption;
mod jobs;
mod lease;
mod live;
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

pub use host::Host;
pub use jobs::Jobs;
pub use release::ReleaseIds;
pub use supervisor::Supervisor;
