//! What the API refuses, and how it says so.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use deployer_tests::{Program, Service, client, deployment, target};
use serde_json::{Value, json};

#[tokio::test]
async fn wrong_requests_name_every_field_at_once() {
    let program = Program::start(target(), None).await;
    std::fs::create_dir(program.services().join("shop")).unwrap();
    std::os::unix::fs::symlink("/etc", program.services().join("link")).unwrap();
    let (status, problem) = program
        .post(
            "/deploy",
            &json!({
                "service_path": 5, "service_name": "../etc", "service_port": 70000,
                "environment_vars": {"BAD NAME": "secret-value"}, "auto_register": "yes",
            }),
        )
        .await;
    assert_eq!(status, 400, "{problem:#}");
    let fields: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    for field in ["service_path", "service_name", "service_port", "auto_register"] {
        assert!(fields.contains(&field), "{field}: {problem:#}");
    }
    assert!(!problem.to_string().contains("secret-value"));

    // What can only be known by looking is named beside what is wrong in itself.
    let (status, problem) = program
        .post(
            "/deploy",
            &json!({
                "service_path": "nothing", "service_name": "UPPER", "service_port": 0,
                "deployment_method": "carrier-pigeon",
            }),
        )
        .await;
    assert_eq!(status, 400, "{problem:#}");
    let fields: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    for field in ["service_path", "service_name", "service_port", "deployment_method"] {
        assert!(fields.contains(&field), "{field}: {problem:#}");
    }

    for (path, why) in [("../..", "leads out"), ("link", "leads out"), ("nothing", "no folder")] {
        let request = json!({ "service_path": path, "service_name": "shop", "service_port": 18005 });
        let (status, problem) = program.post("/deploy", &request).await;
        assert_eq!(status, 400, "{path}: {problem:#}");
        assert!(problem.to_string().contains(why), "{path}: {problem:#}");
    }
    assert_eq!(program.get("/deploy/deploy-nothing").await.0, 404);
    assert_eq!(program.get("/deploy/history/never-seen").await.0, 404);
    assert_eq!(program.post("/deploy/deploy-nothing/rollback", &json!({})).await.0, 404);
    let (status, health) = program.get("/health").await;
    assert_eq!((status, health["ssh_status"].as_str()), (200, Some("connected")), "{health:#}");
}

#[tokio::test]
async fn a_key_is_one_requests_and_a_waiting_job_ends_when_it_is_cancelled() {
    let target = target();
    target.forget("e2e-asked");
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-systemd", "e2e-asked", 18010);
    let send = async |colour: &str| {
        let request = deployment(&service, "systemd", json!({ "COLOUR": colour }));
        let post = client().post(format!("{}/deploy", program.url)).header("idempotency-key", "one");
        let answer = post.json(&request).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    let (status, first) = send("blue").await;
    assert_eq!(status, 202, "{first:#}");
    let (status, again) = send("blue").await;
    assert_eq!((status, &again["deploy_job_id"]), (202, &first["deploy_job_id"]));
    let (status, problem) = send("green").await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("idempotency-key-reused")), "{problem:#}");
    assert!(!problem.to_string().contains("green"), "{problem:#}");

    // The first one runs, so the second one waits.
    let first = first["deploy_job_id"].as_str().unwrap();
    let second = program.submit(&deployment(&service, "systemd", json!({}))).await;
    let asked = Instant::now();
    let (status, cancelled) = program.delete(&format!("/deploy/{second}")).await;
    assert_eq!((status, cancelled["status"].as_str()), (200, Some("cancelled")), "{cancelled:#}");
    let (_, running) = program.get(&format!("/deploy/{first}")).await;
    assert!(running["completed_at"].is_null(), "it ended before the other was cancelled: {running:#}");
    assert!(asked.elapsed() < Duration::from_secs(5));
    program.end(first).await.completed();
    let (_, second) = program.get(&format!("/deploy/{second}")).await;
    assert!(second["started_at"].is_null(), "{second:#}");

    let journal = program.folder.path().join("data/journal.db");
    for file in [journal.clone(), journal.with_extension("db-wal")] {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    target.forget("e2e-asked");
}
