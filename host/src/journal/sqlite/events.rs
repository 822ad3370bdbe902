//! A job's events, numbered from 1.

use sqlx::{Row, SqliteConnection, SqlitePool};

use super::columns::{decode, reading, time, word, writing};
use crate::journal::{JournalError, time_text};
use crate::model::{Event, NewEvent};

pub async fn append(writer: &SqlitePool, job: &str, events: &[NewEvent]) -> Result<(), JournalError> {
    let failed = writing("events");
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
    append_in(&mut transaction, job, events).await?;
    transaction.commit().await.map_err(&failed)
}

pub async fn append_in(
    connection: &mut SqliteConnection,
    job: &str,
    events: &[NewEvent],
) -> Result<(), JournalError> {
    for event in events {
        sqlx::query(
            "INSERT INTO events (job, sequence, at, kind, data)
             SELECT ?1, coalesce(max(sequence), 0) + 1, ?2, ?3, ?4 FROM events WHERE job = ?1",
        )
        .bind(job)
        .bind(time_text(event.at))
        .bind(event.kind.name())
        .bind(event.data.to_string())
        .execute(&mut *connection)
        .await
        .map_err(writing("events"))?;
    }
    Ok(())
}

pub async fn after(
    readers: &SqlitePool,
    job: &str,
    after: u64,
    limit: u32,
) -> Result<Vec<Event>, JournalError> {
    let failed = reading("events");
    let rows = sqlx::query("SELECT * FROM events WHERE job = ? AND sequence > ? ORDER BY sequence LIMIT ?")
        .bind(job)
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(readers)
        .await
        .map_err(&failed)?;
    rows.iter()
        .map(|row| {
            let sequence: i64 = row.try_get("sequence").map_err(&failed)?;
            Ok(Event {
                sequence: u64::try_from(sequence).unwrap_or_default(),
                at: time("a time", row.try_get("at").map_err(&failed)?)?,
                kind: word("an event's kind", row.try_get("kind").map_err(&failed)?)?,
                data: decode("an event", row.try_get("data").map_err(&failed)?)?,
            })
        })
        .collect()
}
