#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use serde_json::json;

use super::*;

/// Checks what a body's problems are: the field, and a part of what is said of it.
fn check(body: Value, expect: &[(&str, &str)]) {
    let problem = deploy_request(body.to_string().as_bytes()).err();
    let errors = problem.map(|invalid| invalid.problem.errors).unwrap_or_default();
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, expect.iter().map(|(field, _)| *field).collect::<Vec<_>>(), "{body}: {errors:?}");
    for (error, (_, part)) in errors.iter().zip(expect) {
        assert!(error.message.contains(part), "{body}: {error:?} does not say {part:?}");
        assert!(!error.message.contains("hunter2"), "{error:?} shows a value");
    }
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({ "service_path": "hello", "service_name": "hello", "service_port": 8001 });
    body.as_object_mut().unwrap().insert(field.to_owned(), value);
    body
}

#[test]
fn what_is_left_out_has_its_default() {
    let request = deploy_request(with("unknown", json!(1)).to_string().as_bytes()).unwrap();
    let expect = DeployRequest {
        service_path: "hello".into(),
        service_name: "hello".into(),
        droplet_id: None,
        service_port: 8001,
        deployment_method: "docker".into(),
        environment: Environment::default(),
        auto_register: true,
        verification_job_id: None,
    };
    assert_eq!(request, expect);
    for field in
        ["droplet_id", "deployment_method", "environment_vars", "auto_register", "verification_job_id"]
    {
        let body = with(field, Value::Null).to_string();
        assert_eq!(deploy_request(body.as_bytes()).unwrap(), expect, "{field}");
    }
}

#[test]
fn a_whole_request_is_read() {
    let body = json!({
        "service_path": "/srv/hello", "service_name": "hello.api_2", "droplet_id": 0, "service_port": 65535,
        "deployment_method": "static-files", "environment_vars": { "A": "line\nline", "_b1": "" },
        "auto_register": false, "verification_job_id": "verify-1",
    });
    let request = deploy_request(body.to_string().as_bytes()).unwrap();
    assert_eq!(request.droplet_id, Some(0));
    assert_eq!(request.environment.0.get("A").map(String::as_str), Some("line\nline"));
    assert_eq!(request.verification_job_id.as_deref(), Some("verify-1"));
    assert!(!request.auto_register);
    assert_eq!(format!("{:?}", request.environment), r#"{"A", "_b1"}"#);
}

#[test]
fn every_wrong_field_is_named_at_once() {
    check(
        json!({
            "service_path": "", "service_name": "Hello World", "service_port": "8001", "droplet_id": -1,
            "deployment_method": "Docker", "environment_vars": { "1A": "hunter2", "B": 7 },
            "auto_register": "yes", "verification_job_id": 3,
        }),
        &[
            ("service_path", "is empty"),
            ("service_name", "`hello-world` would do"),
            ("service_port", "and is a string"),
            ("droplet_id", "a negative number"),
            ("deployment_method", "`docker`"),
            ("environment_vars.1A", "not begin with a digit"),
            ("environment_vars.B", "write it as a string"),
            ("auto_register", "true or false"),
            ("verification_job_id", "a string or absent"),
        ],
    );
    check(
        json!({}),
        &[
            ("service_path", "is missing"),
            ("service_name", "is missing"),
            ("service_port", "is missing: the port"),
        ],
    );
}

#[test]
fn ports_are_whole_numbers_in_their_range() {
    for good in [1, 8001, 65535] {
        check(with("service_port", json!(good)), &[]);
    }
    for bad in [json!(0), json!(65536), json!(-1), json!(80.5), json!(true), json!("80"), json!([80])] {
        check(with("service_port", bad), &[("service_port", "from 1 to 65535")]);
    }
    check(with("droplet_id", json!(u64::MAX)), &[("droplet_id", "whole number")]);
    check(with("droplet_id", json!(1.5)), &[("droplet_id", "a fraction")]);
}

#[test]
fn environment_values_are_never_shown() {
    check(with("environment_vars", json!("hunter2")), &[("environment_vars", "an object of strings")]);
    check(with("environment_vars", json!(["A=hunter2"])), &[("environment_vars", "an array")]);
    check(with("environment_vars", json!({ "A": ["hunter2"] })), &[("environment_vars.A", "an array")]);
    check(with("environment_vars", json!({ "A": "hunter2\0" })), &[("environment_vars.A", "NUL")]);
    check(with("environment_vars", json!({ "A": true })), &[("environment_vars.A", "write it as a string")]);
    check(with("environment_vars", json!({ "A": null })), &[("environment_vars.A", "write it as a string")]);
    check(
        with("environment_vars", json!({ "A": "x".repeat(VALUE_LIMIT + 1) })),
        &[("environment_vars.A", "put it into a file")],
    );
    check(with("environment_vars", json!({ "A": "x".repeat(VALUE_LIMIT) })), &[]);
}

#[test]
fn a_body_that_is_no_object_is_said_to_be_none() {
    let check = |body: &str, part: &str| {
        let problem = deploy_request(body.as_bytes()).unwrap_err().problem;
        assert_eq!(problem.code, "invalid-json", "{body}");
        assert!(problem.detail.contains(part), "{body}: {}", problem.detail);
        assert!(!problem.detail.contains("hunter2"), "{}", problem.detail);
    };
    check("", "it is empty");
    check("  \n", "it is empty");
    check("[]", "it is an array");
    check("null", "it is null");
    check("service_name=hello&password=hunter2", "line 1, column 1");
    check("{\"environment_vars\": {\"A\": \"hunter2}", "line 1");
}

#[test]
fn a_rollback_may_name_its_release() {
    assert_eq!(rollback_release(b"").unwrap(), None);
    assert_eq!(rollback_release(b"{}").unwrap(), None);
    assert_eq!(rollback_release(b"{\"release\": \"r1\"}").unwrap().as_deref(), Some("r1"));
    assert_eq!(rollback_release(b"{\"release\": 1}").unwrap_err().errors.len(), 1);
    assert_eq!(rollback_release(b"[]").unwrap_err().code, "invalid-json");
}

#[test]
fn messages_have_a_known_type() {
    let body = |kind: &str| {
        json!({ "trace_id": "t1", "source": "orchestrator", "target": "deployer", "message_type": kind,
                "payload": {}, "timestamp": "2026-01-01T00:00:00Z" })
        .to_string()
    };
    for kind in ["status", "event", "command", "query"] {
        assert!(message(body(kind).as_bytes()).is_ok(), "{kind}");
    }
    assert_eq!(message(body("gossip").as_bytes()).unwrap_err().errors.len(), 1);
    assert_eq!(message(b"{}").unwrap_err().errors.len(), 3);
}

#[test]
fn an_idempotency_key_is_short_and_visible() {
    assert_eq!(idempotency_key(b"build-17").unwrap(), "build-17");
    for bad in [b"".as_slice(), b" ", "\u{e9}".as_bytes(), "x".repeat(256).as_bytes()] {
        assert!(idempotency_key(bad).is_err(), "{bad:?}");
    }
}
