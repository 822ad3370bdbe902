use std::path::Path;

use sqlx::{Connection, SqliteConnection};

use super::*;
use crate::journal::{AuditBreak, AuditHead, AuditVerdict, BreakReason};

/// A journal with the audit of two jobs, five records: two accepted, one of them cancelled, both ended.
async fn audited() -> (tempfile::TempDir, Sqlite) {
    let (folder, journal) = open().await;
    for id in ["deploy-1", "deploy-2"] {
        journal.submit(&new_job(id, None)).await.unwrap();
    }
    let bob = Actor { name: "bob".into(), from: "127.0.0.1:2".into() };
    journal.set_cancelled_by("deploy-2", &bob).await.unwrap();
    for digest in ["d1", "d1", "d2"] {
        let step = StepStart {
            job: "deploy-1".into(),
            step: "build/0".into(),
            plugin: "docker".into(),
            function: "build".into(),
            digest: digest.into(),
        };
        journal.step_started(&step).await.unwrap();
    }
    journal.set_host_key("deploy-1", "SHA256:key").await.unwrap();
    end(&journal, "deploy-1", JobState::Failed(Aftermath::Restored("r0".into()))).await;
    end(&journal, "deploy-2", JobState::Cancelled(Aftermath::Untouched)).await;
    (folder, journal)
}

async fn end(journal: &Sqlite, id: &str, state: JobState) {
    let mut job = journal.job(id).await.unwrap().unwrap();
    job.state = state;
    journal.set_state(&job).await.unwrap();
}

/// What somebody does who can write to the file.
async fn tamper(folder: &Path, sql: &'static str) -> Result<(), sqlx::Error> {
    let url = format!("sqlite://{}", folder.join("journal.db").display());
    let mut connection = SqliteConnection::connect(&url).await?;
    sqlx::raw_sql(sql).execute(&mut connection).await?;
    connection.close().await
}

#[tokio::test]
async fn what_was_done_is_in_the_audit() {
    let (_folder, journal) = audited().await;
    let entries = journal.audit(None, None, 10).await.unwrap();
    let records: Vec<Value> = entries.iter().rev().map(|entry| Value::Object(entry.record.clone())).collect();
    let said: Vec<_> = records
        .iter()
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            format!(
                "{} {} {} {}",
                record["seq"],
                record["actor"]["name"],
                text("action"),
                text("deploy_job_id")
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            r#"1 "ci" accepted deploy-1"#,
            r#"2 "ci" accepted deploy-2"#,
            r#"3 "bob" cancel_asked deploy-2"#,
            r#"4 "ci" ended deploy-1"#,
            r#"5 "ci" ended deploy-2"#,
        ]
    );
    assert_eq!(records[0]["environment"], json!(["A"]));
    let ended = &records[3];
    assert_eq!(ended["status"], "failed");
    assert_eq!(ended["aftermath"], "restored");
    assert_eq!(ended["outcome"], "release r0 restored and healthy");
    assert_eq!(ended["host_key"], "SHA256:key");
    // A plugin that was replaced while the job went on is there with both digests.
    assert_eq!(
        ended["plugins"],
        json!([{ "name": "docker", "digest": "d1" }, { "name": "docker", "digest": "d2" }])
    );
    assert_eq!((&records[4]["host_key"], &records[4]["plugins"]), (&Value::Null, &json!([])));
    let head = entries.first().unwrap();
    let whole = AuditVerdict::Whole { head: Some(AuditHead { seq: 5, hash: head.hash.clone() }) };
    assert_eq!(journal.verify_audit(None).await.unwrap(), whole);
}

#[tokio::test]
async fn only_what_had_an_effect_is_in_the_audit() {
    let (_folder, journal) = open().await;
    assert_eq!(journal.verify_audit(None).await.unwrap(), AuditVerdict::Whole { head: None });
    journal.submit(&new_job("deploy-1", Some("key"))).await.unwrap();
    journal.submit(&new_job("deploy-2", Some("key"))).await.unwrap();
    for name in ["ann", "bob"] {
        let actor = Actor { name: name.into(), from: String::new() };
        journal.set_cancelled_by("deploy-1", &actor).await.unwrap();
    }
    journal
        .set_cancelled_by("deploy-none", &Actor { name: "ann".into(), from: String::new() })
        .await
        .unwrap();
    let entries = journal.audit(None, None, 10).await.unwrap();
    let who: Vec<_> = entries.iter().map(|entry| entry.record["actor"]["name"].clone()).collect();
    assert_eq!(who, ["ann", "ci"]);
}

#[tokio::test]
async fn the_audit_comes_in_pages_and_by_service() {
    let (_folder, journal) = audited().await;
    journal.submit(&NewJob { service: "blog".into(), ..new_job("deploy-3", None) }).await.unwrap();
    let check = async |service: Option<&str>, before: Option<u64>, limit: u32, expect: &[u64]| {
        let entries = journal.audit(service, before, limit).await.unwrap();
        let seqs: Vec<_> = entries.iter().filter_map(|entry| entry.record["seq"].as_u64()).collect();
        assert_eq!(seqs, expect, "{service:?} {before:?} {limit}");
    };
    check(None, None, 2, &[6, 5]).await;
    check(None, Some(5), 2, &[4, 3]).await;
    check(None, Some(2), 2, &[1]).await;
    check(Some("shop"), None, 2, &[5, 4]).await;
    check(Some("blog"), None, 2, &[6]).await;
    check(Some("blog"), Some(6), 2, &[]).await;
    check(None, Some(u64::MAX), 1, &[6]).await;
}

#[tokio::test]
async fn a_mistake_cannot_change_the_audit() {
    let (folder, journal) = audited().await;
    for sql in ["UPDATE audit SET hash = ''", "DELETE FROM audit"] {
        let refused = tamper(folder.path(), sql).await.unwrap_err().to_string();
        assert!(refused.contains("the audit is only ever added to"), "{sql}: {refused}");
    }
    assert!(matches!(journal.verify_audit(None).await.unwrap(), AuditVerdict::Whole { .. }));
}

#[tokio::test]
async fn what_was_changed_in_the_file_is_found() {
    use BreakReason::{Changed, Missing, OutOfOrder};
    let check = async |sql: &'static str, seq: u64, reason: BreakReason| {
        let (folder, journal) = audited().await;
        let head = journal.audit(None, None, 1).await.unwrap().remove(0).hash;
        let known = AuditHead { seq: 5, hash: head };
        let lifted = "DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_is_never_removed;";
        tamper(folder.path(), lifted).await.unwrap();
        tamper(folder.path(), sql).await.unwrap();
        let verdict = journal.verify_audit(Some(known)).await.unwrap();
        assert_eq!(verdict, AuditVerdict::Broken(AuditBreak { seq, reason }), "{sql}");
    };
    check("UPDATE audit SET record = replace(record, '\"bob\"', '\"ann\"')", 3, Changed).await;
    check("UPDATE audit SET record = '{\"service_name\":\"shop\"}' WHERE seq = 2", 2, Changed).await;
    check("DELETE FROM audit WHERE seq = 3", 3, Missing).await;
    check("UPDATE audit SET seq = -seq WHERE seq = 1", 1, Missing).await;
    check(
        "UPDATE audit SET seq = 40 WHERE seq = 4; UPDATE audit SET seq = 4 WHERE seq = 3;
         UPDATE audit SET seq = 3 WHERE seq = 40",
        3,
        OutOfOrder,
    )
    .await;
    check("DELETE FROM audit WHERE seq = 5", 5, Missing).await;
    check("DELETE FROM audit", 1, Missing).await;
}
