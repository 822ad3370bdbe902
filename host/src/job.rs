//! A job's life, from its acceptance to its end.
//!
//! `supervisor` owns the jobs that live: a queue for each service, and what is between the jobs, `registering` what a
//! registry did not take. `admission` gives each job its place on the target, `interruption` runs one again that the
//! journal cut off. `jobs` is the API's way to it, `submission` makes a job of a request, `cancelling` ends one that is
//! no longer wanted, `condition` is how target and registry are, `live` is what there is of a job only in this process.
//!
//! `runner` takes one job through its phases, `phases` says what it does in each, `step` is one plugin's turn,
//! `recorder` writes down what it does, `redaction` keeps out of that what must not be shown, `reconnect` is what
//! becomes of one that loses the target, `precheck` looks before anything is stopped, `liveness` at what runs, `unwind`
//! brings back what ran before, `ending` says how a job ends that does not complete, `removal` removes what is no longer
//! kept, `lease` keeps other deployers out, `records` is what the target itself says of a service's releases, `takeover`
//! is what a job does there for other deployers and for itself, `outage` measures how long callers had no answer. `host`
//! is what they all work with.
//!
//! `state` says which states there are, `aftermath` what runs after a job that did not complete, `outcome` judges that
//! by what was seen, `release` chooses what to go back to, `promise` says whether that can be done (`looking` asks),
//! `reconcile` says where journal and target disagree, `retention` which releases are no longer kept, `conversions` makes the
//! contract's records of the journal's: these are pure.

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
