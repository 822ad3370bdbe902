//! Whether a request can be done, and the job that it becomes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::host::Host;
use super::promise::NoRollback;
use super::release::{self, NoRollbackTarget};
use super::{looking, records};
use crate::capability::ServiceFolder;
use crate::job::{DeployRequest, Environment, FieldProblem, Known, Refusal};
use crate::journal::now;
use crate::model::{
    Actor, JobKind, JobRecord, JobRequest, NewJob, Phase, Plan, ReleaseRecord, Stored, Variable,
};
use crate::pipeline;

/// Values up to here fit on one line of an environment file.
const ONE_LINE_BYTES: usize = 32 << 10;
/// How long a refusal waits for the names of all methods.
const NAMED: Duration = Duration::from_secs(5);

/// Looks at everything that is asked for, and names all that is wrong at once. The environment goes with the job, to
/// be encrypted when it is accepted.
pub(super) async fn deployment(
    host: &Host,
    request: DeployRequest,
    idempotency_key: Option<String>,
    actor: Actor,
) -> Result<(NewJob, Environment), Refusal> {
    let known = Known {
        service_path: Some(request.service_path.clone()),
        service_name: Some(request.service_name.clone()),
        deployment_method: Some(request.deployment_method.clone()),
    };
    let Feasible { folder, plan, problems } = feasible(host, &known).await;
    let (Some(folder), Some(plan), true) = (folder, plan, problems.is_empty()) else {
        return Err(Refusal::Invalid(problems));
    };
    let environment: Vec<Variable> = request
        .environment
        .0
        .iter()
        .map(|(name, value)| Variable {
            name: name.clone(),
            one_line: value.len() <= ONE_LINE_BYTES && !value.contains(['\n', '\r']),
        })
        .collect();
    let digest = digest(host, &request);
    let job = NewJob {
        encrypted_environment: None,
        skipped: skipped_register(host, &plan, request.auto_register).into_iter().collect(),
        id: job_id(),
        kind: JobKind::Deploy,
        service: request.service_name,
        target: host.ssh.target().to_string(),
        method: request.deployment_method,
        release: host.release_ids.next(now()),
        request: JobRequest {
            service_path: request.service_path,
            service_folder: folder.path.display().to_string(),
            folder_mark: Some(folder.mark),
            droplet_id: request.droplet_id,
            service_port: request.service_port,
            auto_register: request.auto_register,
            verification_job_id: request.verification_job_id,
            environment,
            digest,
            actor,
        },
        plan: Stored::Known(plan),
        created_at: now(),
        idempotency_key,
    };
    Ok((job, request.environment))
}

/// A job at the moment of its acceptance: its ids and its release's are later than those of all that were accepted
/// before it.
pub(super) fn numbered(host: &Host, mut job: NewJob, environment: Option<&Environment>) -> NewJob {
    job.id = job_id();
    job.created_at = now();
    match job.kind {
        JobKind::Deploy => job.release = host.release_ids.next(job.created_at),
        JobKind::Rollback => {}
    }
    job.encrypted_environment = environment.map(|environment| host.cipher.encrypt(&job.id, &environment.0));
    job
}

/// What can be said of a request by the fields that are known.
pub(super) struct Feasible {
    folder: Option<Folder>,
    plan: Option<Plan>,
    pub problems: Vec<FieldProblem>,
}

pub(super) async fn feasible(host: &Host, known: &Known) -> Feasible {
    let mut problems = Vec::new();
    let mut folder = None;
    if let Some(path) = &known.service_path {
        match service_folder(&host.services, path) {
            Ok(found) => folder = Some(found),
            Err(problem) => problems.push(FieldProblem::new("service_path", problem)),
        }
    }
    let mut plan = None;
    if let Some(method) = &known.deployment_method {
        let service = known.service_name.as_deref().unwrap_or_default();
        let mut plugins = host.catalog.with(&pipeline::needed(&host.pipelines, service, method).await).await;
        if !plugins.methods().contains(method) {
            // What there is instead is named in the answer.
            plugins = host.catalog.snapshot_within(NAMED).await;
        }
        let methods = plugins.methods();
        match &known.service_name {
            _ if plugins.loading.contains(method) => {
                let problem = format!("the plugin `{method}` is still being loaded; ask again in a moment");
                problems.push(FieldProblem::new("deployment_method", problem));
            }
            _ if !methods.contains(method) => {
                problems.push(FieldProblem::new("deployment_method", no_such_method(method, &methods)));
            }
            Some(service) => match pipeline::load(&host.pipelines, service, method, plugins.as_ref()).await {
                Ok(found) => plan = Some(found),
                Err(error) => problems
                    .extend(error.0.iter().map(|problem| FieldProblem::new("pipeline", problem.to_string()))),
            },
            None => {}
        }
    }
    Feasible { folder, plan, problems }
}

/// A service's folder, and what tells it from another one in its place.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    mark: String,
}

/// Of everything that is asked for, so that a key that comes again with another request is noticed.
pub(super) fn digest(host: &Host, request: &DeployRequest) -> String {
    let mut asked: BTreeMap<String, String> =
        request.environment.0.iter().map(|(name, value)| (format!("env {name}"), value.clone())).collect();
    let fields = json!({
        "path": request.service_path, "name": request.service_name, "droplet": request.droplet_id,
        "port": request.service_port, "method": request.deployment_method,
        "register": request.auto_register, "verification": request.verification_job_id,
    });
    asked.insert("fields".into(), fields.to_string());
    host.cipher.digest(&asked)
}

/// As `digest`, for a rollback.
pub(super) fn rollback_digest(host: &Host, of: &str, release: Option<&str>) -> String {
    let asked = json!({ "back_from": of, "release": release });
    host.cipher.digest(&BTreeMap::from([("rollback".to_owned(), asked.to_string())]))
}

/// The service that a job is of, by the journal, or by a release that another deployer's job made on the target.
pub(super) async fn service_of(host: &Host, job: &str) -> Result<String, Refusal> {
    let target = host.ssh.target().to_string();
    match host.journal.job(job).await? {
        Some(record) if host.serves(&record.target) => Ok(record.service),
        Some(record) => Err(other_target(host, &record)),
        None => host.journal.service_of(job, &target).await?.ok_or_else(|| Refusal::NotFound {
            detail: format!("there is no job `{job}`"),
            hint: "GET /deploy/history/{service} lists a service's jobs, and GET /releases/{service} the jobs of \
                   its releases"
                .into(),
        }),
    }
}

/// A job belongs to the target that it was accepted for.
pub(super) fn other_target(host: &Host, job: &JobRecord) -> Refusal {
    Refusal::Conflict {
        code: "other-target",
        detail: format!(
            "{} is for {}, and this deployer was started with --target {}",
            job.id,
            job.target,
            host.ssh.target()
        ),
        hint: format!("start the deployer with --target {} for this job", job.target),
    }
}

/// A job that goes back to an earlier release of a service, as the target has them.
pub(super) async fn rollback(
    host: &Host,
    service: &str,
    wanted: Option<&str>,
    actor: Actor,
) -> Result<NewJob, Refusal> {
    let target = host.ssh.target().to_string();
    if let Err(error) = records::refresh(host, service).await? {
        return Err(Refusal::Unavailable {
            detail: format!("the target could not be asked which release is live: {}", error.problem()),
            hint: error.next_move(),
        });
    }
    let releases = host.journal.releases(service, &target).await?;
    let predecessor = release::rollback_target(&releases, None).ok().map(|release| release.id.as_str());
    if let Some(NoRollback { code, detail, hint }) =
        looking::refusal(host, service, wanted, &releases, predecessor).await?
    {
        return Err(Refusal::Conflict { code, detail, hint });
    }
    let back = release::rollback_target(&releases, wanted)
        .map_err(|error| no_rollback_target(service, &error, &releases))?;
    let made_by = host.journal.job(&back.job).await?;
    // A release that another deployer made, or this one before its journal was lost, has all of it in its record.
    let Some((request, plan)) = asked_for(back, made_by.as_ref()) else {
        let because =
            "its job is not in the journal, and its record on the target does not say how it was made";
        let unfit = NoRollbackTarget::Unfit { wanted: back.id.clone(), because };
        return Err(no_rollback_target(service, &unfit, &releases));
    };
    let mut skipped: Vec<(Phase, String)> = [Phase::Validation, Phase::Transfer, Phase::Build]
        .into_iter()
        .map(|phase| (phase, "a rollback starts a release that was built already".to_owned()))
        .collect();
    if let Ok(plan) = plan.read() {
        skipped.extend(skipped_register(host, plan, request.auto_register));
    }
    Ok(NewJob {
        id: job_id(),
        kind: JobKind::Rollback,
        service: service.to_owned(),
        target,
        method: back.method.clone(),
        release: back.id.clone(),
        request: JobRequest {
            service_port: back.port,
            environment: back.environment.clone(),
            actor,
            ..request
        },
        plan,
        created_at: now(),
        idempotency_key: None,
        encrypted_environment: None,
        skipped,
    })
}

/// What was asked for when a release was made, and by which plan: as the job says, or else the release's record.
fn asked_for(release: &ReleaseRecord, job: Option<&JobRecord>) -> Option<(JobRequest, Stored<Plan>)> {
    if let Some(job) = job {
        return Some((job.request.clone(), release.plan.clone().unwrap_or_else(|| job.plan.clone())));
    }
    let origin = release.origin.clone()?;
    let request = JobRequest {
        service_path: origin.service_path,
        // The files are on the target; the folder that they came from is on another machine.
        service_folder: String::new(),
        folder_mark: None,
        droplet_id: origin.droplet_id,
        service_port: release.port,
        auto_register: origin.auto_register,
        verification_job_id: origin.verification_job_id,
        environment: release.environment.clone(),
        digest: String::new(),
        actor: Actor { name: origin.deployer, from: String::new() },
    };
    Some((request, release.plan.clone()?))
}

/// Ids of jobs sort by time.
fn job_id() -> String {
    format!("deploy-{}", uuid::Uuid::now_v7())
}

fn skipped_register(host: &Host, plan: &Plan, auto_register: bool) -> Option<(Phase, String)> {
    let reason = if !auto_register {
        "auto_register is false"
    } else if host.registry.is_none() {
        "no registry is set"
    } else if plan.steps(Phase::Register).next().is_none() {
        "the pipeline has no register step"
    } else {
        return None;
    };
    Some((Phase::Register, reason.into()))
}

fn no_such_method(method: &str, methods: &[String]) -> String {
    if methods.is_empty() {
        return "no plugin provides a deployment method; run `deployer plugin build`, or put one into the \
                plugins folder"
            .into();
    }
    format!("there is no method `{method}`; the methods are: {}", methods.join(", "))
}

/// The folder behind a path, with every link followed: it must lie inside the services root.
fn service_folder(services: &Path, path: &str) -> Result<Folder, String> {
    let root = services
        .canonicalize()
        .map_err(|error| format!("the --services folder {} cannot be read: {error}", services.display()))?;
    // `join` takes an absolute path as it is.
    let folder = root.join(path).canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no folder `{path}` in the --services folder"),
        _ => format!("`{path}` cannot be read: {error}"),
    })?;
    if !folder.starts_with(&root) {
        return Err(format!(
            "`{path}` leads out of the --services folder; put the service inside, or start the deployer with \
             another --services"
        ));
    }
    if !folder.is_dir() {
        return Err(format!("`{path}` is not a folder"));
    }
    let opened = ServiceFolder::open(&folder).map_err(|error| error.to_string())?;
    let mark = opened.mark().map_err(|error| format!("`{path}` cannot be read: {error}"))?;
    Ok(Folder { path: folder, mark })
}

fn no_rollback_target(service: &str, error: &NoRollbackTarget, releases: &[ReleaseRecord]) -> Refusal {
    let detail = match error {
        NoRollbackTarget::NothingRuns => format!("{service} has no live release to roll back from"),
        NoRollbackTarget::NothingBefore { live } => {
            format!("{service} runs release {live}, and there is no older one to roll back to")
        }
        NoRollbackTarget::Unfit { wanted, because } => {
            format!("{service} cannot roll back to release {wanted}: {because}")
        }
    };
    let list: Vec<String> =
        releases.iter().map(|release| format!("{} ({})", release.id, release.status.name())).collect();
    let hint =
        if list.is_empty() { "deploy it first".into() } else { format!("its releases: {}", list.join(", ")) };
    Refusal::Conflict { code: "no-previous-release", detail, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_lies_inside_the_root() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("services");
        std::fs::create_dir_all(root.join("shop/app")).unwrap();
        std::fs::create_dir(outer.path().join("secret")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
        let check = |path: &str, expect: Result<&str, &str>| match (service_folder(&root, path), expect) {
            (Ok(folder), Ok(expect)) => assert!(folder.path.ends_with(expect), "{path}: {folder:?}"),
            (Err(problem), Err(expect)) => assert!(problem.contains(expect), "{path}: {problem}"),
            (found, expect) => panic!("{path}: {found:?}, expected {expect:?}"),
        };
        check("shop", Ok("services/shop"));
        check("shop/../shop/app", Ok("services/shop/app"));
        check(root.join("shop").to_str().unwrap(), Ok("services/shop"));
        check("../secret", Err("leads out"));
        check("link", Err("leads out"));
        check("/etc", Err("leads out"));
        check("nothing", Err("no folder `nothing`"));
        check("file", Err("not a folder"));
    }
}
