//! The dialect of the registry in the field: droplets, found by name and changed by id. It has the calls that
//! are documented, and no others, so that a client which needs more is noticed.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{lock, now};

pub fn routes() -> Router {
    Router::new()
        .route("/droplets", post(add))
        .route("/droplets/{id}", patch(change))
        .route("/droplets/name/{name}", get(by_name))
        .with_state(Store::default())
}

type Store = Arc<Mutex<Vec<Droplet>>>;

#[derive(Debug, Clone, Serialize)]
struct Droplet {
    /// A number or a text, as it was given; a number when the registry gave it.
    id: Value,
    name: String,
    steward: Value,
    endpoint: Value,
    status: String,
    metadata: Value,
    registered_at: String,
    updated_at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Addition {
    id: Option<Value>,
    name: String,
    #[serde(default)]
    steward: Value,
    #[serde(default)]
    endpoint: Value,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    endpoint: Option<Value>,
    status: Option<String>,
    metadata: Option<Value>,
}

async fn add(State(store): State<Store>, Json(asked): Json<Addition>) -> Response {
    let mut droplets = lock(&store);
    if droplets.iter().any(|known| known.name == asked.name) {
        return problem(
            StatusCode::CONFLICT,
            format!("a droplet named {} is registered already", asked.name),
        );
    }
    let id = match asked.id {
        Some(Value::Null) | None => next_id(&droplets),
        Some(id) => id,
    };
    if droplets.iter().any(|known| known.id == id) {
        return problem(StatusCode::CONFLICT, format!("a droplet with the id {id} is registered already"));
    }
    let time = now();
    let droplet = Droplet {
        id,
        name: asked.name,
        steward: asked.steward,
        endpoint: asked.endpoint,
        status: "active".to_owned(),
        metadata: asked.metadata,
        registered_at: time.clone(),
        updated_at: time,
    };
    droplets.push(droplet.clone());
    (StatusCode::CREATED, Json(json!({ "droplet": droplet }))).into_response()
}

async fn by_name(State(store): State<Store>, Path(name): Path<String>) -> Response {
    found(lock(&store).iter().find(|droplet| droplet.name == name))
}

async fn change(State(store): State<Store>, Path(id): Path<String>, Json(asked): Json<Change>) -> Response {
    let mut droplets = lock(&store);
    let Some(droplet) = droplets.iter_mut().find(|droplet| text(&droplet.id) == id) else {
        return found(None);
    };
    if let Some(endpoint) = asked.endpoint {
        droplet.endpoint = endpoint;
    }
    if let Some(status) = asked.status {
        droplet.status = status;
    }
    if let Some(metadata) = asked.metadata {
        droplet.metadata = metadata;
    }
    droplet.updated_at = now();
    found(Some(droplet))
}

fn found(droplet: Option<&Droplet>) -> Response {
    match droplet {
        Some(droplet) => Json(json!({ "droplet": droplet })).into_response(),
        None => problem(StatusCode::NOT_FOUND, "no such droplet is registered".to_owned()),
    }
}

fn problem(status: StatusCode, detail: String) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}

fn next_id(droplets: &[Droplet]) -> Value {
    let highest = droplets.iter().filter_map(|droplet| droplet.id.as_u64()).max().unwrap_or(0);
    json!(highest + 1)
}

/// An id as it stands in a path: a text without its quotes.
fn text(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}
