//! Everything that can go wrong over SSH, whose fault it is, and whether trying again may help. How
//! it is said is in `error/text.rs`.

mod text;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Holder, KillOutcome};
use crate::model::RemoteProcess;

/// What went wrong. `Display` is the whole message: the thing, the cause, the next move.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SshError {
    BadTarget {
        given: String,
        problem: String,
    },
    BadCommand {
        command: String,
        problem: String,
    },
    BadVariable {
        name: String,
        problem: &'static str,
    },
    BadPath {
        path: String,
        problem: &'static str,
    },
    BadEntry {
        path: String,
        problem: &'static str,
    },
    /// A source file is not what its entry says.
    Changed {
        path: String,
        how: String,
    },
    SourceUnreadable {
        path: String,
        source: Arc<io::Error>,
    },

    Key {
        path: PathBuf,
        problem: KeyProblem,
    },
    KnownHostsUnreadable {
        path: PathBuf,
        source: Arc<io::Error>,
    },
    HostUnknown(Box<OfferedKey>),
    /// The host is known, by other keys, on these lines of the file.
    HostMismatch {
        offered: Box<OfferedKey>,
        lines: Vec<usize>,
    },
    HostRevoked {
        offered: Box<OfferedKey>,
        line: usize,
    },

    Unresolvable {
        host: String,
        cause: String,
    },
    Refused {
        target: String,
    },
    Silent {
        target: String,
        stage: &'static str,
        limit: Duration,
    },
    Unreachable {
        target: String,
        source: Arc<io::Error>,
    },
    Handshake {
        target: String,
        cause: String,
    },
    AuthenticationRefused(Box<RefusedKey>),

    /// The connection is gone; whether what was under way took effect is not known.
    Lost {
        target: String,
        during: String,
        cause: String,
        process: Option<RemoteProcess>,
    },
    /// Somebody else has the lease that this handle acts under.
    LeaseLost {
        folder: String,
        holder: Holder,
    },
    TimedOut {
        command: String,
        limit: Duration,
        ended: KillOutcome,
        last: String,
    },
    Cancelled {
        command: String,
        ended: KillOutcome,
    },
    NotStarted {
        command: String,
        said: String,
    },
    NoDirectory {
        command: String,
        path: String,
    },
    NoEnvironmentFile {
        command: String,
        path: String,
    },
    ChannelRefused {
        target: String,
        cause: String,
    },
    /// The server allows too few sessions on a connection to work with it.
    TooFewSessions {
        target: String,
        room: usize,
        needed: usize,
    },
    PortClosed {
        target: String,
        port: u16,
        cause: String,
    },

    NoSftp {
        target: String,
        cause: String,
    },
    NotFound {
        path: String,
    },
    Denied {
        doing: &'static str,
        path: String,
    },
    TooLarge {
        path: String,
        limit: u64,
    },
    DiskFull {
        path: String,
        free: u64,
        cause: &'static str,
    },
    /// The server said no, and no more than that.
    Remote {
        doing: &'static str,
        path: String,
        said: String,
    },
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for cannot be done by anyone.
    Request,
    /// The server or the way to it.
    Target,
    /// This machine's own set-up: its key, its known_hosts.
    Host,
}

/// Why a key file cannot be used.
#[derive(Debug, Clone)]
pub enum KeyProblem {
    Missing,
    Unreadable(Arc<io::Error>),
    /// Its permissions, which let others read or change it.
    OpenToOthers(u32),
    Encrypted,
    PublicHalf,
    NotAKey(String),
}

/// A host key that a server showed, and what to write where in order to trust it.
#[derive(Debug, Clone)]
pub struct OfferedKey {
    pub target: String,
    pub known_hosts: PathBuf,
    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// The known_hosts line that trusts this key for this host.
    pub line: String,
}

/// A client key that a server did not accept.
#[derive(Debug, Clone)]
pub struct RefusedKey {
    pub target: String,
    pub user: String,
    pub key: PathBuf,
    pub fingerprint: String,
    /// The line for the user's authorized_keys.
    pub line: String,
    pub reason: String,
}

impl SshError {
    pub fn fault(&self) -> Fault {
        match self {
            Self::BadTarget { .. }
            | Self::BadCommand { .. }
            | Self::BadVariable { .. }
            | Self::BadPath { .. }
            | Self::BadEntry { .. }
            | Self::Changed { .. }
            | Self::SourceUnreadable { .. }
            | Self::NoDirectory { .. }
            | Self::NoEnvironmentFile { .. }
            | Self::NotFound { .. }
            | Self::TooLarge { .. }
            | Self::Cancelled { .. } => Fault::Request,
            Self::Key { .. } | Self::KnownHostsUnreadable { .. } | Self::HostUnknown(_) => Fault::Host,
            Self::HostMismatch { .. }
            | Self::HostRevoked { .. }
            | Self::Unresolvable { .. }
            | Self::Refused { .. }
            | Self::Silent { .. }
            | Self::Unreachable { .. }
            | Self::Handshake { .. }
            | Self::AuthenticationRefused(_)
            | Self::Lost { .. }
            | Self::LeaseLost { .. }
            | Self::TimedOut { .. }
            | Self::NotStarted { .. }
            | Self::ChannelRefused { .. }
            | Self::TooFewSessions { .. }
            | Self::PortClosed { .. }
            | Self::NoSftp { .. }
            | Self::Denied { .. }
            | Self::DiskFull { .. }
            | Self::Remote { .. } => Fault::Target,
        }
    }

    /// Whether the same call may succeed later without anyone changing anything. It does not say
    /// that calling twice is harmless: after `Lost`, the first call may have taken effect.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::Unresolvable { .. }
                | Self::Refused { .. }
                | Self::Silent { .. }
                | Self::Unreachable { .. }
                | Self::Handshake { .. }
                | Self::Lost { .. }
                | Self::ChannelRefused { .. }
                | Self::PortClosed { .. }
        )
    }

    /// No connection came about.
    pub fn keeps_out(&self) -> bool {
        matches!(
            self,
            Self::Key { .. }
                | Self::KnownHostsUnreadable { .. }
                | Self::HostUnknown(_)
                | Self::HostMismatch { .. }
                | Self::HostRevoked { .. }
                | Self::Unresolvable { .. }
                | Self::Refused { .. }
                | Self::Silent { .. }
                | Self::Unreachable { .. }
                | Self::Handshake { .. }
                | Self::AuthenticationRefused(_)
        )
    }

    /// The connection was there and is gone: a new one may do.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}
