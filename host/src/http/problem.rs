//! Errors as RFC 9457 problem details: which refusal has which status, code and hint.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::types::BODY_LIMIT;
use crate::job::{FieldProblem, Refusal};

/// An answer that is not what was asked for. `code` is stable, for programs; `detail` and `hint` are for
/// people.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    pub code: &'static str,
    pub detail: String,
    pub hint: String,
    pub errors: Vec<FieldProblem>,
    /// Further members of the document.
    pub extra: Map<String, Value>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>, hint: &str) -> Self {
        Problem {
            status,
            code,
            detail: detail.into(),
            hint: hint.to_owned(),
            errors: Vec::new(),
            extra: Map::new(),
        }
    }

    pub fn invalid(errors: Vec<FieldProblem>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.field, one.message),
            more => {
                let fields: Vec<&str> = more.iter().map(|problem| problem.field.as_str()).collect();
                format!("{} fields are wrong: {}", more.len(), fields.join(", "))
            }
        };
        let hint = "correct these fields, and send the request again";
        Problem { errors, ..Problem::new(StatusCode::BAD_REQUEST, "invalid-request", detail, hint) }
    }

    pub fn not_json(reason: &str) -> Self {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid-json",
            format!("the body is not a JSON object: {reason}"),
            "send a JSON object with `Content-Type: application/json`",
        )
    }

    pub fn no_such_job(id: &str) -> Self {
        Problem::new(
            StatusCode::NOT_FOUND,
            "job-not-found",
            format!("there is no job {id:?}"),
            "`deployer history SERVICE`, or GET /deploy/history/{service}, lists its jobs",
        )
    }

    pub fn no_such_service(service: &str) -> Self {
        Problem::new(
            StatusCode::NOT_FOUND,
            "service-not-found",
            format!("this deployer has never deployed a service {service:?}"),
            "check the name, or deploy the service first",
        )
    }

    pub fn no_such_path(path: &str) -> Self {
        Problem::new(
            StatusCode::NOT_FOUND,
            "path-not-found",
            format!("nothing is at {path}"),
            "the paths are /deploy, /deploy/{id}, /deploy/{id}/events, /deploy/{id}/calls, \
             /deploy/{id}/rollback, /deploy/history/{service}, /releases/{service}, /audit, /audit/verify, \
             /health, /capabilities, /state, /dependencies and /message",
        )
    }

    pub fn method_not_allowed(method: &str, path: &str) -> Self {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            format!("{path} does not take {method}"),
            "use one of the methods in the Allow header",
        )
    }

    pub fn too_large() -> Self {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            format!("the body is larger than {BODY_LIMIT} bytes"),
            "put large values into files of the service instead of its environment",
        )
    }

    pub fn unauthorized(detail: &str) -> Self {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            detail,
            "send `Authorization: Bearer TOKEN` with a token of the server's token file",
        )
    }

    pub fn forbidden(code: &'static str, detail: impl Into<String>, hint: &str) -> Self {
        Problem::new(StatusCode::FORBIDDEN, code, detail, hint)
    }

    pub fn panicked() -> Self {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "defect",
            "the deployer has a defect that this request triggered; running jobs are not affected",
            "the server's log says where; please report it",
        )
    }

    /// The whole answer as it goes over a connection that ends with it.
    pub fn last_words(&self) -> Vec<u8> {
        let body = self.document().to_string();
        let retry = if self.status == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 5\r\n" } else { "" };
        format!(
            "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n{retry}connection: \
             close\r\n\r\n{body}",
            self.status,
            body.len()
        )
        .into_bytes()
    }

    fn document(&self) -> Value {
        let mut document = Map::new();
        document.insert("type".into(), format!("urn:deployer:problem:{}", self.code).into());
        document.insert("title".into(), self.status.canonical_reason().unwrap_or("Error").into());
        document.insert("status".into(), self.status.as_u16().into());
        document.insert("detail".into(), self.detail.clone().into());
        document.insert("code".into(), self.code.into());
        document.insert("hint".into(), self.hint.clone().into());
        if !self.errors.is_empty() {
            document.insert("errors".into(), json!(self.errors));
        }
        document.extend(self.extra.clone());
        Value::Object(document)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(errors) => Problem::invalid(errors),
            Refusal::NotFound { detail, hint } => {
                Problem::new(StatusCode::NOT_FOUND, "not-found", detail, &hint)
            }
            Refusal::Conflict { code, detail, hint } => {
                Problem::new(StatusCode::CONFLICT, code, detail, &hint)
            }
            Refusal::Unavailable { detail, hint } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail, &hint)
            }
            Refusal::Journal(error) if error.may_pass() => {
                tracing::error!(error = %error, "the journal failed a request");
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "journal-unavailable",
                    error.to_string(),
                    "nothing was done: free space on the disk of the deployer's data folder, and ask again; \
                     jobs that run go on by themselves as soon as the journal can record",
                )
            }
            Refusal::Journal(error) => {
                tracing::error!(error = %error, "the journal failed a request");
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "journal-failed",
                    error.to_string(),
                    "nothing was done; the server's log has more",
                )
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.document().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"deployer\""));
        }
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(problem: Problem, expect: Value) {
        assert_eq!(problem.document(), expect);
    }

    #[test]
    fn a_problem_names_every_wrong_field() {
        let errors = vec![FieldProblem::new("a", "is missing"), FieldProblem::new("b", "must be a string")];
        check(
            Refusal::Invalid(errors).into(),
            json!({
                "type": "urn:deployer:problem:invalid-request",
                "title": "Bad Request",
                "status": 400,
                "detail": "2 fields are wrong: a, b",
                "code": "invalid-request",
                "hint": "correct these fields, and send the request again",
                "errors": [
                    { "field": "a", "message": "is missing" },
                    { "field": "b", "message": "must be a string" },
                ],
            }),
        );
    }

    #[test]
    fn each_refusal_has_its_status_and_code() {
        let detail = String::from("d");
        let hint = String::from("h");
        let cases = [
            (
                Refusal::NotFound { detail: detail.clone(), hint: hint.clone() },
                StatusCode::NOT_FOUND,
                "not-found",
            ),
            (
                Refusal::Conflict { code: "no-previous-release", detail: detail.clone(), hint: hint.clone() },
                StatusCode::CONFLICT,
                "no-previous-release",
            ),
            (Refusal::Unavailable { detail, hint }, StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        ];
        for (refusal, status, code) in cases {
            let problem = Problem::from(refusal);
            assert_eq!((problem.status, problem.code), (status, code));
            assert_eq!((problem.detail.as_str(), problem.hint.as_str()), ("d", "h"));
        }
    }
}
