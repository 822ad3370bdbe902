//! What a deployment removes of a service's older releases, and what it leaves alone.

use std::time::{Duration, Instant};

use deployer_tests::{Job, Program, Service, Target, deployment, target};
use serde_json::{Value, json};

/// The releases that a job removed, in order.
fn removed(job: &Job) -> Vec<&str> {
    let removed = job.0["retention"]["removed"].as_array().into_iter().flatten();
    removed.map(|removed| removed["release"].as_str().unwrap()).collect()
}

/// The releases that a job should have removed and did not, with the reason.
fn left(job: &Job) -> Vec<(&str, &str)> {
    let left = job.0["retention"]["left"].as_array().into_iter().flatten();
    left.map(|left| (left["release"].as_str().unwrap(), left["because"].as_str().unwrap())).collect()
}

/// A service's releases and their statuses, newest first.
async fn releases(program: &Program, service: &str) -> Vec<(String, String)> {
    let (status, list) = program.get(&format!("/releases/{service}")).await;
    assert_eq!(status, 200, "{list:#}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let releases = list.as_array().unwrap().iter();
    releases.map(|release| (text(&release["release"]), text(&release["status"]))).collect()
}

/// The names in the service's folder that have a release's id in them, beside what is on record.
fn traces(target: &Target, service: &str, release: &str) -> String {
    target.shell(&format!("find /opt/fpai/services/{service} -name '*{release}*' -not -path '*/manifests/*' -not -path '*/records/*'"))
}

fn pair(release: &str, status: &str) -> (String, String) {
    (release.into(), status.into())
}

#[tokio::test]
async fn docker_keeps_what_runs_and_the_release_before() {
    let name = "e2e-keep-docker";
    let by_hand = "e2e-keep-by-hand";
    let target = target();
    let clean = || {
        target.shell(&format!(
            "docker rm -f {by_hand} {by_hand}-user >/dev/null 2>&1; docker rmi {name}:by-hand >/dev/null 2>&1; true"
        ));
        target.forget(name);
    };
    clean();
    let program = Program::start(target.clone(), None).await;
    program.pipeline(name, "[retention]\ndays = 0\n");
    let service = Service::copy(&program.services(), "hello-docker", name, 18015);
    // Somebody's own image, even under the service's name, and a container of it.
    target.shell(&format!(
        "tar -c -C /etc hostname | docker import - {name}:by-hand && \
         docker create --name {by_hand} {name}:by-hand true"
    ));
    let there = |kind: &str, what: &str| target.succeeds(&format!("docker {kind} inspect {what}"));
    let image_there = |release: &str| there("image", &format!("{name}:{release}"));
    let containers =
        |release: &str| target.shell(&format!("docker ps -aq --filter label=io.deployer.release={release}"));
    let healthy = service.read("app/main.py");
    let deploy = async |version: &str| {
        service.write("VERSION", version);
        program.deploy(&deployment(&service, "docker", json!({ "LINES": "a\nb", "AT": version }))).await
    };

    let first = deploy("1\n").await.completed();
    let artifact = &first.phase("Build")["details"];
    assert!(artifact["bytes"].as_u64().unwrap() > 1_000_000, "{artifact:#}");
    let second = deploy("2\n").await.completed();
    assert_eq!(second.0["retention"], Value::Null, "{:#}", second.0);
    let third = deploy("3\n").await.completed();
    assert_eq!(removed(&third), [first.release()], "{:#}", third.0);
    assert!(third.0["retention"]["freed_bytes"].as_u64() > artifact["bytes"].as_u64(), "{:#}", third.0);
    assert!(!image_there(first.release()));
    assert_eq!(containers(first.release()), "");
    assert_eq!(traces(&target, name, first.release()), "");
    let lines = program.lines(third.id()).await.join("\n");
    assert!(lines.contains(&format!("removed release {}", first.release())), "{lines}");

    // What failed is kept aside until a deployment succeeds.
    service.break_health();
    let sick = deploy("4\n").await.failed();
    assert_eq!(sick.0["retention"], Value::Null, "{:#}", sick.0);
    assert!(image_there(sick.release()) && image_there(second.release()));

    // What cannot go is said, fails nothing, and goes after the next deployment.
    target.shell(&format!(
        "docker run -d --name {by_hand}-user --label io.deployer.service=none {name}:{} sleep 600",
        second.release()
    ));
    service.write("app/main.py", &healthy);
    let fifth = deploy("5\n").await.completed();
    assert_eq!(removed(&fifth), [sick.release()], "{:#}", fifth.0);
    let [(release, because)] = left(&fifth)[..] else { panic!("{:#}", fifth.0) };
    assert_eq!(release, second.release());
    assert!(because.contains("could not remove the image"), "{because}");
    assert_eq!(
        releases(&program, name).await,
        [pair(fifth.release(), "live"), pair(third.release(), "retired"), pair(second.release(), "removing")]
    );
    target.shell(&format!("docker rm -f {by_hand}-user"));
    let sixth = deploy("6\n").await.completed();
    assert_eq!(removed(&sixth), [second.release(), third.release()], "{:#}", sixth.0);
    for gone in [&second, &third, &sick] {
        assert!(!image_there(gone.release()), "{}", gone.release());
        assert_eq!(containers(gone.release()), "");
        assert_eq!(traces(&target, name, gone.release()), "");
    }
    for kept in [&fifth, &sixth] {
        assert!(image_there(kept.release()), "{}", kept.release());
        assert_ne!(traces(&target, name, kept.release()), "");
    }
    assert!(image_there("by-hand") && there("container", by_hand) && there("image", "python:3.11-slim"));

    // What is gone is nobody's way back, and what is kept is.
    let rollback = format!("/deploy/{}/rollback", sixth.id());
    let (status, refusal) = program.post(&rollback, &json!({ "release": first.release() })).await;
    assert_eq!(status, 409, "{refusal:#}");
    assert!(!refusal["hint"].as_str().unwrap().contains(first.release()), "{refusal:#}");
    let (status, back) = program.post(&rollback, &json!({})).await;
    assert_eq!(status, 200, "{back:#}");
    assert_eq!(back["retention"], Value::Null, "{back:#}");
    assert_eq!(service.text("/version").await, "5");
    assert_eq!(service.text("/env/AT").await, "5");
    assert!(image_there(sixth.release()));
    clean();
}

#[tokio::test]
async fn systemd_goes_on_with_a_removal_that_was_cut_off() {
    let name = "e2e-keep-systemd";
    let target = target();
    target.forget(name);
    let mut program = Program::start(target.clone(), None).await;
    program.pipeline(name, "[settings.process]\nstart = \"./nothing\"\n");
    let service = Service::copy(&program.services(), "hello-systemd", name, 18016);
    let root = format!("/opt/fpai/services/{name}");
    let venvs = || target.shell(&format!("ls {root}/venvs"));
    let request = |method: &str| deployment(&service, method, json!({ "LINES": "a\nb" }));

    // The first one is of a method whose plugin is not there later.
    let stray = program.deploy(&request("process")).await.failed();
    let file = program.plugins().join("process.wasm");
    let aside = program.folder.path().join("process.wasm");
    std::fs::rename(&file, &aside).unwrap();
    program.pipeline(name, "[retention]\nstorage = \"1kB\"\n");
    let first = program.deploy(&request("systemd")).await.completed();
    assert!(first.phase("Build")["details"]["bytes"].as_u64().unwrap() > 1_000_000, "{:#}", first.0);
    assert_eq!(removed(&first), Vec::<&str>::new());
    let [(release, because)] = left(&first)[..] else { panic!("{:#}", first.0) };
    assert!(release == stray.release() && because.contains("the plugin `process`"), "{because}");
    assert!(!target.succeeds(&format!("test -e {root}/releases/{0} -o -e {root}/env/{0}", stray.release())));
    std::fs::rename(&aside, &file).unwrap();

    // Other requirements, so that the first one's virtual environment has no other user.
    let of_first = venvs();
    let requirements = service.read("requirements.txt");
    service.write("requirements.txt", &format!("{requirements}# of the second release\n"));
    let second = program.deploy(&request("systemd")).await.completed();
    assert_eq!(removed(&second), [stray.release()], "{:#}", second.0);
    assert_eq!(traces(&target, name, stray.release()), "");
    assert_eq!(venvs().lines().count(), 2);

    // A build that fails after its virtual environment was made leaves one without an artifact.
    let of_second = service.read("requirements.txt");
    service.write("requirements.txt", &format!("{of_second}# of the release that cannot be built\n"));
    program.pipeline(name, "[settings.systemd]\nbuild = [\"false\"]\n");
    let unbuilt = program.deploy(&request("systemd")).await.failed();
    assert_eq!(unbuilt.phase("Build")["status"], "failed", "{:#}", unbuilt.0);
    assert_eq!(venvs().lines().count(), 3);
    service.write("requirements.txt", &of_second);
    program.pipeline(name, "[retention]\nstorage = \"1kB\"\n");

    // So many files that their removal takes long enough to be cut off.
    target.shell(&format!(
        "mkdir {root}/releases/{0}/many && cd {root}/releases/{0}/many && seq 300000 | xargs touch",
        first.release()
    ));
    service.write("VERSION", "3\n");
    let third = program.submit(&request("systemd")).await;
    let removing = pair(first.release(), "removing");
    let began = Instant::now();
    while !releases(&program, name).await.contains(&removing) {
        assert!(began.elapsed() < Duration::from_secs(120), "nothing is removed");
    }
    program.kill();
    program.run().await;
    let third = program.end(&third).await.completed();
    assert_eq!(removed(&third), [first.release(), unbuilt.release()], "{:#}", third.0);
    for gone in [&first, &unbuilt] {
        let lines = traces(&target, name, gone.release());
        assert!(lines.lines().all(|line| line.contains("/venvs/")), "{lines}");
    }
    assert!(!venvs().contains(&of_first), "{}", venvs());
    assert_eq!(
        releases(&program, name).await,
        [pair(third.release(), "live"), pair(second.release(), "retired")]
    );

    service.write("VERSION", "4\n");
    let fourth = program.deploy(&request("systemd")).await.completed();
    assert_eq!(removed(&fourth), [second.release()], "{:#}", fourth.0);
    // What they had shared stays for the two that are left, and what nobody uses is gone.
    assert_eq!(venvs().lines().count(), 1);
    let (status, back) = program.post(&format!("/deploy/{}/rollback", fourth.id()), &json!({})).await;
    assert_eq!(status, 200, "{back:#}");
    assert_eq!(back["release"], third.release());
    assert_eq!(service.text("/version").await, "3");
    target.forget(name);
}
