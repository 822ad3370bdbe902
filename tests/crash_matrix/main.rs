//! Kills the deployer at every record that a redeployment makes, and starts it again each time: the job comes
//! to an end, one verified release serves, and nothing is left over.
//!
//! And at the records from Start on, with another deployer that deploys in between: its release stays.
//!
//! Every record has two points: right before it is durable, when what it tells of has happened, and right
//! after, when nothing else has. With `DEPLOYER_TEST_ALL=1` no point is left out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod lane;
mod takeover;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use deployer_tests::{sample, say};
use lane::{Crashed, Lane, Record, Redeployment};
use tokio::task::JoinSet;

/// How many points are tried side by side.
const LANES: u16 = 3;

/// Crashes in a redeployment's points, several side by side, each in a lane with a service of its own.
async fn matrix(name: &str, redeployment: Redeployment, first_port: u16, first: usize) {
    let mut ready = JoinSet::new();
    for place in 0..LANES {
        ready.spawn(Lane::start(format!("{name}-{place}"), redeployment, first_port + place));
    }
    let mut lanes: Vec<Lane> = ready.join_all().await;
    let records: Vec<Record> = lanes[0].count().await;
    let all: Vec<String> = records
        .iter()
        .flat_map(|record| ["before", "after"].map(|side| format!("{}:{side}", record.place)))
        .collect();
    let points: VecDeque<String> = sample(&all, first, redeployment.every).into();
    let tried = points.len();

    let points = Arc::new(Mutex::new(points));
    let mut running = JoinSet::new();
    for mut lane in lanes.drain(..) {
        let points = points.clone();
        running.spawn(async move {
            let mut crashes = Vec::new();
            while let Some(point) = { points.lock().unwrap().pop_front() } {
                crashes.push(lane.crash(&point).await);
            }
            crashes
        });
    }
    let crashes: Vec<Crashed> = running.join_all().await.into_iter().flatten().collect();

    let failed = crashes.iter().filter(|crashed| !crashed.completed).count();
    let missing: Vec<&str> =
        crashes.iter().filter(|crashed| !crashed.reached).map(|crashed| crashed.point.as_str()).collect();
    say(&format!(
        "crash matrix: {name}: {tried} of {} points at {} records; {} jobs completed, {failed} failed; {} records \
         were not made again",
        all.len(),
        records.len(),
        tried - failed,
        missing.len(),
    ));
    let wrongs: Vec<&String> = crashes.iter().flat_map(|crashed| &crashed.wrongs).collect();
    assert!(wrongs.is_empty(), "{} are wrong:\n{wrongs:#?}", wrongs.len());
    // How many calls probing makes depends on how fast the service is up. All else is there every time.
    let calls: Vec<&str> = records
        .iter()
        .filter(|record| record.what.starts_with("a call"))
        .map(|record| record.place.as_str())
        .collect();
    for point in missing {
        assert!(calls.contains(&point.split(':').next().unwrap()), "{point} was never reached");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_crash_at_any_record_of_a_docker_redeployment() {
    matrix("matrix-docker", Redeployment { method: "docker", sick: false, every: 5 }, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_crash_at_any_record_of_a_systemd_redeployment() {
    matrix("matrix-systemd", Redeployment { method: "systemd", sick: false, every: 5 }, 3, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_crash_at_any_record_of_a_docker_redeployment_that_fails() {
    matrix("matrix-sick-docker", Redeployment { method: "docker", sick: true, every: 15 }, 6, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_crash_at_any_record_of_a_systemd_redeployment_that_fails() {
    matrix("matrix-sick-systemd", Redeployment { method: "systemd", sick: true, every: 15 }, 9, 0).await;
}
