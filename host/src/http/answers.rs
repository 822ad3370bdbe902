//! Answers about jobs and releases.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::extract::{Body, Parameters, Segment};
use super::problem::Problem;
use super::types::{Accepted, Job, Release};
use super::{App, query, validate};
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
        Err(misfit) => return Err(whole(&app, *misfit).await),
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
    // One more than asked for tells whether there is a next page.
    let jobs = app.deployments.history(&service, before.as_deref(), limit + 1).await?;
    let mut jobs = jobs.ok_or_else(|| Problem::no_such_service(&service))?;
    let limit_length = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = jobs.len() > limit_length;
    jobs.truncate(limit_length);
    let next = jobs.last().filter(|_| has_more).and_then(|last| next_page(&service, limit, &last.id));
    let body = Json(jobs.into_iter().map(Job::of_record).collect::<Vec<_>>());
    Ok(match next {
        Some(link) => ([(header::LINK, link)], body).into_response(),
        None => body.into_response(),
    })
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
async fn whole(app: &App, misfit: validate::Misfit) -> Problem {
    let mut errors = misfit.problem.errors.clone();
    if errors.is_empty() {
        return misfit.problem;
    }
    errors.extend(app.deployments.problems(&misfit.known).await);
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
            format!("the rollback to release {} is not over yet; it goes on as {}", job.release, job.id);
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

/// None where the name cannot stand in a link; such a service cannot have been deployed.
fn next_page(service: &str, limit: u32, last: &str) -> Option<HeaderValue> {
    let link = format!("</deploy/history/{service}?limit={limit}&before={last}>; rel=\"next\"");
    HeaderValue::from_str(&link).ok()
}
