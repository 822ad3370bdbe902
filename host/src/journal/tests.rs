mod audit;

use serde_json::json;

use super::*;
use crate::model::{
    Aftermath, JobKind, JobRequest, JobState, Left, Phase, PhaseStatus, ReleaseStatus, Removed, Variable,
    samples,
};

fn new_job(id: &str, key: Option<&str>) -> NewJob {
    NewJob {
        id: id.into(),
        kind: JobKind::Deploy,
        service: "shop".into(),
        target: "root@server:22".into(),
        method: "docker".into(),
        release: format!("release-{id}"),
        request: JobRequest {
            droplet_id: Some(7),
            environment: vec![Variable { name: "A".into(), one_line: true }],
            ..samples::request()
        },
        plan: samples::plan(),
        created_at: now(),
        idempotency_key: key.map(Into::into),
        encrypted_environment: Some(vec![1, 2, 3]),
        skipped: vec![(Phase::Register, "no registry is set".into())],
    }
}

fn release(id: &str) -> ReleaseRecord {
    ReleaseRecord { created_at: now(), ..samples::release(id, ReleaseStatus::Candidate) }
}

async fn open() -> (tempfile::TempDir, Sqlite) {
    let folder = tempfile::tempdir().unwrap();
    let journal = Sqlite::open(&folder.path().join("journal.db")).await.unwrap();
    (folder, journal)
}

#[tokio::test]
async fn a_job_survives_a_restart() {
    let (folder, journal) = open().await;
    let Submitted::New(job) = journal.submit(&new_job("deploy-1", None)).await.unwrap() else {
        panic!("a first job is new");
    };
    assert_eq!(job.phases.len(), 6);
    drop(journal);
    let journal = Sqlite::open(&folder.path().join("journal.db")).await.unwrap();
    assert_eq!(journal.job("deploy-1").await.unwrap(), Some(job.clone()));
    assert_eq!(journal.unfinished().await.unwrap(), vec![job]);
    assert_eq!(journal.encrypted_environment("deploy-1").await.unwrap(), Some(vec![1, 2, 3]));
}

#[tokio::test]
async fn a_key_with_another_request_is_noticed() {
    let (_folder, journal) = open().await;
    journal.submit(&new_job("deploy-1", Some("key"))).await.unwrap();
    let mut other = new_job("deploy-2", Some("key"));
    other.request.digest = "another".into();
    let second = journal.submit(&other).await.unwrap();
    assert!(matches!(second, Submitted::KeyTaken(job) if job.id == "deploy-1"));
    assert!(journal.job("deploy-2").await.unwrap().is_none());
}

#[tokio::test]
async fn only_the_latest_release_is_still_to_be_registered() {
    let (_folder, journal) = open().await;
    let mut register = PhaseUpdate::new(Phase::Register, PhaseStatus::Failed);
    register.details = Some(json!({ "retry": { "attempts": 1, "next_at": "2026-01-01T00:00:00.000Z" } }));
    for (id, state) in [
        ("deploy-1", JobState::Completed),
        ("deploy-2", JobState::Completed),
        ("deploy-3", JobState::Failed(Aftermath::Untouched)),
    ] {
        let Submitted::New(mut job) = journal.submit(&new_job(id, None)).await.unwrap() else {
            panic!("{id} is new");
        };
        journal.set_phase(id, &register).await.unwrap();
        job.state = state;
        journal.set_state(&job).await.unwrap();
    }
    let found = journal.unregistered("root@server:22").await.unwrap();
    let found: Vec<_> =
        found.iter().map(|found| (found.job.id.as_str(), found.superseded_by.as_deref())).collect();
    assert_eq!(found, [("deploy-1", Some("deploy-2")), ("deploy-2", None)]);
    assert!(journal.unregistered("root@other:22").await.unwrap().is_empty());
}

#[tokio::test]
async fn the_same_key_gives_the_same_job() {
    let (_folder, journal) = open().await;
    journal.submit(&new_job("deploy-1", Some("key"))).await.unwrap();
    let second = journal.submit(&new_job("deploy-2", Some("key"))).await.unwrap();
    assert!(matches!(second, Submitted::Known(job) if job.id == "deploy-1"));
    assert!(journal.job("deploy-2").await.unwrap().is_none());
}

#[tokio::test]
async fn an_environment_is_erased_when_the_job_is_over() {
    let (_folder, journal) = open().await;
    let Submitted::New(mut job) = journal.submit(&new_job("deploy-1", None)).await.unwrap() else {
        panic!("a first job is new");
    };
    job.state = JobState::Failed(Aftermath::Untouched);
    journal.set_state(&job).await.unwrap();
    assert_eq!(journal.encrypted_environment("deploy-1").await.unwrap(), None);
    assert!(journal.unfinished().await.unwrap().is_empty());
}

#[tokio::test]
async fn history_is_newest_first_and_paged() {
    let (_folder, journal) = open().await;
    for n in 1..=5 {
        journal.submit(&new_job(&format!("deploy-{n}"), None)).await.unwrap();
    }
    let ids = |jobs: Vec<JobRecord>| jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(ids(journal.history("shop", None, 2).await.unwrap()), ["deploy-5", "deploy-4"]);
    assert_eq!(ids(journal.history("shop", Some("deploy-4"), 2).await.unwrap()), ["deploy-3", "deploy-2"]);
    assert!(!journal.knows_service("other").await.unwrap());
}

#[tokio::test]
async fn events_are_numbered_and_watched() {
    let (_folder, journal) = open().await;
    journal.submit(&new_job("deploy-1", None)).await.unwrap();
    let mut watch = journal.watch();
    watch.mark_unchanged();
    let mut update = PhaseUpdate::new(Phase::Transfer, PhaseStatus::Running);
    update.started_at = Some(now());
    journal.set_phase("deploy-1", &update).await.unwrap();
    assert!(watch.has_changed().unwrap());
    let events = journal.events("deploy-1", 0, 10).await.unwrap();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(events.last().unwrap().data["phase"], "Transfer");
    assert_eq!(journal.events("deploy-1", 1, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_release_is_live() {
    let (_folder, journal) = open().await;
    journal.submit(&new_job("deploy-1", None)).await.unwrap();
    for id in ["a", "b"] {
        journal.put_release(&release(id)).await.unwrap();
        journal.promote(&release(id)).await.unwrap();
    }
    let statuses: Vec<_> = journal
        .releases("shop", "root@server:22")
        .await
        .unwrap()
        .into_iter()
        .map(|release| (release.id, release.status))
        .collect();
    assert_eq!(statuses, [("b".into(), ReleaseStatus::Live), ("a".into(), ReleaseStatus::Retired)]);
}

#[tokio::test]
async fn a_step_and_its_calls_are_kept() {
    let (_folder, journal) = open().await;
    journal.submit(&new_job("deploy-1", None)).await.unwrap();
    let step = StepStart {
        job: "deploy-1".into(),
        step: "build/0".into(),
        plugin: "docker".into(),
        function: "build".into(),
        digest: "d".into(),
    };
    let id = journal.step_started(&step).await.unwrap();
    let call = CallStart {
        job: "deploy-1".into(),
        step: id,
        call: "target.run".into(),
        arguments: json!(["docker", "build"]),
        changes_target: true,
    };
    let call = journal.call_started(&call).await.unwrap();
    let process = crate::model::RemoteProcess { group: 42, started: "then".into() };
    journal.call_running(call, &process).await.unwrap();
    journal.call_ended(call, "ok", Some("exit status 0"), "done", 12).await.unwrap();
    journal.step_ended(id, Ok(&json!({"reference": "x"}))).await.unwrap();
    let steps = journal.steps("deploy-1").await.unwrap();
    assert_eq!(steps.first().unwrap().result, Some(json!({"reference": "x"})));
    let calls = journal.calls("deploy-1").await.unwrap();
    assert_eq!(calls.first().unwrap().process, Some(process));
    assert_eq!(calls.first().unwrap().duration_ms, Some(12));
}

#[tokio::test]
async fn a_removed_release_is_listed_no_more() {
    let (_folder, journal) = open().await;
    journal.submit(&new_job("deploy-1", None)).await.unwrap();
    let put = async |service: &str, id: &str, status| {
        let release = ReleaseRecord { service: service.into(), status, ..release(id) };
        journal.put_release(&release).await.unwrap();
    };
    put("shop", "a", ReleaseStatus::Retired).await;
    put("other", "b", ReleaseStatus::Live).await;
    put("shop", "c", ReleaseStatus::Live).await;
    put("shop", "a", ReleaseStatus::Removing).await;
    let ids = |releases: Vec<ReleaseRecord>| {
        releases.into_iter().map(|release| (release.id, release.status)).collect::<Vec<_>>()
    };
    use ReleaseStatus::{Live, Removing};
    let of_shop = async || ids(journal.releases("shop", "root@server:22").await.unwrap());
    let on_target = async || ids(journal.releases_on("root@server:22").await.unwrap());
    assert_eq!(of_shop().await, [("c".into(), Live), ("a".into(), Removing)]);
    assert_eq!(on_target().await, [("a".into(), Removing), ("b".into(), Live), ("c".into(), Live)]);
    put("shop", "a", ReleaseStatus::Removed).await;
    assert_eq!(of_shop().await, [("c".into(), Live)]);
    assert_eq!(on_target().await, [("b".into(), Live), ("c".into(), Live)]);
}

#[tokio::test]
async fn what_a_job_removed_is_kept() {
    let (_folder, journal) = open().await;
    journal.submit(&new_job("deploy-1", None)).await.unwrap();
    let removed = Removed { release: "a".into(), because: "older than 7 days".into(), bytes: 12 };
    let left = Left { release: "b".into(), because: "it is in use".into() };
    let retention = Retention { removed: vec![removed], freed_bytes: 12, left: vec![left] };
    journal.set_retention("deploy-1", &retention).await.unwrap();
    assert_eq!(journal.job("deploy-1").await.unwrap().unwrap().retention, Some(retention));
}
