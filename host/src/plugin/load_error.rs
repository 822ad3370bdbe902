//! Why a file in the plugins folder is not loaded, and what to do about it.

use super::error::StepFailure;
use crate::capability::limits;
use crate::contract::CONTRACT;

#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(
        "its name is not a plugin's name: rename it to small letters, digits and `-`, beginning with a letter, \
         and `.wasm`"
    )]
    FileName,
    #[error("it cannot be read: {0}; check its owner and mode")]
    Unreadable(std::io::Error),
    #[error("it has {size} bytes, and {limit} is the most: build it for release, and strip it")]
    TooLarge { size: u64, limit: u64 },
    #[error("it changed while it was read; it is loaded as soon as it is whole")]
    Changing,
    #[error("it is not WebAssembly: put the compiled `.wasm` there")]
    NotWasm,
    #[error(
        "it is a core module, and plugins are components: build it for wasm32-wasip2, or wrap it with \
         `wasm-tools component new`"
    )]
    CoreModule,
    #[error("it is cut off or broken ({0}); if it is being copied, it is loaded as soon as it is whole")]
    Broken(String),
    #[error(
        "it {way} `{interface}` of the contract in version {version}, and this host speaks {CONTRACT}: \
         rebuild it against deployer:pipeline@{CONTRACT}, or update the deployer"
    )]
    OtherVersion { way: &'static str, interface: String, version: String },
    #[error(
        "it imports `{interface}` of the contract's version {version}, which this host ({CONTRACT}) does not \
         have: update the deployer"
    )]
    NewerImport { interface: String, version: String },
    #[error(
        "it imports `{0}`, which this host does not offer: plugins reach the outside through \
         deployer:pipeline's `target` and `http`, and WASI 0.2's files, clocks and random numbers"
    )]
    ForeignImport(String),
    #[error("it has no `plugin.describe`: export deployer:pipeline/plugin@{CONTRACT}")]
    NoDescribe,
    #[error(
        "it exports no phase: export one or more of validate, transfer, build, start, verify, register of \
         deployer:pipeline@{CONTRACT}"
    )]
    NoPhase,
    #[error("it does not fit the contract's version {CONTRACT} ({0}): rebuild it against this host's `wit`")]
    Incompatible(String),
    #[error("its `describe` {0}")]
    Describe(StepFailure),
    #[error("it calls itself `{said}`: name the file `{said}.wasm`, or fix its `describe`")]
    OtherName { said: String },
    #[error("its `describe` gives no version: say one, as `1.0.0`")]
    NoVersion,
    #[error("its {what} has {bytes} bytes, and {limit} are the most: shorten what its `describe` says")]
    TooLong { what: &'static str, bytes: usize, limit: usize },
    #[error(
        "its settings' schema is too large: it has more than {} values, or more than {} levels; shorten it",
        limits::SCHEMA_VALUES,
        limits::SCHEMA_DEPTH
    )]
    SchemaTooLarge,
    #[error("its settings' schema is not JSON ({0}): fix its `describe`")]
    SchemaNotJson(serde_json::Error),
    #[error("its settings' schema is not a JSON Schema ({0}): fix its `describe`")]
    SchemaInvalid(String),
}

impl LoadError {
    /// Whether the same file may be fine at another time: the machine was busy, not the plugin wrong.
    pub fn passing(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::Changing | Self::Describe(StepFailure::TimedOut { .. }))
    }
}
