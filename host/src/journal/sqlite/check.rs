//! Whether the journal can record now: found out by recording something, and remembered for a moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::SqlitePool;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::columns::writing;
use crate::journal::JournalError;

/// However many ask, there is no more than one write in this time.
const REMEMBERED: Duration = Duration::from_secs(1);
/// A disk that takes longer records nothing that anyone waits for.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is written, in bytes. A record that did not fit leaves some room behind it, where smaller ones still fit: once
/// one failed, only what is larger than the usual ones says that there is space again.
const FILLING: i64 = 32 << 10;
const LARGE_FILLING: i64 = 1 << 20;

/// The last answer, and when it was found.
#[derive(Default)]
pub struct Check {
    last: Mutex<Option<(Instant, Result<(), String>)>>,
    /// Something could not be recorded since.
    doubted: AtomicBool,
}

impl Check {
    /// Something could not be recorded.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::Release);
    }

    /// # Errors
    /// When the journal cannot record, with the reason.
    pub async fn check(&self, writer: &SqlitePool) -> Result<(), JournalError> {
        let mut last = self.last.lock().await;
        let known =
            last.as_ref().filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, answer)| answer.clone());
        let doubted = self.doubted.load(Ordering::Acquire);
        let known = known.filter(|answer| answer.is_err() || !doubted);
        let answer = match known {
            Some(answer) => answer,
            None => {
                // What fails from here on is doubted again.
                self.doubted.store(false, Ordering::Release);
                let filling = if doubted { LARGE_FILLING } else { FILLING };
                let answer = match timeout(PATIENCE, write(writer, filling)).await {
                    Ok(written) => written.map_err(|error| error.to_string()),
                    Err(_) => Err(format!("the journal does not answer within {PATIENCE:?}")),
                };
                if answer.is_err() {
                    self.doubt();
                }
                *last = Some((Instant::now(), answer.clone()));
                answer
            }
        };
        answer.map_err(JournalError::Unrecorded)
    }
}

async fn write(writer: &SqlitePool, filling: i64) -> Result<(), JournalError> {
    sqlx::query(
        "INSERT INTO checks (one, filling) VALUES (1, zeroblob(?))
         ON CONFLICT (one) DO UPDATE SET filling = excluded.filling",
    )
    .bind(filling)
    .execute(writer)
    .await
    .map_err(writing("anything"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::journal::{JobLog, Journal, Sqlite, now};
    use crate::model::{Actor, NewJob, Submitted};

    fn new_job(id: &str) -> NewJob {
        NewJob {
            id: id.into(),
            kind: crate::model::JobKind::Deploy,
            service: "shop".into(),
            target: "root@server:22".into(),
            method: "docker".into(),
            release: id.into(),
            request: crate::model::samples::request(),
            plan: serde_json::from_value(json!({ "filling": "x".repeat(200_000) })).unwrap(),
            created_at: now(),
            idempotency_key: None,
            encrypted_environment: None,
            skipped: Vec::new(),
        }
    }

    async fn limit(journal: &Sqlite, pages: u32) {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        sqlx::query(sqlx::AssertSqlSafe(pragma)).execute(&journal.writer).await.unwrap();
    }

    #[tokio::test]
    async fn a_journal_that_was_full_records_again() {
        let folder = tempfile::tempdir().unwrap();
        let file: &Path = &folder.path().join("journal.db");
        let journal = Sqlite::open(file).await.unwrap();
        let Submitted::New(first) = journal.submit(&new_job("deploy-1")).await.unwrap() else {
            panic!("a first job is new");
        };
        journal.check().await.unwrap();
        // SQLite's own limit: as full as a disk, and as sudden. It is the connection's, and goes with it.
        for round in 0..3 {
            limit(&journal, 1).await;
            let full = journal.submit(&new_job("deploy-2")).await.unwrap_err();
            assert!(full.may_pass() && full.to_string().contains("full"), "{round}: {full}");
            assert_eq!(journal.job("deploy-1").await.unwrap().as_ref(), Some(&first), "reads go on");
            assert_eq!(journal.job("deploy-2").await.unwrap(), None, "nothing is half accepted");
        }
        journal.submit(&new_job("deploy-2")).await.unwrap();
        let order: Vec<String> = journal.unfinished().await.unwrap().into_iter().map(|job| job.id).collect();
        assert_eq!(order, ["deploy-1", "deploy-2"]);
    }

    #[tokio::test]
    async fn the_check_notices_a_full_journal_and_that_it_is_well_again() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Sqlite::open(&folder.path().join("journal.db")).await.unwrap();
        limit(&journal, 1).await;
        let full = journal.check().await.unwrap_err().to_string();
        assert!(full.contains("cannot record anything") && full.contains("full"), "{full}");
        sqlx::query("PRAGMA max_page_count = 1000000").execute(&journal.writer).await.unwrap();
        // The answer is remembered, so that asking often writes no more.
        assert_eq!(journal.check().await.unwrap_err().to_string(), full);
        tokio::time::sleep(REMEMBERED).await;
        journal.check().await.unwrap();
    }

    #[tokio::test]
    async fn room_for_a_little_is_not_taken_for_space() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Sqlite::open(&folder.path().join("journal.db")).await.unwrap();
        journal.check().await.unwrap();
        let pages: u32 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&journal.writer).await.unwrap();
        // As much as a check takes, and less than a job.
        limit(&journal, pages + 20).await;
        journal.submit(&new_job("deploy-1")).await.unwrap_err();
        limit(&journal, pages + 20).await;
        let full = journal.check().await.unwrap_err().to_string();
        assert!(full.contains("full"), "{full}");
        sqlx::query("PRAGMA max_page_count = 1000000").execute(&journal.writer).await.unwrap();
        tokio::time::sleep(REMEMBERED).await;
        journal.check().await.unwrap();
        journal.submit(&new_job("deploy-1")).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_over_is_not_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Sqlite::open(&folder.path().join("journal.db")).await.unwrap();
        let actor = Actor { name: "ci".into(), from: "127.0.0.1".into() };
        let Submitted::New(mut job) = journal.submit(&new_job("deploy-1")).await.unwrap() else {
            panic!("a first job is new");
        };
        job.state = crate::model::JobState::Completed;
        journal.set_state(&job).await.unwrap();
        journal.set_cancelled_by("deploy-1", &actor).await.unwrap();
        assert_eq!(journal.job("deploy-1").await.unwrap().unwrap().cancelled_by, None);
    }
}
