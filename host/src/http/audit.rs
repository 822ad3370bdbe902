//! Answers about the audit.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::extract::Parameters;
use super::problem::Problem;
use super::query::{self, AuditPage};
use super::types::AuditVerification;

pub async fn page(State(app): State<Arc<App>>, Parameters(query): Parameters) -> Result<Response, Problem> {
    let page = query::audit_page(&query)?;
    let service = page.service.as_deref();
    // One more than asked for tells whether there is a next page.
    let entries = app.deployments.audit(service, page.before, page.limit + 1).await?;
    let mut entries = entries.ok_or_else(|| Problem::no_such_service(service.unwrap_or_default()))?;
    let length = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let has_more = entries.len() > length;
    entries.truncate(length);
    let last = entries.last().filter(|_| has_more).and_then(|last| last.record.get("seq")?.as_u64());
    let next = last.and_then(|last| next_page(&page, last));
    let body = Json(entries);
    Ok(match next {
        Some(link) => ([(header::LINK, link)], body).into_response(),
        None => body.into_response(),
    })
}

/// 200 for a broken audit, too: the question was answered.
pub async fn verify(
    State(app): State<Arc<App>>,
    Parameters(query): Parameters,
) -> Result<Json<AuditVerification>, Problem> {
    let known = query::audit_head(&query)?;
    Ok(Json(AuditVerification::of(app.deployments.verify_audit(known).await?)))
}

/// None where the service's name cannot stand in a link; such a service cannot have been deployed.
fn next_page(page: &AuditPage, last: u64) -> Option<HeaderValue> {
    let service = page.service.as_ref().map(|service| format!("&service={service}")).unwrap_or_default();
    let link = format!("</audit?limit={}&before={last}{service}>; rel=\"next\"", page.limit);
    HeaderValue::from_str(&link).ok()
}
