//! The contract's `control`, and the records' own interface: what needs no grant and no record.

use super::call::View;
use super::cancellation::Cancellation;
use crate::contract::bindings::deployer::pipeline::{control, types};

impl control::Host for View<'_, Cancellation> {
    async fn cancelled(&mut self) -> wasmtime::Result<bool> {
        // A step whose time is up is to end as well.
        Ok(self.part().is_some_and(|cancellation| cancellation.cause().is_some()))
    }
}

impl types::Host for View<'_, ()> {}
