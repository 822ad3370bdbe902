//! One call's sandbox: its memory limit, its clock, its view of the world. It lasts for one call.

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Store};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};

use super::output::Captured;
use crate::capability::{HasHost, Host, ServiceFolder, limits};

const TABLE_ELEMENTS: usize = 1 << 20;
/// Core instances, memories and tables: a component has a handful of each.
const PARTS: usize = 1000;

/// What a plugin's call carries.
pub(super) struct State {
    pub host: Host,
    pub memory: MemoryLimit,
    wasi: WasiCtx,
    table: ResourceTable,
}

/// Counts all memories of a call together.
pub(super) struct MemoryLimit {
    limit: usize,
    used: usize,
    /// A request went past the limit.
    pub refused: bool,
}

/// A sandbox with nothing in it yet.
pub(super) fn store(
    engine: &Engine,
    host: Host,
    memory_bytes: u64,
    service: Option<&ServiceFolder>,
    captured: &Captured,
) -> std::io::Result<Store<State>> {
    let mut wasi = WasiCtx::builder();
    wasi.stdout(captured.stdout()).stderr(captured.stderr());
    wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    if let Some(service) = service {
        wasi.preopened_dir(service.path(), "/service", FsPerms::ReadOnly).map_err(std::io::Error::other)?;
    }
    let limit = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
    let state = State {
        host,
        memory: MemoryLimit { limit, used: 0, refused: false },
        wasi: wasi.build(),
        table: ResourceTable::new(),
    };
    let handed_over = if state.host.describes() { limits::DESCRIBED } else { limits::HANDED_OVER };
    let mut store = Store::new(engine, state);
    // What it gives the host in one call or answer is copied only up to here.
    store.set_hostcall_fuel(handed_over);
    store.limiter(|state| &mut state.memory);
    // At each tick of the engine's clock the plugin lets others run, and the call can be ended.
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    Ok(store)
}

impl HasHost for State {
    fn host(&self) -> &Host {
        &self.host
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.refused = true;
            return Ok(false);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}
