#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use serde_json::json;

use super::*;

fn seen(kind: EventKind, data: Value) -> Seen {
    Seen { id: 1, kind, data }
}

fn phase(name: &str, status: &str, details: Value, error: Value) -> Seen {
    seen(
        EventKind::Phase,
        json!({
            "phase": name, "status": status, "details": details, "error": error,
            "started_at": "2026-01-01T00:00:00.000Z", "completed_at": "2026-01-01T00:00:01.234Z",
            "at": "2026-01-01T00:00:01.240Z",
        }),
    )
}

#[test]
fn a_phase_that_ended_is_one_line() {
    let check = |event: Seen, line: &str, row: &str| {
        let ended = event.ended().unwrap();
        assert_eq!((ended.line().as_str(), ended.row(false).as_str()), (line, row));
    };
    check(
        phase("Transfer", "success", json!({ "count": 5000, "sent_count": 20 }), Value::Null),
        "Transfer: success in 1.2 s (20 of 5,000 files sent)",
        "\u{2713} Transfer           1.2 s  20 of 5,000 files sent",
    );
    check(
        phase("Build", "success", json!({ "kind": "image", "reference": "hello:r1" }), Value::Null),
        "Build: success in 1.2 s (image hello:r1)",
        "\u{2713} Build              1.2 s  image hello:r1",
    );
    check(
        phase("Build", "failed", json!({}), json!("docker: could not build: no space\nmore")),
        "Build: failed in 1.2 s (docker: could not build: no space)",
        "\u{2717} Build              1.2 s  docker: could not build: no space",
    );
    check(
        phase(
            "Validation",
            "failed",
            json!({}),
            json!("could not reach the target: host:22: unknown; next: add to F:\nhost KEY"),
        ),
        "Validation: failed in 1.2 s (could not reach the target: host:22: unknown)",
        "\u{2717} Validation         1.2 s  could not reach the target: host:22: unknown",
    );
    let skipped = json!({ "phase": "Register", "status": "skipped", "details": { "reason": "no registry" } });
    check(
        seen(EventKind::Phase, skipped),
        "Register: skipped (no registry)",
        "- Register                  no registry",
    );
    assert_eq!(phase("Build", "running", json!({}), Value::Null).ended(), None);
    assert_eq!(phase("Build", "running", json!({}), Value::Null).begun(), Some("Build"));
}

#[test]
fn a_phase_says_what_it_has_made() {
    let check = |details: Value, expect: &str| assert_eq!(achieved(&details), expect);
    let finding = |severity: &str| json!({ "severity": severity, "check": "c", "message": "m", "next": "n" });
    check(json!({ "findings": [finding("passed"), finding("warning")] }), "2 checks, 1 with a warning");
    check(json!({ "findings": [finding("passed")] }), "1 check");
    check(json!({ "checks": [{ "summary": "healthy after 3 probes" }] }), "healthy after 3 probes");
    check(json!({ "kind": "unit", "name": "hello.service", "port": 8001 }), "unit hello.service");
    check(json!({ "droplet_id": 7, "endpoint": "http://203.0.113.7:8001" }), "http://203.0.113.7:8001");
    check(json!({}), "");
}

#[test]
fn warnings_and_last_words_are_shown() {
    let mut failed = a_job("failed", Value::Null, register("pending", Value::Null));
    let details = [
        json!({ "findings": [{ "severity": "warning", "check": "disk", "message": "90 % full", "next": "tidy up" }] }),
        json!({ "warnings": ["the old instance did not stop"], "last_log_lines": "one\ntwo\u{1b}[1m" }),
    ];
    for (phase, details) in failed.phases.iter_mut().zip(details) {
        phase.details = details;
    }
    assert_eq!(
        result(&failed),
        "deploy-1 failed, 12.3 s\n\
         outcome: release r1 restored and healthy\n\
         warning: disk: 90 % full; next: tidy up\n\
         warning: the old instance did not stop\n\
         the service's last log lines:\n  one\n  two[1m\n"
    );
}

#[test]
fn a_log_has_one_line_for_each_event() {
    let check = |event: Seen, expect: Option<&str>| assert_eq!(event.dated().as_deref(), expect);
    let at = "2026-01-01T10:20:30.000Z";
    check(
        seen(EventKind::Log, json!({ "phase": "Build", "level": "info", "line": "Step 1/7\n", "at": at })),
        Some("10:20:30 Build: Step 1/7"),
    );
    check(
        seen(EventKind::Log, json!({ "plugin": "docker", "level": "warn", "line": "slow", "at": at })),
        Some("10:20:30 docker: warning: slow"),
    );
    check(
        seen(EventKind::Job, json!({ "status": "failed", "error": "no space", "at": at })),
        Some("10:20:30 failed: no space"),
    );
    check(seen(EventKind::Log, json!({ "line": "a\u{1b}[2Jb\r", "at": at })), Some("10:20:30 a[2Jb"));
    check(phase("Build", "running", json!({}), Value::Null), Some("00:00:01 Build: running"));
    check(seen(EventKind::Progress, json!({ "at": at })), None);
}

#[test]
fn only_a_final_status_ends_a_job() {
    let check = |kind: EventKind, status: &str, expect: bool| {
        assert_eq!(seen(kind, json!({ "status": status })).ends_the_job(), expect, "{kind:?} {status}");
    };
    check(EventKind::Job, "completed", true);
    check(EventKind::Job, "failed", true);
    check(EventKind::Job, "cancelled", true);
    check(EventKind::Job, "running", false);
    check(EventKind::Phase, "failed", false);
}

#[test]
fn durations_are_short() {
    let check = |seconds: f64, expect: &str| assert_eq!(duration(seconds), expect);
    check(0.04, "0.0 s");
    check(12.34, "12.3 s");
    check(125.9, "2 min 5 s");
}

#[test]
fn an_amount_is_files_and_bytes() {
    let event =
        json!({ "files_done": 20, "files_total": 5000, "bytes_done": 1024, "bytes_total": 1_048_576 });
    let known = seen(EventKind::Progress, event).amount().unwrap();
    assert_eq!(amount(known), "20 of 5,000 files, 1.00 KiB of 1.00 MiB");
    assert_eq!(seen(EventKind::Progress, json!({ "files_done": 1 })).amount(), None);
}

fn a_job(status: &str, failure: Value, register: Value) -> Job {
    let ended = |phase: &str, status: &str, error: Value| {
        json!({ "phase": phase, "status": status, "started_at": null, "completed_at": null,
                "duration_seconds": 1.0, "details": {}, "error": error })
    };
    serde_json::from_value(json!({
        "deploy_job_id": "deploy-1", "service_name": "hello", "service_path": "hello", "status": status,
        "service_port": 8001, "service_url": "http://203.0.113.7:8001", "deployment_method": "docker",
        "phases": [ended("Validation", "success", Value::Null), register],
        "duration_seconds": 12.3, "kind": "deploy", "release": "r2",
        "outcome": "release r1 restored and healthy", "failure": failure, "target": "root@203.0.113.7:22",
        "created_at": "2026-01-01T00:00:00.000Z", "requested_by": "ann", "requested_from": "127.0.0.1:5",
        "cancelled_by": null, "auto_register": true, "environment": [],
    }))
    .unwrap()
}

fn register(status: &str, error: Value) -> Value {
    json!({ "phase": "Register", "status": status, "details": {}, "error": error })
}

#[test]
fn a_failed_job_says_what_was_seen_and_what_to_do() {
    let failure = json!({ "fault": "target", "plugin": "docker", "attempted": "build the image",
                          "seen": "one\ntwo\n", "next": "free some space" });
    let text = result(&a_job("failed", failure.clone(), register("pending", Value::Null)));
    assert_eq!(
        text,
        "deploy-1 failed, 12.3 s\n\
         error: docker could not build the image\n\
         seen:\n  one\n  two\n\
         next: free some space\n\
         outcome: release r1 restored and healthy\n"
    );
    let text = job(&a_job("failed", failure, register("pending", Value::Null)));
    for part in ["deploy-1: hello failed", "2026-01-01 00:00:00 UTC by ann", "\u{2713} Validation", "pending"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_to_do_next_is_whole() {
    let failure = json!({ "fault": "host", "plugin": null, "attempted": "reach the target",
                          "seen": "host:22: unknown", "next": "add this line to F:\nhost ssh-ed25519 AAAA" });
    let text = result(&a_job("failed", failure, register("pending", Value::Null)));
    let whole = "error: could not reach the target\nseen:\n  host:22: unknown\n\
                 next: add this line to F:\nhost ssh-ed25519 AAAA\n";
    assert!(text.contains(whole), "{text}");
}

#[test]
fn a_failed_register_is_a_warning_beside_a_service_that_serves() {
    let text = result(&a_job("completed", Value::Null, register("failed", json!("no answer"))));
    assert_eq!(
        text,
        "hello serves at http://203.0.113.7:8001 (release r2, 12.3 s)\n\
         warning: Register failed: no answer\n"
    );
}

#[test]
fn what_retention_removed_and_left_is_shown() {
    let mut of = a_job("completed", Value::Null, register("success", Value::Null));
    let retention = json!({
        "removed": [{ "release": "r0", "because": "older than 7 days", "bytes": 1024 }], "freed_bytes": 1024,
        "left": [{ "release": "r1", "because": "a container uses it" }],
    });
    of.retention = serde_json::from_value(retention).unwrap();
    assert!(job(&of).contains("removed   r0 (1.00 KiB)\n"), "{}", job(&of));
    assert!(
        result(&of).ends_with("warning: release r1 was not removed: a container uses it\n"),
        "{}",
        result(&of)
    );
}
