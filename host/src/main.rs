use std::process::ExitCode;

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
    deployer::cli::main(None)
}
