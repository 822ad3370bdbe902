//! What a failed deployment leaves: what ran before, or nothing.

use deployer_tests::{Outage, Program, Service, deployment, target};
use serde_json::json;

async fn a_sick_release_gives_way_to_the_one_before(method: &str, example: &str, name: &str, port: u16) {
    let target = target();
    target.forget(name);
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), example, name, port);
    let healthy = service.read("app/main.py");

    // The first deployment ever fails: nothing is left running or listening.
    service.break_health();
    let request = deployment(&service, method, json!({ "COLOUR": "red" }));
    let failed = program.deploy(&request).await.failed();
    assert_eq!(failed.phase("Verify Health")["status"], "failed", "{:#}", failed.0);
    assert!(service.get("/health").await.is_err(), "something listens");
    let probes = failed.phase("Verify Health")["details"]["checks"][0]["probes"].to_string();
    assert!(probes.contains("500"), "{:#}", failed.0);
    let last = failed.phase("Verify Health")["details"]["last_log_lines"].to_string();
    assert!(last.contains("I am sick"), "{:#}", failed.0);
    let (status, _) = program.post(&format!("/deploy/{}/rollback", failed.id()), &json!({})).await;
    assert_eq!(status, 409);

    service.write("app/main.py", &healthy);
    let good = program.deploy(&request).await.completed();

    // The next one is sick: the one before is back, with its own environment.
    service.break_health();
    let request = deployment(&service, method, json!({ "COLOUR": "green" }));
    let outage = Outage::begin(service.url("/health"));
    let failed = program.deploy(&request).await.failed();
    let seen = outage.end().await;
    let recorded = failed.0["outage_seconds"].as_f64().unwrap_or_else(|| panic!("{:#}", failed.0));
    println!("{method}: no answer for {seen:.3} s, and {recorded:.3} s are on record");
    assert!(seen > 0.0 && (recorded - seen).abs() < 0.5 + seen / 4.0, "{seen} {:#}", failed.0);
    assert!(
        failed.0["outcome"].as_str().unwrap_or_default().contains(good.release()),
        "it says what runs: {:#}",
        failed.0
    );
    assert_eq!(service.get("/health").await.unwrap().0, 200);
    assert_eq!(service.text("/env/COLOUR").await, "red");
    let current = target.shell(&format!("readlink /opt/fpai/services/{name}/current"));
    assert_eq!(current, format!("releases/{}", good.release()));

    // One that dies at its start is known at once, not at the deadline.
    service.write(
        "app/main.py",
        &healthy.replace("app = FastAPI", "raise SystemExit('no luck today')\napp = FastAPI"),
    );
    let began = std::time::Instant::now();
    let dead = program.deploy(&request).await.failed();
    assert!(began.elapsed().as_secs() < 60, "{:#}", dead.0);
    assert!(dead.0.to_string().contains("no luck today"), "{:#}", dead.0);
    assert_eq!(service.text("/env/COLOUR").await, "red");

    // A build that fails touches nothing.
    service.write("app/main.py", &healthy);
    let requirements = service.read("requirements.txt");
    service.write("requirements.txt", &format!("{requirements}this-package-does-not-exist-anywhere==9.9\n"));
    let unbuilt = program.deploy(&request).await.failed();
    assert_eq!(unbuilt.phase("Build")["status"], "failed", "{:#}", unbuilt.0);
    assert_eq!(unbuilt.phase("Start Service")["status"], "pending");
    assert_eq!(service.text("/env/COLOUR").await, "red");
    target.forget(name);
}

#[tokio::test]
async fn docker_failures() {
    a_sick_release_gives_way_to_the_one_before("docker", "hello-docker", "e2e-sick-docker", 18002).await;
}

#[tokio::test]
async fn systemd_failures() {
    a_sick_release_gives_way_to_the_one_before("systemd", "hello-systemd", "e2e-sick-systemd", 18003).await;
}
