//! What the host lends to plugins: the contract's imports, each behind a grant and on record. It owns no
//! connection and no history of its own: `ssh` does the work, a `Recorder` keeps the record.

mod call;
pub mod context;
pub mod control;
pub mod environment;
pub mod grant;
pub mod http;
pub mod log;
pub mod record;
pub mod redact;
mod service;
mod target;

pub(crate) use call::redacted_error;
pub use call::{HasHost, Host, Step, Stop, StopCause};
pub use context::{Limits, Login, Registry, StepContext};
pub use environment::{EnvironmentSource, Secret};
pub use grant::{Grant, Grants, UnknownGrant};
pub use http::{HttpClient, PLUGIN_HEADER, split_login, without_user};
pub use log::LogQueue;
pub use record::{Amount, CallEnded, Effect, Intent, Level, RecordError, Recorder, Source};
pub use redact::Redactor;
