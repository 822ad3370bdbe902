//! What a job does in each phase: which plugins it calls, and what it keeps of their answers.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::interrupt::{Interrupt, fail};
use super::liveness::started;
use super::runner::Runner;
use super::{conversions, outage};
use crate::contract::{Occasion, Publication};
use crate::journal::now;
use crate::model::{
    Artifact, Confirmation, Failure, Fault, Files, Finding, Instance, JobKind, Outcome, Phase, Plan,
    Registration, ReleaseRecord, Severity, Stored, Verdict,
};

/// What is live is written down for other deployers: a connection that was lost, or a disk that is full, may be
/// better a moment later.
const RECORDED_AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// When a phase has to be over, and whose limit of time says so.
pub(in crate::job) struct Limit {
    until: Instant,
    whose: &'static str,
    time: Duration,
}

impl Limit {
    pub fn of_phase(plan: &Plan, phase: Phase) -> Self {
        let time = plan.phase_timeout(phase);
        Limit { until: Instant::now() + time, whose: "phase", time }
    }

    /// The job's own limit, where that is over first.
    pub fn or_job(self, plan: &Plan, until: Instant) -> Self {
        if until <= self.until { Limit { until, whose: "job", time: plan.job_timeout } } else { self }
    }
}

/// Does a phase's work within its limit of time.
pub(in crate::job) async fn in_time(
    phase: Phase,
    limit: Limit,
    work: impl Future<Output = Result<Value, Interrupt>>,
) -> Result<Value, Interrupt> {
    timeout_at(limit.until, Box::pin(work)).await.unwrap_or_else(|_| {
        Err(fail(
            Fault::Target,
            &format!("finish {phase} in time"),
            &format!("the {}'s time limit of {:?} was exceeded", limit.whose, limit.time),
            "see in the job's log and calls what took so long, or raise the limit in [timeouts] of the pipeline",
        ))
    })
}

impl Runner {
    pub(in crate::job) async fn validation(&mut self) -> Result<Value, Interrupt> {
        let mut findings: Vec<Finding> = Vec::new();
        for (index, planned) in self.planned(Phase::Validation).into_iter().enumerate() {
            let deployment = &self.deployment(&planned);
            let found: Result<Vec<Finding>, Interrupt> = self
                .conclusive_step(
                    &format!("validation/{index}"),
                    &planned,
                    "validate",
                    |found: &Vec<Finding>| found.iter().all(|finding| finding.severity != Severity::Failed),
                    |call| async move { call.validate(deployment).await },
                )
                .await;
            match found {
                Ok(found) => findings.extend(found),
                // What others found is worth as much as before.
                Err(Interrupt::Failed { failure, .. }) => {
                    return Err(Interrupt::Failed {
                        failure,
                        details: json!({ "findings": conversions::findings(&findings) }),
                    });
                }
                Err(interrupt) => return Err(interrupt),
            }
        }
        let failed: Vec<&Finding> =
            findings.iter().filter(|finding| finding.severity == Severity::Failed).collect();
        if failed.is_empty() {
            findings.extend(self.previous_at_risk("validation/previous", Phase::Validation).await?);
            return Ok(json!({ "findings": conversions::findings(&findings) }));
        }
        let details = json!({ "findings": conversions::findings(&findings) });
        // A check is called by what should be true.
        let seen: Vec<String> = failed
            .iter()
            .map(|finding| format!("{} (check: {})", finding.message.trim_end_matches('.'), finding.check))
            .collect();
        let next: Vec<&str> =
            failed.iter().map(|finding| finding.next.as_str()).filter(|next| !next.is_empty()).collect();
        let failure = Failure {
            fault: Fault::Request,
            plugin: None,
            attempted: "pass Validation".into(),
            seen: seen.join("; "),
            next: next.join("; "),
        };
        Err(Interrupt::Failed { failure: Box::new(failure), details })
    }

    pub(in crate::job) async fn transfer(&mut self) -> Result<Value, Interrupt> {
        self.record_release().await?;
        let planned = self.one(Phase::Transfer)?;
        let deployment = &self.deployment(&planned);
        let files: Files = self
            .step("transfer/0", &planned, "transfer", |call| async move { call.transfer(deployment).await })
            .await?;
        let details = json!(files);
        self.release.files = Some(Stored::Known(files));
        self.host.journal.put_release(&self.release).await?;
        Ok(details)
    }

    pub(in crate::job) async fn build(&mut self) -> Result<Value, Interrupt> {
        let planned = self.one(Phase::Build)?;
        let deployment = &self.deployment(&planned);
        let files = &self.made(self.release.files.as_ref(), "files")?;
        let artifact: Artifact = self
            .step("build/0", &planned, "build", |call| async move { call.build(deployment, files).await })
            .await?;
        let details = json!(artifact);
        self.release.artifact = Some(Stored::Known(artifact));
        self.host.journal.put_release(&self.release).await?;
        self.record_release().await?;
        Ok(details)
    }

    pub(in crate::job) async fn start(&mut self) -> Result<Value, Interrupt> {
        // With another port it is another address: nobody who asks the old one finds the new release there.
        let replaced =
            self.job.previous.as_ref().filter(|previous| previous.port == self.job.request.service_port);
        if let (Some(previous), None) = (replaced, &self.watch) {
            let question = outage::Question {
                http: self.host.http.clone(),
                ssh: self.host.ssh.clone(),
                url: self.host.service_url(previous.port),
                port: previous.port,
                path: outage::path(&self.plan),
            };
            self.watch = outage::Watch::begin(question).await;
        }
        self.startable().await?;
        // A rollback has no Validation that would say so.
        let at_risk = match self.job.kind {
            JobKind::Deploy => None,
            JobKind::Rollback => self.previous_at_risk("start/previous", Phase::StartService).await?,
        };
        let planned = self.one(Phase::StartService)?;
        let deployment = &self.deployment(&planned);
        let artifact = &self.made(self.release.artifact.as_ref(), "artifact")?;
        let guard = self.guard().await?;
        self.intend(&guard).await?;
        let instance: Instance = self
            .step("start/0", &planned, "start", |call| async move { call.start(deployment, artifact).await })
            .await?;
        let mut details = json!(instance);
        self.release.instance = Some(Stored::Known(instance));
        self.host.journal.put_release(&self.release).await?;
        if let Some(finding) = at_risk.filter(|finding| finding.severity == Severity::Warning)
            && let Some(details) = details.as_object_mut()
        {
            details.insert("warnings".into(), json!([finding.message]));
        }
        Ok(details)
    }

    /// Probes the new instance.
    pub(in crate::job) async fn probe(&mut self) -> Result<Value, Interrupt> {
        let instance = self.made(self.release.instance.as_ref(), "instance")?;
        self.verdicts("verify", &instance, None).await
    }

    /// The instance is what callers need, and that is the point of no return: it is made the one, and nothing later
    /// takes it down.
    pub(in crate::job) async fn make_live(&mut self, mut details: Value) -> Result<Value, Interrupt> {
        let instance = self.made(self.release.instance.as_ref(), "instance")?;
        // Whoever cancels it from here on is told that it is too late.
        if !self.live.settle().await {
            return Err(Interrupt::Cancelled);
        }
        let mut warnings = Vec::new();
        if let Err(interrupt) = self.promote(&instance).await {
            match interrupt {
                Interrupt::Journal(_) | Interrupt::TakenOver(_) => return Err(interrupt),
                Interrupt::Failed { failure, .. } => warnings.push(failure.to_string()),
                Interrupt::Cancelled => warnings.push("cancelled while retiring the old instance".into()),
            }
        }
        let guard = self.guard().await?;
        let mut unwritten = self.record_live(&guard).await;
        for pause in RECORDED_AGAIN_AFTER {
            if !unwritten.is_empty() && self.taken_over_by().is_none() {
                // Not a wait that cancelling ends: the release is verified.
                tokio::time::sleep(pause).await;
                unwritten = self.record_live(&guard).await;
            }
        }
        warnings.extend(unwritten);
        if let Some(holder) = self.taken_over_by() {
            return Err(Interrupt::TakenOver(holder));
        }
        self.host.journal.promote(&self.release).await?;
        if let Some(details) = details.as_object_mut() {
            if !warnings.is_empty() {
                details.insert("warnings".into(), json!(warnings));
            }
            if let Some(watch) = self.watch.take() {
                details.insert("outage".into(), watch.report());
            }
        }
        Ok(details)
    }

    /// Runs the verify steps against an instance of this release, or of the one that was brought back.
    pub(in crate::job) async fn verdicts(
        &mut self,
        key: &str,
        instance: &Instance,
        of: Option<&ReleaseRecord>,
    ) -> Result<Value, Interrupt> {
        let mut summaries = Vec::new();
        // What ran before is asked as it was when it was deployed: the new pipeline may ask for what only the new
        // release has.
        let own = of.and_then(ReleaseRecord::plan).cloned();
        let plan = own.as_ref().unwrap_or(&self.plan);
        // Its commands are words of the plugin that started it, and run under what that one was granted.
        self.started = plan.steps(Phase::StartService).next().map(|starting| started(instance, starting));
        let planned = own.as_ref().unwrap_or(&self.plan).steps(Phase::VerifyHealth).cloned();
        for (index, planned) in planned.collect::<Vec<_>>().into_iter().enumerate() {
            let mut deployment = self.deployment(&planned);
            if let Some(release) = of {
                deployment.release = release.id.clone();
                deployment.layout = release.layout(&self.host.root).into();
            }
            let deployment = &deployment;
            let verdict: Verdict = self
                .conclusive_step(
                    &format!("{key}/{index}"),
                    &planned,
                    "verify",
                    |verdict: &Verdict| verdict.outcome == Outcome::Passed,
                    |call| async move { call.verify(deployment, instance).await },
                )
                .await?;
            let passed = verdict.outcome == Outcome::Passed;
            let seen = verdict.summary.clone();
            summaries.push(json!({
                "plugin": planned.plugin, "summary": verdict.summary, "probes": verdict.probes,
            }));
            if !passed {
                let log_tail = self.log_tail(&planned).await;
                let failure = Failure {
                    fault: Fault::Target,
                    plugin: Some(planned.plugin.clone()),
                    attempted: format!("confirm that {} is healthy", self.job.service),
                    seen,
                    next: "read the service's last log lines and the probes in this phase's details".into(),
                };
                let details = json!({ "checks": summaries, "last_log_lines": log_tail });
                return Err(Interrupt::Failed { failure: Box::new(failure), details });
            }
        }
        Ok(json!({ "checks": summaries }))
    }

    pub(in crate::job) async fn promote(&mut self, instance: &Instance) -> Result<(), Interrupt> {
        let planned = self.one(Phase::StartService)?;
        let deployment = &self.deployment(&planned);
        self.step(
            "promote",
            &planned,
            "promote",
            |call| async move { call.promote(deployment, instance).await },
        )
        .await
    }

    /// Registers the release that is live, within the phase's own limit of time.
    pub(in crate::job) async fn register_in_time(&mut self) -> Result<Value, Interrupt> {
        let limit = Limit::of_phase(&self.plan, Phase::Register);
        in_time(Phase::Register, limit, self.register()).await
    }

    async fn register(&mut self) -> Result<Value, Interrupt> {
        let droplet = match self.job.request.droplet_id {
            Some(id) => Some(id),
            None => self.host.journal.droplet_id(&self.job.service).await?,
        };
        let endpoint = self.host.service_url(self.job.request.service_port);
        let occasion = match self.job.kind {
            JobKind::Deploy => Occasion::Deployed,
            JobKind::Rollback => Occasion::RolledBack,
        };
        let mut last = json!({});
        for (index, planned) in self.planned(Phase::Register).into_iter().enumerate() {
            let deployment = &self.deployment(&planned);
            let publication = &Publication { occasion, droplet_id: droplet, endpoint: endpoint.clone() };
            let confirmed: Confirmation = self
                .step(&format!("register/{index}"), &planned, "register", |call| async move {
                    call.register(deployment, publication).await
                })
                .await?;
            if let Some(id) = confirmed.droplet_id {
                self.host.journal.set_droplet_id(&self.job.service, id).await?;
            }
            let response = serde_json::from_str(&confirmed.response)
                .unwrap_or_else(|_| Value::String(confirmed.response.clone()));
            let record = Registration {
                droplet_id: confirmed.droplet_id,
                service_name: self.job.service.clone(),
                endpoint: confirmed.endpoint,
                registered_at: now(),
                registry_response: response,
            };
            last = json!({ "droplet_id": record.droplet_id, "endpoint": record.endpoint });
            self.job.registration = Some(record);
        }
        Ok(last)
    }
}
