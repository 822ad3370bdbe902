//! Runs plugins: finds and checks them, and calls each of their functions in a fresh sandbox with limits.
//! It decides nothing about a job, and lends a plugin nothing: what a plugin may call is `capability`'s.

pub mod bindings;
mod bounds;
mod call;
pub mod catalog;
mod claims;
mod contract;
mod engine;
mod error;
mod folder;
mod inspect;
mod output;
mod plugin;
mod refusal;
mod sandbox;
mod store;

#[cfg(test)]
mod tests;

pub use self::bindings::deployer::pipeline::types::{
    Artifact, Deployment, Error, Fault, Files, Finding, Instance, Layout, Occasion, Outcome, Probe,
    Publication, Registration, Release, Severity, Variable, Verdict,
};
pub use self::catalog::{Catalog, Refused, Snapshot};
pub use self::contract::{CONTRACT, Export};
pub use self::engine::{Stage, StageError};
pub use self::error::{StepError, StepFailure};
pub use self::plugin::{Plugin, SettingProblem};
pub use crate::capability::StepContext;
