//! Who did what: what the audit says of real jobs, and that it notices when somebody changes it.

use std::path::Path;
use std::process::Command;

use deployer_tests::{Program, Service, deployment, target};
use serde_json::{Value, json};

#[tokio::test]
async fn what_was_done_is_on_record_and_a_changed_record_is_found() {
    let name = "e2e-audit";
    let target = target();
    target.forget(name);
    let mut program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-systemd", name, 18014);
    let secret = "a value that is nobody's business";
    let request = deployment(&service, "systemd", json!({ "COLOUR": secret }));
    let first = program.deploy(&request).await.completed();
    let second = program.deploy(&request).await.completed();
    let rollback = program.command(&["rollback", name]).env("USER", "night-shift").output().unwrap();
    assert!(rollback.status.success(), "{rollback:?}");
    program.pipeline(name, "[settings.systemd]\nbuild = [\"sleep 76543\"]\n");
    let waiting = program.submit(&request).await;
    program.phase(&waiting, "Build", "running").await;
    let cancel = program.command(&["cancel", &waiting]).env("USER", "day-shift").output().unwrap();
    assert!(cancel.status.success(), "{cancel:?}");
    program.end(&waiting).await;

    let (status, audit) = program.get(&format!("/audit?service={name}")).await;
    assert_eq!(status, 200, "{audit:#}");
    let mut records = audit.as_array().unwrap().clone();
    records.reverse();
    let said: Vec<String> = records
        .iter()
        .map(|record| {
            let words = [&record["kind"], &record["action"], &record["status"], &record["actor"]["name"]];
            words.map(|word| word.as_str().unwrap_or("-")).join(" ")
        })
        .collect();
    assert_eq!(
        said,
        [
            "deploy accepted - anonymous",
            "deploy ended completed anonymous",
            "deploy accepted - anonymous",
            "deploy ended completed anonymous",
            "rollback accepted - night-shift",
            "rollback ended completed night-shift",
            "deploy accepted - anonymous",
            "deploy cancel_asked - day-shift",
            "deploy ended cancelled anonymous",
        ]
    );
    assert_eq!(records[5]["release"], first.release(), "it went back to the first release");
    assert_eq!(records[3]["deploy_job_id"], second.id());
    assert_eq!(records[8]["aftermath"], "untouched");
    assert_eq!(records[0]["environment"], json!(["COLOUR"]));
    assert!(records[0]["actor"]["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(!audit.to_string().contains(secret));
    let trusted = output(Command::new("ssh-keygen").args(["-l", "-f", &target.known_hosts]));
    for ended in records.iter().filter(|record| record["action"] == "ended") {
        let key = ended["host_key"].as_str().unwrap();
        assert!(key.starts_with("SHA256:") && trusted.contains(key), "{key} is not in {trusted}");
        let plugins = ended["plugins"].as_array().unwrap();
        assert!(plugins.iter().any(|plugin| plugin["name"] == "systemd"), "{ended:#}");
        for plugin in plugins {
            let file = program.plugins().join(format!("{}.wasm", plugin["name"].as_str().unwrap()));
            let sum = output(Command::new("sha256sum").arg(&file));
            assert!(sum.starts_with(plugin["digest"].as_str().unwrap()), "{plugin:#} is not {sum}");
        }
    }
    let list = output(&mut program.command(&["audit", name, "--limit", "4"]));
    assert_eq!(list.lines().count(), 5, "{list}");
    assert!(list.contains("night-shift") && list.contains("rollback completed"), "{list}");

    let verified: Value =
        serde_json::from_str(&output(&mut program.command(&["audit", "verify", "--json"]))).unwrap();
    assert_eq!((&verified["verified"], &verified["records"]), (&json!(true), &json!(9)), "{verified:#}");
    let head = format!("9:{}", verified["head"]["hash"].as_str().unwrap());
    assert!(output(&mut program.command(&["audit", "verify", "--head", &head])).contains(&head));

    // Somebody with the file in hand lets it be another one who went back.
    program.stop();
    let data = program.folder.path().join("data");
    assert!(!data.join("journal.db-wal").exists(), "a stopped deployer's journal is one file");
    let replaced =
        replace(&data.join("journal.db"), br#""name":"night-shift"},"at""#, br#""name":"nobody-here"},"at""#);
    assert_eq!(replaced, 2, "the records of the rollback");
    program.run().await;
    let found = program.command(&["audit", "verify"]).output().unwrap();
    let text = String::from_utf8_lossy(&found.stdout);
    assert_eq!(found.status.code(), Some(1), "{text}");
    assert!(text.starts_with("record 5 is not as it was written; 4 records are intact before it"), "{text}");
    target.forget(name);
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Overwrites every place where a file has these bytes, and counts them.
fn replace(file: &Path, old: &[u8], new: &[u8]) -> usize {
    assert_eq!(old.len(), new.len());
    let mut content = std::fs::read(file).unwrap();
    let places: Vec<usize> =
        content.windows(old.len()).enumerate().filter(|(_, bytes)| *bytes == old).map(|(at, _)| at).collect();
    for at in &places {
        content[*at..at + new.len()].copy_from_slice(new);
    }
    std::fs::write(file, content).unwrap();
    places.len()
}
