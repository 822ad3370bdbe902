//! Deploys real services to a real server, through the program as users run it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod audit;
mod callers;
mod crash_points;
mod demo;
mod docker;
mod failures;
mod plugins;
mod recovery;
mod registering;
mod requests;
mod retention;
mod systemd;
mod transfer;
mod two_deployers;
mod unsendable;
