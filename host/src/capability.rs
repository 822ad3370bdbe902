//! What the host lends to plugins: the contract's imports, each behind a grant and on record. It owns no
//! connection and no history of its own: `ssh` does the work, a `Recorder` keeps the record.

pub mod boundary;
mod call;
mod cancellation;
mod checks;
pub mod context;
pub mod control;
pub mod environment;
mod folder;
pub mod grant;
mod host;
pub mod http;
mod instance;
pub mod limits;
pub mod log;
mod log_queue;
mod look;
mod placed;
mod progress;
mod reach;
pub mod record;
mod service;
mod ssh_error;
mod started;
mod target;

pub use boundary::Boundary;
pub use call::Exceeded;
pub(crate) use call::redacted_error;
pub use cancellation::{CancelCause, Cancellation};
pub use context::{Limits, StepContext};
pub use environment::source::EnvironmentSource;
pub use folder::{FolderError, ServiceFolder};
pub use grant::Grants;
pub use host::{HasHost, Host, Step, add_to_linker};
pub use http::client::{HttpClient, HttpClientError};
pub use http::registry::{Login, Registry};
pub use http::{PLUGIN_HEADER, split_login, without_user};
pub use instance::Liveness;
pub use log_queue::LogQueue;
pub use look::{alive, log_tail};
pub use placed::placed;
pub use record::{Amount, CallEnded, Effect, Intent, Level, RecordError, Recorder, Source};
pub use started::Started;
