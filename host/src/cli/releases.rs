//! Commands about a service's releases: which there are, and going back to one.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use super::client::{Client, ClientError, typed};
use super::jobs::latest_job;
use super::output::{line, print, table};
use super::{ServerFlags, follow, show};
use crate::http::types::{Job, Release};
use crate::job::promise::{self, Candidate, NoRollback};
use crate::model::ReleaseStatus;

#[derive(Args, Debug)]
pub struct RollbackArgs {
    service: String,
    /// The release to roll back to [default: the previous one]
    #[arg(long, value_name = "RELEASE")]
    to: Option<String>,
    /// Only say which release it would be
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub server: ServerFlags,
}

#[derive(Args, Debug)]
pub struct ReleasesArgs {
    service: String,
    #[command(flatten)]
    pub server: ServerFlags,
}

pub async fn releases(client: &Client, args: ReleasesArgs, json: bool) -> anyhow::Result<ExitCode> {
    let value = client.get(&["releases", &args.service]).await?;
    let releases: Vec<Release> = typed(client, &value)?;
    print(json, &value, || {
        let rows: Vec<Vec<String>> =
            releases.iter().filter(|release| is_on_target(release)).map(release_row).collect();
        let columns = ["RELEASE", "STATUS", "METHOD", "PORT", "MADE", "JOB", "ROLLBACK"];
        let table = table(&columns, &rows);
        let unasked = releases.iter().any(|release| !release.target_asked);
        if unasked { format!("{table}\n{UNASKED}") } else { table }
    });
    Ok(ExitCode::SUCCESS)
}

pub async fn rollback(client: &Client, args: RollbackArgs, json: bool) -> anyhow::Result<ExitCode> {
    let releases: Vec<Release> = typed(client, &client.get(&["releases", &args.service]).await?)?;
    let live = releases.iter().find(|release| release.status == ReleaseStatus::Live);
    // Any job of the service will do, also another deployer's: of the newest release, or else the latest one.
    let of = match releases.first() {
        Some(release) => release.deploy_job_id.clone(),
        None => typed::<Job>(client, &latest_job(client, &args.service).await?)?.deploy_job_id,
    };
    let unasked = releases.iter().any(|release| !release.target_asked);
    let back = rollback_target(&args.service, &releases, args.to.as_deref());
    if args.dry_run {
        let (release, refused) = match &back {
            Ok(release) => (Some(release), None),
            Err(refused) => (None, Some(refused)),
        };
        let value = json!({
            "service_name": args.service, "live": live, "back": release,
            "code": refused.map(|no| no.code), "detail": refused.map(|no| &no.detail),
            "hint": refused.map(|no| &no.hint),
        });
        print(json, &value, || {
            let unasked = if unasked { format!("\n{UNASKED}") } else { String::new() };
            format!("{}{unasked}", plan(&args.service, live, &back))
        });
        let sure = back.is_ok() && !unasked;
        return Ok(if sure { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    // The server has the last word on what it refuses, and says why.
    if let (false, Ok(_)) = (json, &back) {
        line(&plan(&args.service, live, &back));
    }
    // What was announced is what is asked for, whatever happens in between.
    let body = match args.to.as_ref().or(back.ok().map(|back| &back.release)) {
        Some(release) => json!({ "release": release }),
        None => json!({}),
    };
    let bar = (!json).then(ProgressBar::new_spinner);
    if let Some(bar) = &bar {
        bar.enable_steady_tick(Duration::from_millis(100));
        bar.set_message("starting and verifying");
    }
    // With a key, a request whose answer was lost can be sent again: it goes back once all the same.
    let key = format!("cli-{}", uuid::Uuid::now_v7());
    // The answer comes when the release serves and was verified, which takes what it takes.
    let path = ["deploy", of.as_str(), "rollback"];
    let send = async || client.post(&path, &body, Some(&key), None).await;
    let answer = match send().await {
        Err(ClientError::Broken { .. }) => send().await,
        answer => answer,
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let value = match answer {
        // The job that was not completed says more than the problem does.
        Err(ClientError::Problem(problem)) if problem.code == "rollback-failed" => {
            problem.document.get("job").cloned().ok_or(ClientError::Problem(problem))?
        }
        answer => answer?,
    };
    let job: Job = typed(client, &value)?;
    print(json, &value, || {
        let rows: Vec<String> = job.phases.iter().map(show::row_of).collect();
        format!("{}\n{}", rows.join("\n"), show::result(&job))
    });
    Ok(follow::exit_status(job.status))
}

/// The release that a rollback takes, or why there is none: as the server sees it.
fn rollback_target<'a>(
    service: &str,
    releases: &'a [Release],
    to: Option<&str>,
) -> Result<&'a Release, NoRollback> {
    let candidates: Vec<Candidate<'_>> = releases
        .iter()
        .map(|release| Candidate {
            id: &release.release,
            status: release.status,
            is_predecessor: release.is_predecessor,
            unavailable: release.unavailable.as_deref(),
        })
        .collect();
    match promise::refusal(service, to, &candidates) {
        Some(refused) => Err(refused),
        None => releases
            .iter()
            .find(|release| match to {
                Some(to) => release.release == to,
                None => release.is_predecessor,
            })
            .ok_or_else(|| promise::nothing_before(service)),
    }
}

/// Under what the deployer's journal knew, where the target could not be asked.
const UNASKED: &str = "the target could not be asked: this is what the deployer knew last, and another deployer may \
                       have deployed since";

/// What a rollback will do, as far as the releases tell.
fn plan(service: &str, live: Option<&Release>, back: &Result<&Release, NoRollback>) -> String {
    let now = match live {
        Some(live) => format!("{service} runs release {}", live.release),
        None => format!("{service} has no live release"),
    };
    match back {
        Ok(back) => {
            let unchecked = match &back.unchecked {
                Some(reason) => format!("; whether it is still there was not checked: {reason}"),
                None => String::new(),
            };
            format!(
                "{now}; rolling back to {}, made {} by {}{unchecked}",
                back.release, back.created_at, back.deploy_job_id
            )
        }
        Err(refused) => format!("{}\n  {}", refused.detail, refused.hint),
    }
}

/// What failed before its files were on the target left nothing there.
fn is_on_target(release: &Release) -> bool {
    release.status != ReleaseStatus::Bad || release.files.is_some()
}

fn release_row(release: &Release) -> Vec<String> {
    vec![
        release.release.clone(),
        release.status.name().to_owned(),
        release.deployment_method.clone(),
        release.service_port.to_string(),
        show::moment(&release.created_at),
        release.deploy_job_id.clone(),
        rollback_cell(release),
    ]
}

/// What a rollback can make of a release. What its status says by itself is not said again.
fn rollback_cell(release: &Release) -> String {
    match (release.status, &release.unavailable, &release.unchecked) {
        (ReleaseStatus::Retired, Some(because), _) => format!("no: {because}"),
        (ReleaseStatus::Retired, None, Some(reason)) => format!("not checked: {reason}"),
        (ReleaseStatus::Retired, None, None) if release.is_rollback_target => "the default".into(),
        (ReleaseStatus::Retired, None, None) => "with --to".into(),
        (
            ReleaseStatus::Candidate
            | ReleaseStatus::Live
            | ReleaseStatus::Bad
            | ReleaseStatus::Removing
            | ReleaseStatus::Removed,
            _,
            _,
        ) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn release(name: &str, status: ReleaseStatus) -> Release {
        Release {
            release: name.to_owned(),
            service_name: "hello".to_owned(),
            status,
            deploy_job_id: "deploy-1".to_owned(),
            deployment_method: "docker".to_owned(),
            service_port: 8001,
            created_at: "2026-01-01T00:00:00.000Z".to_owned(),
            target: "root@203.0.113.7:22".to_owned(),
            environment: Vec::new(),
            files: None,
            artifact: None,
            instance: None,
            plugins: Value::Null,
            pipeline: None,
            is_rollback_target: false,
            target_asked: true,
            is_predecessor: false,
            unavailable: None,
            unchecked: None,
        }
    }

    #[test]
    fn what_never_reached_the_target_is_not_listed() {
        let with_files = |status| Release { files: Some(json!({ "count": 1 })), ..release("r1", status) };
        assert!(!is_on_target(&release("r1", ReleaseStatus::Bad)));
        assert!(is_on_target(&with_files(ReleaseStatus::Bad)));
        assert!(is_on_target(&with_files(ReleaseStatus::Live)));
        assert!(is_on_target(&release("r1", ReleaseStatus::Candidate)), "it is on its way");
    }

    #[test]
    fn a_rollback_is_announced_or_refused_as_the_server_would() {
        let because = |reason: &str| Some(reason.to_owned());
        let mut releases = [
            Release { unavailable: because("it failed"), ..release("r4", ReleaseStatus::Bad) },
            Release { unavailable: because("it is the one that runs"), ..release("r3", ReleaseStatus::Live) },
            Release {
                is_predecessor: true,
                is_rollback_target: true,
                ..release("r2", ReleaseStatus::Retired)
            },
            release("r1", ReleaseStatus::Retired),
        ];
        let check = |releases: &[Release], to: Option<&str>, expect: &str| {
            let live = releases.iter().find(|release| release.status == ReleaseStatus::Live);
            let said = plan("hello", live, &rollback_target("hello", releases, to));
            assert!(said.starts_with(expect), "{said}");
        };
        check(&releases, None, "hello runs release r3; rolling back to r2");
        check(&releases, Some("r1"), "hello runs release r3; rolling back to r1");
        check(
            &releases,
            Some("r4"),
            "hello cannot roll back to release r4: it failed\n  you can roll back to these",
        );
        check(&releases, Some("r0"), "hello cannot roll back to release r0: the target has no such release");
        check(&[], None, "hello has no live release to roll back from");
        let cells = |releases: &[Release]| releases.iter().map(rollback_cell).collect::<Vec<_>>();
        assert_eq!(cells(&releases), ["", "", "the default", "with --to"]);

        releases[2] = Release {
            unavailable: because("its image is gone"),
            is_rollback_target: false,
            ..releases[2].clone()
        };
        releases[3].unchecked = because("the target does not answer");
        let refused = "hello runs release r3, and cannot roll back to r2, the one before it: its image is gone\n  \
                       you can roll back to release r1 if you name it";
        check(&releases, None, refused);
        check(
            &releases,
            Some("r1"),
            "hello runs release r3; rolling back to r1, made 2026-01-01T00:00:00.000Z by deploy-1; whether it is still there was not checked: the target",
        );
        assert_eq!(
            cells(&releases)[2..],
            ["no: its image is gone", "not checked: the target does not answer"]
        );
    }
}
