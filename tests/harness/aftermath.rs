//! What must hold once a job is over, whatever came in its way: on the target, and in the journal.

use deployer::journal::{Journal, Sqlite};
use deployer::model::ReleaseStatus;
use serde_json::Value;

use crate::{Job, Program, Service};

/// What serves: a release, and the version that its files and its environment have.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    pub release: String,
    pub version: String,
}

/// What is wrong after a job for a copy of `hello-quick`: nothing, if all is well. `before` served when the
/// job began, and `version` is what the job was to deploy.
pub async fn wrongs(
    program: &Program,
    service: &Service,
    method: &str,
    job: &Job,
    before: &Served,
    version: &str,
) -> (Served, Vec<String>) {
    let mut wrongs = Vec::new();
    let aftermath = job.0["aftermath"].as_str().unwrap_or_default();
    let served = match (job.0["status"].as_str().unwrap_or_default(), aftermath) {
        ("completed", _) => Served { release: job.release().into(), version: version.into() },
        ("failed", "untouched" | "restored") => before.clone(),
        (status, aftermath) => {
            wrongs.push(format!("the job is {status} {aftermath}"));
            before.clone()
        }
    };
    if job.0["status"] == "failed" && job.error().is_empty() {
        wrongs.push("the job failed, and does not say why".into());
    }
    wrongs.extend(serving(program, service, method, &served).await);
    wrongs.extend(recorded(program, service, job.id(), &served).await);
    (served, wrongs)
}

/// What is wrong with a service that should be served by this release, and by nothing else.
pub async fn serving(program: &Program, service: &Service, method: &str, served: &Served) -> Vec<String> {
    let mut wrongs = Vec::new();
    match service.get("/health").await {
        Ok((200, body)) => {
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            if answer["version"] != served.version || answer["round"] != served.version {
                wrongs.push(format!("{served:?} should serve, and {answer} is answered"));
            }
        }
        Ok((status, _)) => wrongs.push(format!("the service answers {status}")),
        Err(error) => wrongs.push(format!("the service does not answer: {error}")),
    }
    let Service { name, .. } = service;
    let root = format!("/opt/fpai/services/{name}");
    let instances = match method {
        "docker" => format!(
            "docker ps --all --filter label=io.deployer.service={name} --format '{{{{.Names}}}} {{{{.State}}}}' \
             | grep -v -- '-failed exited$'"
        ),
        // What runs as the service's user, and whose text of the unit that is.
        _ => format!(
            "systemctl list-units --all --plain --no-legend 'deployer-{name}*' | awk '{{print $1, $3}}'; \
             pgrep -c -u svc-{name}; systemctl is-enabled deployer-{name}.service; \
             grep -o 'releases/[0-9-]*' /etc/systemd/system/deployer-{name}.service | sort -u"
        ),
    };
    let seen = program
        .target
        .shell(&format!("readlink {root}/current; ls {root} | grep ^lock; echo; {{ {instances}; }}; true"));
    let current = format!("releases/{}", served.release);
    let expect = match method {
        "docker" => format!("{current}\n\n{name}-{} running", served.release),
        _ => format!("{current}\n\ndeployer-{name}.service active\n1\nenabled\n{current}"),
    };
    if seen != expect {
        wrongs.push(format!("the target has\n{seen}\ninstead of\n{expect}"));
    }
    wrongs
}

/// What is wrong in the journal after a job's end.
async fn recorded(program: &Program, service: &Service, job: &str, served: &Served) -> Vec<String> {
    let mut wrongs = Vec::new();
    let file = program.folder.path().join("data/journal.db");
    let journal = Sqlite::open(&file).await.unwrap();
    let releases = journal.releases(&service.name, &program.target.address).await.unwrap();
    let of = |status| releases.iter().filter(move |release| release.status == status);
    let live: Vec<&str> = of(ReleaseStatus::Live).map(|release| release.id.as_str()).collect();
    if live != [served.release.as_str()] {
        wrongs.push(format!("{live:?} are live in the journal, and {} serves", served.release));
    }
    if let Some(candidate) = of(ReleaseStatus::Candidate).next() {
        wrongs.push(format!("release {} is neither live nor retired nor bad", candidate.id));
    }
    if journal.encrypted_environment(job).await.unwrap().is_some() {
        wrongs.push("the environment is still encrypted in the journal".into());
    }
    if !journal.unfinished().await.unwrap().is_empty() {
        wrongs.push("a job is not over".into());
    }
    let steps = journal.steps(job).await.unwrap();
    for (place, step) in steps.iter().enumerate() {
        let again = steps.iter().skip(place + 1).any(|later| later.step == step.step);
        if step.completed_at.is_none() && !again {
            wrongs.push(format!("{} was begun, and neither ended nor begun again", step.step));
        }
    }
    wrongs
}
