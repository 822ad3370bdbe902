//! Commands about the audit.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::{Client, typed};
use super::output::{print, table};
use super::{ServerFlags, show};
use crate::http::types::AuditVerification;
use crate::journal::{AuditAction, AuditHead, AuditRecord};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Option<AuditCommand>,
    /// Only what was done to this service
    service: Option<String>,
    /// How many records to show
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Only records that are older than this one
    #[arg(long, value_name = "SEQ")]
    before: Option<u64>,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Check every record; the exit status is 1 if one was changed or is missing
    Verify(VerifyArgs),
}

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The head that an earlier verification printed, and that was kept elsewhere
    #[arg(long, value_name = "SEQ:HASH")]
    head: Option<AuditHead>,
    #[command(flatten)]
    server: ServerFlags,
}

impl AuditArgs {
    pub fn server(&self) -> &ServerFlags {
        match &self.command {
            Some(AuditCommand::Verify(args)) => &args.server,
            None => &self.server,
        }
    }
}

pub async fn run(client: &Client, args: AuditArgs, json: bool) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(AuditCommand::Verify(args)) => verify(client, args, json).await,
        None => list(client, args, json).await,
    }
}

async fn list(client: &Client, args: AuditArgs, json: bool) -> anyhow::Result<ExitCode> {
    let (limit, before) = (args.limit.to_string(), args.before.map(|seq| seq.to_string()));
    let mut query = vec![("limit", limit.as_str())];
    query.extend(before.as_deref().map(|before| ("before", before)));
    query.extend(args.service.as_deref().map(|service| ("service", service)));
    let value = client.list(&["audit"], &query).await?;
    let records: Vec<AuditRecord> = typed(client, &value)?;
    print(json, &value, || {
        let rows: Vec<Vec<String>> = records.iter().map(row).collect();
        table(&["SEQ", "WHEN", "WHO", "FROM", "WHAT", "SERVICE", "RELEASE", "JOB"], &rows)
    });
    Ok(ExitCode::SUCCESS)
}

async fn verify(client: &Client, args: VerifyArgs, json: bool) -> anyhow::Result<ExitCode> {
    let head = args.head.map(|head| head.to_string());
    let query: Vec<_> = head.as_deref().map(|head| ("head", head)).into_iter().collect();
    let value = client.list(&["audit", "verify"], &query).await?;
    let seen: AuditVerification = typed(client, &value)?;
    print(json, &value, || verdict(&seen));
    Ok(if seen.verified { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(record: &AuditRecord) -> Vec<String> {
    vec![
        record.seq.to_string(),
        show::moment(&record.at),
        record.actor.name.clone(),
        record.actor.from.clone(),
        what(record),
        record.service_name.clone(),
        record.release.clone(),
        record.deploy_job_id.clone(),
    ]
}

/// `deploy accepted`, `rollback cancelled`, `deploy failed (restored)`
fn what(record: &AuditRecord) -> String {
    let kind = record.kind.name();
    match &record.action {
        AuditAction::Accepted { .. } => format!("{kind} accepted"),
        AuditAction::CancelAsked => format!("{kind}: cancellation requested"),
        AuditAction::Ended { status, aftermath: None, .. } => format!("{kind} {}", status.name()),
        AuditAction::Ended { status, aftermath: Some(aftermath), .. } => {
            format!("{kind} {} ({aftermath})", status.name())
        }
    }
}

fn verdict(seen: &AuditVerification) -> String {
    let records = match seen.records {
        1 => "1 record is".to_owned(),
        records => format!("{records} records are"),
    };
    match (&seen.broken, &seen.head) {
        (Some(broken), _) => format!(
            "{broken}; {records} intact before it\n  see who can write to the journal's file, and compare it with \
             a backup"
        ),
        (None, Some(head)) => format!(
            "{records} as written\n  to detect later whether records were removed from the end, keep this elsewhere:\n  \
             deployer audit verify --head {head}"
        ),
        (None, None) => "there are no records yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;
    use crate::journal::AuditVerdict;

    #[test]
    fn a_record_is_one_row() {
        let check = |action: serde_json::Value, expect: &str| {
            // As the API has it, with what binds it to the one before.
            let mut record = json!({
                "seq": 7, "at": "2026-01-01T00:00:00.000Z", "actor": { "name": "ci", "from": "127.0.0.1:5" },
                "deploy_job_id": "deploy-1", "kind": "deploy", "service_name": "shop", "release": "r1",
                "target": "root@server:22", "previous": "00", "hash": "11",
            });
            record.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
            let row = row(&serde_json::from_value(record).unwrap());
            let expect = format!("7|2026-01-01 00:00:00 UTC|ci|127.0.0.1:5|{expect}|shop|r1|deploy-1");
            assert_eq!(row.join("|"), expect);
        };
        check(
            json!({
                "action": "accepted", "deployment_method": "docker", "service_path": "shop",
                "service_port": 8001, "environment": [],
            }),
            "deploy accepted",
        );
        check(json!({ "action": "cancel_asked" }), "deploy: cancellation requested");
        let ended = |status: &str, aftermath: Option<&str>| {
            json!({
                "action": "ended", "status": status, "outcome": null, "aftermath": aftermath,
                "host_key": null, "plugins": [],
            })
        };
        check(ended("completed", None), "deploy completed");
        check(ended("failed", Some("restored")), "deploy failed (restored)");
    }

    #[test]
    fn a_verdict_says_what_to_do() {
        let check = |found: AuditVerdict, expect: &str| {
            let said = verdict(&AuditVerification::of(found));
            assert!(said.starts_with(expect), "{said}");
        };
        let head = AuditHead { seq: 1, hash: "ab".into() };
        check(AuditVerdict::Whole { head: None }, "there are no records yet");
        check(AuditVerdict::Whole { head: Some(head) }, "1 record is as written\n  to detect later");
        let broken = serde_json::from_value(json!({ "seq": 3, "reason": "missing" })).unwrap();
        check(AuditVerdict::Broken(broken), "record 3 is missing; 2 records are intact before it\n  see who");
    }
}
