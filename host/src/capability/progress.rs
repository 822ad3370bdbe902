//! The contract's `progress`: how far a step is, for whoever follows it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::call::View;
use super::cancellation::Cancellation;
use super::record::{Amount, RecordError, Recorder};
use crate::contract::bindings::deployer::pipeline::progress;

/// Not more often than anybody looks.
const EVERY: Duration = Duration::from_millis(250);

/// How far the step is, on its way to the recorder. An upload reports by it, too.
pub struct Progress {
    recorder: Arc<dyn Recorder>,
    cancellation: Cancellation,
    reported: Mutex<Reported>,
}

#[derive(Default)]
struct Reported {
    amount: Amount,
    unsent: bool,
    sent: Option<Instant>,
}

impl Progress {
    pub(super) fn new(recorder: Arc<dyn Recorder>, cancellation: Cancellation) -> Self {
        Self { recorder, cancellation, reported: Mutex::default() }
    }

    pub(super) fn amount(&self) -> Amount {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).amount
    }

    /// Reports how far the step is, but not more often than anybody looks.
    pub(super) async fn advance(&self, amount: Amount) -> Result<(), RecordError> {
        let due = {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            reported.amount = amount;
            let whole = amount.files_done == amount.files_total && amount.bytes_done == amount.bytes_total;
            let due = whole || reported.sent.is_none_or(|sent| sent.elapsed() >= EVERY);
            reported.unsent = !due;
            if due {
                reported.sent = Some(Instant::now());
            }
            due
        };
        if due {
            self.cancellation.unless_recorded(self.recorder.progress(amount).await)?;
        }
        Ok(())
    }

    /// Reports what was held back.
    pub(super) async fn conclude(&self) -> Result<(), RecordError> {
        let unsent = {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut reported.unsent).then_some(reported.amount)
        };
        match unsent {
            Some(amount) => self.recorder.progress(amount).await,
            None => Ok(()),
        }
    }
}

impl progress::Host for View<'_, Progress> {
    async fn report(&mut self, amount: progress::Amount) -> wasmtime::Result<()> {
        let Some(progress) = self.part() else { return Ok(()) };
        let amount = Amount {
            files_done: amount.files_done,
            files_total: amount.files_total,
            bytes_done: amount.bytes_done,
            bytes_total: amount.bytes_total,
        };
        progress.advance(amount).await.map_err(wasmtime::Error::new)
    }
}
