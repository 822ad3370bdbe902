//! A data folder of an earlier version: its jobs come to an end, and its services are deployed as before.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use deployer_tests::{Program, Proxy, Service, deployment, target};
use serde_json::json;

/// The port of the server that those jobs were accepted for.
const PORT: u16 = 2331;

#[tokio::test]
async fn jobs_of_an_earlier_version_come_to_an_end() {
    let target = target();
    target.forget("news");
    let proxy = Proxy::at(&target, PORT).await;
    for version in [5, 7] {
        let mut program = Program::start(target.clone(), None).await;
        program.kill();
        let data = program.folder.path().join("data");
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        for (from, to) in [("db", "journal.db"), ("key", "seal.key")] {
            let file = data.join(to);
            std::fs::copy(fixtures.join(format!("journal-{version}.{from}")), &file).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        program.target = proxy.target.clone();
        program.run().await;

        // One was cut off in Build, and the other waited for it. The folder that they were accepted for is elsewhere.
        let (_, history) = program.get("/deploy/history/news").await;
        let ids: Vec<&str> =
            history.as_array().unwrap().iter().map(|job| job["deploy_job_id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 3, "{history:#}");
        for id in &ids[..2] {
            let job = program.end(id).await;
            assert_eq!(job.0["status"], "failed", "{version}: {:#}", job.0);
            assert_eq!(job.0["aftermath"], "untouched", "{version}: {:#}", job.0);
            assert!(
                job.error().contains("could not read the service's folder: /srv/services"),
                "{version}: {}",
                job.error()
            );
        }
        assert_eq!(program.get(&format!("/deploy/{}", ids[2])).await.1["status"], "cancelled");

        let service = Service::copy(&program.services(), "hello-quick", "news", target.port(95));
        let job = program.deploy(&deployment(&service, "process", json!({ "ROUND": "1" }))).await.completed();
        assert_eq!(
            target.shell("readlink /opt/fpai/services/news/current"),
            format!("releases/{}", job.release())
        );
        assert!(service.text("/").await.contains(r#""round": "1""#), "{version}");
        program.kill();
        target.forget("news");
    }
}
