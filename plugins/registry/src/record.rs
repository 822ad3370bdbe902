//! What is told of a service, and whether the registry's answer confirms it.

use deployer_plugin::types::{Deployment, Error, Occasion, Publication, Registration};
use serde_json::{Map, Value, json};

use crate::client::Answer;
use crate::settings::Settings;

/// Who registers, where the settings name nobody.
pub const DEPLOYER: &str = "deployer";

/// What a registration is made of.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub settings: &'a Settings,
    pub deployment: &'a Deployment,
    pub publication: &'a Publication,
}

impl Subject<'_> {
    pub fn metadata(&self) -> Value {
        let texts = self.settings.metadata.iter();
        let mut metadata: Map<String, Value> =
            texts.map(|(name, value)| (name.clone(), json!(value))).collect();
        metadata.insert("release".into(), json!(self.deployment.release));
        metadata.insert("method".into(), json!(self.deployment.method));
        metadata.insert("deployed_by".into(), json!(DEPLOYER));
        let occasion = match self.publication.occasion {
            Occasion::Deployed => "deployed",
            Occasion::RolledBack => "rolled-back",
        };
        metadata.insert("occasion".into(), json!(occasion));
        Value::Object(metadata)
    }

    /// A body with the id that was asked for, if one was.
    pub fn with_id(&self, field: &str, mut body: Value) -> Value {
        if let (Some(id), Some(body)) = (self.publication.droplet_id, body.as_object_mut()) {
            body.insert(field.into(), json!(id));
        }
        body
    }

    /// Takes an answer for the registration that it confirms. It must name what was registered: an answer that
    /// only sounds well says nothing of what callers will find.
    ///
    /// # Errors
    /// When the answer says anything else than what was told, or names nothing of it.
    pub fn confirm(&self, answer: &Answer, ids: Ids) -> Result<Registration, Error> {
        let endpoint = &self.publication.endpoint;
        let name = &self.deployment.service;
        let wanted = format!("{name} at {endpoint}{}", if ids == Ids::Always { " with its id" } else { "" });
        let json = answer.confirmed(&wanted)?;
        let record = droplet(json);
        let named = record.get("name").or_else(|| record.get("service_name"));
        let is_named = named.map(|named| named.as_str() == Some(name));
        let at = record.get("endpoint").map(|at| at.as_str().is_some_and(|at| is_same(at, endpoint)));
        let id = id(record);
        let is_confirmed = match ids {
            Ids::Always => at.is_some() && id.is_some(),
            // The specification has no form for this answer, so one sign that the service is meant has to do.
            Ids::Perhaps => at.is_some() || is_named.is_some() || id.is_some(),
        };
        if !is_confirmed || is_named == Some(false) || at == Some(false) {
            return Err(answer.nonsense(&wanted));
        }
        Ok(Registration {
            droplet_id: id.and_then(number),
            endpoint: endpoint.clone(),
            response: json.to_string(),
        })
    }
}

/// Whether the registry gives each service an id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    Always,
    Perhaps,
}

/// Some answers wrap the droplet, some are it.
pub fn droplet(json: &Value) -> &Value {
    json.get("droplet").unwrap_or(json)
}

/// A record's id: a number or a text.
pub fn id(record: &Value) -> Option<&Value> {
    let id = record.get("id").or_else(|| record.get("droplet_id"));
    id.filter(|id| id.is_number() || id.as_str().is_some_and(|text| !text.is_empty()))
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

/// A registry that reads endpoints as URLs gives the root its slash.
fn is_same(found: &str, told: &str) -> bool {
    found.trim_end_matches('/') == told.trim_end_matches('/')
}
