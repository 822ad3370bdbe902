//! Jobs and their phases.

use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::columns::{decode, decode_option, encode, reading, time, time_option, word, writing};
use super::{audit, events};
use crate::journal::{JournalError, now, time_text};
use crate::model::{
    Actor, EventKind, JobRecord, NewEvent, NewJob, Phase, PhaseRecord, PhaseStatus, PhaseUpdate,
    ReleaseRecord, Retention, Submitted,
};

pub async fn submit(writer: &SqlitePool, job: &NewJob) -> Result<Submitted, JournalError> {
    let failed = writing("the job");
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
    if let Some(key) = &job.idempotency_key {
        let known: Option<String> = sqlx::query_scalar("SELECT id FROM jobs WHERE idempotency_key = ?")
            .bind(key)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(reading("the idempotency key"))?;
        if let Some(record) = match known {
            Some(id) => read(&mut transaction, &id).await?,
            None => None,
        } {
            let same = record.request.digest == job.request.digest;
            return Ok(if same { Submitted::Known(record) } else { Submitted::KeyTaken(record) });
        }
    }
    sqlx::query(
        "INSERT INTO jobs (id, kind, service, target, method, release, request, plan, state, status,
            created_at, idempotency_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)",
    )
    .bind(&job.id)
    .bind(job.kind.name())
    .bind(&job.service)
    .bind(&job.target)
    .bind(&job.method)
    .bind(&job.release)
    .bind(encode("the request", &job.request)?)
    .bind(encode("the plan", &job.plan)?)
    .bind(encode("the state", &crate::model::JobState::Pending)?)
    .bind(time_text(job.created_at))
    .bind(&job.idempotency_key)
    .execute(&mut *transaction)
    .await
    .map_err(&failed)?;
    for (position, phase) in Phase::ALL.into_iter().enumerate() {
        let skipped = job.skipped.iter().find(|(skipped, _)| *skipped == phase);
        let (status, details) = match skipped {
            Some((_, reason)) => (PhaseStatus::Skipped, json!({ "reason": reason })),
            None => (PhaseStatus::Pending, json!({})),
        };
        sqlx::query("INSERT INTO phases (job, position, phase, status, details) VALUES (?, ?, ?, ?, ?)")
            .bind(&job.id)
            .bind(i64::try_from(position).unwrap_or_default())
            .bind(phase.name())
            .bind(status.name())
            .bind(details.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
    }
    if let Some(encrypted) = &job.encrypted_environment {
        sqlx::query("INSERT INTO encrypted_environments (job, content) VALUES (?, ?)")
            .bind(&job.id)
            .bind(encrypted)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
    }
    let accepted = NewEvent {
        at: job.created_at,
        kind: EventKind::Job,
        data: json!({ "status": "pending", "service_name": job.service, "release": job.release }),
    };
    events::append_in(&mut transaction, &job.id, &[accepted]).await?;
    let record = read(&mut transaction, &job.id).await?.ok_or_else(|| failed(sqlx::Error::RowNotFound))?;
    audit::accepted(&mut transaction, &record).await?;
    transaction.commit().await.map_err(&failed)?;
    Ok(Submitted::New(record))
}

pub async fn keyed(readers: &SqlitePool, key: &str) -> Result<Option<JobRecord>, JournalError> {
    let failed = reading("the idempotency key");
    let mut connection = readers.acquire().await.map_err(&failed)?;
    let rows = sqlx::query("SELECT * FROM jobs WHERE idempotency_key = ?")
        .bind(key)
        .fetch_all(&mut *connection)
        .await
        .map_err(&failed)?;
    Ok(with_phases(&mut connection, rows).await?.into_iter().next())
}

pub async fn job(readers: &SqlitePool, id: &str) -> Result<Option<JobRecord>, JournalError> {
    let mut connection = readers.acquire().await.map_err(reading("a job"))?;
    read(&mut connection, id).await
}

pub async fn history(
    readers: &SqlitePool,
    service: &str,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<JobRecord>, JournalError> {
    let failed = reading("the history");
    let mut connection = readers.acquire().await.map_err(&failed)?;
    // A blob is more than any text, so without a `before` all are less. An OR would walk the index from its end.
    let rows = sqlx::query(
        "SELECT * FROM jobs WHERE service = ? AND id < coalesce(?, x'') ORDER BY id DESC LIMIT ?",
    )
    .bind(service)
    .bind(before)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await
    .map_err(&failed)?;
    with_phases(&mut connection, rows).await
}

pub async fn knows_service(readers: &SqlitePool, service: &str) -> Result<bool, JournalError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM jobs WHERE service = ? LIMIT 1")
        .bind(service)
        .fetch_optional(readers)
        .await
        .map_err(reading("a service"))?;
    Ok(found.is_some())
}

pub async fn unfinished(readers: &SqlitePool) -> Result<Vec<JobRecord>, JournalError> {
    let failed = reading("unfinished jobs");
    let mut connection = readers.acquire().await.map_err(&failed)?;
    let rows = sqlx::query("SELECT * FROM jobs WHERE status IN ('pending', 'running') ORDER BY rowid")
        .fetch_all(&mut *connection)
        .await
        .map_err(&failed)?;
    with_phases(&mut connection, rows).await
}

pub async fn counts(readers: &SqlitePool) -> Result<Vec<(String, u64)>, JournalError> {
    let failed = reading("the counts of jobs");
    let rows = sqlx::query("SELECT status, count(*) FROM jobs GROUP BY status")
        .fetch_all(readers)
        .await
        .map_err(&failed)?;
    rows.iter()
        .map(|row| {
            let count: i64 = row.try_get(1).map_err(&failed)?;
            Ok((row.try_get(0).map_err(&failed)?, u64::try_from(count).unwrap_or_default()))
        })
        .collect()
}

pub async fn set_state(writer: &SqlitePool, job: &JobRecord) -> Result<(), JournalError> {
    let failed = writing("the job's state");
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
    sqlx::query(
        "UPDATE jobs SET state = ?, status = ?, started_at = ?, completed_at = ?, error = ?,
            registration = ? WHERE id = ?",
    )
    .bind(encode("the state", &job.state)?)
    .bind(job.state.status().name())
    .bind(job.started_at.map(time_text))
    .bind(job.completed_at.map(time_text))
    .bind(job.error.as_ref().map(|error| encode("the error", error)).transpose()?)
    .bind(job.registration.as_ref().map(|value| encode("the registration", value)).transpose()?)
    .bind(&job.id)
    .execute(&mut *transaction)
    .await
    .map_err(&failed)?;
    if job.state.is_over() {
        sqlx::query("DELETE FROM encrypted_environments WHERE job = ?")
            .bind(&job.id)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        audit::ended(&mut transaction, job).await?;
    }
    let data = json!({
        "status": job.state.status(),
        "state": job.state,
        "error": job.error.as_ref().map(ToString::to_string),
    });
    let event = NewEvent { at: now(), kind: EventKind::Job, data };
    events::append_in(&mut transaction, &job.id, &[event]).await?;
    transaction.commit().await.map_err(&failed)
}

pub async fn set_cancelled_by(writer: &SqlitePool, job: &str, actor: &Actor) -> Result<(), JournalError> {
    let failed = writing("the cancellation");
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
    let done = sqlx::query(
        "UPDATE jobs SET cancelled_by = ?
            WHERE id = ? AND cancelled_by IS NULL AND status IN ('pending', 'running')",
    )
    .bind(&actor.name)
    .bind(job)
    .execute(&mut *transaction)
    .await
    .map_err(&failed)?;
    if done.rows_affected() > 0
        && let Some(job) = read(&mut transaction, job).await?
    {
        audit::cancel_asked(&mut transaction, &job, actor).await?;
    }
    transaction.commit().await.map_err(&failed)
}

pub async fn set_host_key(writer: &SqlitePool, job: &str, fingerprint: &str) -> Result<(), JournalError> {
    sqlx::query("UPDATE jobs SET host_key = ? WHERE id = ?")
        .bind(fingerprint)
        .bind(job)
        .execute(writer)
        .await
        .map_err(writing("the target's host key"))?;
    Ok(())
}

pub async fn set_generation(writer: &SqlitePool, job: &str, generation: u64) -> Result<(), JournalError> {
    sqlx::query("UPDATE jobs SET generation = ? WHERE id = ?")
        .bind(i64::try_from(generation).unwrap_or(i64::MAX))
        .bind(job)
        .execute(writer)
        .await
        .map_err(writing("the lease's generation"))?;
    Ok(())
}

pub async fn set_previous(
    writer: &SqlitePool,
    job: &str,
    previous: Option<&ReleaseRecord>,
) -> Result<(), JournalError> {
    sqlx::query("UPDATE jobs SET previous = ? WHERE id = ?")
        .bind(previous.map(|release| encode("the previous release", release)).transpose()?)
        .bind(job)
        .execute(writer)
        .await
        .map_err(writing("the previous release"))?;
    Ok(())
}

pub async fn set_retention(
    writer: &SqlitePool,
    job: &str,
    retention: &Retention,
) -> Result<(), JournalError> {
    sqlx::query("UPDATE jobs SET retention = ? WHERE id = ?")
        .bind(encode("what was removed", retention)?)
        .bind(job)
        .execute(writer)
        .await
        .map_err(writing("what was removed"))?;
    Ok(())
}

pub async fn set_phase(writer: &SqlitePool, job: &str, update: &PhaseUpdate) -> Result<(), JournalError> {
    let failed = writing("the phase");
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
    sqlx::query(
        "UPDATE phases SET status = ?, started_at = coalesce(?, started_at),
            completed_at = coalesce(?, completed_at), details = coalesce(?, details), error = ?
            WHERE job = ? AND phase = ?",
    )
    .bind(update.status.name())
    .bind(update.started_at.map(time_text))
    .bind(update.completed_at.map(time_text))
    .bind(update.details.as_ref().map(ToString::to_string))
    .bind(update.error.as_ref().map(|error| encode("the error", error)).transpose()?)
    .bind(job)
    .bind(update.phase.name())
    .execute(&mut *transaction)
    .await
    .map_err(&failed)?;
    let row = sqlx::query("SELECT * FROM phases WHERE job = ? AND phase = ?")
        .bind(job)
        .bind(update.phase.name())
        .fetch_one(&mut *transaction)
        .await
        .map_err(&failed)?;
    let phase = phase_of(&row)?;
    let data = json!({
        "phase": phase.phase,
        "status": phase.status,
        "started_at": phase.started_at.map(time_text),
        "completed_at": phase.completed_at.map(time_text),
        "details": phase.details,
        "error": phase.error.as_ref().map(ToString::to_string),
    });
    let event = NewEvent { at: now(), kind: EventKind::Phase, data };
    events::append_in(&mut transaction, job, &[event]).await?;
    transaction.commit().await.map_err(&failed)
}

pub async fn encrypted_environment(readers: &SqlitePool, job: &str) -> Result<Option<Vec<u8>>, JournalError> {
    sqlx::query_scalar("SELECT content FROM encrypted_environments WHERE job = ?")
        .bind(job)
        .fetch_optional(readers)
        .await
        .map_err(reading("an encrypted environment"))
}

async fn read(connection: &mut SqliteConnection, id: &str) -> Result<Option<JobRecord>, JournalError> {
    let rows = sqlx::query("SELECT * FROM jobs WHERE id = ?")
        .bind(id)
        .fetch_all(&mut *connection)
        .await
        .map_err(reading("a job"))?;
    Ok(with_phases(connection, rows).await?.into_iter().next())
}

/// Reads the phases of all these jobs with one query.
pub(super) async fn with_phases(
    connection: &mut SqliteConnection,
    rows: Vec<SqliteRow>,
) -> Result<Vec<JobRecord>, JournalError> {
    let failed = reading("the phases");
    let mut jobs = rows.iter().map(job_of).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    let phases = sqlx::query(
        "SELECT * FROM phases WHERE job IN (SELECT value FROM json_each(?)) ORDER BY job, position",
    )
    .bind(encode("ids", &ids)?)
    .fetch_all(connection)
    .await
    .map_err(&failed)?;
    for row in &phases {
        let owner: String = row.try_get("job").map_err(&failed)?;
        if let Some(job) = jobs.iter_mut().find(|job| job.id == owner) {
            job.phases.push(phase_of(row)?);
        }
    }
    Ok(jobs)
}

fn job_of(row: &SqliteRow) -> Result<JobRecord, JournalError> {
    let failed = reading("a job");
    let text = |column: &str| row.try_get::<String, _>(column).map_err(&failed);
    let option = |column: &str| row.try_get::<Option<String>, _>(column).map_err(&failed);
    Ok(JobRecord {
        id: text("id")?,
        kind: word("a job's kind", text("kind")?)?,
        service: text("service")?,
        target: text("target")?,
        method: text("method")?,
        release: text("release")?,
        request: decode("a request", &text("request")?)?,
        plan: decode("a plan", &text("plan")?)?,
        state: decode("a job's state", &text("state")?)?,
        cancelled_by: option("cancelled_by")?,
        created_at: time("a time", text("created_at")?)?,
        started_at: time_option("a time", option("started_at")?)?,
        completed_at: time_option("a time", option("completed_at")?)?,
        error: decode_option("an error", option("error")?)?,
        registration: decode_option("a registration", option("registration")?)?,
        previous: decode_option("a release", option("previous")?)?,
        generation: row
            .try_get::<Option<i64>, _>("generation")
            .map_err(&failed)?
            .and_then(|generation| u64::try_from(generation).ok()),
        retention: decode_option("what was removed", option("retention")?)?,
        phases: Vec::new(),
    })
}

fn phase_of(row: &SqliteRow) -> Result<PhaseRecord, JournalError> {
    let failed = reading("a phase");
    let text = |column: &str| row.try_get::<String, _>(column).map_err(&failed);
    let option = |column: &str| row.try_get::<Option<String>, _>(column).map_err(&failed);
    Ok(PhaseRecord {
        phase: word("a phase", text("phase")?)?,
        status: word("a phase's status", text("status")?)?,
        started_at: time_option("a time", option("started_at")?)?,
        completed_at: time_option("a time", option("completed_at")?)?,
        details: decode("a phase's details", &text("details")?)?,
        error: decode_option("an error", option("error")?)?,
    })
}
