//! Two deployers, each with a journal of its own, and one target.

use std::time::{Duration, Instant};

use deployer_tests::{Program, Service, Target, deployment, target};
use serde_json::json;

fn lock(service: &str) -> String {
    format!("/opt/fpai/services/{service}/lock")
}

/// Waits until the lease on a service is no longer renewed and has ended, by the target's own clock.
async fn wait_for_the_end_of_the_lease(target: &Target, service: &str) {
    let began = Instant::now();
    while target.succeeds(&format!("test $(stat -c %Y {}) -gt $(date +%s)", lock(service))) {
        assert!(began.elapsed().as_secs() < 60, "the lease does not end");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_second_deployer_is_kept_out_and_brings_back_what_the_first_one_had() {
    let name = "e2e-second";
    let target = target();
    target.forget(name);
    let first = Program::start(target.clone(), None).await;
    let second = Program::start(target.clone(), None).await;
    let service = Service::copy(&first.services(), "hello-systemd", name, 18020);
    let live = first.deploy(&deployment(&service, "systemd", json!({ "COLOUR": "red" }))).await.completed();
    assert!(!target.succeeds(&format!("test -e {}", lock(name))), "a lock is left");

    // The first one builds: the second one is told who has the service, and touches nothing.
    first.pipeline(name, "[settings.systemd]\nbuild = [\"sleep 54321\"]\n");
    let other = Service::copy(&second.services(), "hello-systemd", name, 18020);
    let building = first.submit(&deployment(&service, "systemd", json!({}))).await;
    first.phase(&building, "Build", "running").await;
    let refused = second.deploy(&deployment(&other, "systemd", json!({}))).await.failed();
    assert!(refused.error().contains(&building), "it says who has it: {:#}", refused.0);
    assert_eq!(refused.phase("Validation")["status"], "failed");
    first.delete(&format!("/deploy/{building}")).await;
    assert_eq!(first.end(&building).await.0["status"], "cancelled");

    // Now it is free. The second one knows nothing of the first one's release, and brings it back all the same.
    other.break_health();
    let sick = second.deploy(&deployment(&other, "systemd", json!({ "COLOUR": "green" }))).await.failed();
    assert_eq!(sick.0["aftermath"], "restored", "{:#}", sick.0);
    assert!(sick.0["outcome"].as_str().unwrap().contains(live.release()), "{:#}", sick.0);
    assert_eq!(service.text("/env/COLOUR").await, "red");
    assert!(!target.succeeds(&format!("test -e {}", lock(name))), "a lock is left");
    target.forget(name);
}

async fn a_deployer_that_wakes_up_late_changes_nothing(method: &str, example: &str, name: &str, port: u16) {
    let target = target();
    target.forget(name);
    let sleeper = Program::start(target.clone(), None).await;
    let other = Program::start(target.clone(), None).await;
    let service = Service::copy(&sleeper.services(), example, name, port);
    sleeper.deploy(&deployment(&service, method, json!({}))).await.completed();

    service.write("VERSION", "of the sleeper\n");
    let stopped = sleeper.submit(&deployment(&service, method, json!({ "BY": "the sleeper" }))).await;
    sleeper.phase(&stopped, "Start Service", "running").await;
    sleeper.signal("STOP");

    let copy = Service::copy(&other.services(), example, name, port);
    copy.write("VERSION", "of the other\n");
    let done = other.deploy(&deployment(&copy, method, json!({ "BY": "the other" }))).await.completed();
    assert!(!target.succeeds(&format!("test -e {}", lock(name))), "a lock is left");
    let what_runs = || {
        target.shell(&format!(
            "readlink /opt/fpai/services/{name}/current; \
             cat /etc/systemd/system/deployer-{name}.service 2>/dev/null; \
             systemctl show -p MainPID deployer-{name}.service; \
             docker ps --no-trunc --filter label=io.deployer.service={name} --format '{{{{.ID}}}}'"
        ))
    };
    let before = what_runs();

    // A minute after its lease ended, it goes on, and finds that the service is another's.
    tokio::time::sleep(Duration::from_secs(60)).await;
    sleeper.signal("CONT");
    let woken = sleeper.end(&stopped).await.failed();
    assert_eq!(woken.0["aftermath"], "taken_over", "{:#}", woken.0);
    assert_eq!(what_runs(), before, "something was changed: {:#}", woken.0);
    assert_eq!(copy.text("/version").await, "of the other");
    assert_eq!(copy.text("/env/BY").await, "the other");
    assert!(before.contains(done.release()));
    target.forget(name);
}

#[tokio::test]
async fn a_docker_deployer_that_wakes_up_late_changes_nothing() {
    a_deployer_that_wakes_up_late_changes_nothing("docker", "hello-docker", "e2e-sleeper-docker", 18021)
        .await;
}

#[tokio::test]
async fn a_systemd_deployer_that_wakes_up_late_changes_nothing() {
    a_deployer_that_wakes_up_late_changes_nothing("systemd", "hello-systemd", "e2e-sleeper-systemd", 18005)
        .await;
}

#[tokio::test]
async fn a_dead_deployers_lease_ends_by_itself() {
    let name = "e2e-dead";
    let target = target();
    target.forget(name);
    let mut dead = Program::start(target.clone(), None).await;
    let heir = Program::start(target.clone(), None).await;
    let service = Service::copy(&dead.services(), "hello-systemd", name, 18011);
    dead.pipeline(name, "[settings.systemd]\nbuild = [\"sleep 65432\"]\n");
    let job = dead.submit(&deployment(&service, "systemd", json!({}))).await;
    dead.phase(&job, "Build", "running").await;
    let began = Instant::now();
    while !target.succeeds("pgrep -f '^sleep 65432'") {
        assert!(began.elapsed().as_secs() < 120, "the build does not start");
    }
    dead.kill();
    wait_for_the_end_of_the_lease(&target, name).await;

    let copy = Service::copy(&heir.services(), "hello-systemd", name, 18011);
    let job = heir.deploy(&deployment(&copy, "systemd", json!({}))).await.completed();
    let lines = heir.lines(job.id()).await.join("\n");
    assert!(lines.contains("took over the lease of"), "{lines}");
    assert!(!target.succeeds("pgrep -f '^sleep 65432'"), "the dead one's build still runs");
    target.forget(name);
}
