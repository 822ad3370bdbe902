//! Plugins that were compiled for real, good ones and bad ones, on a real runtime.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod calls;
mod fixture;
mod folder;
mod limits;
mod outside;
mod own_api;
mod server;
mod walls;
