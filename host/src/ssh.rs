//! SSH in our own words: run a command on the target, move files there, reach its loopback. It owns
//! the connection (one per target, made on first use, re-made when lost) and knows nothing of
//! releases, phases or plugins. No other module knows the libraries underneath.

mod channels;
mod client;
mod command;
mod connection;
mod dial;
mod error;
mod files;
mod holder;
mod host_key;
mod key;
mod kill;
mod kill_outcome;
mod known_hosts;
mod lanes;
mod lease;
mod lines;
mod link;
mod resolve;
mod run;
mod sftp;
mod slots;
mod source;
mod stat;
mod target;
mod upload;

pub use self::client::{SlotRequest, Ssh};
pub use self::command::{Exit, Output, RemoteCommand, Stream, Watch, environment_text};
pub use self::error::{Fault, KeyProblem, OfferedKey, RefusedKey, SshError};
pub use self::holder::Holder;
pub use self::host_key::HostKey;
pub use self::kill_outcome::KillOutcome;
pub use self::lease::{Foreign, Generation, LEASE_TIME, Lease, LeaseRequest, Taken};
pub use self::link::ConnectionMark;
pub use self::slots::{Priority, QueuedRequest, Slot};
pub use self::stat::{Kind, Stat};
pub use self::target::{Credentials, Target};
pub use self::upload::{Progress, UploadEntry, UploadKind, Uploaded};
