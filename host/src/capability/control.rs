//! The contract's `control`, `progress` and the records' own interface: what needs no grant and no record.

use super::call::Host;
use super::record::Amount;
use crate::contract::bindings::deployer::pipeline::{control, progress, types};

impl control::Host for Host {
    async fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(match self {
            Self::Describing { .. } => false,
            // A step whose time is up is to end as well.
            Self::Working(step) => step.stop.cause().is_some(),
        })
    }
}

impl progress::Host for Host {
    async fn report(&mut self, amount: progress::Amount) -> wasmtime::Result<()> {
        let Self::Working(step) = self else { return Ok(()) };
        step.advance(Amount {
            files_done: amount.files_done,
            files_total: amount.files_total,
            bytes_done: amount.bytes_done,
            bytes_total: amount.bytes_total,
        })
        .await
    }
}

impl types::Host for Host {}
