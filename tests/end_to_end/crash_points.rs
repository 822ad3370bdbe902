//! Crash points are in the tests' own program, and in no other.

use std::time::{Duration, Instant};

use deployer_tests::{Program, Service, deployment, program, target};
use serde_json::json;

const VARIABLE: &[u8] = b"DEPLOYER_CRASH_AT";

#[tokio::test]
async fn only_the_tests_own_program_ends_at_a_record() {
    let released = std::fs::read(program()).unwrap();
    assert!(!released.windows(VARIABLE.len()).any(|part| part == VARIABLE), "the program knows the variable");

    let target = target();
    target.forget("e2e-points");
    let mut server = Program::start(target.clone(), None).await;
    let service = Service::copy(&server.services(), "hello-quick", "e2e-points", 18091);
    let request = deployment(&service, "process", json!({}));

    // The released one runs through, whatever the variable says.
    server.kill();
    server.environment = vec![("DEPLOYER_CRASH_AT".into(), "1.1:before".into())];
    server.run().await;
    let first = server.deploy(&request).await.completed();
    assert!(!server.log().contains("record 1.1"), "it counts records");

    // The tests' own one ends there, and the next start takes the job up.
    server.kill();
    server.environment.clear();
    server.crash_at = Some("4.1:after".into());
    server.run().await;
    let id = server.submit(&request).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !server.has_died() {
        assert!(Instant::now() < deadline, "it does not end at its record");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = server.log();
    assert!(log.contains("crash points: record 4.1: a step's "), "{log}");
    server.crash_at = None;
    server.run().await;
    let second = server.end(&id).await.completed();
    assert_ne!(first.release(), second.release());
    target.forget("e2e-points");
}
