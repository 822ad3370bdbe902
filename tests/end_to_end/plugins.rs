//! Plugins come and go while the server runs.

use deployer_tests::{Program, Service, deployment, target};
use serde_json::json;

#[tokio::test]
async fn a_plugin_that_is_dropped_in_serves_and_one_that_is_taken_away_does_not() {
    let target = target();
    target.forget("e2e-plugins");
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-systemd", "e2e-plugins", 18004);
    let file = program.plugins().join("systemd.wasm");
    let aside = program.folder.path().join("systemd.wasm");
    std::fs::rename(&file, &aside).unwrap();

    let methods = |body: &serde_json::Value| body["methods"].to_string();
    let (_, before) = program.get("/capabilities").await;
    assert!(!methods(&before).contains("systemd"), "{before:#}");
    let request = deployment(&service, "systemd", json!({}));
    let (status, refusal) = program.post("/deploy", &request).await;
    assert_eq!(status, 400, "{refusal:#}");
    assert!(refusal.to_string().contains("docker"), "it lists what there is: {refusal:#}");

    std::fs::copy(&aside, &file).unwrap();
    let (_, after) = program.get("/capabilities").await;
    assert!(methods(&after).contains("systemd"), "{after:#}");
    program.deploy(&request).await.completed();

    std::fs::remove_file(&file).unwrap();
    let (status, _) = program.post("/deploy", &request).await;
    assert_eq!(status, 400);

    // A file that is no component is named with the reason, and the rest go on.
    std::fs::write(program.plugins().join("broken.wasm"), b"not a component").unwrap();
    let (_, with_broken) = program.get("/capabilities").await;
    assert!(with_broken.to_string().contains("broken.wasm"), "{with_broken:#}");
    assert!(methods(&with_broken).contains("docker"));
    target.forget("e2e-plugins");
}
