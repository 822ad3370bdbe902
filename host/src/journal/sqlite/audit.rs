//! The audit's table. Records come only from the transactions of what they tell of.

use futures::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::columns::{decode, reading, writing};
use crate::journal::audit::{BEGINNING, Chain, Link, hash};
use crate::journal::{
    AuditAction, AuditEntry, AuditHead, AuditRecord, AuditVerdict, JournalError, UsedPlugin, now, time_text,
};
use crate::model::{Actor, JobRecord};

pub async fn accepted(connection: &mut SqliteConnection, job: &JobRecord) -> Result<(), JournalError> {
    let action = AuditAction::Accepted {
        deployment_method: job.method.clone(),
        service_path: job.request.service_path.clone(),
        service_port: job.request.service_port,
        environment: job.request.environment.iter().map(|variable| variable.name.clone()).collect(),
    };
    append(connection, job, &job.request.actor, action).await
}

pub async fn cancel_asked(
    connection: &mut SqliteConnection,
    job: &JobRecord,
    actor: &Actor,
) -> Result<(), JournalError> {
    append(connection, job, actor, AuditAction::CancelAsked).await
}

pub async fn ended(connection: &mut SqliteConnection, job: &JobRecord) -> Result<(), JournalError> {
    let failed = reading("what a job used");
    let host_key: Option<String> = sqlx::query_scalar("SELECT host_key FROM jobs WHERE id = ?")
        .bind(&job.id)
        .fetch_one(&mut *connection)
        .await
        .map_err(&failed)?;
    let plugins: Vec<(String, String)> =
        sqlx::query_as("SELECT DISTINCT plugin, digest FROM steps WHERE job = ? ORDER BY plugin, digest")
            .bind(&job.id)
            .fetch_all(&mut *connection)
            .await
            .map_err(&failed)?;
    let action = AuditAction::Ended {
        status: job.state.status(),
        outcome: job.outcome(),
        aftermath: job.state.aftermath().map(|aftermath| aftermath.name().to_owned()),
        host_key,
        plugins: plugins.into_iter().map(|(name, digest)| UsedPlugin { name, digest }).collect(),
    };
    append(connection, job, &job.request.actor, action).await
}

pub async fn page(
    readers: &SqlitePool,
    service: Option<&str>,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<AuditEntry>, JournalError> {
    let failed = reading("the audit");
    let before = before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX);
    let query = match service {
        Some(service) => {
            sqlx::query("SELECT * FROM audit WHERE service = ? AND seq < ? ORDER BY seq DESC LIMIT ?")
                .bind(service)
        }
        None => sqlx::query("SELECT * FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?"),
    };
    query
        .bind(before)
        .bind(limit)
        .fetch_all(readers)
        .await
        .map_err(&failed)?
        .iter()
        .map(|row| {
            Ok(AuditEntry {
                record: decode("an audit's record", row.try_get("record").map_err(&failed)?)?,
                previous: row.try_get("previous").map_err(&failed)?,
                hash: row.try_get("hash").map_err(&failed)?,
            })
        })
        .collect()
}

pub async fn verify(readers: &SqlitePool, known: Option<AuditHead>) -> Result<AuditVerdict, JournalError> {
    let failed = reading("the audit");
    let mut chain = Chain::new(known);
    // One row after the other, because the audit may be larger than the memory.
    let mut rows = sqlx::query("SELECT seq, record, previous, hash FROM audit ORDER BY seq").fetch(readers);
    while let Some(row) = rows.try_next().await.map_err(&failed)? {
        if let Err(broken) = chain.follow(&link(&row).map_err(&failed)?) {
            return Ok(AuditVerdict::Broken(broken));
        }
    }
    Ok(chain.end())
}

fn link(row: &SqliteRow) -> Result<Link<'_>, sqlx::Error> {
    let seq: i64 = row.try_get("seq")?;
    Ok(Link {
        // No record was ever written with a number below one.
        seq: u64::try_from(seq).unwrap_or_default(),
        record: row.try_get("record")?,
        previous: row.try_get("previous")?,
        hash: row.try_get("hash")?,
    })
}

async fn append(
    connection: &mut SqliteConnection,
    job: &JobRecord,
    actor: &Actor,
    action: AuditAction,
) -> Result<(), JournalError> {
    let failed = writing("the audit");
    let last: Option<(i64, String)> = sqlx::query_as("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        .fetch_optional(&mut *connection)
        .await
        .map_err(reading("the audit"))?;
    let (last, previous) = last.unwrap_or_else(|| (0, BEGINNING.to_owned()));
    let seq = last + 1;
    let record = AuditRecord {
        seq: seq.unsigned_abs(),
        at: time_text(now()),
        actor: actor.clone(),
        deploy_job_id: job.id.clone(),
        kind: job.kind,
        service_name: job.service.clone(),
        release: job.release.clone(),
        target: job.target.clone(),
        action,
    };
    let record =
        record.canonical().map_err(|source| JournalError::Decode { what: "an audit's record", source })?;
    let hash = hash(&previous, record.as_bytes());
    sqlx::query("INSERT INTO audit (seq, record, previous, hash) VALUES (?, ?, ?, ?)")
        .bind(seq)
        .bind(record)
        .bind(previous)
        .bind(hash)
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
    Ok(())
}
