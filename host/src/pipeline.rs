//! Which steps a job has, and their settings: from TOML to a plan that is valid by construction.
//!
//! It owns the files in `pipelines/` and what may be wrong with them. It runs nothing.

mod file;
mod index;
mod plan;
mod problem;
#[cfg(test)]
mod tests;

pub use plan::{Available, load, needed};
pub use problem::{PipelineError, Problem};
