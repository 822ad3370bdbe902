//! Kills the deployer at every record that a redeployment makes, and starts it again each time: the job comes
//! to an end, one verified release serves, and nothing is left over.
//!
//! Every record has two points: right before it is durable, when what it tells of has happened, and right
//! after, when nothing else has. With `DEPLOYER_TEST_ALL=1` no point is left out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod lane;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex};

use lane::{Crashed, Lane, Redeployment};
use tokio::task::JoinSet;

/// Without all of them, every third point is tried.
const SAMPLE: usize = 3;
/// A run may make some records less than the one that was counted: one probe less finds the service up.
const RECORDS_OF_PROBES: usize = 12;

/// Crashes in a redeployment's points, several side by side, each in a lane with a service of its own.
async fn matrix(name: &str, redeployment: Redeployment, first_port: u16, lanes: u16, offset: usize) {
    let mut ready = JoinSet::new();
    for place in 0..lanes {
        ready.spawn(Lane::start(format!("{name}-{place}"), redeployment, first_port + place));
    }
    let mut lanes: Vec<Lane> = ready.join_all().await;
    let records = lanes[0].count().await;
    let all: Vec<String> = (1..=records.len())
        .flat_map(|record| ["before", "after"].map(|side| format!("{record}:{side}")))
        .collect();
    let every = if std::env::var_os("DEPLOYER_TEST_ALL").is_some() { 1 } else { SAMPLE };
    let points: VecDeque<String> = all.iter().skip(offset % every).step_by(every).cloned().collect();
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
            (lane, crashes)
        });
    }
    let (mut lanes, crashes): (Vec<Lane>, Vec<_>) = running.join_all().await.into_iter().unzip();
    let mut crashes: Vec<Crashed> = crashes.into_iter().flatten().collect();
    // A run that makes more records than the counted one has points behind its last.
    for record in records.len() + 1.. {
        let crashed = lanes[0].crash(&format!("{record}:after")).await;
        let over = !crashed.reached;
        crashes.push(crashed);
        if over {
            break;
        }
    }
    drop(lanes);

    let late: Vec<&Crashed> = crashes.iter().filter(|crashed| !crashed.reached).collect();
    let failed = crashes.iter().filter(|crashed| !crashed.completed).count();
    say(&format!(
        "crash matrix: {name}: {tried} of {} points of {} records; {} jobs completed, {failed} failed; {} points \
         lay behind the end of their run",
        all.len(),
        records.len(),
        crashes.len() - failed,
        late.len(),
    ));
    let wrongs: Vec<&String> = crashes.iter().flat_map(|crashed| &crashed.wrongs).collect();
    assert!(wrongs.is_empty(), "{} are wrong:\n{wrongs:#?}", wrongs.len());
    for crashed in late {
        let record: usize = crashed.point.split(':').next().unwrap().parse().unwrap();
        assert!(record + RECORDS_OF_PROBES > records.len(), "{} was never reached", crashed.point);
    }
}

/// Past the test harness, which shows nothing of a test that passes.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_crash_at_any_record_of_a_docker_redeployment() {
    matrix("matrix-docker", Redeployment { method: "docker", sick: false }, 0, 3, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_crash_at_any_record_of_a_systemd_redeployment() {
    matrix("matrix-systemd", Redeployment { method: "systemd", sick: false }, 3, 3, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_crash_at_any_record_of_a_docker_redeployment_that_fails() {
    matrix("matrix-sick-docker", Redeployment { method: "docker", sick: true }, 6, 3, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_crash_at_any_record_of_a_systemd_redeployment_that_fails() {
    matrix("matrix-sick-systemd", Redeployment { method: "systemd", sick: true }, 9, 3, 0).await;
}
