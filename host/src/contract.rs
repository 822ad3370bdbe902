//! What plugins and host speak: the records and functions of `wit/`, in Rust.

pub mod bindings;
mod convert;
mod names;

pub use bindings::deployer::pipeline::types::{
    Artifact, Deployment, Error, Fault, Files, Finding, Instance, Layout, Occasion, Outcome, Probe,
    Publication, Registration, Release, Severity, Variable, Verdict,
};
pub use convert::failure;
pub use names::{CONTRACT, Export, Name, export, import};
