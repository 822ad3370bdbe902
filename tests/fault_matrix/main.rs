//! Breaks what a redeployment depends on, in each of its phases: the job comes to an end, one verified release
//! serves, and nothing is left over.
//!
//! With `DEPLOYER_TEST_ALL=1` no fault is left out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod scene;

use std::time::Duration;

use deployer_tests::{sample, say};
use scene::Scene;
use tokio::sync::RwLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The network breaks every connection, and takes no new ones.
    Cut,
    /// The network drops every packet, and nobody is told.
    Silence,
    /// sshd starts again, and its sessions are ended.
    SshdRestart,
    /// No byte more can be written where the service's releases are.
    DiskFull,
    /// The target's Docker stops, and what it runs.
    DockerStopped,
    RegistryDown,
    /// The registry answers with a page for people.
    RegistryNonsense,
}

const PHASES: [&str; 5] = ["Validation", "Transfer", "Build", "Start Service", "Verify Health"];

impl Fault {
    /// How long it lasts. None: until the job has ended by itself.
    fn lasts(self) -> Option<Duration> {
        match self {
            Fault::Cut => Some(Duration::from_secs(2)),
            // Longer than it takes to notice.
            Fault::Silence => Some(Duration::from_secs(30)),
            Fault::SshdRestart => Some(Duration::ZERO),
            Fault::DockerStopped => Some(Duration::from_secs(5)),
            Fault::DiskFull | Fault::RegistryDown | Fault::RegistryNonsense => None,
        }
    }

    fn in_every_phase(self) -> Vec<(Fault, &'static str)> {
        PHASES.into_iter().map(|phase| (self, phase)).collect()
    }
}

async fn matrix(
    name: &str,
    method: &'static str,
    port: u16,
    faults: Vec<(Fault, &'static str)>,
    first: usize,
) {
    let points = sample(&faults, first, 3);
    let mut scene = Scene::set(name, method, port).await;
    let mut struck = Vec::new();
    for (fault, phase) in &points {
        struck.push(scene.strike(*fault, phase).await);
    }
    drop(scene);
    let completed = struck.iter().filter(|struck| struck.completed).count();
    say(&format!(
        "fault matrix: {name}: {} of {} points; {completed} jobs completed, {} failed",
        points.len(),
        faults.len(),
        points.len() - completed,
    ));
    let wrongs: Vec<&String> = struck.iter().flat_map(|struck| &struck.wrongs).collect();
    assert!(wrongs.is_empty(), "{} are wrong:\n{wrongs:#?}", wrongs.len());
}

/// Held to write by whoever breaks the server for all.
static SERVER: RwLock<()> = RwLock::const_new(());

/// What is each test's own: the network, the disk, the registry.
fn near() -> Vec<(Fault, &'static str)> {
    let mut faults = Fault::Cut.in_every_phase();
    faults.extend(Fault::Silence.in_every_phase());
    faults.extend(Fault::DiskFull.in_every_phase());
    faults.extend([(Fault::RegistryDown, "Validation"), (Fault::RegistryNonsense, "Validation")]);
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_any_phase_of_a_docker_redeployment() {
    let _shared = SERVER.read().await;
    matrix("fault-docker", "docker", 12, near(), 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_any_phase_of_a_systemd_redeployment() {
    let _shared = SERVER.read().await;
    matrix("fault-systemd", "systemd", 13, near(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_fails_in_any_phase_of_a_docker_redeployment() {
    let _alone = SERVER.write().await;
    let mut faults = Fault::SshdRestart.in_every_phase();
    faults.extend(Fault::DockerStopped.in_every_phase());
    matrix("fault-server-docker", "docker", 14, faults, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_fails_in_any_phase_of_a_systemd_redeployment() {
    let _alone = SERVER.write().await;
    matrix("fault-server-systemd", "systemd", 15, Fault::SshdRestart.in_every_phase(), 1).await;
}
