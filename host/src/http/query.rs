//! Queries to values: which page, from where on, and whether to wait for more.

use std::collections::BTreeMap;

use super::problem::Problem;
use super::types::{HISTORY_DEFAULT, HISTORY_LIMIT};
use crate::job::FieldProblem;
use crate::journal::{AuditHead, NoHead};

/// A page of a history: how many, and before which job.
///
/// # Errors
/// A problem that names every wrong parameter.
pub fn page(query: &BTreeMap<String, String>) -> Result<(u32, Option<String>), Problem> {
    let mut problems = Vec::new();
    let limit = limit(query, &mut problems);
    let before = query.get("before").cloned();
    if before.as_ref().is_some_and(|id| !id.starts_with("deploy-")) {
        problems
            .push(FieldProblem::new("before", "must be a deploy_job_id: the last one of the page before"));
    }
    if problems.is_empty() { Ok((limit, before)) } else { Err(Problem::invalid(problems)) }
}

/// A page of the audit.
pub struct AuditPage {
    pub service: Option<String>,
    /// The record that the page ends before.
    pub before: Option<u64>,
    pub limit: u32,
}

/// # Errors
/// A problem that names every wrong parameter.
pub fn audit_page(query: &BTreeMap<String, String>) -> Result<AuditPage, Problem> {
    let mut problems = Vec::new();
    let limit = limit(query, &mut problems);
    let before = query.get("before").map(|text| text.parse::<u64>());
    if let Some(Err(_)) = before {
        let message = "must be the whole number `seq` of a record: the last one of the page before";
        problems.push(FieldProblem::new("before", message));
    }
    let page =
        AuditPage { service: query.get("service").cloned(), before: before.and_then(Result::ok), limit };
    if problems.is_empty() { Ok(page) } else { Err(Problem::invalid(problems)) }
}

/// The head of the audit that the caller knows, if it knows one.
///
/// # Errors
/// When it is none.
pub fn audit_head(query: &BTreeMap<String, String>) -> Result<Option<AuditHead>, Problem> {
    let head = query.get("head").map(|text| text.parse()).transpose();
    head.map_err(|error: NoHead| Problem::invalid(vec![FieldProblem::new("head", error.to_string())]))
}

/// How much a page has.
fn limit(query: &BTreeMap<String, String>, problems: &mut Vec<FieldProblem>) -> u32 {
    match query.get("limit").map(|text| text.parse::<u32>()) {
        None => HISTORY_DEFAULT,
        Some(Ok(limit)) if (1..=HISTORY_LIMIT).contains(&limit) => limit,
        Some(_) => {
            let message = format!("must be a whole number from 1 to {HISTORY_LIMIT}");
            problems.push(FieldProblem::new("limit", message));
            HISTORY_DEFAULT
        }
    }
}

/// Where a stream of events goes on: after this event. The header comes from a client that lost its stream.
///
/// # Errors
/// When it is not a number.
pub fn resume_after(header: Option<&str>, query: &BTreeMap<String, String>) -> Result<u64, Problem> {
    let (field, text) = match (header, query.get("after")) {
        (Some(text), _) => ("Last-Event-ID", text),
        (None, Some(text)) => ("after", text.as_str()),
        (None, None) => return Ok(0),
    };
    text.trim().parse().map_err(|_| {
        Problem::invalid(vec![FieldProblem::new(field, "must be the whole number of the last event seen")])
    })
}

/// Whether a stream of events waits for more.
///
/// # Errors
/// When it is neither true nor false.
pub fn follow(query: &BTreeMap<String, String>) -> Result<bool, Problem> {
    match query.get("follow").map(String::as_str) {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(Problem::invalid(vec![FieldProblem::new("follow", "must be true or false")])),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn pages_and_places_are_whole_numbers() {
        let query = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(page(&query(&[])).unwrap(), (50, None));
        assert_eq!(
            page(&query(&[("limit", "500"), ("before", "deploy-1")])).unwrap(),
            (500, Some("deploy-1".into()))
        );
        for bad in ["0", "501", "-1", "x", "", "1.5"] {
            assert_eq!(page(&query(&[("limit", bad)])).unwrap_err().errors.len(), 1, "{bad}");
        }
        assert_eq!(page(&query(&[("limit", "x"), ("before", "y")])).unwrap_err().errors.len(), 2);

        assert_eq!(resume_after(None, &query(&[])).unwrap(), 0);
        assert_eq!(resume_after(Some("7"), &query(&[("after", "3")])).unwrap(), 7);
        assert_eq!(resume_after(None, &query(&[("after", "3")])).unwrap(), 3);
        let problem = resume_after(Some("x"), &query(&[])).unwrap_err();
        assert_eq!(problem.errors.first().map(|error| error.field.as_str()), Some("Last-Event-ID"));
    }
}
