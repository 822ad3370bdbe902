//! Parts of a request, with problem details where one is not right.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::problem::Problem;
use crate::job::FieldProblem;

/// The one parameter of a path: a job's id or a service's name.
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Segment(text)),
            Err(_) => Err(Problem::no_such_path(parts.uri.path())),
        }
    }
}

/// The parameters of a query. One that is given twice counts as its last.
pub struct Parameters(pub BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<Vec<(String, String)>>::from_request_parts(parts, state).await {
            Ok(Query(pairs)) => Ok(Parameters(pairs.into_iter().collect())),
            Err(rejection) => Err(Problem::invalid(vec![FieldProblem::new("query", rejection.body_text())])),
        }
    }
}

/// The whole body, whatever type it says it has.
pub struct Body(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Body(bytes)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Problem::too_large())
            }
            Err(rejection) => Err(Problem::not_json(&rejection.body_text())),
        }
    }
}
