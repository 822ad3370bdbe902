//! A job's life, from its acceptance to its end.
//!
//! `supervisor` owns the jobs that live: a queue for each service, and what is between the jobs, `registering` what a
//! registry did not take. `admission` gives each job its place on the target, `interruption` runs one again that the
//! journal interrupted. `jobs` is the API's way to it, `submission` makes a job of a request, `cancelling` ends one that
//! is no longer wanted, `condition` is how target and registry are, `live` is what there is of a job only in this
//! process.
//!
//! `decision` says what a job does next, as a value: `drive` asks it and does that, one action after the other. `runner`
//! is the job in memory, and records its state and its phases. `phases` says what it does in each, `step` calls a plugin,
//! `interrupt` is why one of them did not come to its end, `recorder` writes down what it does, `redaction` keeps out of
//! that what must not be shown, `reconnect` is what becomes of one that loses the target, within the budgets of `retry`,
//! `precheck` looks before anything is stopped, `liveness` at what runs, `unwind` brings back what ran before, `ending`
//! records how a job ends, `removal` removes what is no longer kept, `lease` keeps other deployers out, by a
//! `lease_guard`, `records` is what the target itself says of a service's releases, `takeover` is what a job does there
//! for other deployers and for itself, `outage` measures how long callers had no answer. `host` is what they all work
//! with.
//!
//! `outcome` judges by what was seen what runs after a job that did not complete, `release` chooses what to go back to,
//! `promise` says whether that can be done (`looking` asks), `reconcile` says where journal and target disagree,
//! `retention` which releases are no longer kept, `conversions` makes the contract's records of the journal's: these and
//! `decision` are pure. How a job's and a release's state change is the model's to say.

mod admission;
mod cancelling;
mod condition;
mod conversions;
mod decision;
mod deployments;
mod drive;
mod ending;
mod health;
mod host;
mod interrupt;
mod interruption;
mod jobs;
mod lease;
mod lease_guard;
mod live;
mod liveness;
mod looking;
mod outage;
mod outcome;
mod phases;
mod precheck;
pub mod promise;
mod reconcile;
mod reconnect;
mod recorder;
mod records;
mod redaction;
mod refusal;
mod registering;
pub mod release;
mod removal;
mod request;
mod retention;
mod retry;
mod runner;
mod step;
mod submission;
mod supervisor;
mod takeover;
mod unwind;

pub use condition::Conditions;
pub use deployments::{
    Capabilities, CurrentJob, Deployments, JobLimits, PluginSummary, RefusedPlugin, ReleaseOnTarget,
};
pub use health::{Health, Trouble};
pub use host::Host;
pub use jobs::Jobs;
pub use refusal::Refusal;
pub use release::ReleaseIds;
pub use request::{DeployRequest, Environment, FieldProblem, Known};
pub use supervisor::Supervisor;
