#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
//! The routes' wiring, over a real journal. What a deployment does is tested where it is done.

mod callers;
mod earlier;

use std::os::unix::fs::PermissionsExt;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use futures::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::ledger::Ledger;
use super::*;
use crate::journal::{JobLog, now};
use crate::model::{Aftermath, EventKind, Failure, Fault, JobState, NewEvent};

struct Api {
    router: axum::Router,
    ledger: Arc<Ledger>,
    app: Arc<App>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

async fn api(tokens: Option<Tokens>) -> Api {
    let ledger = Arc::new(Ledger::open().await);
    let app = Arc::new(App::new(ledger.clone(), tokens));
    Api { router: routes::router(app.clone()), ledger, app }
}

impl Api {
    async fn send(&self, line: &str, headers: &[(&str, &str)], body: &str) -> axum::response::Response {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()
    }

    async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let response = self.send(line, headers, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn deploy(&self) -> String {
        let answer = self.ask("POST /deploy", &[], HELLO).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        answer.body.get("deploy_job_id").and_then(Value::as_str).unwrap().to_owned()
    }
}

impl Answer {
    #[track_caller]
    fn has(&self, status: u16, pointer: &str, expect: impl Into<Value>) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        assert_eq!(self.body.pointer(pointer), Some(&expect.into()), "{pointer} of {}", self.body);
        self
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

const HELLO: &str = r#"{"service_path": "hello", "service_name": "hello", "service_port": 8001}"#;

fn failure() -> Failure {
    Failure {
        fault: Fault::Target,
        plugin: Some("docker".into()),
        attempted: "build the image".into(),
        seen: "no space left".into(),
        next: "free some space".into(),
    }
}

#[tokio::test]
async fn a_deployment_is_accepted_and_shown() {
    let api = api(None).await;
    let answer =
        api.ask("POST /deploy", &[("idempotency-key", "k1"), ("x-deployer-user", "ann")], HELLO).await;
    answer.has(202, "/service_name", "hello").has(202, "/status", "pending");
    let id = answer.body.get("deploy_job_id").and_then(Value::as_str).unwrap().to_owned();
    assert_eq!(answer.header("location"), format!("/deploy/{id}"));
    let fields: Vec<&String> = answer.body.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["created_at", "deploy_job_id", "service_name", "status"]);
    let again = api.ask("POST /deploy", &[("idempotency-key", "k1")], HELLO).await;
    again.has(202, "/deploy_job_id", id.as_str());

    let job = api.ask(&format!("GET /deploy/{id}"), &[], "").await;
    job.has(200, "/service_url", "http://203.0.113.7:8001")
        .has(200, "/success", Value::Null)
        .has(200, "/phases/0/phase", "Validation")
        .has(200, "/phases/3/phase", "Start Service")
        .has(200, "/phases/5/status", "skipped")
        .has(200, "/requested_by", "ann")
        .has(200, "/droplet_id", Value::Null)
        .has(200, "/progress/files_done", 1);
    assert_eq!(job.body.get("phases").and_then(Value::as_array).map(Vec::len), Some(6));
}

#[tokio::test]
async fn a_failed_job_says_why_and_what_runs() {
    let api = api(None).await;
    let id = api.deploy().await;
    let restored = JobState::Failed(Aftermath::Restored("r0".into()));
    api.ledger.finish(&id, restored, Some(failure())).await;
    let job = api.ask(&format!("GET /deploy/{id}"), &[], "").await;
    job.has(200, "/success", false)
        .has(200, "/duration_seconds", 1.5)
        .has(200, "/error", "docker: could not build the image: no space left; next: free some space")
        .has(200, "/failure/seen", "no space left")
        .has(200, "/outcome", "release r0 restored and healthy")
        .has(200, "/aftermath", "restored");
    let rollback = api.ask(&format!("POST /deploy/{id}/rollback"), &[], "").await;
    rollback.has(500, "/code", "rollback-failed").has(500, "/job/status", "failed");
}

#[tokio::test]
async fn a_rollback_answers_with_its_finished_job() {
    let api = api(None).await;
    let id = api.deploy().await;
    let line = format!("POST /deploy/{id}/rollback");
    api.ask(&line, &[], "{}").await.has(409, "/code", "no-previous-release").has(
        409,
        "/hint",
        "deploy twice",
    );
    api.ask(&line, &[], "[1]").await.has(400, "/code", "invalid-json");
    api.ledger.finish(&id, JobState::Completed, None).await;
    let answer = api.ask(&line, &[], "").await;
    answer.has(200, "/status", "completed").has(200, "/outcome", "release r1 serves");
}

#[tokio::test]
async fn a_job_is_cancelled() {
    let api = api(None).await;
    let id = api.deploy().await;
    api.ask(&format!("DELETE /deploy/{id}"), &[], "").await.has(200, "/status", "cancelled");
    api.ask("DELETE /deploy/deploy-none", &[], "").await.has(404, "/code", "job-not-found");
    let rollback = api.ask("POST /deploy/deploy-none/rollback", &[], "").await;
    rollback.has(404, "/code", "job-not-found");
}

#[tokio::test]
async fn a_history_comes_in_pages() {
    let api = api(None).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(api.deploy().await);
    }
    ids.reverse();
    let all = api.ask("GET /deploy/history/hello", &[], "").await;
    let listed: Vec<&str> =
        all.body.as_array().unwrap().iter().filter_map(|job| job.get("deploy_job_id")?.as_str()).collect();
    assert_eq!(listed, ids);
    assert_eq!(all.header("link"), "");

    let first = api.ask("GET /deploy/history/hello?limit=2", &[], "").await;
    let second = ids.get(1).unwrap();
    let link = format!("</deploy/history/hello?limit=2&before={second}>; rel=\"next\"");
    assert_eq!(first.header("link"), link);
    let next = link.trim_start_matches('<').split_once('>').unwrap().0;
    let rest = api.ask(&format!("GET {next}"), &[], "").await;
    rest.has(200, "/0/deploy_job_id", ids.get(2).unwrap().as_str());
    assert_eq!(rest.header("link"), "");

    api.ask("GET /deploy/history/hello?limit=0&before=x", &[], "").await.has(
        400,
        "/errors/1/field",
        "before",
    );
    api.ask("GET /deploy/history/never", &[], "").await.has(404, "/code", "service-not-found");
    api.ask("GET /releases/hello", &[], "").await.has(200, "", json!([]));
    api.ask("GET /releases/never", &[], "").await.has(404, "/code", "service-not-found");
}

#[tokio::test]
async fn who_did_what_is_in_the_audit() {
    let api = api(None).await;
    api.ask("GET /audit", &[], "").await.has(200, "", json!([]));
    api.ask("GET /audit/verify", &[], "").await.has(200, "/verified", true).has(200, "/head", Value::Null);
    let secret = r#"{"service_path": "hello", "service_name": "hello", "service_port": 8001,
                     "environment_vars": {"API_KEY": "hunter2"}}"#;
    let accepted = api.ask("POST /deploy", &[("x-deployer-user", "ann")], secret).await;
    let id = accepted.body.get("deploy_job_id").and_then(Value::as_str).unwrap().to_owned();
    api.ask(&format!("DELETE /deploy/{id}"), &[("x-deployer-user", "bob")], "").await;
    api.ask("POST /deploy", &[], &HELLO.replace("hello", "other")).await;

    let all = api.ask("GET /audit?service=hello", &[], "").await;
    all.has(200, "/0/action", "ended")
        .has(200, "/0/status", "cancelled")
        .has(200, "/0/aftermath", "untouched")
        .has(200, "/0/actor/name", "ann")
        .has(200, "/1/action", "cancel_asked")
        .has(200, "/1/actor/name", "bob")
        .has(200, "/2/action", "accepted")
        .has(200, "/2/deploy_job_id", id.as_str())
        .has(200, "/2/seq", 1);
    assert_eq!(all.body.as_array().map(Vec::len), Some(3));
    assert!(!all.body.to_string().contains("hunter2"));

    let first = api.ask("GET /audit?limit=1&service=hello", &[], "").await;
    assert_eq!(first.header("link"), "</audit?limit=1&before=3&service=hello>; rel=\"next\"");
    let rest = api.ask("GET /audit?limit=2&before=3&service=hello", &[], "").await;
    rest.has(200, "/0/seq", 2).has(200, "/1/seq", 1);
    assert_eq!(rest.header("link"), "");
    api.ask("GET /audit?service=never", &[], "").await.has(404, "/code", "service-not-found");
    let wrong = api.ask("GET /audit?limit=0&before=x", &[], "").await;
    wrong.has(400, "/errors/0/field", "limit").has(400, "/errors/1/field", "before");

    let verified = api.ask("GET /audit/verify", &[], "").await;
    verified.has(200, "/verified", true).has(200, "/records", 4).has(200, "/head/seq", 4);
    let hash = verified.body.pointer("/head/hash").and_then(Value::as_str).unwrap();
    api.ask(&format!("GET /audit/verify?head=4:{hash}"), &[], "").await.has(200, "/verified", true);
    let cut = api.ask(&format!("GET /audit/verify?head=9:{hash}"), &[], "").await;
    cut.has(200, "/verified", false).has(200, "/broken", json!({ "seq": 5, "reason": "missing" }));
    api.ask("GET /audit/verify?head=4", &[], "").await.has(400, "/errors/0/field", "head");
}

#[tokio::test]
async fn wrong_requests_get_problem_details() {
    let api = api(None).await;
    let check = async |line: &str, body: &str, status: u16, code: &str| {
        let answer = api.ask(line, &[], body).await;
        answer.has(status, "/code", code).has(status, "/status", status);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{line}");
    };
    check("GET /nothing", "", 404, "path-not-found").await;
    check("GET /deploy/deploy-none", "", 404, "job-not-found").await;
    check("GET /deploy/deploy-none/events", "", 404, "job-not-found").await;
    check("GET /deploy/deploy-none/calls", "", 404, "job-not-found").await;
    check("GET /deploy/%ff", "", 404, "path-not-found").await;
    check("POST /deploy", "", 400, "invalid-json").await;
    check("POST /deploy", "{}", 400, "invalid-request").await;
    check("POST /deploy", &" ".repeat(types::BODY_LIMIT + 1), 413, "body-too-large").await;
    check("POST /message", "{}", 400, "invalid-request").await;
    check("PUT /deploy", "", 405, "method-not-allowed").await;
    check("GET /deploy/deploy-panic", "", 500, "defect").await;
    assert_eq!(api.ask("PUT /deploy/x", &[], "").await.header("allow"), "GET,HEAD,DELETE");
    let key = api.ask("POST /deploy", &[("idempotency-key", "")], HELLO).await;
    key.has(400, "/errors/0/field", "Idempotency-Key");
}

#[tokio::test]
async fn the_ecosystem_is_answered() {
    let api = api(None).await;
    api.deploy().await;
    let health = api.ask("GET /health", &[], "").await;
    health.has(500, "/status", "unhealthy").has(500, "/ssh_status", "unreachable");
    api.ask("GET /state", &[], "").await.has(200, "/jobs/pending", 1).has(200, "/jobs/failed", 0);
    api.ask("GET /capabilities", &[], "").await.has(200, "/methods/0", "docker");
    let dependencies = api.ask("GET /dependencies", &[], "").await;
    dependencies.has(200, "/required/0/available", false).has(200, "/optional", json!([]));
    let message = r#"{"trace_id": "t1", "source": "s", "message_type": "event"}"#;
    api.ask("POST /message", &[], message).await.has(200, "/trace_id", "t1").has(200, "/received", true);
}

#[tokio::test]
async fn a_token_is_asked_for_everywhere_but_for_health() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, "ci: aaaaaaaaaaaaaaaaaaaa\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let api = api(Some(Tokens::load(&path).unwrap())).await;
    for line in ["GET /state", "POST /deploy", "GET /nothing", "PUT /deploy"] {
        let answer = api.ask(line, &[], "").await;
        answer.has(401, "/code", "unauthorized");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{line}");
    }
    api.ask("GET /state", &[("authorization", "Bearer wrong")], "").await.has(401, "/code", "unauthorized");
    api.ask("GET /health", &[], "").await.has(500, "/status", "unhealthy");
    let headers = [
        ("authorization", "Bearer aaaaaaaaaaaaaaaaaaaa"),
        ("x-deployer-user", "mallory"),
        ("origin", "https://ops.example"),
    ];
    let id = api.ask("POST /deploy", &headers, HELLO).await;
    let id = id.body.get("deploy_job_id").and_then(Value::as_str).unwrap().to_owned();
    api.ask(&format!("GET /deploy/{id}"), &headers, "").await.has(200, "/requested_by", "ci");
}

#[tokio::test]
async fn a_web_page_cannot_use_a_server_without_tokens() {
    let api = api(None).await;
    let page = [("origin", "https://evil.example"), ("content-type", "text/plain")];
    api.ask("POST /deploy", &page, HELLO).await.has(403, "/code", "origin-refused");
    api.ask("GET /state", &[("host", "evil.example:8007")], "").await.has(403, "/code", "host-refused");
    assert_eq!(api.ask("GET /state", &[("host", "127.0.0.1:8007")], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn events_come_from_any_of_them_on_until_the_job_is_over() {
    let api = api(None).await;
    let id = api.deploy().await;
    let line = format!("GET /deploy/{id}/events");
    let mut stream = api.send(&line, &[], "").await.into_body().into_data_stream();
    let first = stream.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"id: 1\nevent: job\n"), "{first:?}");

    let log = NewEvent { at: now(), kind: EventKind::Log, data: json!({ "message": "hello" }) };
    api.ledger.journal.append(&id, &[log]).await.unwrap();
    let second = stream.next().await.unwrap().unwrap();
    assert!(second.starts_with(b"id: 2\nevent: log\n"), "{second:?}");

    let now = api.send(&format!("{line}?follow=false"), &[], "").await.into_body().collect().await.unwrap();
    assert_eq!(now.to_bytes().windows(4).filter(|part| part == b"id: ").count(), 2);
    api.ask(&format!("{line}?follow=x"), &[], "").await.has(400, "/errors/0/field", "follow");

    api.ledger.finish(&id, JobState::Completed, None).await;
    let third = stream.next().await.unwrap().unwrap();
    assert!(third.starts_with(b"id: 3\nevent: job\n"), "{third:?}");
    assert!(stream.next().await.is_none());

    let rest = api.send(&line, &[("last-event-id", "2")], "").await.into_body().collect().await.unwrap();
    assert!(rest.to_bytes().starts_with(b"id: 3\n"));
    assert_eq!(api.send(&format!("{line}?after=3"), &[], "").await.status(), StatusCode::NO_CONTENT);
    api.ask(&line, &[("last-event-id", "x")], "").await.has(400, "/errors/0/field", "Last-Event-ID");
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let api = api(None).await;
    let id = api.deploy().await;
    let mut stream =
        api.send(&format!("GET /deploy/{id}/events"), &[], "").await.into_body().into_data_stream();
    assert!(stream.next().await.is_some());
    api.app.stopping.cancel();
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_server_stops_when_it_is_told_to() {
    let api = api(None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, api.app.clone(), async { stopped.await.unwrap_or_default() }));
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[test]
fn without_tokens_only_the_loopback_is_served() {
    let check = |address: &str, has_tokens, expect: bool| {
        assert_eq!(may_listen(address.parse().unwrap(), has_tokens).is_ok(), expect, "{address}");
    };
    check("127.0.0.1:8007", false, true);
    check("127.8.8.8:8007", false, true);
    check("[::1]:8007", false, true);
    check("[::ffff:127.0.0.1]:8007", false, true);
    check("0.0.0.0:8007", false, false);
    check("[::]:8007", false, false);
    check("192.168.0.2:8007", false, false);
    check("0.0.0.0:8007", true, true);
}
