//! What every service of this ecosystem answers: how it is, what it can do, what it needs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::extract::Body;
use super::problem::Problem;
use super::types::{
    BODY_LIMIT, Capabilities, Dependencies, Dependency, HISTORY_LIMIT, Health, HealthDetails,
    MessageReceived, Server, ServerLimits, State as ServiceState, VALUE_LIMIT,
};
use super::{App, validate};
use crate::job::{Health as Condition, Trouble};
use crate::journal::time_text;
use crate::model::Actor;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// For strangers too, so in words that tell them nothing else. Who may deploy has an [`Actor`], and sees all.
pub async fn health(
    State(app): State<Arc<App>>,
    actor: Option<Extension<Actor>>,
) -> (StatusCode, Json<Health>) {
    let condition = app.deployments.health().await;
    let status = if is_healthy(&condition) { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    (status, Json(health_of(condition, actor.is_some())))
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
        limits: ServerLimits {
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
        detail: "acknowledged and logged; messages have no effect: deploy with POST /deploy, \
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

fn health_of(condition: Condition, may_know: bool) -> Health {
    let status = word(&condition);
    let brief = |state: &Result<(), Trouble>, good| match state {
        Ok(()) => good,
        Err(trouble) => trouble.status,
    };
    let ssh_status = brief(&condition.ssh, "connected");
    let registry_status =
        condition.registry.as_ref().map_or("not configured", |registry| brief(registry, "reachable"));
    let journal_status = if condition.journal.is_ok() { "writable" } else { "not writable" };
    let details = HealthDetails {
        ssh: condition.ssh.err().map(|trouble| trouble.detail),
        registry: condition.registry.and_then(|registry| registry.err()).map(|trouble| trouble.detail),
        journal: condition.journal.err(),
    };
    let is_wrong = details.ssh.is_some() || details.registry.is_some() || details.journal.is_some();
    let details = Some(details).filter(|_| may_know && is_wrong);
    Health { status, ssh_status, registry_status, journal_status, details }
}

fn text(state: Result<(), Trouble>, good: &str) -> String {
    match state {
        Ok(()) => good.to_owned(),
        Err(trouble) => trouble.detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_registry_degrades_and_a_lost_target_is_unhealthy() {
        let trouble = || Trouble { status: "unreachable", detail: "no answer".to_owned() };
        let wrong = || Err(trouble());
        let check = |ssh, registry, journal, expect: &str| {
            assert_eq!(word(&Condition { ssh, registry, journal }), expect);
        };
        check(Ok(()), Some(Ok(())), Ok(()), "healthy");
        check(Ok(()), None, Ok(()), "healthy");
        check(Ok(()), Some(wrong()), Ok(()), "degraded");
        check(wrong(), Some(Ok(())), Ok(()), "unhealthy");
        check(Ok(()), None, Err("the disk is full".to_owned()), "unhealthy");
    }

    #[test]
    fn a_stranger_hears_that_something_is_wrong_and_who_may_deploy_hears_what() {
        let condition = Condition {
            ssh: Err(Trouble { status: "login refused", detail: "root@h refused the key /k".to_owned() }),
            registry: Some(Err(Trouble { status: "unreachable", detail: "http://r/api".to_owned() })),
            journal: Err("/data/journal.db is full".to_owned()),
        };
        let stranger = serde_json::json!(health_of(condition.clone(), false));
        let brief = serde_json::json!({
            "status": "unhealthy", "ssh_status": "login refused", "registry_status": "unreachable",
            "journal_status": "not writable",
        });
        assert_eq!(stranger, brief);
        let mut known = serde_json::json!(health_of(condition, true));
        let details = known.as_object_mut().and_then(|object| object.remove("details"));
        assert_eq!(known, brief);
        let expect = serde_json::json!({
            "ssh": "root@h refused the key /k", "registry": "http://r/api", "journal": "/data/journal.db is full",
        });
        assert_eq!(details, Some(expect));
        let well = Condition { ssh: Ok(()), registry: None, journal: Ok(()) };
        assert!(health_of(well, true).details.is_none());
    }
}
