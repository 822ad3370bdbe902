//! When a registration that failed is tried again. It stands in the details of the phase Register, as `retry`, so that
//! callers see it and it survives a restart.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// The field of a phase's details that has it.
const FIELD: &str = "retry";

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Retry {
    /// How many attempts there were.
    #[serde(default = "countless")]
    pub attempts: u32,
    /// When the next one is made. None when there will be none.
    pub next_at: Option<Timestamp>,
    /// The job whose release is live by now: registering this one would be wrong.
    pub superseded_by: Option<String>,
}

fn countless() -> u32 {
    u32::MAX
}

impl Retry {
    pub const FIELD: &str = FIELD;

    /// What a phase's details say of it.
    pub fn of(details: &Value) -> Option<Retry> {
        Retry::deserialize(details.get(FIELD)?).ok()
    }

    /// The details with it.
    pub fn within(&self, mut details: Value) -> Value {
        let mut retry = json!({ "attempts": self.attempts });
        if let Some(retry) = retry.as_object_mut() {
            retry.extend(self.next_at.map(|at| ("next_at".into(), json!(format!("{at:.3}")))));
            retry.extend(self.superseded_by.as_ref().map(|by| ("superseded_by".into(), json!(by))));
        }
        if let Some(details) = details.as_object_mut() {
            details.insert(FIELD.into(), retry);
        }
        details
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let next_at = Some("2026-11-24T03:15:00.250Z".parse().unwrap());
        let retry = Retry { attempts: 3, next_at, superseded_by: None };
        let details = retry.within(json!({ "seen": 1 }));
        assert_eq!(
            details,
            json!({ "seen": 1, "retry": { "attempts": 3, "next_at": "2026-11-24T03:15:00.250Z" } })
        );
        assert_eq!(Retry::of(&details), Some(retry));
        assert_eq!(Retry::of(&json!({ "seen": 1 })), None);
    }
}
