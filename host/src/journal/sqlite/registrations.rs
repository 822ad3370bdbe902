//! Jobs whose releases are to be registered, and what a registry said once it was.

use sqlx::{Row, SqlitePool};

use super::columns::{encode, reading, writing};
use super::jobs;
use crate::journal::JournalError;
use crate::model::{Registration, Unregistered};

pub async fn unregistered(readers: &SqlitePool, target: &str) -> Result<Vec<Unregistered>, JournalError> {
    let failed = reading("jobs to register");
    let mut connection = readers.acquire().await.map_err(&failed)?;
    // The condition on the phases is the index's, word for word.
    let rows = sqlx::query(
        "SELECT jobs.*,
            (SELECT later.id FROM jobs later WHERE later.service = jobs.service AND later.target = jobs.target
                AND later.status = 'completed' AND later.id > jobs.id ORDER BY later.id DESC LIMIT 1) AS later
            FROM phases JOIN jobs ON jobs.id = phases.job
            WHERE phases.status = 'failed' AND phases.phase = 'Register'
                AND json_extract(phases.details, '$.retry.next_at') IS NOT NULL
                AND jobs.target = ? AND jobs.status = 'completed' ORDER BY jobs.id",
    )
    .bind(target)
    .fetch_all(&mut *connection)
    .await
    .map_err(&failed)?;
    let later = rows
        .iter()
        .map(|row| row.try_get::<Option<String>, _>("later").map_err(&failed))
        .collect::<Result<Vec<_>, _>>()?;
    let jobs = jobs::with_phases(&mut connection, rows).await?;
    Ok(jobs.into_iter().zip(later).map(|(job, superseded_by)| Unregistered { job, superseded_by }).collect())
}

pub async fn set_registration(
    writer: &SqlitePool,
    job: &str,
    registration: &Registration,
) -> Result<(), JournalError> {
    sqlx::query("UPDATE jobs SET registration = ? WHERE id = ?")
        .bind(encode("the registration", registration)?)
        .bind(job)
        .execute(writer)
        .await
        .map_err(writing("the registration"))?;
    Ok(())
}
