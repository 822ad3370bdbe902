//! The `ssh` module against a real sshd on a loopback port, started here with keys made here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod busy;
mod commands;
mod connecting;
mod files;
mod server;
mod uploads;
