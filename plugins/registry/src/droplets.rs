//! The dialect of droplets: one is made once, found again by the service's name, and changed by its id.

use deployer_plugin::types::{Error, Registration};
use serde_json::{Value, json};

use crate::client::{Answer, Registry, escape};
use crate::record::{DEPLOYER, Ids, Subject, droplet, id};

/// Makes or changes the service's droplet, and reads it back; none when the registry has no such calls.
///
/// # Errors
/// When the registry does not answer, or its answer makes no sense.
pub fn register(registry: &mut dyn Registry, subject: Subject) -> Result<Option<Registration>, Error> {
    let by_name = format!("/droplets/name/{}", escape(&subject.deployment.service));
    let known = registry.send("GET", &by_name, None)?;
    if known.is_nothing() {
        let made = create(registry, subject)?;
        if made.is_nothing() {
            return Ok(None);
        }
        if made.status == 409 {
            // Somebody else was quicker, between the question and the answer; or the id is another's.
            let other = registry.send("GET", &by_name, None)?;
            if other.is_nothing() {
                return Err(made.nonsense("the new droplet, although it has no droplet of that name"));
            }
            update(registry, subject, &other)?;
        } else {
            made.confirmed("the new droplet")?;
        }
    } else {
        update(registry, subject, &known)?;
    }
    let now = registry.send("GET", &by_name, None)?;
    subject.confirm(&now, Ids::Always).map(Some)
}

fn create(registry: &mut dyn Registry, subject: Subject) -> Result<Answer, Error> {
    let body = json!({
        "name": subject.deployment.service,
        "steward": subject.settings.steward.as_deref().unwrap_or(DEPLOYER),
        "endpoint": subject.publication.endpoint,
        "metadata": subject.metadata(),
    });
    registry.send("POST", "/droplets", Some(&subject.with_id("id", body)))
}

fn update(registry: &mut dyn Registry, subject: Subject, known: &Answer) -> Result<(), Error> {
    let wanted = "the droplet of that name, or 404";
    let id = id(droplet(known.confirmed(wanted)?)).ok_or_else(|| known.nonsense(wanted))?;
    let body = json!({
        "endpoint": subject.publication.endpoint,
        "status": "active",
        "metadata": subject.metadata(),
    });
    let path = format!("/droplets/{}", escape(&text(id)));
    registry.send("PATCH", &path, Some(&body))?.confirmed("the changed droplet").map(drop)
}

/// An id as it stands in a path: a text without its quotes.
fn text(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), Into::into)
}
