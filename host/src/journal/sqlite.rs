//! The journal in one SQLite file.
//!
//! One connection writes, so that writers wait for each other here and never find the file busy; a few
//! others read beside it. WAL with full synchronisation: what was answered `Ok` survives a power cut.

mod audit;
mod check;
mod columns;
mod events;
mod jobs;
mod registrations;
mod releases;
mod steps;

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqlitePool};
use tokio::sync::watch;

use super::{Audit, AuditEntry, AuditHead, AuditVerdict, JobLog, Journal, JournalError, Observer, Releases};
use crate::model::{
    Actor, CallRecord, CallStart, Event, Failure, JobRecord, NewEvent, NewJob, PhaseUpdate, Registration,
    ReleaseRecord, RemoteProcess, Retention, StepRecord, StepStart, Submitted, Unregistered,
};
use check::Check;

const MIGRATIONS: [(i64, &str, &str); 8] = [
    (1, "journal", include_str!("../../migrations/1_journal.sql")),
    (2, "audit", include_str!("../../migrations/2_audit.sql")),
    (3, "retention", include_str!("../../migrations/3_retention.sql")),
    (4, "registering", include_str!("../../migrations/4_registering.sql")),
    (5, "releases", include_str!("../../migrations/5_releases.sql")),
    (6, "generation", include_str!("../../migrations/6_generation.sql")),
    (7, "check", include_str!("../../migrations/7_check.sql")),
    (8, "words", include_str!("../../migrations/8_words.sql")),
];

pub struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    appended: watch::Sender<u64>,
    check: Check,
    observer: Option<Arc<dyn Observer>>,
}

impl Sqlite {
    /// Opens the journal, and makes it when it is not there.
    ///
    /// # Errors
    /// When the file cannot be opened, or was written by a newer version.
    pub async fn open(file: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Open { path: file.display().to_string(), source };
        // Made here, because it has the ends of what commands said: the library would let others read it. Its
        // helper files get the same mode.
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(file)
            .map_err(|error| failed(sqlx::Error::Io(error)))?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let pool =
            |connections: u32| SqlitePoolOptions::new().max_connections(connections).idle_timeout(None);
        // A full disk makes SQLite end a transaction by itself, and the library still believes in it: every later
        // one would be refused. Whoever is free is in no transaction, so such a connection is thrown away.
        let writer = pool(1)
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        let migrations = MIGRATIONS
            .into_iter()
            .map(|(version, name, sql)| {
                let sql = sqlx::SqlStr::from_static(sql);
                Migration::new(version, name.into(), MigrationType::Simple, sql, false)
            })
            .collect();
        Migrator::with_migrations(migrations)
            .run(&writer)
            .await
            .map_err(|error| failed(sqlx::Error::Migrate(Box::new(error))))?;
        let readers = pool(3).connect_with(options).await.map_err(failed)?;
        Ok(Sqlite {
            writer,
            readers,
            appended: watch::Sender::new(0),
            check: Check::default(),
            observer: None,
        })
    }

    /// Tells somebody of its records from now on.
    pub fn observed_by(self, observer: Option<Arc<dyn Observer>>) -> Self {
        Sqlite { observer, ..self }
    }
}

#[async_trait]
impl JobLog for Sqlite {
    async fn submit(&self, job: &NewJob) -> Result<Submitted, JournalError> {
        self.record("a new job", jobs::submit(&self.writer, job)).await
    }

    async fn keyed(&self, key: &str) -> Result<Option<JobRecord>, JournalError> {
        jobs::keyed(&self.readers, key).await
    }

    async fn job(&self, id: &str) -> Result<Option<JobRecord>, JournalError> {
        jobs::job(&self.readers, id).await
    }

    async fn history(
        &self,
        service: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<JobRecord>, JournalError> {
        jobs::history(&self.readers, service, before, limit).await
    }

    async fn knows_service(&self, service: &str) -> Result<bool, JournalError> {
        jobs::knows_service(&self.readers, service).await
    }

    async fn unfinished(&self) -> Result<Vec<JobRecord>, JournalError> {
        jobs::unfinished(&self.readers).await
    }

    async fn counts(&self) -> Result<Vec<(String, u64)>, JournalError> {
        jobs::counts(&self.readers).await
    }

    async fn set_state(&self, job: &JobRecord) -> Result<(), JournalError> {
        self.record("the job's state", jobs::set_state(&self.writer, job)).await?;
        self.announce();
        Ok(())
    }

    async fn set_cancelled_by(&self, job: &str, actor: &Actor) -> Result<(), JournalError> {
        self.record("the cancellation", jobs::set_cancelled_by(&self.writer, job, actor)).await
    }

    async fn set_host_key(&self, job: &str, fingerprint: &str) -> Result<(), JournalError> {
        self.record("the host key", jobs::set_host_key(&self.writer, job, fingerprint)).await
    }

    async fn set_generation(&self, job: &str, generation: u64) -> Result<(), JournalError> {
        self.record("the lease's generation", jobs::set_generation(&self.writer, job, generation)).await
    }

    async fn set_previous(&self, job: &str, previous: Option<&ReleaseRecord>) -> Result<(), JournalError> {
        self.record("the previous release", jobs::set_previous(&self.writer, job, previous)).await
    }

    async fn set_retention(&self, job: &str, retention: &Retention) -> Result<(), JournalError> {
        self.record("what was removed", jobs::set_retention(&self.writer, job, retention)).await
    }

    async fn set_phase(&self, job: &str, update: &PhaseUpdate) -> Result<(), JournalError> {
        self.record("a phase", jobs::set_phase(&self.writer, job, update)).await?;
        self.announce();
        Ok(())
    }

    async fn step_started(&self, step: &StepStart) -> Result<i64, JournalError> {
        self.observer.iter().for_each(|observer| observer.part());
        self.record("a step's start", steps::started(&self.writer, step)).await
    }

    async fn step_ended(&self, id: i64, outcome: Result<&Value, &Failure>) -> Result<(), JournalError> {
        self.observer.iter().for_each(|observer| observer.part());
        self.record("a step's end", steps::ended(&self.writer, id, outcome)).await
    }

    async fn steps(&self, job: &str) -> Result<Vec<StepRecord>, JournalError> {
        steps::of_job(&self.readers, job).await
    }

    async fn call_started(&self, call: &CallStart) -> Result<i64, JournalError> {
        self.record("a call's start", steps::call_started(&self.writer, call)).await
    }

    async fn call_running(&self, id: i64, process: &RemoteProcess) -> Result<(), JournalError> {
        self.record("a call's process", steps::call_running(&self.writer, id, process)).await
    }

    async fn call_ended(
        &self,
        id: i64,
        outcome: &str,
        exit: Option<&str>,
        output_tail: &str,
        duration_ms: u64,
    ) -> Result<(), JournalError> {
        self.record(
            "a call's end",
            steps::call_ended(&self.writer, id, outcome, exit, output_tail, duration_ms),
        )
        .await
    }

    async fn calls(&self, job: &str) -> Result<Vec<CallRecord>, JournalError> {
        steps::calls(&self.readers, job).await
    }

    async fn append(&self, job: &str, events: &[NewEvent]) -> Result<(), JournalError> {
        // Gathered lines come by the clock, and no job goes on by them: not one of the records that are counted.
        self.noted(events::append(&self.writer, job, events).await)?;
        self.announce();
        Ok(())
    }

    async fn events(&self, job: &str, after: u64, limit: u32) -> Result<Vec<Event>, JournalError> {
        events::after(&self.readers, job, after, limit).await
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    async fn encrypted_environment(&self, job: &str) -> Result<Option<Vec<u8>>, JournalError> {
        jobs::encrypted_environment(&self.readers, job).await
    }
}

#[async_trait]
impl Releases for Sqlite {
    async fn put_release(&self, release: &ReleaseRecord) -> Result<(), JournalError> {
        self.record("a release", releases::put(&self.writer, release)).await
    }

    async fn promote(&self, release: &ReleaseRecord) -> Result<(), JournalError> {
        self.record("the live release", releases::promote(&self.writer, release)).await
    }

    async fn put_releases(&self, releases: &[ReleaseRecord]) -> Result<(), JournalError> {
        self.record("what the target has", releases::put_all(&self.writer, releases)).await
    }

    async fn service_of(&self, job: &str, target: &str) -> Result<Option<String>, JournalError> {
        releases::service_of(&self.readers, job, target).await
    }

    async fn releases(&self, service: &str, target: &str) -> Result<Vec<ReleaseRecord>, JournalError> {
        releases::of_service(&self.readers, service, target).await
    }

    async fn releases_on(&self, target: &str) -> Result<Vec<ReleaseRecord>, JournalError> {
        releases::on_target(&self.readers, target).await
    }

    async fn unregistered(&self, target: &str) -> Result<Vec<Unregistered>, JournalError> {
        registrations::unregistered(&self.readers, target).await
    }

    async fn set_registration(&self, job: &str, registration: &Registration) -> Result<(), JournalError> {
        self.record("a registration", registrations::set_registration(&self.writer, job, registration)).await
    }

    async fn droplet_id(&self, service: &str) -> Result<Option<u64>, JournalError> {
        releases::droplet_id(&self.readers, service).await
    }

    async fn set_droplet_id(&self, service: &str, id: u64) -> Result<(), JournalError> {
        self.record("the droplet's id", releases::set_droplet_id(&self.writer, service, id)).await
    }
}

#[async_trait]
impl Audit for Sqlite {
    async fn audit(
        &self,
        service: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, JournalError> {
        audit::page(&self.readers, service, before, limit).await
    }

    async fn verify_audit(&self, known: Option<AuditHead>) -> Result<AuditVerdict, JournalError> {
        audit::verify(&self.readers, known).await
    }
}

#[async_trait]
impl Journal for Sqlite {
    async fn check(&self) -> Result<(), JournalError> {
        // Nobody goes on by it: not one of the records that are counted.
        self.check.check(&self.writer).await
    }

    async fn close(&self) {
        // The last connection that closes takes the log beside the file back into it.
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl Sqlite {
    /// Every change that a job goes on by becomes durable in here.
    async fn record<T>(
        &self,
        what: &'static str,
        change: impl Future<Output = Result<T, JournalError>> + Send,
    ) -> Result<T, JournalError> {
        let number = self.observer.as_ref().map(|observer| observer.recording(what));
        let recorded = change.await;
        if let (Some(observer), Some(number)) = (&self.observer, number) {
            observer.recorded(number);
        }
        self.noted(recorded)
    }

    /// Whether it can record is found out anew after an error.
    fn noted<T>(&self, recorded: Result<T, JournalError>) -> Result<T, JournalError> {
        if recorded.as_ref().is_err_and(JournalError::may_pass) {
            self.check.doubt();
        }
        recorded
    }

    fn announce(&self) {
        self.appended.send_modify(|count| *count += 1);
    }
}
