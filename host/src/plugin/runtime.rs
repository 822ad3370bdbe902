//! The WebAssembly engine: its settings, its cache on disk, its clock. It knows no plugin.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Cache, CacheConfig, Config, Engine};

use super::store::State;
use crate::capability::add_to_linker;

/// How often a running plugin lets others run, and can be ended.
const TICK: Duration = Duration::from_millis(20);
/// Address space for a memory to grow in; it is not memory until it is written to. Small enough that many
/// plugins fit into a limited address space; a memory that outgrows it moves.
const RESERVATION: u64 = 256 << 20;
const RESERVATION_FOR_GROWTH: u64 = 64 << 20;
const GUARD: u64 = 64 << 10;

/// What plugins run on. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    linker: Linker<State>,
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error(
        "the folder {path} for compiled plugins cannot be made: {source}; check the data folder's owner and mode"
    )]
    CacheFolder { path: PathBuf, source: std::io::Error },
    #[error("WebAssembly cannot be run on this machine: {0}")]
    Engine(String),
}

impl Runtime {
    /// `cache` is a folder that only this host writes: what lies there is run as it is.
    pub fn new(cache: &Path) -> Result<Self, RuntimeError> {
        let folder = private_folder(cache)
            .map_err(|source| RuntimeError::CacheFolder { path: cache.to_owned(), source })?;
        let failed = |error: wasmtime::Error| RuntimeError::Engine(format!("{error:#}"));
        let mut cache = CacheConfig::new();
        cache.with_directory(folder);
        let mut config = Config::new();
        config
            .cache(Some(Cache::new(cache).map_err(failed)?))
            .epoch_interruption(true)
            .wasm_component_model(true)
            .parallel_compilation(true)
            .memory_reservation(RESERVATION)
            .memory_reservation_for_growth(RESERVATION_FOR_GROWTH)
            .memory_guard_size(GUARD);
        let engine = Engine::new(&config).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(failed)?;
        add_to_linker(&mut linker).map_err(failed)?;
        tick(&engine)
            .map_err(|error| RuntimeError::Engine(format!("no thread could be started: {error}")))?;
        Ok(Self { inner: Arc::new(Inner { engine, linker }) })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(super) fn linker(&self) -> &Linker<State> {
        &self.inner.linker
    }
}

/// Made at 0700: compiled code that others could write would be their code, run as this user.
fn private_folder(path: &Path) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    path.canonicalize()
}

/// The clock ends with the engine.
fn tick(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("plugin-clock".into()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    })?;
    Ok(())
}
