//! After a failed job, what is said of the release that should run is what was seen of it.

use std::process::Command;

use deployer_tests::{Program, Service, deployment, target};
use serde_json::json;

use crate::promises::clean;

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_cannot_be_probed_is_said_to_run() {
    let name = "e2e-no-way";
    let target = target();
    clean(&target, name, target.port(48));
    let mut program = Program::start(target.clone(), None).await;
    program.pipeline(name, "[settings.health]\ndeadline_seconds = 3\n");
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(48));
    let request = |version: &str| deployment(&service, "process", json!({ "ROUND": version }));
    let first = program.deploy(&request("0")).await.completed();

    // A key that may not open the way by which health is probed.
    let key = program.folder.path().join("restricted");
    let mut make = Command::new("ssh-keygen");
    make.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key);
    assert!(make.status().unwrap().success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    target.shell(&format!("echo 'restrict {}' >>~/.ssh/authorized_keys", public.trim()));
    program.stop();
    program.target.key = key.to_str().unwrap().into();
    program.run().await;

    service.write("VERSION", "1");
    let failed = program.deploy(&request("1")).await;
    target.shell(&format!("sed -i '/ {name}$/d' ~/.ssh/authorized_keys"));
    let failed = failed.failed();
    assert_eq!(failed.0["aftermath"], "unverified", "{:#}", failed.0);
    let outcome = failed.0["outcome"].as_str().unwrap();
    let expect = format!("release {} is running, but its checks fail: ", first.release());
    assert!(outcome.starts_with(&expect), "{outcome}");
    assert!(failed.0["failure"]["next"].as_str().unwrap().contains("why the checks of"), "{:#}", failed.0);
    assert!(service.text("/health").await.contains("\"0\""), "it answers");
    clean(&target, name, target.port(48));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_does_not_come_back_is_said_to_be_down_and_why() {
    let name = "e2e-down";
    let target = target();
    clean(&target, name, target.port(49));
    let program = Program::start(target.clone(), None).await;
    program.pipeline(name, "[settings.health]\nattempts = 20\nattempt_interval_ms = 500\n");
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(49));
    let request = deployment(&service, "process", json!({}));
    let first = program.deploy(&request).await.completed();
    service.write("SICK", "");
    let id = program.submit(&request).await;
    program.phase(&id, "Verify Health", "running").await;
    target.shell(&format!("rm /opt/fpai/services/{name}/run/{}.json", first.release()));
    let failed = program.end(&id).await.failed();
    assert_eq!(failed.0["aftermath"], "not_restored", "{:#}", failed.0);
    let outcome = failed.0["outcome"].as_str().unwrap();
    assert!(outcome.starts_with(&format!("release {} is not running: ", first.release())), "{outcome}");
    assert!(outcome.contains("has ended") && outcome.contains("how to start it is gone"), "{outcome}");
    let next = failed.0["failure"]["next"].as_str().unwrap();
    assert!(next.starts_with(&format!("start release {} again", first.release())), "{next}");
    assert!(service.get("/health").await.is_err(), "something answers");
    clean(&target, name, target.port(49));
}
