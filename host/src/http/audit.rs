//! Answers about the audit.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::extract::Parameters;
use super::problem::Problem;
use super::types::AuditVerification;
use super::{App, page, query};
use crate::journal::AuditEntry;

pub async fn page(State(app): State<Arc<App>>, Parameters(query): Parameters) -> Result<Response, Problem> {
    let query = query::audit_page(&query)?;
    let service = query.service.as_deref();
    let entries = app.deployments.audit(service, query.before, page::rows(query.limit)).await?;
    let entries = entries.ok_or_else(|| Problem::no_such_service(service.unwrap_or_default()))?;
    let link = |last: &AuditEntry| {
        let last = last.record.get("seq")?.as_u64()?;
        let service = service.map(|service| format!("&service={service}")).unwrap_or_default();
        Some(format!("/audit?limit={}&before={last}{service}", query.limit))
    };
    Ok(page::page(entries, query.limit, link, |entry| entry))
}

/// 200 for a broken audit, too: the question was answered.
pub async fn verify(
    State(app): State<Arc<App>>,
    Parameters(query): Parameters,
) -> Result<Json<AuditVerification>, Problem> {
    let known = query::audit_head(&query)?;
    Ok(Json(AuditVerification::of(app.deployments.verify_audit(known).await?)))
}
