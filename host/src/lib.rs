//! `deployer` takes a service's directory to a Linux server over SSH and never leaves it broken.
//!
//! The modules stand in the order that a request flows.

pub mod cli;
pub mod settings;

pub mod server;

mod descriptors;

pub mod http;

pub mod job;

pub mod pipeline;

pub mod plugin;

pub mod capability;

pub mod ssh;

pub mod journal;

pub mod secret;

pub mod contract;

pub mod model;

pub mod demo;
