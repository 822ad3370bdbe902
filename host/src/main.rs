use std::process::ExitCode;

use clap::Parser;
use deployer::cli::{self, Cli};

/// Blocks of this size and more come from the system, and go back to it when they are freed. By itself, the C library
/// keeps ever larger ones: what a plugin said once would stay with this process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK: i32 = 256 << 10;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "no safe crate sets this; it is called before there is another thread")]
fn give_memory_back() {
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_memory_back() {}

fn main() -> ExitCode {
    give_memory_back();
    let cli = Cli::parse();
    let json = cli.json;
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return cli::report(&anyhow::Error::new(error).context("cannot start threads"), json),
    };
    let result = runtime.block_on(cli::run(cli));
    // A blocked read of a terminal or a child's pipe must not keep the program from ending.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| cli::report(&error, json))
}
