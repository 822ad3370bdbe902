//! All routes, on one screen.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use super::problem::Problem;
use super::types::BODY_LIMIT;
use super::{App, answers, audit, ecosystem, events, guard};

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/deploy", post(answers::submit))
        .route("/deploy/{id}", get(answers::job).delete(answers::cancel))
        .route("/deploy/{id}/events", get(events::stream))
        .route("/deploy/{id}/calls", get(answers::calls))
        .route("/deploy/{id}/rollback", post(answers::rollback))
        .route("/deploy/history/{service}", get(answers::history))
        .route("/releases/{service}", get(answers::releases))
        .route("/audit", get(audit::page))
        .route("/audit/verify", get(audit::verify))
        .route("/health", get(ecosystem::health))
        .route("/capabilities", get(ecosystem::capabilities))
        .route("/state", get(ecosystem::state))
        .route("/dependencies", get(ecosystem::dependencies))
        .route("/message", post(ecosystem::message))
        .fallback(async |uri: Uri| Problem::no_such_path(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::method_not_allowed(method.as_str(), uri.path())
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(app.clone(), guard::admit))
        .layer(from_fn(guard::survive))
        .with_state(app)
}
