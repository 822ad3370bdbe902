//! What every service of this ecosystem answers: how it is, what it can do, what it needs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::App;
use super::extract::Body;
use super::problem::Problem;
use super::service::Health as Condition;
use super::types::{
    BODY_LIMIT, Capabilities, Dependencies, Dependency, HISTORY_LIMIT, Health, Limits, MessageReceived,
    Server, State as ServiceState, VALUE_LIMIT,
};
use super::validate;
use crate::journal::time_text;

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub async fn health(State(app): State<Arc<App>>) -> (StatusCode, Json<Health>) {
    let condition = app.deployments.health().await;
    let status = if is_healthy(&condition) { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    (status, Json(health_of(condition)))
}

pub async fn capabilities(State(app): State<Arc<App>>) -> Json<Capabilities> {
    let known = app.deployments.capabilities().await;
    Json(Capabilities {
        methods: known.methods,
        features: vec![
            "audit",
            "cancel",
            "events",
            "history",
            "idempotency-key",
            "recovery-after-crash",
            "redeploy-sends-changes-only",
            "remote-calls-on-record",
            "retention",
            "rollback",
        ],
        plugins: known.plugins,
        refused_plugins: known.refused,
        limits: Limits {
            jobs: known.limits,
            request_bytes: BODY_LIMIT,
            environment_value_bytes: VALUE_LIMIT,
            history_page: HISTORY_LIMIT,
        },
        server: Server { name: "deployer", version: VERSION, target: known.target, registry: known.registry },
    })
}

pub async fn state(State(app): State<Arc<App>>) -> Result<Json<ServiceState>, Problem> {
    let condition = app.deployments.health().await;
    let mut jobs = serde_json::Map::new();
    for status in ["pending", "running", "completed", "failed", "cancelled"] {
        jobs.insert(status.to_owned(), 0.into());
    }
    for (status, count) in app.deployments.counts().await? {
        jobs.insert(status, count.into());
    }
    Ok(Json(ServiceState {
        status: word(&condition),
        version: VERSION,
        uptime_seconds: app.started.elapsed().as_secs(),
        started_at: time_text(app.started_at),
        jobs,
    }))
}

pub async fn dependencies(State(app): State<Arc<App>>) -> Json<Dependencies> {
    let condition = app.deployments.health().await;
    let known = app.deployments.capabilities().await;
    let ssh = Dependency {
        name: "ssh target",
        address: Some(known.target),
        available: condition.ssh.is_ok(),
        status: text(condition.ssh, "connected"),
    };
    let registry = condition.registry.map(|registry| Dependency {
        name: "registry",
        address: known.registry,
        available: registry.is_ok(),
        status: text(registry, "reachable"),
    });
    Json(Dependencies { required: vec![ssh], optional: registry.into_iter().collect() })
}

/// Acknowledges. What another service says changes nothing here: deployments have their own calls.
pub async fn message(State(_): State<Arc<App>>, Body(body): Body) -> Result<Json<MessageReceived>, Problem> {
    let message = validate::message(&body)?;
    tracing::info!(
        trace_id = message.trace_id,
        source = message.source,
        kind = ?message.kind,
        "a message was received"
    );
    Ok(Json(MessageReceived {
        received: true,
        trace_id: message.trace_id,
        message_type: message.kind,
        timestamp: time_text(jiff::Timestamp::now()),
        detail: "acknowledged and logged; nothing is done for a message: deploy with POST /deploy, \
                 ask with GET /state and GET /capabilities",
    }))
}

/// Nothing can be deployed without the target and the journal. Without the registry everything but Register
/// can be done.
fn is_healthy(condition: &Condition) -> bool {
    condition.ssh.is_ok() && condition.journal.is_ok()
}

fn word(condition: &Condition) -> &'static str {
    match (is_healthy(condition), &condition.registry) {
        (false, _) => "unhealthy",
        (true, Some(Err(_))) => "degraded",
        (true, Some(Ok(())) | None) => "healthy",
    }
}

fn health_of(condition: Condition) -> Health {
    Health {
        status: word(&condition),
        ssh_status: text(condition.ssh, "connected"),
        registry_status: match condition.registry {
            Some(registry) => text(registry, "reachable"),
            None => "not configured".to_owned(),
        },
        journal_status: text(condition.journal, "writable"),
    }
}

fn text(state: Result<(), String>, good: &str) -> String {
    match state {
        Ok(()) => good.to_owned(),
        Err(reason) => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_registry_degrades_and_a_lost_target_is_unhealthy() {
        let wrong = || Err("no answer".to_owned());
        let check = |ssh, registry, journal, expect: &str| {
            assert_eq!(word(&Condition { ssh, registry, journal }), expect);
        };
        check(Ok(()), Some(Ok(())), Ok(()), "healthy");
        check(Ok(()), None, Ok(()), "healthy");
        check(Ok(()), Some(wrong()), Ok(()), "degraded");
        check(wrong(), Some(Ok(())), Ok(()), "unhealthy");
        check(Ok(()), None, wrong(), "unhealthy");
    }
}
