//! Columns to values and back, and the errors of both.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::journal::JournalError;

/// Maps a failed read or write to the journal's error.
pub fn reading(what: &'static str) -> impl Fn(sqlx::Error) -> JournalError {
    move |source| JournalError::Read { what, source }
}

pub fn writing(what: &'static str) -> impl Fn(sqlx::Error) -> JournalError {
    move |source| JournalError::Write { what, source }
}

pub fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<String, JournalError> {
    serde_json::to_string(value).map_err(|source| JournalError::Decode { what, source })
}

pub fn encode_option<T: Serialize>(
    what: &'static str,
    value: &Option<T>,
) -> Result<Option<String>, JournalError> {
    value.as_ref().map(|value| encode(what, value)).transpose()
}

pub fn decode<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, JournalError> {
    serde_json::from_str(text).map_err(|source| JournalError::Decode { what, source })
}

pub fn decode_option<T: DeserializeOwned>(
    what: &'static str,
    text: Option<String>,
) -> Result<Option<T>, JournalError> {
    text.map(|text| decode(what, &text)).transpose()
}

/// A word of the database's own, such as a status: read like the JSON string that it is.
pub fn word<T: DeserializeOwned>(what: &'static str, text: String) -> Result<T, JournalError> {
    serde_json::from_value(Value::String(text)).map_err(|source| JournalError::Decode { what, source })
}

pub fn time(what: &'static str, text: String) -> Result<Timestamp, JournalError> {
    word(what, text)
}

pub fn time_option(what: &'static str, text: Option<String>) -> Result<Option<Timestamp>, JournalError> {
    text.map(|text| time(what, text)).transpose()
}
