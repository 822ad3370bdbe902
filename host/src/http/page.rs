//! One page of a list, and the link to the next one.

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// How many rows to ask for: one more than the page has tells whether there is a next page.
pub fn rows(limit: u32) -> u32 {
    limit.saturating_add(1)
}

/// At most `limit` of the rows, and, where there are more, the link that goes on after the last of them. None of
/// a link where a name cannot stand in one: such a service cannot have been deployed.
pub fn page<T, U: Serialize>(
    mut rows: Vec<T>,
    limit: u32,
    link: impl FnOnce(&T) -> Option<String>,
    shown: impl Fn(T) -> U,
) -> Response {
    let length = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > length;
    rows.truncate(length);
    let next = rows.last().filter(|_| has_more).and_then(link);
    let next = next.and_then(|path| HeaderValue::from_str(&format!("<{path}>; rel=\"next\"")).ok());
    let body = Json(rows.into_iter().map(shown).collect::<Vec<_>>());
    match next {
        Some(next) => ([(header::LINK, next)], body).into_response(),
        None => body.into_response(),
    }
}
