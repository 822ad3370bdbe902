//! The limit of open files that this process has: connections, the journal, SSH and plugins share it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More is not needed, and some programs look at each possible descriptor when they start.
const ENOUGH: u64 = 65_536;

/// Raises the limit to what this process may raise it to.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files cannot be raised; fewer connections are taken");
        }
    }
}
