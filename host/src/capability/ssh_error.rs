//! What went wrong over SSH, in the contract's words.

use crate::contract::{Error, Fault};
use crate::ssh::{self, SshError};

pub(super) fn ssh_error(attempted: &str, error: &SshError) -> Error {
    Error {
        fault: match error.fault() {
            ssh::Fault::Request => Fault::Request,
            ssh::Fault::Target => Fault::Target,
            ssh::Fault::Host => Fault::Host,
        },
        attempted: attempted.into(),
        seen: error.problem(),
        next: error.next_move(),
    }
}
