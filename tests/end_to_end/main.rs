//! Deploys real services to a real server, through the program as users run it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod accepted;
mod audit;
mod bystanders;
mod callers;
mod crash_points;
mod demo;
mod docker;
mod earlier_versions;
mod failures;
mod full_disk;
mod hostile;
mod many;
mod plugins;
mod promises;
mod recovery;
mod redaction;
mod registering;
mod requests;
mod retention;
mod running;
mod systemd;
mod three_deployers;
mod transfer;
mod two_deployers;
mod unsendable;
