//! A service by systemd: deployed, deployed again unchanged, changed, and gone back.

use deployer_tests::{Program, Service, deployment, target};
use serde_json::json;

#[tokio::test]
async fn systemd_from_the_first_release_to_a_rollback() {
    let target = target();
    target.forget("e2e-systemd");
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-systemd", "e2e-systemd", 18001);
    let awkward = json!({
        "SPACES": "  two  spaces  ",
        "QUOTES": "a 'single' and a \"double\"",
        "SHELL": "$(touch /tmp/never) `id` $HOME \\ \\n",
        "LINES": "first\nsecond\n\nfourth\n",
        "UNICODE": "grüße 🚀",
        "EMPTY": "",
        "LONG": "x".repeat(8192),
        "PERCENT": "100% %h",
    });
    let request = deployment(&service, "systemd", awkward.clone());

    let first = program.deploy(&request).await.completed();
    for (name, value) in awkward.as_object().unwrap() {
        let (status, body) = service.get(&format!("/env/{name}")).await.unwrap();
        assert_eq!((status, body), (200, value.as_str().unwrap().as_bytes().to_vec()), "{name}");
    }
    let unit = "deployer-e2e-systemd.service";
    assert_eq!(target.shell(&format!("systemctl is-active {unit}")), "active");
    assert_eq!(target.shell(&format!("systemctl is-enabled {unit}")), "enabled");
    let show = |property: &str| target.shell(&format!("systemctl show -p {property} --value {unit}"));
    assert_eq!(show("Restart"), "on-failure");
    assert_eq!(show("NoNewPrivileges"), "yes");
    let pid = show("MainPID");
    assert_ne!(target.shell(&format!("stat -c %u /proc/{pid}")), "0", "it runs as root");
    let text = target.shell(&format!("systemctl cat {unit}"));
    assert!(text.contains(first.release()), "{text}");
    assert!(!text.contains("grüße"), "a value is in the unit");
    let root = "/opt/fpai/services/e2e-systemd";
    assert_eq!(target.shell(&format!("stat -c %a {root}/env/{}", first.release())), "600");
    assert_eq!(target.shell(&format!("readlink {root}/current")), format!("releases/{}", first.release()));
    assert!(!target.shell(&format!("journalctl -u {unit} -n 20 -o cat")).is_empty());

    let second = program.deploy(&request).await.completed();
    assert_eq!(second.phase("Transfer")["details"]["sent_count"], 0, "{:#}", second.0);

    service.write("VERSION", "2\n");
    let third =
        program.deploy(&deployment(&service, "systemd", json!({ "COLOUR": "blue" }))).await.completed();
    assert_eq!(third.phase("Transfer")["details"]["sent_count"], 1, "{:#}", third.0);
    assert_eq!(service.text("/version").await, "2");
    assert_eq!(service.text("/env/COLOUR").await, "blue");

    let (status, back) = program.post(&format!("/deploy/{}/rollback", third.id()), &json!({})).await;
    assert_eq!(status, 200, "{back:#}");
    assert_ne!(service.text("/version").await, "2");
    assert_eq!(service.get("/env/COLOUR").await.unwrap().0, 404);
    assert_eq!(service.get("/env/LINES").await.unwrap().1, awkward["LINES"].as_str().unwrap().as_bytes());
    target.forget("e2e-systemd");
}
