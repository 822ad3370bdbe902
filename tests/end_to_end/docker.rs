//! A service by Docker: deployed, deployed again unchanged, changed, and gone back.

use deployer_tests::{Program, Service, deployment, target};
use serde_json::json;

#[tokio::test]
async fn docker_from_the_first_release_to_a_rollback() {
    let target = target();
    target.forget("e2e-docker");
    let program = Program::start(target.clone(), None).await;
    program.pipeline("e2e-docker", "[settings.docker]\nmemory = \"256m\"\nnetwork = \"e2e-net\"\n");
    let service = Service::copy(&program.services(), "hello-docker", "e2e-docker", 18000);
    let awkward = json!({
        "SPACES": "  two  spaces  ",
        "QUOTES": "a 'single' and a \"double\"",
        "SHELL": "$(touch /tmp/never) `id` $HOME \\ \\n",
        "LINES": "first\nsecond\n\nfourth\n",
        "UNICODE": "grüße 🚀",
        "EMPTY": "",
        "LONG": "x".repeat(8192),
        "HASH": "#not a comment",
        "EQUALS": "a=b=c",
    });
    let request = deployment(&service, "docker", awkward.clone());

    let first = program.deploy(&request).await.completed();
    assert_eq!(
        first.statuses(),
        ["success", "success", "success", "success", "success", "skipped"],
        "{:#}",
        first.0
    );
    assert_eq!(service.get("/health").await.unwrap().0, 200);
    for (name, value) in awkward.as_object().unwrap() {
        let (status, body) = service.get(&format!("/env/{name}")).await.unwrap();
        assert_eq!((status, body), (200, value.as_str().unwrap().as_bytes().to_vec()), "{name}");
    }
    let container = format!("e2e-docker-{}", first.release());
    let inspect = |format: &str| target.shell(&format!("docker inspect -f '{format}' {container}"));
    assert_eq!(inspect("{{.State.Running}}"), "true");
    assert_eq!(inspect("{{index .Config.Labels \"io.deployer.service\"}}"), "e2e-docker");
    assert_eq!(inspect("{{index .Config.Labels \"io.deployer.release\"}}"), first.release());
    assert_eq!(inspect("{{.HostConfig.RestartPolicy.Name}}"), "unless-stopped");
    assert_eq!(inspect("{{.HostConfig.Memory}}"), (256 << 20).to_string());
    assert!(inspect("{{json .NetworkSettings.Networks}}").contains("e2e-net"));
    let root = "/opt/fpai/services/e2e-docker";
    assert_eq!(target.shell(&format!("readlink {root}/current")), format!("releases/{}", first.release()));
    for file in target.shell(&format!("ls {root}/env")).lines() {
        assert_eq!(target.shell(&format!("stat -c %a {root}/env/{file}")), "600");
    }
    assert!(!target.succeeds("test -e /tmp/never"), "a value was run by a shell");

    // Unchanged: nothing is sent, and the image's layers are there.
    let second = program.deploy(&request).await.completed();
    assert_eq!(second.phase("Transfer")["details"]["sent_count"], 0, "{:#}", second.0);
    assert_ne!(second.release(), first.release());

    service.write("VERSION", "2\n");
    let third =
        program.deploy(&deployment(&service, "docker", json!({ "COLOUR": "blue" }))).await.completed();
    assert_eq!(third.phase("Transfer")["details"]["sent_count"], 1, "{:#}", third.0);
    assert_eq!(service.text("/version").await, "2");
    assert_eq!(service.text("/env/COLOUR").await, "blue");
    let running =
        target.shell("docker ps --filter label=io.deployer.service=e2e-docker --format '{{.Names}}'");
    assert_eq!(running, format!("e2e-docker-{}", third.release()));
    assert_eq!(
        target.shell("docker inspect -f '{{.Id}}' e2e-docker:latest"),
        target.shell(&format!("docker inspect -f '{{{{.Id}}}}' e2e-docker:{}", third.release()))
    );

    // Back, with the environment that the release had.
    let (status, back) = program.post(&format!("/deploy/{}/rollback", third.id()), &json!({})).await;
    assert_eq!(status, 200, "{back:#}");
    assert_ne!(service.text("/version").await, "2");
    assert_eq!(service.get("/env/COLOUR").await.unwrap().0, 404);
    assert_eq!(service.get("/env/LINES").await.unwrap().1, awkward["LINES"].as_str().unwrap().as_bytes());

    // No value is in the record, in the log, or in any file of the deployer.
    let everything = format!("{}{}", program.log(), target.shell("docker ps -a --no-trunc"));
    let journal = std::fs::read(program.folder.path().join("data/journal.db")).unwrap();
    let wal = std::fs::read(program.folder.path().join("data/journal.db-wal")).unwrap_or_default();
    for secret in ["grüße 🚀", "a 'single' and a \"double\""] {
        assert!(!everything.contains(secret));
        for file in [&journal, &wal] {
            assert!(!file.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
    }
    target.forget("e2e-docker");
}

#[tokio::test]
async fn a_build_that_is_cancelled_leaves_no_image() {
    let name = "e2e-cut-build";
    let target = target();
    target.forget(name);
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-docker", name, 18013);
    service.write("Dockerfile", "FROM python:3.11-slim\nCOPY VERSION /VERSION\nRUN sleep 24680\n");
    let unnamed = || target.shell(&format!("docker images -aq --filter label=io.deployer.service={name}"));
    let id = program.submit(&deployment(&service, "docker", json!({}))).await;
    let began = std::time::Instant::now();
    while !target.succeeds("pgrep -f '^sleep 24680'") {
        assert!(began.elapsed().as_secs() < 120, "the build does not start");
    }
    assert_ne!(unnamed(), "", "the build's layers can be told by the label");
    let (status, _) = program.delete(&format!("/deploy/{id}")).await;
    assert!(status < 300, "{status}");
    let job = program.end(&id).await;
    assert_eq!(job.0["status"], "cancelled", "{:#}", job.0);
    assert_eq!(unnamed(), "");
    assert!(!target.succeeds("pgrep -f '^sleep 24680'"), "the build goes on");

    // A value that would change the docker client is refused before anything is built.
    let request = deployment(&service, "docker", json!({ "DOCKER_HOST": "tcp://nowhere\n", "KEY": "a\nb" }));
    let refused = program.deploy(&request).await.failed();
    assert_eq!(refused.phase("Validation")["status"], "failed", "{:#}", refused.0);
    assert!(refused.error().contains("the values of DOCKER_HOST have line breaks"), "{:#}", refused.0);
    target.forget(name);
}
