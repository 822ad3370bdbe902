//! What a plugin's imports reach: each of them its own part of a step, and nothing of the others'.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use wasmtime::component::Linker;

use super::call::{Calls, View};
use super::cancellation::Cancellation;
use super::context::StepContext;
use super::environment::Placing;
use super::http::Network;
use super::instance::Looking;
use super::log_queue::LogQueue;
use super::progress::Progress;
use super::reach::Reach;
use super::record::RecordError;
use super::service::Service;
use super::target::Target;
use crate::contract::bindings::deployer::pipeline as imports;

pub enum Host {
    /// `describe` is called: it can only answer.
    Describing { plugin: String },
    /// A step's function is called.
    Working(Box<Step>),
}

/// One call of a plugin's function, for as long as it takes.
pub struct Step {
    calls: Calls,
    service: Service,
    target: Arc<Target>,
    environment: Placing,
    instance: Looking,
    network: Network,
    progress: Arc<Progress>,
}

/// Where the host is in what a sandbox carries.
pub trait HasHost: Send + 'static {
    fn host(&self) -> &Host;
}

/// Lends all of the contract's imports to plugins.
///
/// # Errors
/// When something of the same name is there already.
pub fn add_to_linker<T: HasHost>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    imports::types::add_to_linker::<T, View<'static, ()>>(linker, |state| state.host().view(|_| &()))?;
    imports::service::add_to_linker::<T, View<'static, Service>>(linker, |state| {
        state.host().view(|step| &step.service)
    })?;
    imports::target::add_to_linker::<T, View<'static, Target>>(linker, |state| {
        state.host().view(|step| &*step.target)
    })?;
    imports::environment::add_to_linker::<T, View<'static, Placing>>(linker, |state| {
        state.host().view(|step| &step.environment)
    })?;
    imports::instance::add_to_linker::<T, View<'static, Looking>>(linker, |state| state.host().instance())?;
    imports::http::add_to_linker::<T, View<'static, Network>>(linker, |state| {
        state.host().view(|step| &step.network)
    })?;
    imports::log::add_to_linker::<T, View<'static, LogQueue>>(linker, |state| {
        state.host().view(|step| &step.calls.log)
    })?;
    imports::progress::add_to_linker::<T, View<'static, Progress>>(linker, |state| {
        state.host().view(|step| &*step.progress)
    })?;
    imports::control::add_to_linker::<T, View<'static, Cancellation>>(linker, |state| {
        state.host().view(|step| &step.calls.cancellation)
    })
}

impl Host {
    /// Gives each import its part of a step's context.
    pub fn working(context: StepContext, log: LogQueue, cancellation: Cancellation) -> Self {
        let StepContext {
            plugin,
            grants,
            pipeline_file,
            limits,
            redactor,
            boundary,
            started,
            service_dir,
            ssh,
            http,
            registry,
            target_host,
            environment,
            only_reads,
            recorder,
            cancel: _,
        } = context;
        let progress = Arc::new(Progress::new(recorder.clone(), cancellation.clone()));
        let reach = Reach::new(plugin.clone(), grants.clone(), pipeline_file.clone(), boundary, ssh.clone());
        let reach = Arc::new(reach);
        let target = Arc::new(Target {
            reach: reach.clone(),
            timeout: limits.timeout,
            cancellation: cancellation.clone(),
            recorder: recorder.clone(),
            log: log.clone(),
            progress: progress.clone(),
            service: service_dir.clone(),
        });
        Self::Working(Box::new(Step {
            service: Service(service_dir),
            environment: Placing { reach, source: environment },
            instance: Looking { target: target.clone(), started },
            target,
            network: Network { plugin: plugin.clone(), client: http, ssh, registry, target_host },
            progress,
            calls: Calls {
                plugin,
                grants,
                pipeline_file,
                only_reads,
                redactor,
                recorder,
                log,
                cancellation,
                count: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            },
        }))
    }

    /// Whether only `describe` is called.
    pub(crate) fn describes(&self) -> bool {
        match self {
            Self::Describing { .. } => true,
            Self::Working(_) => false,
        }
    }

    pub(super) fn instance(&self) -> View<'_, Looking> {
        self.view(|step| &step.instance)
    }

    fn view<P: Sync>(&self, part: fn(&Step) -> &P) -> View<'_, P> {
        match self {
            Self::Describing { plugin } => View::describing(plugin),
            Self::Working(step) => View::of(&step.calls, part(step)),
        }
    }

    /// Brings out what is still held back.
    pub(crate) async fn conclude(&self) -> Result<(), RecordError> {
        match self {
            Self::Describing { .. } => Ok(()),
            Self::Working(step) => {
                step.progress.conclude().await?;
                step.calls.conclude().await;
                Ok(())
            }
        }
    }
}
