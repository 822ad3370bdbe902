//! What cannot be sent is named before anything is changed, unless it is left out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use deployer_tests::{Program, Service, deployment, target};
use serde_json::json;

#[tokio::test]
async fn what_cannot_be_sent_fails_in_validation_and_is_named() {
    let name = "e2e-unsendable";
    let target = target();
    target.forget(name);
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-systemd", name, 18012);
    for folder in ["own", ".venv", "node_modules"] {
        service.write(&format!("{folder}/file"), "");
        symlink("/etc/hostname", service.folder.join(folder).join("absolute")).unwrap();
        symlink("../../elsewhere", service.folder.join(folder).join("outside")).unwrap();
        let pipe = service.folder.join(folder).join("pipe");
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        let latin = OsStr::from_bytes(b"caf\xe9.txt");
        std::fs::write(service.folder.join(folder).join(latin), "").unwrap();
    }
    let request = deployment(&service, "systemd", json!({}));

    // WASI does not list a folder with a name that is no text: that name comes first.
    let failed = program.deploy(&request).await.failed();
    assert_eq!(failed.phase("Validation")["status"], "failed", "{:#}", failed.0);
    assert!(failed.error().contains(r"own/caf\xe9.txt: its name is not UTF-8"), "{:#}", failed.0);
    assert!(failed.error().contains("rename it"), "{:#}", failed.0);
    std::fs::remove_file(service.folder.join("own").join(OsStr::from_bytes(b"caf\xe9.txt"))).unwrap();

    let failed = program.deploy(&request).await.failed();
    assert_eq!(failed.phase("Validation")["status"], "failed", "{:#}", failed.0);
    assert_eq!(failed.phase("Transfer")["status"], "pending");
    for part in
        ["devices, which cannot be sent: own/pipe", "own/absolute -> /…, own/outside -> ../../elsewhere"]
    {
        assert!(failed.error().contains(part), "{part}: {:#}", failed.0);
    }
    for left_out in [".venv", "node_modules"] {
        assert!(!failed.error().contains(left_out), "{:#}", failed.0);
    }
    assert!(!target.succeeds(&format!("ls /opt/fpai/services/{name}/releases/*")));
    let listed = program.command(&["releases", name]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(!listed.contains(failed.release()), "it never reached the target: {listed}");

    // The pipeline leaves it out.
    program.pipeline(name, "[settings.sftp]\nexclude = [\"/own\"]\n");
    let good = program.deploy(&request).await.completed();
    let findings = good.phase("Validation")["details"]["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["severity"] != "failed"), "{findings:#?}");
    assert!(findings.iter().any(|finding| finding["severity"] == "passed"), "{findings:#?}");
    let listed = program.command(&["releases", name]).output().unwrap();
    assert!(String::from_utf8(listed.stdout).unwrap().contains(good.release()));
    target.forget(name);
}
