//! What the API refuses, and how it says so.

use deployer_tests::{Program, target};
use serde_json::json;

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
