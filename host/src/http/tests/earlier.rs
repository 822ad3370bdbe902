//! Journals that earlier versions wrote, with jobs in every state: all of it is still there, and is told as it was.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::journal::{Audit, JobLog};
use crate::model::JobStatus;
use crate::secret::Cipher;

/// Their last migrations.
const VERSIONS: [u32; 2] = [5, 7];
const TARGET: &str = "root@127.0.0.1:2331";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// What that version's API told.
fn told(version: u32) -> Vec<(String, Value)> {
    let folder = fixtures().join(format!("journal-{version}"));
    let answers = std::fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    });
    let answers: Vec<_> = answers.collect();
    assert!(answers.len() >= 8, "the answers are there: {}", answers.len());
    answers
}

/// The names that have changed since, and what only a target can say.
fn in_todays_words(mut release: Value) -> Value {
    let fields = release.as_object_mut().unwrap();
    for asked in
        ["is_way_back", "is_rollback_target", "is_predecessor", "unavailable", "unchecked", "target_asked"]
    {
        fields.remove(asked);
    }
    if let Some(status) = fields.remove("standing") {
        fields.insert("status".into(), status);
    }
    if let Some(instance) = fields.get_mut("instance").and_then(Value::as_object_mut)
        && let Some(command) = instance.remove("last_words")
    {
        instance.insert("log_tail".into(), command);
    }
    // What a grant with a path was before there were any.
    for step in release.pointer_mut("/pipeline/steps").and_then(Value::as_array_mut).into_iter().flatten() {
        step.as_object_mut().unwrap().remove("paths");
    }
    release.pointer_mut("/pipeline").and_then(Value::as_object_mut).and_then(|plan| plan.remove("public"));
    release
}

/// How far a job is, only who runs it knows.
fn without_progress(mut answer: Value) -> Value {
    let one = |job: &mut Value| drop(job.as_object_mut().and_then(|job| job.remove("progress")));
    match answer.as_array_mut() {
        Some(jobs) => jobs.iter_mut().for_each(one),
        None => one(&mut answer),
    }
    answer
}

fn releases_in_todays_words(releases: &Value) -> Vec<Value> {
    releases.as_array().unwrap().iter().cloned().map(in_todays_words).collect()
}

#[tokio::test]
async fn a_journal_of_an_earlier_version_is_read_whole() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.db");
        std::fs::copy(fixtures().join(format!("journal-{version}.db")), &file).unwrap();
        let ledger = Arc::new(Ledger::of(&file, folder, TARGET).await);
        let app = Arc::new(App::new(ledger.clone(), None));
        let api = Api { router: routes::router(app.clone()), ledger, app };

        for (name, told) in told(version) {
            let (path, is_releases) = match name.split_once('-') {
                Some(("deploy", _)) => (format!("/deploy/{name}"), false),
                Some(("history", service)) => (format!("/deploy/history/{service}"), false),
                Some(("releases", service)) => (format!("/releases/{service}"), true),
                _ => ("/audit".to_owned(), false),
            };
            let answer = api.ask(&format!("GET {path}"), &[], "").await;
            assert_eq!(answer.status, StatusCode::OK, "{version}: {path}: {}", answer.body);
            if is_releases {
                let (now, then) = (releases_in_todays_words(&answer.body), releases_in_todays_words(&told));
                assert!(!now.is_empty());
                assert_eq!(now, then, "{version}: {path}");
            } else {
                let (now, then) = (without_progress(answer.body), without_progress(told));
                assert_eq!(now, then, "{version}: {path}");
            }
        }

        let journal = &api.ledger.journal;
        let verdict = journal.verify_audit(None).await.unwrap();
        assert!(matches!(verdict, crate::journal::AuditVerdict::Whole { .. }), "{version}: {verdict:?}");
    }
}

#[tokio::test]
async fn the_jobs_that_an_earlier_version_left_can_go_on() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("journal.db"), folder.path().join("seal.key"));
        std::fs::copy(fixtures().join(format!("journal-{version}.db")), &file).unwrap();
        std::fs::copy(fixtures().join(format!("journal-{version}.key")), &key).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let cipher = Cipher::open(&key).unwrap();
        let ledger = Ledger::of(&file, folder, TARGET).await;

        let left = ledger.journal.unfinished().await.unwrap();
        let statuses: Vec<JobStatus> = left.iter().map(|job| job.state.status()).collect();
        assert_eq!(statuses, [JobStatus::Running, JobStatus::Pending], "{version}");
        for job in left {
            assert!(job.plan.read().is_ok(), "{version}: {:?}", job.plan);
            let encrypted = ledger.journal.encrypted_environment(&job.id).await.unwrap().unwrap();
            let environment = cipher.decrypt(&job.id, &encrypted).unwrap();
            let names: Vec<&String> = environment.keys().collect();
            assert_eq!(
                names,
                job.request.environment.iter().map(|variable| &variable.name).collect::<Vec<_>>()
            );
        }
    }
}
