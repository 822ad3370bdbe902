//! Which steps a job has, and their settings: from TOML to a plan that is valid by construction.
//!
//! It owns the files in `pipelines/` and what may be wrong with them. It runs nothing.

mod file;
mod plan;
mod problem;
mod shelf;
#[cfg(test)]
mod tests;

pub use plan::{Available, Keep, Plan, PlannedStep, load, needed};
pub use problem::{PipelineError, Problem};
