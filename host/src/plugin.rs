//! Runs plugins: finds and checks them, and calls each of their functions in a fresh sandbox with limits.
//! It decides nothing about a job, and lends a plugin nothing: what a plugin may call is `capability`'s.

mod answer_checks;
mod bounds;
mod call;
pub mod catalog;
mod component;
mod error;
mod folder;
mod inspect;
mod load_error;
mod output;
mod runtime;
mod sandbox;
mod store;

#[cfg(test)]
mod tests;

pub use self::call::Invocation;
pub use self::catalog::{Catalog, Refused, Snapshot};
pub use self::component::{Plugin, SettingProblem};
pub use self::error::{StepError, StepFailure};
pub use self::runtime::{Runtime, RuntimeError};
