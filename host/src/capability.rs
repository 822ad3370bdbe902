//! What the host lends to plugins: the contract's imports, each behind a grant and on record. It owns no
//! connection and no history of its own: `ssh` does the work, a `Recorder` keeps the record.

pub mod boundary;
mod call;
mod checks;
pub mod context;
pub mod control;
pub mod environment;
mod folder;
pub mod grant;
pub mod http;
mod instance;
pub mod limits;
pub mod log;
mod placed;
mod reach;
pub mod record;
mod service;
mod stop;
mod target;

pub use boundary::Boundary;
pub(crate) use call::redacted_error;
pub use call::{Exceeded, HasHost, Host, Step};
pub use context::{Limits, Login, Registry, StepContext};
pub use environment::EnvironmentSource;
pub use folder::{FolderError, ServiceFolder};
pub use grant::Grants;
pub use http::{HttpClient, PLUGIN_HEADER, split_login, without_user};
pub use instance::{Liveness, Started, alive, log_tail};
pub use log::LogQueue;
pub use placed::placed;
pub use record::{Amount, CallEnded, Effect, Intent, Level, RecordError, Recorder, Source};
pub use stop::{Stop, StopCause};
