//! Steps, and what their plugins asked the host to do.

use serde_json::Value;
use sqlx::{Row, SqlitePool};

use super::columns::{decode, decode_option, encode, reading, time, time_option, writing};
use crate::journal::{JournalError, now, time_text};
use crate::model::{CallRecord, CallStart, Failure, RemoteProcess, StepRecord, StepStart};

pub async fn started(writer: &SqlitePool, step: &StepStart) -> Result<i64, JournalError> {
    let done = sqlx::query(
        "INSERT INTO steps (job, step, plugin, function, digest, started_at) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(&step.job)
    .bind(&step.step)
    .bind(&step.plugin)
    .bind(&step.function)
    .bind(&step.digest)
    .bind(time_text(now()))
    .execute(writer)
    .await
    .map_err(writing("a step"))?;
    Ok(done.last_insert_rowid())
}

pub async fn ended(
    writer: &SqlitePool,
    id: i64,
    outcome: Result<&Value, &Failure>,
) -> Result<(), JournalError> {
    let (result, error) = match outcome {
        Ok(value) => (Some(value.to_string()), None),
        Err(failure) => (None, Some(encode("an error", failure)?)),
    };
    sqlx::query("UPDATE steps SET completed_at = ?, result = ?, error = ? WHERE id = ?")
        .bind(time_text(now()))
        .bind(result)
        .bind(error)
        .bind(id)
        .execute(writer)
        .await
        .map_err(writing("a step"))?;
    Ok(())
}

pub async fn of_job(readers: &SqlitePool, job: &str) -> Result<Vec<StepRecord>, JournalError> {
    let failed = reading("the steps");
    let rows = sqlx::query("SELECT * FROM steps WHERE job = ? ORDER BY id")
        .bind(job)
        .fetch_all(readers)
        .await
        .map_err(&failed)?;
    rows.iter()
        .map(|row| {
            Ok(StepRecord {
                id: row.try_get("id").map_err(&failed)?,
                step: row.try_get("step").map_err(&failed)?,
                plugin: row.try_get("plugin").map_err(&failed)?,
                function: row.try_get("function").map_err(&failed)?,
                digest: row.try_get("digest").map_err(&failed)?,
                started_at: time("a time", row.try_get("started_at").map_err(&failed)?)?,
                completed_at: time_option("a time", row.try_get("completed_at").map_err(&failed)?)?,
                result: decode_option("a result", row.try_get("result").map_err(&failed)?)?,
                error: decode_option("an error", row.try_get("error").map_err(&failed)?)?,
            })
        })
        .collect()
}

pub async fn call_started(writer: &SqlitePool, call: &CallStart) -> Result<i64, JournalError> {
    let done = sqlx::query(
        "INSERT INTO calls (job, step, call, arguments, effect, started_at) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(&call.job)
    .bind(call.step)
    .bind(&call.call)
    .bind(call.arguments.to_string())
    .bind(if call.changes_target { "changes" } else { "reads" })
    .bind(time_text(now()))
    .execute(writer)
    .await
    .map_err(writing("a host call"))?;
    Ok(done.last_insert_rowid())
}

pub async fn call_running(writer: &SqlitePool, id: i64, process: &RemoteProcess) -> Result<(), JournalError> {
    sqlx::query("UPDATE calls SET remote_group = ?, remote_started = ? WHERE id = ?")
        .bind(process.group)
        .bind(&process.started)
        .bind(id)
        .execute(writer)
        .await
        .map_err(writing("a remote process"))?;
    Ok(())
}

pub async fn call_ended(
    writer: &SqlitePool,
    id: i64,
    outcome: &str,
    exit: Option<&str>,
    output_tail: &str,
    duration_ms: u64,
) -> Result<(), JournalError> {
    sqlx::query("UPDATE calls SET outcome = ?, exit = ?, output_tail = ?, duration_ms = ? WHERE id = ?")
        .bind(outcome)
        .bind(exit)
        .bind(output_tail)
        .bind(i64::try_from(duration_ms).unwrap_or(i64::MAX))
        .bind(id)
        .execute(writer)
        .await
        .map_err(writing("a host call"))?;
    Ok(())
}

pub async fn calls(readers: &SqlitePool, job: &str) -> Result<Vec<CallRecord>, JournalError> {
    let failed = reading("the host calls");
    let rows = sqlx::query("SELECT * FROM calls WHERE job = ? ORDER BY id")
        .bind(job)
        .fetch_all(readers)
        .await
        .map_err(&failed)?;
    rows.iter()
        .map(|row| {
            let duration: Option<i64> = row.try_get("duration_ms").map_err(&failed)?;
            let group: Option<u32> = row.try_get("remote_group").map_err(&failed)?;
            let started: Option<String> = row.try_get("remote_started").map_err(&failed)?;
            Ok(CallRecord {
                id: row.try_get("id").map_err(&failed)?,
                step: row.try_get("step").map_err(&failed)?,
                call: row.try_get("call").map_err(&failed)?,
                arguments: decode("arguments", row.try_get("arguments").map_err(&failed)?)?,
                effect: row.try_get("effect").map_err(&failed)?,
                process: group.zip(started).map(|(group, started)| RemoteProcess { group, started }),
                started_at: time("a time", row.try_get("started_at").map_err(&failed)?)?,
                duration_ms: duration.and_then(|ms| u64::try_from(ms).ok()),
                outcome: row.try_get("outcome").map_err(&failed)?,
                exit: row.try_get("exit").map_err(&failed)?,
                output_tail: row.try_get("output_tail").map_err(&failed)?,
            })
        })
        .collect()
}
