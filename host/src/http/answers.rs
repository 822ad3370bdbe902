//! Answers about jobs and releases.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::extract::{Body, Parameters, Segment};
use super::problem::Problem;
use super::types::{Accepted, Job, Release};
use super::{App, page, query, validate};
use crate::job::{CurrentJob, Refusal};
use crate::model::{Actor, CallRecord, JobRecord, JobState};

pub async fn submit(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let request = match validate::deploy_request(&body) {
        Ok(request) => request,
        Err(invalid) => return Err(whole(&app, *invalid).await),
    };
    let job = app.deployments.submit(request, idempotency_key(&headers)?, actor).await?;
    Ok((StatusCode::ACCEPTED, location(&job), Json(Accepted::of(&job))).into_response())
}

pub async fn job(State(app): State<Arc<App>>, Segment(id): Segment) -> Result<Json<Job>, Problem> {
    Ok(Json(Job::of(known(&app, &id).await?)))
}

/// 200 when the job is over with this, 202 while it is still ending.
pub async fn cancel(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Segment(id): Segment,
) -> Result<Response, Problem> {
    known(&app, &id).await?;
    let job = app.deployments.cancel(&id, actor).await?;
    let status = if job.state.is_over() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(Job::of_record(job))).into_response())
}

pub async fn rollback(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Segment(id): Segment,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let release = validate::rollback_release(&body)?;
    let job = match app.deployments.rollback(&id, release, idempotency_key(&headers)?, actor).await {
        Err(Refusal::NotFound { .. }) => return Err(Problem::no_such_job(&id)),
        job => job?,
    };
    match job.state {
        JobState::Completed => Ok((location(&job), Json(Job::of_record(job))).into_response()),
        JobState::Pending
        | JobState::Running(_)
        | JobState::Unwinding(_)
        | JobState::Failed(_)
        | JobState::Cancelled(_) => Err(rollback_problem(job)),
    }
}

pub async fn history(
    State(app): State<Arc<App>>,
    Segment(service): Segment,
    Parameters(query): Parameters,
) -> Result<Response, Problem> {
    let (limit, before) = query::page(&query)?;
    let jobs = app.deployments.history(&service, before.as_deref(), page::rows(limit)).await?;
    let jobs = jobs.ok_or_else(|| Problem::no_such_service(&service))?;
    let link = |last: &JobRecord| Some(format!("/deploy/history/{service}?limit={limit}&before={}", last.id));
    Ok(page::page(jobs, limit, link, Job::of_record))
}

pub async fn calls(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<Json<Vec<CallRecord>>, Problem> {
    known(&app, &id).await?;
    Ok(Json(app.deployments.calls(&id).await?))
}

pub async fn releases(
    State(app): State<Arc<App>>,
    Segment(service): Segment,
) -> Result<Json<Vec<Release>>, Problem> {
    let releases = app.deployments.releases(&service).await?;
    let releases = releases.ok_or_else(|| Problem::no_such_service(&service))?;
    Ok(Json(releases.into_iter().map(Release::of).collect()))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let key = headers.get("idempotency-key");
    key.map(|key| validate::idempotency_key(key.as_bytes())).transpose()
}

/// All that is wrong with a request, not only its shape.
async fn whole(app: &App, invalid: validate::InvalidRequest) -> Problem {
    let mut errors = invalid.problem.errors.clone();
    if errors.is_empty() {
        return invalid.problem;
    }
    errors.extend(app.deployments.problems(&invalid.known).await);
    Problem::invalid(errors)
}

async fn known(app: &App, id: &str) -> Result<CurrentJob, Problem> {
    app.deployments.job(id).await?.ok_or_else(|| Problem::no_such_job(id))
}

fn rollback_problem(job: JobRecord) -> Problem {
    let (code, detail) = if job.state.is_over() {
        let cause = job.error.as_ref().map_or_else(|| "it was cancelled".to_owned(), ToString::to_string);
        ("rollback-failed", format!("the rollback to release {} did not complete: {cause}", job.release))
    } else {
        // The deployer is stopping; the job goes on when it starts again.
        let detail =
            format!("the rollback to release {} is not over yet; it continues as {}", job.release, job.id);
        ("rollback-unfinished", detail)
    };
    let hint = format!("GET /deploy/{} has what was seen, phase by phase", job.id);
    let mut problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, detail, &hint);
    problem.extra.insert("job".into(), json!(Job::of_record(job)));
    problem
}

fn location(job: &JobRecord) -> [(header::HeaderName, String); 1] {
    [(header::LOCATION, format!("/deploy/{}", job.id))]
}
