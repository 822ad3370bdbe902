//! Looks whether releases can be gone back to: at the plugins folder, and with one round of questions at the target.
//! What that means is `promise`'s to say.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::conversions::granted;
use super::host::Host;
use super::promise::{self, Availability, Because, Candidate, NoRollback, OnTarget};
use super::{conversions, redaction};
use crate::capability::{
    Amount, Boundary, CallEnded, EnvironmentSource, Intent, Level, Limits, RecordError, Recorder, Source,
    StepContext,
};
use crate::journal::JournalError;
use crate::model::{Artifact, Layout, Phase, Plan, PlannedStep, ReleaseRecord, RemoteProcess};
use crate::plugin::{Invocation, Snapshot};
use crate::secret::Redactor;
use crate::ssh::{Ssh, SshError};

/// For all questions about one release.
const LIMIT: Duration = Duration::from_secs(15);
/// Of so many releases at once: the connection has other work.
const AT_ONCE: usize = 4;

/// The pipeline that a release was deployed by.
///
/// # Errors
/// Those of the journal.
pub(super) async fn plan_of(host: &Host, release: &ReleaseRecord) -> Result<Option<Plan>, JournalError> {
    let plan = match &release.plan {
        Some(plan) => Some(plan.clone()),
        None => host.journal.job(&release.job).await?.map(|origin| origin.plan),
    };
    Ok(plan.and_then(|plan| plan.read().ok().cloned()))
}

/// Which of these releases can be gone back to, in their order.
///
/// # Errors
/// Those of the journal. That the target cannot be asked is an answer.
pub(super) async fn availability(
    host: &Host,
    releases: &[ReleaseRecord],
) -> Result<Vec<Availability>, JournalError> {
    let mut plans = Vec::new();
    for release in releases {
        plans.push(plan_of(host, release).await?);
    }
    let steps = plans.iter().flatten().flat_map(|plan| &plan.steps);
    let plugins = host.catalog.with(&steps.map(|step| step.plugin.clone()).collect()).await;
    let mut known = Vec::new();
    for (release, plan) in releases.iter().zip(plans) {
        let lacks = promise::lacks_here(release, plan.as_ref(), plugins.as_ref(), &plugins.refused);
        known.push((release.clone(), plan, lacks));
    }
    let reached = if known.iter().any(|(_, _, lacks)| lacks.is_none()) {
        host.ssh.connect().await.map(drop).map_err(|error| error.problem())
    } else {
        Ok(())
    };
    let (plugins, reached) = (&plugins, &reached);
    let asked = known.into_iter().map(|(release, plan, lacks)| async move {
        match (lacks, plan, reached) {
            (Some(because), _, _) => Availability::Unavailable(because),
            (None, None, _) => Availability::Unavailable(Because::NoPlan),
            (None, Some(_), Err(problem)) => Availability::Unchecked(problem.clone()),
            (None, Some(plan), Ok(())) => ask(host, plugins, &release, &plan).await,
        }
    });
    Ok(futures::stream::iter(asked).buffered(AT_ONCE).collect().await)
}

/// What speaks against a rollback of a service with these releases, as far as can be seen now.
///
/// # Errors
/// Those of the journal.
pub(super) async fn refusal(
    host: &Host,
    service: &str,
    wanted: Option<&str>,
    releases: &[ReleaseRecord],
    predecessor: Option<&str>,
) -> Result<Option<NoRollback>, JournalError> {
    let looked = availability(host, releases).await?;
    let unavailable: Vec<Option<String>> = looked.iter().map(Availability::unavailable).collect();
    let candidates: Vec<Candidate<'_>> = releases
        .iter()
        .zip(&unavailable)
        .map(|(release, unavailable)| Candidate {
            id: &release.id,
            status: release.status,
            is_predecessor: predecessor == Some(release.id.as_str()),
            unavailable: unavailable.as_deref(),
        })
        .collect();
    Ok(promise::refusal(service, wanted, &candidates))
}

async fn ask(host: &Host, plugins: &Snapshot, release: &ReleaseRecord, plan: &Plan) -> Availability {
    let before = host.ssh.connection_mark().await;
    let layout = release.layout(&host.root);
    let looking = on_target(&host.ssh, &layout, inspect(host, plugins, release, plan));
    let seen = match tokio::time::timeout(LIMIT, looking).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => return Availability::Unchecked(error.problem()),
        Err(_) => return Availability::Unchecked(format!("the target did not answer within {LIMIT:?}")),
    };
    if seen.artifact.is_err() && before.lost_by(host.ssh.connection_mark().await) {
        return Availability::Unchecked("the connection to the target was lost during this call".into());
    }
    let artifact = match seen.artifact {
        Ok(found) => Ok(found),
        Err(said) => Err(redaction::shown(host, release, plan, said)
            .await
            .unwrap_or_else(|| "its plugin could not inspect it".into())),
    };
    let seen = OnTarget { artifact, ..seen };
    promise::lacks_there(release, &layout, &seen).map_or(Availability::Available, Availability::Unavailable)
}

/// What is on the target of a release, with what its plugin found.
///
/// # Errors
/// When the target cannot be asked.
pub(super) async fn on_target(
    ssh: &Ssh,
    layout: &Layout,
    artifact: impl Future<Output = Result<Option<Artifact>, String>>,
) -> Result<OnTarget, SshError> {
    let (files, environment, artifact) =
        tokio::join!(ssh.stat(&layout.files), ssh.stat(&layout.environment), artifact);
    Ok(OnTarget { files: files?, environment: environment?, artifact })
}

/// Asks a release's plugin for its artifact, outside any job.
async fn inspect(
    host: &Host,
    plugins: &Snapshot,
    release: &ReleaseRecord,
    plan: &Plan,
) -> Result<Option<Artifact>, String> {
    let planned = plan.steps(Phase::Build).next().ok_or("its pipeline has no build step")?;
    let plugin = plugins.plugin(&planned.plugin).ok_or("its plugin is not in the plugins folder")?;
    let artifact = release.artifact().ok_or("its artifact is not on record")?;
    let deployment = conversions::of_release(&host.root, release, &release.job, &planned.settings);
    let call = Invocation::new(&host.runtime, plugin.clone(), context(host, &release.service, planned));
    call.inspect(&deployment, artifact).await.map_err(|error| error.into_error().seen)
}

fn context(host: &Host, service: &str, planned: &PlannedStep) -> StepContext {
    StepContext {
        plugin: planned.plugin.clone(),
        grants: granted(planned),
        // Nothing is changed, and no environment named.
        boundary: Boundary::new(&host.root, service, std::iter::empty()),
        started: None,
        pipeline_file: planned.pipeline.clone(),
        limits: Limits {
            memory_bytes: u64::from(planned.memory_mib) << 20,
            timeout: planned.timeout.min(LIMIT),
        },
        // No value is at hand. What the plugin says is redacted before it is shown, and nothing is recorded.
        redactor: Redactor::default(),
        service_dir: None,
        ssh: host.ssh.clone(),
        http: host.http.clone(),
        registry: None,
        target_host: host.ssh.target().host().to_owned(),
        environment: EnvironmentSource::OnTarget,
        only_reads: true,
        recorder: Arc::new(Traced),
        cancel: CancellationToken::new(),
    }
}

/// Who only looks belongs to no job, and changes nothing: the deployer's own log is enough of a record.
pub(super) struct Traced;

#[async_trait]
impl Recorder for Traced {
    async fn log(&self, _: Level, source: Source, line: &str) -> Result<(), RecordError> {
        tracing::debug!(source = source.as_str(), line, "looking at a release");
        Ok(())
    }

    async fn progress(&self, _: Amount) -> Result<(), RecordError> {
        Ok(())
    }

    async fn call_started(&self, intent: Intent) -> Result<u64, RecordError> {
        tracing::debug!(function = intent.function, arguments = %intent.arguments, "looking at a release");
        Ok(0)
    }

    async fn call_running(&self, _: u64, _: &RemoteProcess) -> Result<(), RecordError> {
        Ok(())
    }

    async fn call_ended(&self, _: u64, _: CallEnded) -> Result<(), RecordError> {
        Ok(())
    }
}
