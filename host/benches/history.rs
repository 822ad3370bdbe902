//! How the journal's answers grow with its history: the same questions to a journal with 100 jobs and to one with
//! 10,000, filled through the journal's own code, as jobs fill it.
//!
//! `cargo bench -p deployer --bench history`. The journals are in `TMPDIR`; filling the large one is over 300,000
//! transactions, each of which waits for the disk, so a folder in memory (`TMPDIR=/dev/shm`) saves minutes.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::path::Path;
use std::time::{Duration, Instant};

use deployer::journal::{AuditVerdict, Journal, Sqlite, now};
use deployer::model::{
    Actor, CallStart, EventKind, JobKind, JobRecord, JobRequest, JobState, NewEvent, NewJob, Phase,
    PhaseStatus, PhaseUpdate, ReleaseRecord, ReleaseStatus, StepStart, Submitted, Variable,
};
use serde_json::{Value, json};

const SMALL: usize = 100;
const LARGE: usize = 10_000;
/// How many services share the jobs. One more has only the very first job.
const SERVICES: usize = 10;
const PAGE: u32 = 50;
const TARGET: &str = "root@203.0.113.7:22";
/// Each question is asked so often, and the median is taken.
const ROUNDS: usize = 21;

/// A question, and how long its answer takes.
type Answer = (&'static str, Duration);

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let small = runtime.block_on(measure(SMALL));
    let large = runtime.block_on(measure(LARGE));
    println!(
        "{:<44} {:>12} {:>12} {:>8}",
        "median",
        format!("{SMALL} jobs"),
        format!("{LARGE} jobs"),
        "ratio"
    );
    for ((question, few), (_, many)) in small.into_iter().zip(large) {
        let (few, many) = (few.as_secs_f64() * 1e6, many.as_secs_f64() * 1e6);
        println!("{question:<44} {few:>9.1} µs {many:>9.1} µs {:>8.2}", many / few);
    }
}

async fn measure(jobs: usize) -> Vec<Answer> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    let began = Instant::now();
    let journal = Sqlite::open(&file).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..jobs {
        // The last two are not over, as after a crash.
        ids.push(fill(&journal, number, number + 2 < jobs).await);
    }
    journal.close().await;
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let megabytes = file.metadata().unwrap().len() / 1_000_000;
    eprintln!("{jobs} jobs: {megabytes} MB in {files:?}, filled in {:.1?}", began.elapsed());

    let start_up = start_up(&file).await;
    let journal = &Sqlite::open(&file).await.unwrap();
    // Before this one, its service has two jobs.
    let oldest = ids.get(SERVICES * 2 + 1).unwrap();
    let mut answers = vec![
        ("start-up: open, and read unfinished jobs", start_up),
        ("a service's history, first page", {
            median(async || assert_eq!(journal.history("service-1", None, 10).await.unwrap().len(), 10)).await
        }),
        ("a service's history, last page", {
            median(async || {
                assert_eq!(journal.history("service-1", Some(oldest), 10).await.unwrap().len(), 2);
            })
            .await
        }),
        ("counts of jobs by status", {
            median(async || assert_eq!(journal.counts().await.unwrap().len(), 2)).await
        }),
        ("the audit, first page", {
            median(async || assert_eq!(journal.audit(None, None, PAGE).await.unwrap().len(), 50)).await
        }),
        ("the audit, last page", {
            median(async || assert_eq!(journal.audit(None, Some(51), PAGE).await.unwrap().len(), 50)).await
        }),
        ("the audit of a service that is seldom deployed", {
            median(async || assert_eq!(journal.audit(Some("seldom"), None, PAGE).await.unwrap().len(), 2))
                .await
        }),
        ("audit verify, all of it", {
            median(async || {
                let verdict = journal.verify_audit(None).await.unwrap();
                assert!(matches!(verdict, AuditVerdict::Whole { head: Some(_) }), "{verdict:?}");
            })
            .await
        }),
    ];
    let (_, whole) = answers.last().copied().unwrap();
    let records = u32::try_from(2 * jobs - 2).unwrap();
    answers.push(("audit verify, each record", whole / records));
    journal.close().await;
    answers
}

async fn start_up(file: &Path) -> Duration {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let journal = Sqlite::open(file).await.unwrap();
        assert_eq!(journal.unfinished().await.unwrap().len(), 2);
        times.push(began.elapsed());
        journal.close().await;
    }
    middle(times)
}

async fn median(question: impl AsyncFn()) -> Duration {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        question().await;
        times.push(began.elapsed());
    }
    middle(times)
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    *times.get(times.len() / 2).unwrap()
}

/// Records what a deployment records, and gives its id.
async fn fill(journal: &Sqlite, number: usize, is_over: bool) -> String {
    let Submitted::New(mut job) = journal.submit(&new_job(number)).await.unwrap() else {
        panic!("every job is new");
    };
    journal.set_host_key(&job.id, "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").await.unwrap();
    job.started_at = Some(now());
    for phase in Phase::ALL {
        job.state = JobState::Running(phase);
        journal.set_state(&job).await.unwrap();
        run_phase(journal, &job.id, phase).await;
    }
    let release = release(&job);
    journal.put_release(&release).await.unwrap();
    journal.promote(&release).await.unwrap();
    if is_over {
        job.state = JobState::Completed;
        job.completed_at = Some(now());
        journal.set_state(&job).await.unwrap();
    }
    job.id
}

async fn run_phase(journal: &Sqlite, job: &str, phase: Phase) {
    let mut update = PhaseUpdate::new(phase, PhaseStatus::Running);
    update.started_at = Some(now());
    journal.set_phase(job, &update).await.unwrap();
    let step = StepStart {
        job: job.into(),
        step: format!("{}/0", phase.key()),
        plugin: phase.key().into(),
        function: phase.key().into(),
        digest: "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03".into(),
    };
    let step = journal.step_started(&step).await.unwrap();
    for _ in 0..2 {
        let call = CallStart {
            job: job.into(),
            step,
            call: "target.run".into(),
            arguments: json!(["docker", "build", "--tag", "service:release", "/opt/fpai/services/service"]),
            changes_target: true,
        };
        let call = journal.call_started(&call).await.unwrap();
        let said = "a line that a command has said\n".repeat(10);
        journal.call_ended(call, "ok", Some("exit status 0"), &said, 1200).await.unwrap();
    }
    let line =
        json!({ "phase": phase, "level": "info", "source": "target", "line": "a line of a step's log" });
    let lines = vec![NewEvent { at: now(), kind: EventKind::Log, data: line }; 10];
    journal.append(job, &lines).await.unwrap();
    journal.step_ended(step, Ok(&json!({ "reference": "service:release" }))).await.unwrap();
    let mut update = PhaseUpdate::new(phase, PhaseStatus::Success);
    update.completed_at = Some(now());
    update.details = Some(json!({ "kind": "image", "reference": "service:release" }));
    journal.set_phase(job, &update).await.unwrap();
}

fn new_job(number: usize) -> NewJob {
    let service = if number == 0 { "seldom".into() } else { format!("service-{}", number % SERVICES) };
    NewJob {
        id: format!("deploy-{}", uuid::Uuid::now_v7()),
        kind: JobKind::Deploy,
        request: JobRequest {
            service_path: service.clone(),
            service_folder: format!("/srv/{service}"),
            folder_mark: None,
            droplet_id: None,
            service_port: 8001,
            auto_register: true,
            verification_job_id: None,
            environment: vec![Variable { name: "API_KEY".into(), one_line: true }],
            digest: "d".repeat(64),
            actor: Actor { name: "ci".into(), from: "127.0.0.1:50000".into() },
        },
        service,
        target: TARGET.into(),
        method: "docker".into(),
        release: format!("release-{number:05}"),
        plan: plan().into(),
        created_at: now(),
        idempotency_key: Some(format!("key-{number}")),
        encrypted_environment: Some(vec![0; 256]),
        skipped: Vec::new(),
    }
}

/// As large as the plan of the default pipeline.
fn plan() -> Value {
    let steps: Vec<Value> = Phase::ALL
        .into_iter()
        .map(|phase| json!({ "phase": phase, "plugin": phase.key(), "settings": { "filler": "x".repeat(300) } }))
        .collect();
    json!({ "steps": steps })
}

fn release(job: &JobRecord) -> ReleaseRecord {
    ReleaseRecord {
        service: job.service.clone(),
        target: job.target.clone(),
        id: job.release.clone(),
        job: job.id.clone(),
        status: ReleaseStatus::Candidate,
        method: job.method.clone(),
        port: job.request.service_port,
        environment: job.request.environment.clone(),
        environment_digest: "d".repeat(64),
        files: None,
        artifact: Some(json!({ "reference": "service:release" }).into()),
        instance: None,
        plugins: Default::default(),
        plan: None,
        created_at: job.created_at,
        promoted_at: None,
        promoted_by: None,
        origin: None,
    }
}
