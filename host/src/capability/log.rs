//! The contract's `log`: lines of the plugin's own.

use super::call::View;
use super::log_queue::LogQueue;
use super::record::{Level, Source};
use crate::contract::bindings::deployer::pipeline::log;

impl log::Host for View<'_, LogQueue> {
    async fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let Some(queue) = self.part() else { return Ok(()) };
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        for line in message.lines() {
            if queue.room() == 0 {
                queue.wait_for_room().await;
            }
            queue.add(level, Source::Plugin, line);
        }
        Ok(())
    }
}
