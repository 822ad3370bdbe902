//! What the host lends to plugins: the contract's imports, each behind a grant and on record. It owns no
//! connection and no history of its own: `ssh` does the work, a `Recorder` keeps the record.

mod call;
pub mod context;
pub mod control;
pub mod environment;
mod folder;
pub mod grant;
pub mod http;
pub mod log;
mod placed;
pub mod record;
pub mod redact;
mod service;
mod target;

pub(crate) use call::redacted_error;
pub use call::{HasHost, Host, Step, Stop, StopCause};
pub use context::{Limits, Registry, StepContext};
pub use environment::{EnvironmentSource, Secret};
pub use folder::{FolderError, ServiceFolder};
pub use grant::{Grant, Grants, UnknownGrant};
pub use http::HttpClient;
pub use log::LogQueue;
pub use placed::placed;
pub use record::{Amount, CallEnded, Effect, Intent, Level, RecordError, Recorder, Source};
pub use redact::{Hidden, Redactor};
