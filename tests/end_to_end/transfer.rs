//! What is sent, and how it arrives.

use std::os::unix::fs::{PermissionsExt, symlink};

use deployer_tests::{Program, Service, deployment, target};
use serde_json::json;

#[tokio::test]
async fn a_redeployment_of_many_files_sends_those_that_changed() {
    let target = target();
    target.forget("e2e-many");
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-systemd", "e2e-many", 18009);
    for n in 0..5000 {
        service.write(&format!("data/{}/{n}.txt", n % 50), &format!("the first content of {n}\n"));
    }
    let script = service.folder.join("script.sh");
    service.write("script.sh", "#!/bin/sh\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o750)).unwrap();
    service.write("a name with  spaces and 'quotes'.txt", "here\n");
    symlink("script.sh", service.folder.join("link")).unwrap();
    service.write("__pycache__/left.pyc", "out");
    let request = deployment(&service, "systemd", json!({}));

    let first = program.deploy(&request).await.completed();
    let details = &first.phase("Transfer")["details"];
    assert!(details["sent_count"].as_u64().unwrap() > 5000, "{details:#}");
    let files = format!("/opt/fpai/services/e2e-many/releases/{}", first.release());
    assert_eq!(target.shell(&format!("readlink {files}/link")), "script.sh");
    assert_eq!(target.shell(&format!("cat \"{files}/a name with  spaces and 'quotes'.txt\"")), "here");
    assert!(target.succeeds(&format!("test -x {files}/script.sh")));
    assert!(!target.succeeds(&format!("test -e {files}/__pycache__/left.pyc")));

    for n in 0..20 {
        service.write(&format!("data/{}/{n}.txt", n % 50), "the second content\n");
    }
    let second = program.deploy(&request).await.completed();
    let details = &second.phase("Transfer")["details"];
    assert_eq!(details["sent_count"], 20, "{details:#}");
    let files = format!("/opt/fpai/services/e2e-many/releases/{}", second.release());
    assert_eq!(target.shell(&format!("cat {files}/data/7/7.txt")), "the second content");
    assert_eq!(target.shell(&format!("cat {files}/data/7/57.txt")), "the first content of 57");
    assert_eq!(target.shell(&format!("find {files}/data -type f | wc -l")), "5000");
    target.forget("e2e-many");
}
