//! The embedded target and registry of `deployer demo`: a real SSH server and a real droplet registry,
//! both on loopback and in this process, so that the demo needs a machine with nothing installed.
//!
//! The deployer meets them through the same protocols as a server and a registry elsewhere; nothing
//! here is known to the rest of the host.

pub mod registry;
pub mod sshd;

mod command;
mod forward;
mod keys;
mod leftovers;
mod sftp;
