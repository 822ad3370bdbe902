//! The dialect of the specification: one call to register, again and again if need be. Its answer is all that
//! it ever says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{lock, now};

pub fn routes() -> Router {
    Router::new().route("/register", post(register)).with_state(Store::default())
}

/// By the service's name.
type Store = Arc<Mutex<BTreeMap<String, Registration>>>;

#[derive(Debug, Clone, Serialize)]
struct Registration {
    registered: bool,
    droplet_id: Value,
    service_name: String,
    endpoint: String,
    registered_at: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct Asked {
    droplet_id: Option<Value>,
    service_name: String,
    endpoint: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A service that is known already is registered anew, and keeps its id unless it brings another.
async fn register(State(store): State<Store>, Json(asked): Json<Asked>) -> Response {
    let mut known = lock(&store);
    let given = asked.droplet_id.filter(|id| !id.is_null());
    let before = known.get(&asked.service_name).map(|registration| registration.droplet_id.clone());
    let mut rest = asked.rest;
    // What the confirmation itself says is not the caller's to say.
    for name in ["registered", "registered_at"] {
        rest.remove(name);
    }
    let registration = Registration {
        registered: true,
        droplet_id: given.or(before).unwrap_or_else(|| next_id(&known)),
        service_name: asked.service_name,
        endpoint: asked.endpoint,
        registered_at: now(),
        rest,
    };
    known.insert(registration.service_name.clone(), registration.clone());
    Json(registration).into_response()
}

fn next_id(known: &BTreeMap<String, Registration>) -> Value {
    let highest =
        known.values().filter_map(|registration| registration.droplet_id.as_u64()).max().unwrap_or(0);
    json!(highest + 1)
}
