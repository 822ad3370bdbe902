//! What is promised of going back is there, what cannot be started stops nothing, and what is said of what runs comes
//! from looking at it.

mod scene;

use std::time::{Duration, Instant};

use deployer_tests::{Job, Outage, Program, Proxy, Service, deployment, target};
use scene::Scene;
pub use scene::clean;
use serde_json::{Value, json};

async fn what_is_not_there_is_not_promised(method: &'static str, name: &str, place: u16) {
    let scene = Scene::set(method, name, place, 3, "").await;
    let [first, second, live] = &scene.releases[..] else { panic!("three releases") };
    let root = scene.root();
    let outage = Outage::patient(scene.service.url("/health"));
    let before = scene.instance();
    assert_eq!(scene.ways_back().await, [second.as_str()]);
    assert_eq!(scene.listed(live).await["unavailable"], "it is the one that runs");
    assert_eq!(scene.listed(first).await["unavailable"], Value::Null);

    let aside = |path: &str| scene.target.shell(&format!("mv {root}/{path} {root}/{path}.aside"));
    let back = |path: &str| scene.target.shell(&format!("mv {root}/{path}.aside {root}/{path}"));
    for path in [format!("releases/{second}"), format!("env/{second}")] {
        aside(&path);
        scene.refuses(&format!("gone: {root}/{path} is not a "), first).await;
        back(&path);
    }
    scene.target.shell(&format!("chmod 644 {root}/env/{second}"));
    scene.refuses("has the mode 0644 and not 0600", first).await;
    scene.target.shell(&format!("chmod 600 {root}/env/{second}"));

    let plugins = scene.program.plugins();
    for plugin in [method, "health"] {
        let file = plugins.join(format!("{plugin}.wasm"));
        let (whole, aside) = (std::fs::read(&file).unwrap(), plugins.join("aside"));
        std::fs::rename(&file, &aside).unwrap();
        let deploy = "it cannot roll back to any of its releases";
        scene.refuses(&format!("the plugin `{plugin}`, "), deploy).await;
        std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        scene.refuses(&format!("the plugin `{plugin}` cannot be loaded"), deploy).await;
        std::fs::rename(&aside, &file).unwrap();
    }
    assert_eq!(scene.ways_back().await, [second.as_str()], "all of it is there again");

    match method {
        "docker" => {
            scene.target.shell(&format!("docker rmi -f {name}:{second}"));
            scene.refuses(&format!("its artifact (image {name}:{second}) is gone"), first).await;
        }
        _ => {
            scene.target.shell(&format!("rm -rf {root}/releases/{second}/*"));
            scene.refuses(&format!("its artifact (files {root}/releases/{second}) is gone"), first).await;
        }
    }
    let (status, problem) = scene.rollback(&json!({ "release": "20200101-000000-000" })).await;
    assert_eq!(status, 409, "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("the target has no such release"), "{problem:#}");
    assert_eq!(scene.instance(), before);
    assert_eq!(outage.end().await, 0.0, "callers were once without an answer");

    // Who names it gets the older one.
    let (done, said) = scene.command(&["rollback", name, "--to", first]);
    assert!(done, "{said}");
    assert_eq!(scene.version().await, "0");
    scene.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_promises_what_is_there() {
    what_is_not_there_is_not_promised("docker", "e2e-promise-docker", 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_promises_what_is_there() {
    what_is_not_there_is_not_promised("systemd", "e2e-promise-systemd", 51).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn process_promises_what_is_there() {
    what_is_not_there_is_not_promised("process", "e2e-promise-process", 52).await;
}

/// Start cannot keep how it runs the release: it says so before it stops anything.
async fn a_start_that_fails_early_touches_nothing(method: &'static str, name: &str, place: u16) {
    let mut scene = Scene::set(method, name, place, 1, "").await;
    let kept = match method {
        "docker" => "docker",
        "systemd" => "units",
        _ => "run",
    };
    let folder = format!("{}/{kept}", scene.root());
    scene.target.shell(&format!("mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"));
    let outage = Outage::patient(scene.service.url("/health"));
    let before = scene.instance();
    let failed = scene.deploy().await;
    let (after, silent) = (scene.instance(), outage.end().await);
    scene.target.shell(&format!("umount {folder}"));
    let failed = failed.failed();
    assert_eq!(failed.phase("Start Service")["status"], "failed", "{:#}", failed.0);
    assert_eq!((after, silent), (before, 0.0), "{:#}", failed.0);
    assert_eq!(failed.0["aftermath"], "untouched", "{:#}", failed.0);
    let outcome = format!("release {} still runs and was not touched", scene.releases[0]);
    assert_eq!(failed.0["outcome"], outcome, "{:#}", failed.0);
    assert_eq!(failed.phase("Start Service")["details"]["restoring"]["outcome"], outcome, "{:#}", failed.0);
    let (_, shown) = scene.command(&["status", name]);
    assert!(shown.contains(&outcome), "{shown}");

    // It is not in the way of the next one.
    scene.releases.push("the failed one".into());
    scene.deploy().await.completed();
    assert_eq!(scene.version().await, "2");
    scene.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_start_that_fails_early_touches_nothing() {
    a_start_that_fails_early_touches_nothing("docker", "e2e-early-docker", 53).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_systemd_start_that_fails_early_touches_nothing() {
    a_start_that_fails_early_touches_nothing("systemd", "e2e-early-systemd", 54).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_start_that_fails_early_touches_nothing() {
    a_start_that_fails_early_touches_nothing("process", "e2e-early-process", 55).await;
}

/// What the running release does when the deployer asks it for the first time, right before Start: it tells that
/// it was asked, and answers when the image is gone.
const TELLS: &str = "    def do_GET(self) -> None:
        told = Path('/told')
        if self.path == '/health' and (told / 'armed').exists():
            (told / 'asked').touch()
            until = time.time() + 5
            while not (told / 'gone').exists() and time.time() < until:
                time.sleep(0.01)
";

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_vanishes_before_start_costs_nothing() {
    let name = "e2e-vanished";
    let told = "/var/tmp/e2e-vanished";
    let prepared = target();
    prepared.shell(&format!("rm -rf {told} && mkdir {told}"));
    let pipeline = format!("[settings.docker]\nvolumes = [\"{told}:/told\"]\n");
    let mut scene = Scene::set("docker", name, 56, 0, &pipeline).await;
    let server = scene.service.read("server.py").replace("    def do_GET(self) -> None:\n", TELLS);
    scene.service.write("server.py", &server);
    let first = scene.deploy().await.completed();
    scene.releases.push(first.release().into());

    prepared.shell(&format!("touch {told}/armed"));
    scene.service.write("VERSION", "1");
    let id = scene.program.submit(&scene.request("1")).await;
    let (_, job) = scene.program.get(&format!("/deploy/{id}")).await;
    let release = job["release"].as_str().unwrap().to_owned();
    let image = format!("{name}:{release}");
    let outage = Outage::patient(scene.service.url("/any"));
    let before = scene.instance();
    let vanished = image.clone();
    let vanishing = tokio::task::spawn_blocking(move || {
        prepared.shell(&format!(
            "n=0; until [ -e {told}/asked ]; do n=$((n + 1)); [ $n -lt 6000 ] || exit 1; sleep 0.02; done; \
             docker rmi -f {vanished} && touch {told}/gone"
        ))
    });
    let failed = scene.program.end(&id).await;
    vanishing.await.unwrap();
    let (after, silent) = (scene.instance(), outage.end().await);
    let failed = failed.failed();
    assert_eq!(failed.phase("Build")["status"], "success", "{:#}", failed.0);
    assert_eq!(failed.phase("Start Service")["status"], "failed", "{:#}", failed.0);
    assert!(
        failed.error().contains(&format!("its artifact (image {image}) is gone from the target")),
        "{:#}",
        failed.0
    );
    assert_eq!(failed.0["aftermath"], "untouched", "{:#}", failed.0);
    assert_eq!(failed.0["outcome"], format!("release {} still runs and was not touched", first.release()));
    assert_eq!(failed.0["outage_seconds"], 0.0, "{:#}", failed.0);
    assert_eq!((after, silent), (before, 0.0));
    let (_, calls) = scene.program.get(&format!("/deploy/{id}/calls")).await;
    let stopped =
        calls.as_array().unwrap().iter().any(|call| call["arguments"].to_string().contains("\"stop\""));
    assert!(!stopped, "{calls:#}");
    scene.target.shell(&format!("rm -rf {told}"));
    scene.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_prune_only_what_is_left_is_promised() {
    let name = "e2e-pruned";
    let mut scene = Scene::set("docker", name, 57, 2, "").await;
    let [first, second] = &scene.releases[..] else { panic!("two releases") };
    let (first, second) = (first.clone(), second.clone());
    // As `docker image prune -af`, but of this service's images alone.
    scene.target.shell(&format!("docker image prune -af --filter label=io.deployer.service={name}"));
    scene.target.shell(&format!("docker rmi -f {name}:{second} {name}:latest 2>/dev/null; true"));
    assert!(!scene.target.succeeds(&format!("docker image inspect {name}:{second}")), "its tag is gone");
    scene
        .refuses(
            &format!("its artifact (image {name}:{first}) is gone"),
            "it cannot roll back to any of its releases",
        )
        .await;

    // What runs is known by its image's digest, and comes back without its tag.
    scene.service.write("SICK", "");
    let sick = scene.deploy().await.failed();
    assert_eq!(sick.0["outcome"], format!("release {second} restored and healthy"), "{:#}", sick.0);
    let findings = &sick.phase("Validation")["details"]["findings"];
    assert!(!findings.to_string().contains("cannot be restored"), "{findings:#}");
    assert_eq!(scene.version().await, "1");
    std::fs::remove_file(scene.service.folder.join("SICK")).unwrap();
    scene.releases.push("the sick one".into());
    scene.deploy().await.completed();
    assert_eq!(scene.version().await, "3");
    let (status, back) = scene.rollback(&json!({})).await;
    assert_eq!((status, back["release"].as_str()), (200, Some(second.as_str())), "{back:#}");
    assert_eq!(scene.version().await, "1");
    assert!(scene.target.succeeds(&format!("docker image inspect {name}:{second}")), "it has its tag again");
    scene.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_could_not_be_brought_back_is_warned_of() {
    let mut scene = Scene::set("process", "e2e-at-risk", 58, 1, "").await;
    let (root, first) = (scene.root(), scene.releases[0].clone());
    scene.target.shell(&format!("rm {root}/env/{first}"));
    let second = scene.deploy().await.completed();
    scene.releases.push(second.release().into());
    let warned = format!("if this job fails, release {first} cannot be restored: its environment is gone");
    let findings = second.phase("Validation")["details"]["findings"].to_string();
    assert!(findings.contains(&warned), "{findings}");

    // A rollback has no Validation, and says it all the same.
    scene.deploy().await.completed();
    let third = scene.latest_job().await["release"].as_str().unwrap().to_owned();
    scene.target.shell(&format!("rm -rf {root}/releases/{third}"));
    let (status, back) = scene.rollback(&json!({})).await;
    assert_eq!(status, 200, "{back:#}");
    let warned = format!("if this job fails, release {third} cannot be restored: its files are gone");
    assert!(
        Job(back.clone()).phase("Start Service")["details"]["warnings"].to_string().contains(&warned),
        "{back:#}"
    );
    scene.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_away_is_said_not_to_be_asked() {
    let name = "e2e-unasked";
    let server = target();
    clean(&server, name, server.port(59));
    let proxy = Proxy::start(&server).await;
    let program = Program::start(proxy.target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-quick", name, server.port(59));
    let mut releases = vec![];
    for version in ["0", "1"] {
        service.write("VERSION", version);
        let job = program.deploy(&deployment(&service, "process", json!({ "ROUND": version }))).await;
        releases.push(job.completed().release().to_owned());
    }
    proxy.cut();
    let (status, list) = program.get(&format!("/releases/{name}")).await;
    assert_eq!(status, 200, "{list:#}");
    let first = list.as_array().unwrap().iter().find(|one| one["release"] == releases[0].as_str()).unwrap();
    assert_eq!(
        (&first["unavailable"], &first["is_rollback_target"]),
        (&Value::Null, &json!(true)),
        "{list:#}"
    );
    assert!(first["unchecked"].is_string(), "{list:#}");
    let output = program.command(&["rollback", name, "--dry-run"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("was not checked"), "{said}");
    proxy.resume();
    // It is asked again as soon as it is there.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, list) = program.get(&format!("/releases/{name}")).await;
        let first =
            list.as_array().unwrap().iter().find(|one| one["release"] == releases[0].as_str()).unwrap();
        if first["unchecked"].is_null() {
            break;
        }
        assert!(Instant::now() < deadline, "{list:#}");
    }
    clean(&server, name, server.port(59));
}
