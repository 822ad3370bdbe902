//! Releases, and the ids that the registry gave to services.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::columns::{
    decode, decode_option, encode, encode_option, reading, time, time_option, word, writing,
};
use crate::journal::{JournalError, now, time_text};
use crate::model::ReleaseRecord;

pub async fn put(writer: &SqlitePool, release: &ReleaseRecord) -> Result<(), JournalError> {
    let mut connection = writer.acquire().await.map_err(writing("a release"))?;
    put_in(&mut connection, release).await
}

pub async fn promote(writer: &SqlitePool, release: &ReleaseRecord) -> Result<(), JournalError> {
    let failed = writing("the live release");
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
    let service: Vec<ReleaseRecord> =
        sqlx::query("SELECT * FROM releases WHERE service = ? AND target = ? AND status = 'live'")
            .bind(&release.service)
            .bind(&release.target)
            .fetch_all(&mut *transaction)
            .await
            .map_err(&failed)?
            .iter()
            .map(release_of)
            .collect::<Result<_, _>>()?;
    let promoted_at = release.promoted_at.or_else(|| Some(now()));
    let live = ReleaseRecord { promoted_at, ..release.clone() };
    for changed in live.promoted(&service)? {
        put_in(&mut transaction, &changed).await?;
    }
    transaction.commit().await.map_err(&failed)
}

pub async fn put_all(writer: &SqlitePool, releases: &[ReleaseRecord]) -> Result<(), JournalError> {
    let failed = writing("what the target has");
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
    for release in releases {
        put_in(&mut transaction, release).await?;
    }
    transaction.commit().await.map_err(&failed)
}

pub async fn service_of(
    readers: &SqlitePool,
    job: &str,
    target: &str,
) -> Result<Option<String>, JournalError> {
    sqlx::query_scalar("SELECT service FROM releases WHERE job = ? AND target = ? LIMIT 1")
        .bind(job)
        .bind(target)
        .fetch_optional(readers)
        .await
        .map_err(reading("a release's service"))
}

pub async fn of_service(
    readers: &SqlitePool,
    service: &str,
    target: &str,
) -> Result<Vec<ReleaseRecord>, JournalError> {
    sqlx::query(
        "SELECT * FROM releases WHERE service = ? AND target = ? AND status <> 'removed' ORDER BY id DESC",
    )
    .bind(service)
    .bind(target)
    .fetch_all(readers)
    .await
    .map_err(reading("the releases"))?
    .iter()
    .map(release_of)
    .collect()
}

pub async fn on_target(readers: &SqlitePool, target: &str) -> Result<Vec<ReleaseRecord>, JournalError> {
    sqlx::query("SELECT * FROM releases WHERE target = ? AND status <> 'removed' ORDER BY id")
        .bind(target)
        .fetch_all(readers)
        .await
        .map_err(reading("the target's releases"))?
        .iter()
        .map(release_of)
        .collect()
}

pub async fn droplet_id(readers: &SqlitePool, service: &str) -> Result<Option<u64>, JournalError> {
    let id: Option<i64> = sqlx::query_scalar("SELECT droplet_id FROM droplets WHERE service = ?")
        .bind(service)
        .fetch_optional(readers)
        .await
        .map_err(reading("the droplet's id"))?;
    Ok(id.and_then(|id| u64::try_from(id).ok()))
}

pub async fn set_droplet_id(writer: &SqlitePool, service: &str, id: u64) -> Result<(), JournalError> {
    sqlx::query(
        "INSERT INTO droplets (service, droplet_id) VALUES (?, ?)
         ON CONFLICT (service) DO UPDATE SET droplet_id = excluded.droplet_id",
    )
    .bind(service)
    .bind(i64::try_from(id).unwrap_or(i64::MAX))
    .execute(writer)
    .await
    .map_err(writing("the droplet's id"))?;
    Ok(())
}

async fn put_in(connection: &mut SqliteConnection, release: &ReleaseRecord) -> Result<(), JournalError> {
    sqlx::query(
        "INSERT INTO releases (service, target, id, job, status, method, port, environment,
            environment_digest, files, artifact, instance, plugins, plan, created_at, promoted_at, promoted_by,
            origin)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (service, target, id) DO UPDATE SET status = excluded.status,
            files = excluded.files, artifact = excluded.artifact, instance = excluded.instance,
            plugins = excluded.plugins, plan = coalesce(excluded.plan, plan),
            promoted_at = coalesce(excluded.promoted_at, promoted_at),
            promoted_by = coalesce(excluded.promoted_by, promoted_by), origin = coalesce(excluded.origin, origin)",
    )
    .bind(&release.service)
    .bind(&release.target)
    .bind(&release.id)
    .bind(&release.job)
    .bind(release.status.name())
    .bind(&release.method)
    .bind(release.port)
    .bind(encode("the environment's names", &release.environment)?)
    .bind(&release.environment_digest)
    .bind(encode_option("the files", &release.files)?)
    .bind(encode_option("an artifact", &release.artifact)?)
    .bind(encode_option("an instance", &release.instance)?)
    .bind(encode("the plugins' digests", &release.plugins)?)
    .bind(encode_option("a release's plan", &release.plan)?)
    .bind(time_text(release.created_at))
    .bind(release.promoted_at.map(time_text))
    .bind(&release.promoted_by)
    .bind(encode_option("a release's origin", &release.origin)?)
    .execute(connection)
    .await
    .map_err(writing("a release"))?;
    Ok(())
}

fn release_of(row: &SqliteRow) -> Result<ReleaseRecord, JournalError> {
    let failed = reading("a release");
    let text = |column: &str| row.try_get::<String, _>(column).map_err(&failed);
    let option = |column: &str| row.try_get::<Option<String>, _>(column).map_err(&failed);
    Ok(ReleaseRecord {
        service: text("service")?,
        target: text("target")?,
        id: text("id")?,
        job: text("job")?,
        status: word("a release's status", text("status")?)?,
        method: text("method")?,
        port: row.try_get("port").map_err(&failed)?,
        environment: decode("an environment's names", &text("environment")?)?,
        environment_digest: text("environment_digest")?,
        files: decode_option("files", option("files")?)?,
        artifact: decode_option("an artifact", option("artifact")?)?,
        instance: decode_option("an instance", option("instance")?)?,
        plugins: decode("plugins", &text("plugins")?)?,
        plan: decode_option("a release's plan", option("plan")?)?,
        created_at: time("a time", text("created_at")?)?,
        promoted_at: time_option("a time", option("promoted_at")?)?,
        promoted_by: option("promoted_by")?,
        origin: decode_option("a release's origin", option("origin")?)?,
    })
}
