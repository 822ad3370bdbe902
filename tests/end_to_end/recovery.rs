//! A deployer that is killed in the middle goes on by itself.

use deployer_tests::{Program, Service, deployment, target};
use serde_json::json;

#[tokio::test]
async fn a_killed_deployer_goes_on_in_every_phase() {
    let target = target();
    target.forget("e2e-killed");
    let mut program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-systemd", "e2e-killed", 18006);
    for (round, phase) in
        ["Validation", "Transfer", "Build", "Start Service", "Verify Health"].into_iter().enumerate()
    {
        service.write("VERSION", &format!("{round}\n"));
        let id =
            program.submit(&deployment(&service, "systemd", json!({ "ROUND": round.to_string() }))).await;
        let began = std::time::Instant::now();
        // A phase can be over before it was seen to run; then the kill comes a little later.
        loop {
            let (_, job) = program.get(&format!("/deploy/{id}")).await;
            let phases = job["phases"].as_array().unwrap();
            let seen = phases.iter().find(|seen| seen["phase"] == phase).unwrap();
            if seen["status"] != "pending" || began.elapsed().as_secs() > 120 {
                break;
            }
        }
        program.kill();
        program.run().await;
        let job = program.end(&id).await.completed();
        assert_eq!(service.text("/version").await, round.to_string(), "{:#}", job.0);
        assert_eq!(service.text("/env/ROUND").await, round.to_string());
        let lines = program.lines(&id).await.join("\n");
        assert!(lines.contains("was stopped in the middle of this job"), "{phase}: {lines}");
    }
    target.forget("e2e-killed");
}

#[tokio::test]
async fn a_cancelled_job_ends_its_remote_process() {
    let target = target();
    target.forget("e2e-cancelled");
    let program = Program::start(target.clone(), None).await;
    program.pipeline("e2e-cancelled", "[settings.systemd]\nbuild = [\"sleep 98765\"]\n");
    let service = Service::copy(&program.services(), "hello-systemd", "e2e-cancelled", 18007);
    let id = program.submit(&deployment(&service, "systemd", json!({}))).await;
    let began = std::time::Instant::now();
    while !target.succeeds("pgrep -f '^sleep 98765'") {
        assert!(began.elapsed().as_secs() < 120, "the build does not start");
    }
    let (status, _) = program.delete(&format!("/deploy/{id}")).await;
    assert!(status < 300, "{status}");
    let job = program.end(&id).await;
    assert_eq!(job.0["status"], "cancelled", "{:#}", job.0);
    assert!(!target.succeeds("pgrep -f '^sleep 98765'"), "the remote process still runs");
    target.forget("e2e-cancelled");
}
