//! What is accepted is done, and what is asked twice is done once: whatever callers, folders and moments come in
//! the way. The program is never started again here.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use deployer::demo::registry::{Dialect, Registry};
use deployer_tests::{Job, Program, Service, Target, client, deployment, target};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Sends a request and hangs up after a while, without waiting for the answer.
async fn hang_up(program: &Program, method: &str, path: &str, body: &Value, after: Duration) {
    let body = body.to_string();
    let address = program.url.trim_start_matches("http://");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    tokio::time::sleep(after).await;
}

/// Waits until no job waits or runs.
async fn quiet(program: &Program, patience: Duration) {
    let deadline = Instant::now() + patience;
    loop {
        let (_, state) = program.get("/state").await;
        let jobs = &state["jobs"];
        if jobs["pending"] == 0 && jobs["running"] == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "jobs are left that nobody works on: {state:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn history(program: &Program, service: &str) -> Vec<Value> {
    let (status, jobs) = program.get(&format!("/deploy/history/{service}?limit=500")).await;
    match status {
        200 => jobs.as_array().unwrap().clone(),
        _ => Vec::new(),
    }
}

/// A service of the method `process` that says which version it is.
fn quick(program: &Program, target: &Target, name: &str, place: u16) -> Service {
    forget(target, name);
    Service::copy(&program.services(), "hello-quick", name, target.port(place))
}

fn version(service: &Service, version: &str) -> Value {
    service.write("VERSION", version);
    deployment(service, "process", json!({ "ROUND": version }))
}

async fn served(service: &Service) -> Value {
    let (status, body) = service.get("/").await.unwrap();
    assert_eq!(status, 200);
    serde_json::from_slice(&body).unwrap()
}

fn forget(target: &Target, name: &str) {
    target.shell(&format!(
        "for pid in /opt/fpai/services/{name}/run/*.pid; do \
         [ -f $pid ] && kill -9 $(head -n 1 $pid | cut -d' ' -f1) 2>/dev/null; done; true"
    ));
    target.forget(name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_callers_hang_up_and_every_job_comes_to_its_end() {
    let target = target();
    let program = Program::start(target.clone(), None).await;
    // Jobs that fail at once: the process has no start command.
    let mut services = Vec::new();
    for number in 0..34 {
        let name = format!("e2e-hangup-{number}");
        program.pipeline(&name, "[phases]\nvalidation = [\"process\"]\n");
        std::fs::create_dir(program.services().join(&name)).unwrap();
        services.push(name);
    }
    let request = |name: &str| json!({ "service_path": name, "service_name": name, "service_port": 1, "deployment_method": "process" });
    for number in 0..340_u64 {
        let name = &services[usize::try_from(number).unwrap() % services.len()];
        // From before it is read to after it is answered.
        hang_up(&program, "POST", "/deploy", &request(name), Duration::from_micros(number * 50)).await;
    }
    let mut cancelled = 0;
    for number in 0..120_u64 {
        let name = &services[usize::try_from(number).unwrap() % services.len()];
        let id = program.submit(&request(name)).await;
        let after = Duration::from_micros(number * 100);
        hang_up(&program, "DELETE", &format!("/deploy/{id}"), &json!({}), after).await;
        cancelled += 1;
    }
    assert_eq!(cancelled, 120);
    quiet(&program, Duration::from_secs(400)).await;

    let mut statuses: BTreeMap<String, u32> = BTreeMap::new();
    for name in &services {
        let mut jobs = history(&program, name).await;
        jobs.reverse();
        let mut last = String::new();
        for job in &jobs {
            let status = job["status"].as_str().unwrap();
            *statuses.entry(status.into()).or_default() += 1;
            assert!(!job["completed_at"].is_null(), "{job:#}");
            // A cancelling that is on record was done.
            assert_eq!(status == "cancelled", job["cancelled_by"].is_string(), "{job:#}");
            let Some(started) = job["started_at"].as_str() else { continue };
            assert!(last.as_str() <= started, "{name}: a later one began before: {jobs:#?}");
            last = started.into();
        }
    }
    println!("460 callers hung up: {statuses:?}");
    assert!(statuses["failed"] + statuses["cancelled"] >= 120 + 200, "{statuses:?}");
    for name in &services {
        target.shell(&format!("rm -rf /opt/fpai/services/{name}"));
    }
    drop(program);

    // The other forty ask for a rollback.
    let program = Program::start(target.clone(), None).await;
    let name = "e2e-hangup-back";
    let service = quick(&program, &target, name, 22);
    let mut releases = Vec::new();
    for round in ["0", "1"] {
        releases.push(program.deploy(&version(&service, round)).await.completed());
    }
    let path = format!("/deploy/{}/rollback", releases[1].id());
    for number in 0..40_u64 {
        let after = Duration::from_micros(number * 400);
        hang_up(&program, "POST", &path, &json!({}), after).await;
        if program.ended(name).await.len() > 2 {
            assert_eq!(served(&service).await["version"], "0");
        }
    }
    let mut rollbacks = program.ended(name).await;
    rollbacks.truncate(rollbacks.len() - 2);
    let first = rollbacks.pop().expect("one at least was accepted");
    assert_eq!(first["status"], "completed", "{first:#}");
    // Requests without a key are different ones, and two may have been looked at side by side: there is one release
    // to go back to, and who comes second is told that it runs.
    for later in &rollbacks {
        let told = later["error"].as_str().unwrap_or_default();
        assert!(told.contains("it is the one that runs") && later["aftermath"] == "untouched", "{later:#}");
    }
    assert_eq!(served(&service).await["version"], "0");
    forget(&target, name);
}

#[tokio::test]
async fn what_comes_while_the_deployer_stops_is_refused() {
    let mut program = Program::start(target(), None).await;
    let name = "e2e-stopping";
    std::fs::create_dir(program.services().join(name)).unwrap();
    // Loads the plugins, so that nothing else is waited for later.
    let nothing = json!({ "service_path": name, "service_name": name, "deployment_method": "none" });
    assert_eq!(program.post("/deploy", &nothing).await.0, 400);
    let address = program.url.trim_start_matches("http://").to_owned();
    let body = json!({
        "service_path": name, "service_name": name, "service_port": 1, "deployment_method": "process",
    })
    .to_string();
    let head = format!("POST /deploy HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let (first, rest) = body.split_at(10);
    stream.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
    // Nobody new is let in once it stops.
    program.signal("TERM");
    let began = Instant::now();
    while TcpStream::connect(&address).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(4), "it does not stop");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("the deployer is stopping"), "{answer}");
    while !program.has_died() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    program.run().await;
    assert_eq!(program.get(&format!("/deploy/history/{name}")).await.0, 404);
}

#[tokio::test]
async fn a_rollback_with_a_key_goes_back_once() {
    let target = target();
    let program = Program::start(target.clone(), None).await;
    let name = "e2e-back-once";
    let service = quick(&program, &target, name, 23);
    let mut last = None;
    for round in ["0", "1", "2"] {
        last = Some(program.deploy(&version(&service, round)).await.completed());
    }
    let last = last.unwrap();
    let ask = async |key: &'static str, body: Value| {
        let url = format!("{}/deploy/{}/rollback", program.url, last.id());
        let post = client().post(url).timeout(Duration::from_secs(120)).header("idempotency-key", key);
        let answer = post.json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };

    // At the same time, while it runs, and when it is over.
    let (one, two, three) =
        tokio::join!(ask("back", json!({})), ask("back", json!({})), ask("back", json!({})));
    let (status, first) = one;
    assert_eq!(status, 200, "{first:#}");
    for (status, again) in [two, three, ask("back", json!({})).await] {
        assert_eq!((status, &again["deploy_job_id"]), (200, &first["deploy_job_id"]), "{again:#}");
    }
    assert_eq!(served(&service).await, json!({ "version": "1", "round": "1" }));
    assert_eq!(history(&program, name).await.len(), 4);

    // The key is that request's.
    let (status, problem) = ask("back", json!({ "release": last.release() })).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("idempotency-key-reused")), "{problem:#}");
    let post = client().post(format!("{}/deploy", program.url)).header("idempotency-key", "back");
    let answer = post.json(&version(&service, "3")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 409, "{}", answer.text().await.unwrap());

    // The last one that there is; asked again, there is none before it, and the answer is the same.
    let (status, oldest) = ask("further", json!({})).await;
    assert_eq!(status, 200, "{oldest:#}");
    let (status, again) = ask("further", json!({})).await;
    assert_eq!((status, &again["deploy_job_id"]), (200, &oldest["deploy_job_id"]), "{again:#}");
    assert_eq!(served(&service).await, json!({ "version": "0", "round": "0" }));
    assert_eq!(ask("too-far", json!({})).await.0, 409);
    assert_eq!(history(&program, name).await.len(), 5);
    forget(&target, name);
}

#[tokio::test]
async fn a_folder_that_is_swapped_after_acceptance_sends_nothing_from_outside() {
    let target = target();
    let program = Program::start(target.clone(), None).await;
    let outside = program.folder.path().join("outside");
    let secret = |folder: &std::path::Path| {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("outside.txt"), "what lies outside").unwrap();
        for file in ["Procfile", "server.py", "VERSION"] {
            std::fs::copy(program.services().join("e2e-swap-link").join(file), folder.join(file)).unwrap();
        }
    };
    let names = ["e2e-swap-link", "e2e-swap-parent", "e2e-swap-other", "e2e-swap-gone"];
    target.shell("rm -f /tmp/e2e-swapped");
    let mut held = Vec::new();
    for (place, name) in (24..).zip(names) {
        let mut service = quick(&program, &target, name, place);
        program.pipeline(
            name,
            "[settings.process]\nbuild = [\"until [ -e /tmp/e2e-swapped ]; do sleep 0.1; done\"]\n",
        );
        let mut request = version(&service, "0");
        if name == "e2e-swap-parent" {
            let parent = program.services().join("group");
            std::fs::create_dir(&parent).unwrap();
            std::fs::rename(&service.folder, parent.join(name)).unwrap();
            service.folder = parent.join(name);
            request["service_path"] = json!(format!("group/{name}"));
        }
        // The first one has sent its files, and the second one waits behind it.
        let first = program.submit(&request).await;
        program.phase(&first, "Build", "running").await;
        let second = program.submit(&request).await;
        held.push((service, first, second));
    }
    secret(&outside);
    secret(&outside.join("e2e-swap-parent"));
    let moved = |from: &str| {
        let services = program.services();
        std::fs::rename(services.join(from), program.folder.path().join(format!("was-{from}"))).unwrap();
        services.join(from)
    };
    symlink(&outside, moved("e2e-swap-link")).unwrap();
    symlink(&outside, moved("group")).unwrap();
    secret(&moved("e2e-swap-other"));
    moved("e2e-swap-gone");
    target.shell("touch /tmp/e2e-swapped");

    let whys =
        ["is a link now", "is a link now", "is not the folder that the job was accepted for", "is gone"];
    for ((service, first, second), why) in held.iter().zip(whys) {
        let first = program.end(first).await.completed();
        let second = program.end(second).await.failed();
        let Service { name, .. } = service;
        assert_eq!(second.phase("Validation")["status"], "failed", "{:#}", second.0);
        assert!(second.error().contains(why), "{name}: {:#}", second.0);
        assert_eq!(second.0["aftermath"], "untouched", "{:#}", second.0);
        assert_eq!(served(service).await["version"], "0");
        let root = format!("/opt/fpai/services/{name}");
        assert!(!target.succeeds(&format!("test -e {root}/releases/{}", second.release())));
        assert_eq!(target.shell(&format!("find {root} -name outside.txt")), "");
        assert_eq!(
            target.shell(&format!("readlink {root}/current")),
            format!("releases/{}", first.release())
        );
    }
    for name in names {
        forget(&target, name);
    }
}

/// A way to a registry that can be held up.
struct Gate {
    url: String,
    open: watch::Sender<bool>,
}

impl Gate {
    async fn before(registry: &Registry) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let open = watch::Sender::new(true);
        let (behind, gate) = (registry.address(), open.clone());
        tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                let mut gate = gate.subscribe();
                tokio::spawn(async move {
                    let mut registry = TcpStream::connect(behind).await.unwrap();
                    let (mut from_caller, mut to_caller) = caller.split();
                    let (mut from_registry, mut to_registry) = registry.split();
                    let asking = async {
                        let mut piece = vec![0; 64 << 10];
                        while let Ok(length @ 1..) = from_caller.read(&mut piece).await {
                            let _ = gate.wait_for(|open| *open).await;
                            to_registry.write_all(&piece[..length]).await.unwrap();
                        }
                    };
                    tokio::select! {
                        () = asking => {}
                        _ = tokio::io::copy(&mut from_registry, &mut to_caller) => {}
                    }
                });
            }
        });
        Gate { url, open }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_at_a_late_moment_is_refused_or_leaves_nothing_undone() {
    let target = target();
    let registry = Registry::start(Dialect::Droplets).await.unwrap();
    let gate = Gate::before(&registry).await;
    let program = Program::start(target.clone(), Some(&gate.url)).await;
    let name = "e2e-late";
    let service = quick(&program, &target, name, 28);
    let mut serves = "0".to_owned();
    program.deploy(&version(&service, &serves)).await.completed();

    // The registry is slow.
    gate.open.send_replace(false);
    let id = program.submit(&version(&service, "slow")).await;
    program.phase(&id, "Register", "running").await;
    let (status, problem) = program.delete(&format!("/deploy/{id}")).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("past-no-return")), "{problem:#}");
    gate.open.send_replace(true);
    let slow = program.end(&id).await.completed();
    assert_eq!(slow.phase("Register")["status"], "success", "{:#}", slow.0);
    assert!(slow.0["cancelled_by"].is_null(), "{:#}", slow.0);
    serves.replace_range(.., "slow");

    // Somebody insists, from each of these moments after Verify Health began.
    let mut seen = BTreeMap::new();
    for round in 1..=10_u64 {
        let next = round.to_string();
        let id = program.submit(&version(&service, &next)).await;
        program.phase(&id, "Verify Health", "running").await;
        tokio::time::sleep(Duration::from_millis(round * 40 - 40)).await;
        let (asked, answer) = program.delete(&format!("/deploy/{id}")).await;
        let job = program.end(&id).await;
        let status = job.0["status"].as_str().unwrap().to_owned();
        match (asked, status.as_str()) {
            (200 | 202, "cancelled") => assert_eq!(job.0["aftermath"], "restored", "{:#}", job.0),
            (409, "completed") => {
                assert!(["past-no-return", "job-over"].contains(&answer["code"].as_str().unwrap()));
                assert!(job.0["cancelled_by"].is_null(), "{:#}", job.0);
                let job: Job = program.phase_at_last(&id, "Register", "success").await;
                let response = job.0["registration"]["registry_response"].to_string();
                assert!(response.contains(job.release()), "{response}");
                serves = next;
            }
            _ => panic!("{asked} {answer:#}, and then: {:#}", job.0),
        }
        assert_eq!(served(&service).await, json!({ "version": serves, "round": serves }));
        *seen.entry(format!("{asked} {status}")).or_insert(0) += 1;
    }
    println!("late cancels: {seen:?}");
    registry.stop().await;
    forget(&target, name);
}
