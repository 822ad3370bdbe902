//! Register, with both dialects, and with a registry that does not answer as it should.

use deployer::demo::registry::{Behaviour, Dialect, Registry};
use deployer_tests::{Program, Service, deployment, target};
use serde_json::json;

#[tokio::test]
async fn a_healthy_service_is_registered_and_a_broken_registry_does_not_undo_it() {
    let target = target();
    target.forget("e2e-registered");
    let droplets = Registry::start(Dialect::Droplets).await.unwrap();
    let mut program = Program::start(target.clone(), Some(&droplets.url())).await;
    let service = Service::copy(&program.services(), "hello-systemd", "e2e-registered", 18008);
    let request = deployment(&service, "systemd", json!({}));

    let first = program.deploy(&request).await.completed();
    assert_eq!(first.phase("Register")["status"], "success", "{:#}", first.0);
    let registration = &first.0["registration"];
    assert_eq!(registration["endpoint"], service.url(""), "{registration:#}");
    let id = registration["droplet_id"].as_u64().expect("the registry gave an id");
    // Again is an update: the same droplet.
    let second = program.deploy(&request).await.completed();
    assert_eq!(second.0["registration"]["droplet_id"], id);
    let response = second.0["registration"]["registry_response"].to_string();
    assert!(response.contains(second.release()), "the new release was read back: {response}");

    droplets.behave(Behaviour::Nonsense);
    let third = program.deploy(&request).await.completed();
    assert_eq!(third.phase("Register")["status"], "failed", "{:#}", third.0);
    assert_eq!(service.get("/health").await.unwrap().0, 200);
    let (port, down) = (droplets.address().port(), droplets.stop());
    down.await;
    let fourth = program.deploy(&request).await.completed();
    assert_eq!(fourth.phase("Register")["status"], "failed", "{:#}", fourth.0);
    assert!(fourth.phase("Register")["error"].to_string().contains("refused"), "{:#}", fourth.0);

    // It is registered in the background as soon as the registry is back, and the older job is not.
    assert!(fourth.phase("Register")["details"]["retry"]["next_at"].is_string(), "{:#}", fourth.0);
    let third = program.phase(third.id(), "Register", "failed").await;
    let retry = &third.phase("Register")["details"]["retry"];
    assert_eq!(retry["superseded_by"], fourth.id(), "{:#}", third.0);
    let droplets = Registry::start_on(Dialect::Droplets, port).await.unwrap();
    let fourth = program.phase_at_last(fourth.id(), "Register", "success").await;
    assert_eq!(fourth.0["registration"]["endpoint"], service.url(""), "{:#}", fourth.0);
    assert!(fourth.phase("Register")["details"]["retry"]["attempts"].as_u64() > Some(1), "{:#}", fourth.0);
    assert!(fourth.phase("Register")["error"].is_null(), "{:#}", fourth.0);
    droplets.stop().await;

    // A restart goes on with it too, here with a registry of the other dialect.
    let unregistered = program.deploy(&request).await.completed();
    assert_eq!(unregistered.phase("Register")["status"], "failed", "{:#}", unregistered.0);
    let register = Registry::start(Dialect::Register).await.unwrap();
    program.kill();
    program.registry = Some(register.url());
    program.run().await;
    program.phase_at_last(unregistered.id(), "Register", "success").await;
    let fifth = program.deploy(&request).await.completed();
    assert_eq!(fifth.phase("Register")["status"], "success", "{:#}", fifth.0);
    assert_eq!(fifth.0["registration"]["endpoint"], service.url(""));

    let mut unregistered = request.clone();
    unregistered["auto_register"] = json!(false);
    let sixth = program.deploy(&unregistered).await.completed();
    assert_eq!(sixth.phase("Register")["status"], "skipped");
    register.stop().await;
    target.forget("e2e-registered");
}
