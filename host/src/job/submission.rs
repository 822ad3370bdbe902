//! Whether a request can be done, and the job that it becomes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::flow;
use super::host::Host;
use super::release::{self, NoWayBack};
use super::state::Phase;
use crate::http::{DeployRequest, FieldProblem, Known, Refusal};
use crate::journal::{Actor, JobKind, JobRecord, JobRequest, NewJob, ReleaseRecord, Variable, now};
use crate::pipeline::{self, Plan};

/// Values up to here fit on one line of an environment file.
const ONE_LINE_BYTES: usize = 32 << 10;
/// How long a refusal waits for the names of all methods.
const NAMED: Duration = Duration::from_secs(5);

/// Looks at everything that is asked for, and names all that is wrong at once.
pub(super) async fn deployment(
    host: &Host,
    request: DeployRequest,
    idempotency_key: Option<String>,
    actor: Actor,
) -> Result<NewJob, Refusal> {
    let known = Known {
        service_path: Some(request.service_path.clone()),
        service_name: Some(request.service_name.clone()),
        deployment_method: Some(request.deployment_method.clone()),
    };
    let Feasible { folder, plan, problems } = feasible(host, &known).await;
    let (Some(folder), Some(plan), true) = (folder, plan, problems.is_empty()) else {
        return Err(Refusal::Invalid(problems));
    };
    let id = job_id();
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
    Ok(NewJob {
        sealed: Some(host.seal.seal(&id, &request.environment.0)),
        skipped: skipped_register(host, &plan, request.auto_register).into_iter().collect(),
        id,
        kind: JobKind::Deploy,
        service: request.service_name,
        target: host.ssh.target().to_string(),
        method: request.deployment_method,
        release: host.release_ids.next(now()),
        request: JobRequest {
            service_path: request.service_path,
            service_folder: folder.display().to_string(),
            droplet_id: request.droplet_id,
            service_port: request.service_port,
            auto_register: request.auto_register,
            verification_job_id: request.verification_job_id,
            environment,
            digest,
            actor,
        },
        plan: json!(plan),
        created_at: now(),
        idempotency_key,
    })
}

/// What can be said of a request by the fields that are known.
pub(super) struct Feasible {
    folder: Option<PathBuf>,
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

/// Of everything that is asked for, so that a key that comes again with another request is noticed.
fn digest(host: &Host, request: &DeployRequest) -> String {
    let mut asked: BTreeMap<String, String> =
        request.environment.0.iter().map(|(name, value)| (format!("env {name}"), value.clone())).collect();
    let fields = json!({
        "path": request.service_path, "name": request.service_name, "droplet": request.droplet_id,
        "port": request.service_port, "method": request.deployment_method,
        "register": request.auto_register, "verification": request.verification_job_id,
    });
    asked.insert("fields".into(), fields.to_string());
    host.seal.digest(&asked)
}

/// A job that goes back to an earlier release of a job's service.
pub(super) async fn rollback(
    host: &Host,
    of: &JobRecord,
    wanted: Option<&str>,
    actor: Actor,
) -> Result<NewJob, Refusal> {
    let releases = host.journal.releases(&of.service, &of.target).await?;
    let back =
        release::way_back(&releases, wanted).map_err(|error| no_way_back(&of.service, &error, &releases))?;
    let origin = host.journal.job(&back.job).await?.ok_or_else(|| {
        no_way_back(
            &of.service,
            &NoWayBack::Unfit { wanted: back.id.clone(), because: "its job is not in the journal" },
            &releases,
        )
    })?;
    let mut skipped: Vec<(Phase, String)> = [Phase::Validation, Phase::Transfer, Phase::Build]
        .into_iter()
        .map(|phase| (phase, "a rollback starts a release that was built already".to_owned()))
        .collect();
    if let Some(plan) = flow::value::<Plan>(&origin.plan) {
        skipped.extend(skipped_register(host, &plan, origin.request.auto_register));
    }
    Ok(NewJob {
        id: job_id(),
        kind: JobKind::Rollback,
        service: of.service.clone(),
        target: of.target.clone(),
        method: back.method.clone(),
        release: back.id.clone(),
        request: JobRequest {
            service_port: back.port,
            environment: back.environment.clone(),
            actor,
            ..origin.request
        },
        plan: origin.plan,
        created_at: now(),
        idempotency_key: None,
        sealed: None,
        skipped,
    })
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
    format!("there is no method `{method}`; there are: {}", methods.join(", "))
}

/// The folder behind a path, with every link followed: it must lie inside the services root.
fn service_folder(services: &Path, path: &str) -> Result<PathBuf, String> {
    let root = services
        .canonicalize()
        .map_err(|error| format!("the services root {} cannot be read: {error}", services.display()))?;
    // `join` takes an absolute path as it is.
    let folder = root.join(path).canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no folder `{path}` in the services root"),
        _ => format!("`{path}` cannot be read: {error}"),
    })?;
    if !folder.starts_with(&root) {
        return Err(format!(
            "`{path}` leads out of the services root; put the service inside, or start the deployer with \
             another --services"
        ));
    }
    if !folder.is_dir() {
        return Err(format!("`{path}` is not a folder"));
    }
    Ok(folder)
}

fn no_way_back(service: &str, error: &NoWayBack, releases: &[ReleaseRecord]) -> Refusal {
    let detail = match error {
        NoWayBack::NothingRuns => format!("no release of {service} runs, so there is none before it"),
        NoWayBack::NothingBefore { live } => {
            format!("{service} runs release {live}, and there is no older one to go back to")
        }
        NoWayBack::Unfit { wanted, because } => {
            format!("{service} cannot go back to release {wanted}: {because}")
        }
    };
    let list: Vec<String> =
        releases.iter().map(|release| format!("{} ({})", release.id, release.standing.name())).collect();
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
            (Ok(folder), Ok(expect)) => assert!(folder.ends_with(expect), "{path}: {folder:?}"),
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
