//! What the end-to-end tests share: the program as users run it, the server that it deploys to, and services
//! that can be changed.
//!
//! `tests/run` sets the server up and says in the environment where it is.

// This whole crate is test code, where a panic is how a failure is said.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::missing_panics_doc)]

mod aftermath;
mod api;
mod matrix;
mod outage;
mod program;
mod proxy;
mod service;
mod target;

pub use aftermath::{Served, serving, wrongs};
pub use api::{Job, deployment};
pub use matrix::{sample, say};
pub use outage::Outage;
pub use program::{Program, client, program};
pub use proxy::Proxy;
pub use service::Service;
pub use target::{Target, target};
