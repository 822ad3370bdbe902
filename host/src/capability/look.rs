//! Looks at an instance of the deployer's own: by the same calls as a plugin's, granted, bounded and on record.

use super::cancellation::Cancellation;
use super::context::StepContext;
use super::host::Host;
use super::instance::Liveness;
use super::log_queue::LogQueue;
use crate::contract::bindings::deployer::pipeline::instance;
use crate::contract::{Error, Fault};

/// Whether an instance lives, as the deployer itself wants to know it.
///
/// # Errors
/// When it cannot be asked.
pub async fn alive(context: StepContext) -> Result<Liveness, Error> {
    let host = own(context);
    let looked = instance::Host::alive(&mut host.instance()).await;
    concluded(&host, looked).await
}

/// An instance's last log lines, as the deployer itself keeps them.
///
/// # Errors
/// When they cannot be read.
pub async fn log_tail(context: StepContext) -> Result<String, Error> {
    let host = own(context);
    let looked = instance::Host::log_tail(&mut host.instance()).await;
    concluded(&host, looked).await
}

fn own(context: StepContext) -> Host {
    let cancellation = Cancellation::under(&context.cancel);
    let log = LogQueue::new(context.recorder.clone(), context.redactor.clone(), cancellation.clone());
    Host::working(context, log, cancellation)
}

async fn concluded<T>(host: &Host, looked: wasmtime::Result<Result<T, Error>>) -> Result<T, Error> {
    let failed = |seen: String| Error {
        fault: Fault::Host,
        attempted: "check the instance".into(),
        seen,
        next: "see the deployer's own log".into(),
    };
    let looked = looked.map_err(|error| failed(error.to_string()))?;
    host.conclude().await.map_err(|error| failed(error.to_string()))?;
    looked
}
