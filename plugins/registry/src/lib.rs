//! Register: tells the registry where the service answers.
//!
//! Registries speak one of two dialects, and asking finds out which. To register again is to update. What
//! was changed is read back: the confirmation is what the registry has, not what it was sent.

mod client;
mod settings;

use client::Answer;
use deployer_plugin::log;
use deployer_plugin::types::{Deployment, Error, Occasion, Publication, Registration};
use serde_json::{Map, Value, json};
use settings::{Dialect, Settings};

deployer_plugin::world!("registrar");

const DEPLOYER: &str = "deployer";

struct Registry;

impl phases::plugin::Guest for Registry {
    fn describe() -> phases::plugin::Description {
        phases::plugin::Description {
            name: "registry".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: env!("CARGO_PKG_DESCRIPTION").into(),
            settings_schema: deployer_plugin::settings::schema::<Settings>(),
        }
    }
}

impl phases::register::Guest for Registry {
    fn register(deployment: Deployment, publication: Publication) -> Result<Registration, Error> {
        let settings: Settings = deployer_plugin::settings::settings(&deployment)?;
        let dialect = match settings.dialect {
            Dialect::Auto => ask_for_dialect()?,
            fixed => fixed,
        };
        match dialect {
            Dialect::Droplets => droplets(&settings, &deployment, &publication),
            Dialect::Register | Dialect::Auto => register(&settings, &deployment, &publication),
        }
    }
}

/// A registry of droplets can list them; any other has no such path.
fn ask_for_dialect() -> Result<Dialect, Error> {
    let answer = client::get("/droplets")?;
    let dialect = dialect_of(answer.status, answer.json.as_ref())
        .ok_or_else(|| answer.nonsense("a list of droplets, or 404"))?;
    log::write(log::Level::Info, &format!("the registry speaks the dialect {dialect:?}"));
    Ok(dialect)
}

fn dialect_of(status: u16, json: Option<&Value>) -> Option<Dialect> {
    match (status, json) {
        (200, Some(Value::Array(_) | Value::Object(_))) => Some(Dialect::Droplets),
        (404 | 405, _) => Some(Dialect::Register),
        _ => None,
    }
}

fn droplets(
    settings: &Settings,
    deployment: &Deployment,
    publication: &Publication,
) -> Result<Registration, Error> {
    let by_name = format!("/droplets/name/{}", client::escape(&deployment.service));
    let known = client::get(&by_name)?;
    let id = match known.status {
        404 => match create(settings, deployment, publication)? {
            Some(id) => id,
            // Somebody else was quicker, between the question and the answer.
            None => update(settings, deployment, publication, client::get(&by_name)?)?,
        },
        _ => update(settings, deployment, publication, known)?,
    };
    let now = client::get(&format!("/droplets/{}", client::escape(&text(&id))))?.checked()?;
    confirm(publication, &now, droplet(&now))
}

/// None when the name was taken meanwhile.
fn create(
    settings: &Settings,
    deployment: &Deployment,
    publication: &Publication,
) -> Result<Option<Value>, Error> {
    let mut body = json!({
        "name": deployment.service,
        "steward": settings.steward.as_deref().unwrap_or(DEPLOYER),
        "endpoint": publication.endpoint,
        "metadata": metadata(settings, deployment, publication),
    });
    if let (Some(id), Some(body)) = (publication.droplet_id, body.as_object_mut()) {
        body.insert("id".into(), json!(id));
    }
    let answer = client::send("POST", "/droplets", Some(&body))?;
    if answer.status == 409 {
        return Ok(None);
    }
    let wanted = "the new droplet with its id";
    let id =
        answer.json.as_ref().filter(|_| answer.succeeded()).and_then(|json| droplet(json).get("id").cloned());
    id.map(Some).ok_or_else(|| answer.nonsense(wanted))
}

fn update(
    settings: &Settings,
    deployment: &Deployment,
    publication: &Publication,
    known: Answer,
) -> Result<Value, Error> {
    let found =
        known.json.as_ref().filter(|_| known.succeeded()).and_then(|json| droplet(json).get("id").cloned());
    let id = found.ok_or_else(|| known.nonsense("the droplet of that name, or 404"))?;
    let mut body = json!({
        "endpoint": publication.endpoint,
        "status": "active",
        "metadata": metadata(settings, deployment, publication),
    });
    if let (Some(steward), Some(body)) = (&settings.steward, body.as_object_mut()) {
        body.insert("steward".into(), json!(steward));
    }
    client::send("PATCH", &format!("/droplets/{}", client::escape(&text(&id))), Some(&body))?.checked()?;
    Ok(id)
}

fn register(
    settings: &Settings,
    deployment: &Deployment,
    publication: &Publication,
) -> Result<Registration, Error> {
    let mut body = json!({
        "service_name": deployment.service,
        "endpoint": publication.endpoint,
        "metadata": metadata(settings, deployment, publication),
    });
    if let (Some(id), Some(body)) = (publication.droplet_id, body.as_object_mut()) {
        body.insert("droplet_id".into(), json!(id));
    }
    let confirmation = client::send("POST", "/register", Some(&body))?.checked()?;
    // Not every registry of this dialect can be asked again; its confirmation is the answer then.
    let again = client::get(&format!("/register/{}", client::escape(&deployment.service)))?;
    let now = match again.json.clone() {
        Some(json) if again.succeeded() => json,
        _ => confirmation,
    };
    confirm(publication, &now, &now)
}

/// The registry has what it was told, or says nothing of it.
fn confirm(publication: &Publication, response: &Value, record: &Value) -> Result<Registration, Error> {
    if let Some(endpoint) = record.get("endpoint").and_then(Value::as_str)
        && endpoint != publication.endpoint
    {
        return Err(Error::target(
            "read the registration back",
            format!("the registry has the endpoint {endpoint} instead of {}", publication.endpoint),
            "see who else registers this name",
        ));
    }
    let id = record.get("id").or_else(|| record.get("droplet_id"));
    Ok(Registration {
        droplet_id: id.and_then(number).or(publication.droplet_id),
        endpoint: publication.endpoint.clone(),
        response: response.to_string(),
    })
}

/// Some answers wrap the droplet, some are it.
fn droplet(json: &Value) -> &Value {
    json.get("droplet").unwrap_or(json)
}

fn metadata(settings: &Settings, deployment: &Deployment, publication: &Publication) -> Value {
    let mut metadata: Map<String, Value> =
        settings.metadata.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    metadata.insert("release".into(), json!(deployment.release));
    metadata.insert("method".into(), json!(deployment.method));
    metadata.insert("deployed_by".into(), json!(DEPLOYER));
    let occasion = match publication.occasion {
        Occasion::Deployed => "deployed",
        Occasion::RolledBack => "rolled-back",
    };
    metadata.insert("occasion".into(), json!(occasion));
    Value::Object(metadata)
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

fn text(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), Into::into)
}

bindings::export!(Registry with_types_in bindings);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialect_is_found_by_asking() {
        assert_eq!(dialect_of(200, Some(&json!([]))), Some(Dialect::Droplets));
        assert_eq!(dialect_of(200, Some(&json!({ "droplets": [] }))), Some(Dialect::Droplets));
        assert_eq!(dialect_of(404, Some(&json!({ "detail": "Not Found" }))), Some(Dialect::Register));
        assert_eq!(dialect_of(405, None), Some(Dialect::Register));
        assert_eq!(dialect_of(200, None), None);
        assert_eq!(dialect_of(502, None), None);
    }

    #[test]
    fn a_confirmation_must_have_the_endpoint_that_was_told() {
        let publication = Publication {
            occasion: Occasion::Deployed,
            droplet_id: Some(3),
            endpoint: "http://server:8001".into(),
        };
        let check = |record: Value, expect: Result<Option<u64>, ()>| {
            let found = confirm(&publication, &record, droplet(&record));
            assert_eq!(found.map(|found| found.droplet_id).map_err(drop), expect, "{record}");
        };
        check(json!({ "droplet": { "id": 7, "endpoint": "http://server:8001" } }), Ok(Some(7)));
        check(json!({ "id": "7", "endpoint": "http://server:8001" }), Ok(Some(7)));
        check(json!({ "registered_at": "now" }), Ok(Some(3)));
        check(json!({ "id": 7, "endpoint": "http://other:8001" }), Err(()));
    }
}
