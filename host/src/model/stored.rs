//! A value that another version may have written.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A value from the journal or from the target. One that this version cannot read is kept as it was written, with the
/// reason, so that nothing is lost when the record around it is written again.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored<T> {
    Known(T),
    Unknown { raw: Value, why: String },
}

impl<T> Stored<T> {
    /// # Errors
    /// With the reason why this version cannot read it.
    pub fn read(&self) -> Result<&T, &str> {
        match self {
            Stored::Known(value) => Ok(value),
            Stored::Unknown { why, .. } => Err(why),
        }
    }
}

impl<T: DeserializeOwned> From<Value> for Stored<T> {
    fn from(raw: Value) -> Self {
        match T::deserialize(&raw) {
            Ok(value) => Stored::Known(value),
            Err(error) => Stored::Unknown { why: error.to_string(), raw },
        }
    }
}

impl<T: Serialize> Serialize for Stored<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Stored::Known(value) => value.serialize(serializer),
            Stored::Unknown { raw, .. } => raw.serialize(serializer),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Stored<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Stored::from)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Artifact;

    #[test]
    fn what_another_version_wrote_stays_as_it_was() {
        let known = json!({ "kind": "image", "reference": "web:1", "digest": "", "bytes": null });
        let read = Stored::<Artifact>::from(known.clone());
        assert_eq!(read.read().map(|artifact| artifact.reference.as_str()), Ok("web:1"));
        assert_eq!(json!(read), known);
        let other = json!({ "kind": "image", "parts": ["a", "b"] });
        let kept = Stored::<Artifact>::from(other.clone());
        assert_eq!(kept.read(), Err("missing field `reference`"));
        assert_eq!(json!(kept), other);
    }
}
