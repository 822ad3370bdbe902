//! Commands about jobs that there are already.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, ClientError, typed};
use super::output::{line, print, table};
use super::{ServerFlags, follow, show};
use crate::http::types::Job;
use crate::model::JobStatus;

#[derive(Args, Debug)]
pub struct StatusArgs {
    /// A job's id, or a service's name for its latest job
    #[arg(value_name = "JOB|SERVICE")]
    of: String,
    #[command(flatten)]
    pub server: ServerFlags,
}

#[derive(Args, Debug)]
pub struct LogsArgs {
    /// A job's id, or a service's name for its latest job
    #[arg(value_name = "JOB|SERVICE")]
    of: String,
    /// Follow the log until the job is over
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    pub server: ServerFlags,
}

#[derive(Args, Debug)]
pub struct HistoryArgs {
    service: String,
    /// How many jobs to show
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Only jobs that are older than this one
    #[arg(long, value_name = "JOB")]
    before: Option<String>,
    #[command(flatten)]
    pub server: ServerFlags,
}

#[derive(Args, Debug)]
pub struct CancelArgs {
    /// A job's id
    job: String,
    #[command(flatten)]
    pub server: ServerFlags,
}

pub async fn status(client: &Client, args: StatusArgs, json: bool) -> anyhow::Result<ExitCode> {
    let value = find(client, &args.of).await?;
    let job: Job = typed(client, &value)?;
    print(json, &value, || show::job(&job));
    Ok(ExitCode::SUCCESS)
}

pub async fn logs(client: &Client, args: LogsArgs, json: bool) -> anyhow::Result<ExitCode> {
    let job: Job = typed(client, &find(client, &args.of).await?)?;
    if args.follow && matches!(job.status, JobStatus::Pending | JobStatus::Running) {
        return follow::to_the_end(client, &job.deploy_job_id, json, true).await;
    }
    follow::so_far(client, &job.deploy_job_id, |seen| {
        if json {
            line(&json!({ "event": seen.kind, "id": seen.id, "data": seen.data }).to_string());
        } else if let Some(text) = seen.dated() {
            line(&text);
        }
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

pub async fn history(client: &Client, args: HistoryArgs, json: bool) -> anyhow::Result<ExitCode> {
    let limit = args.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    if let Some(before) = &args.before {
        query.push(("before", before));
    }
    let value = client.list(&["deploy", "history", &args.service], &query).await?;
    let jobs: Vec<Job> = typed(client, &value)?;
    print(json, &value, || {
        let rows: Vec<Vec<String>> = jobs.iter().map(history_row).collect();
        table(&["JOB", "STATUS", "KIND", "RELEASE", "ASKED", "TOOK", "BY"], &rows)
    });
    Ok(ExitCode::SUCCESS)
}

pub async fn cancel(client: &Client, args: CancelArgs, json: bool) -> anyhow::Result<ExitCode> {
    let value = client.delete(&["deploy", &args.job]).await?;
    let job: Job = typed(client, &value)?;
    print(json, &value, || match job.status {
        JobStatus::Pending | JobStatus::Running => {
            let id = &job.deploy_job_id;
            format!(
                "{id} is being cancelled; the previous release is restored\n  follow it: deployer logs {id} --follow"
            )
        }
        JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled => show::result(&job),
    });
    Ok(ExitCode::SUCCESS)
}

/// A job by its id, or a service's latest one. A service may have a name that looks like an id.
async fn find(client: &Client, of: &str) -> Result<Value, ClientError> {
    if of.starts_with("deploy-") {
        match client.get(&["deploy", of]).await {
            Err(ClientError::Problem(problem)) if problem.status == 404 => {
                let not_found = ClientError::Problem(problem);
                return latest_job(client, of).await.map_err(|_| not_found);
            }
            answer => return answer,
        }
    }
    latest_job(client, of).await
}

pub(super) async fn latest_job(client: &Client, service: &str) -> Result<Value, ClientError> {
    let jobs = client.list(&["deploy", "history", service], &[("limit", "1")]).await?;
    let latest = jobs.get(0).cloned().unwrap_or(Value::Null);
    // The list has the job as it was; the job itself has its progress, too.
    match latest.get("deploy_job_id").and_then(Value::as_str) {
        Some(id) => client.get(&["deploy", id]).await,
        None => Ok(latest),
    }
}

fn history_row(job: &Job) -> Vec<String> {
    vec![
        job.deploy_job_id.clone(),
        job.status.name().to_owned(),
        job.kind.name().to_owned(),
        job.release.clone(),
        show::moment(&job.created_at),
        job.duration_seconds.map(show::duration).unwrap_or_default(),
        job.requested_by.clone(),
    ]
}
