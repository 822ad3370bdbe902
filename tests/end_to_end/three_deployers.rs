//! Several deployers, each with a data folder of its own, and one target, which says what runs.

use std::collections::BTreeSet;
use std::path::Path;

use deployer::demo::registry::{Dialect, Registry};
use deployer_tests::{Job, Program, Proxy, Service, Target, deployment, target};
use serde_json::{Value, json};

/// A deployer and its own copy of the service.
struct Deployer {
    program: Program,
    service: Service,
}

impl Deployer {
    async fn start(name: &str, port: u16) -> Deployer {
        Deployer::with(target(), None, name, port).await
    }

    async fn with(target: Target, registry: Option<&str>, name: &str, port: u16) -> Deployer {
        let program = Program::start(target, registry).await;
        let service = Service::copy(&program.services(), "hello-quick", name, port);
        Deployer { program, service }
    }

    fn request(&self, version: &str) -> Value {
        self.service.write("VERSION", version);
        deployment(&self.service, "process", json!({ "ROUND": version, "LINES": "a\nb" }))
    }

    async fn deploy(&self, version: &str) -> Job {
        self.program.deploy(&self.request(version)).await.completed()
    }

    /// Goes back by the command line, as somebody would who never saw a job's id.
    fn rollback(&self, arguments: &[&str]) -> Value {
        let arguments = [&["rollback", &self.service.name, "--json"], arguments].concat();
        let output = self.program.command(&arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&text).unwrap()
    }

    /// The releases' ids and statuses, newest first.
    async fn list(&self) -> Vec<(String, String)> {
        let (status, list) = self.program.get(&format!("/releases/{}", self.service.name)).await;
        assert_eq!(status, 200, "{list:#}");
        let list = list.as_array().unwrap();
        assert!(list.iter().all(|release| release["target_asked"] == true), "{list:#?}");
        list.iter().map(|release| (text(&release["release"]), text(&release["status"]))).collect()
    }

    async fn serves(&self, version: &str) {
        let body: Value = serde_json::from_str(&self.service.text("/health").await).unwrap();
        assert_eq!(body, json!({ "version": version, "round": version }));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn pairs(of: &[(&Job, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(job, status)| (job.release().to_owned(), (*status).to_owned())).collect()
}

fn root(name: &str) -> String {
    format!("/opt/fpai/services/{name}")
}

/// A dead deployer's lease has ended. Its time is the file's, so the test need not wait for it.
fn end_the_lease(target: &Target, name: &str) {
    target.shell(&format!("test ! -f {0}/lock || touch -d @1 {0}/lock", root(name)));
}

/// What the target has: the release that `current` leads to, and by their records all that were not removed.
fn recorded(target: &Target, name: &str) -> (String, Vec<(String, String)>) {
    let current = target.shell(&format!("readlink {}/current", root(name)));
    let records = target.shell(&format!("for f in {}/records/*.json; do cat $f; echo; done", root(name)));
    let records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut records: Vec<_> = records
        .filter(|record| record["status"] != "removed")
        .map(|record| (text(&record["id"]), text(&record["status"])))
        .collect();
    records.sort_by(|a, b| b.cmp(a));
    (current.trim_start_matches("releases/").to_owned(), records)
}

/// The releases that have files, and those that have an environment.
fn left(target: &Target, name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let names = |folder: &str| {
        let names = target.shell(&format!("ls {}/{folder} 2>/dev/null || true", root(name)));
        names.lines().map(str::to_owned).collect()
    };
    (names("releases"), names("env"))
}

/// One truth: every deployer and the target say the same, and the live one's files and environment serve.
async fn agree(deployers: &[&Deployer], expect: &[(&Job, &str)], version: &str) {
    let expect = pairs(expect);
    let first = deployers[0];
    for deployer in deployers {
        assert_eq!(deployer.list().await, expect);
    }
    let live = expect.iter().find(|(_, status)| status == "live").unwrap();
    assert_eq!(recorded(&first.program.target, &first.service.name), (live.0.clone(), expect.clone()));
    first.serves(version).await;
}

#[tokio::test]
async fn three_deployers_in_turn_have_one_truth() {
    let name = "e2e-three";
    let target = target();
    target.forget(name);
    let port = target.port(60);
    let mut a = Deployer::start(name, port).await;
    let mut b = Deployer::start(name, port).await;
    let mut c = Deployer::start(name, port).await;
    let v1 = a.deploy("1").await;
    let v2 = b.deploy("2").await;
    let v3 = c.deploy("3").await;
    let all = [(&v3, "live"), (&v2, "retired"), (&v1, "retired")];
    agree(&[&a, &b, &c], &all, "3").await;

    // One that never deployed anything lists them, and goes back to what another one made, with its environment.
    let mut d = Deployer::start(name, port).await;
    agree(&[&d], &all, "3").await;
    let dry = d.rollback(&["--dry-run"]);
    assert_eq!(dry["back"]["release"], v2.release(), "{dry:#}");
    let back = d.rollback(&[]);
    assert_eq!((&back["status"], &back["release"]), (&json!("completed"), &json!(v2.release())), "{back:#}");
    agree(&[&a, &b, &c, &d], &[(&v3, "retired"), (&v2, "live"), (&v1, "retired")], "2").await;

    // All of them killed, and started again in other orders.
    for turn in 0..3 {
        for deployer in [&mut a, &mut b, &mut c, &mut d] {
            deployer.program.kill();
        }
        for place in 0..4 {
            match (place + turn) % 4 {
                0 => c.program.run().await,
                1 => a.program.run().await,
                2 => d.program.run().await,
                _ => b.program.run().await,
            }
        }
        agree(&[&d, &a, &c, &b], &[(&v3, "retired"), (&v2, "live"), (&v1, "retired")], "2").await;
    }
    // Whose release, and whose rollback it was, makes no difference.
    let back = a.rollback(&[]);
    assert_eq!(back["release"], v1.release(), "{back:#}");
    a.serves("1").await;
    let forward = c.rollback(&["--to", v2.release()]);
    assert_eq!(forward["status"], "completed", "{forward:#}");
    agree(&[&a, &b, &c, &d], &[(&v3, "retired"), (&v2, "live"), (&v1, "retired")], "2").await;

    // Nothing stays behind, whoever made it: also the environment of a release that is gone.
    target.shell(&format!(
        "touch {0}/env/20250101-000000-000 {0}/env/20250101-000000-000.multiline {0}/env/notes",
        root(name)
    ));
    b.program.pipeline(name, "[retention]\ndays = 0\n");
    let v4 = b.deploy("4").await;
    agree(&[&b, &a, &d, &c], &[(&v4, "live"), (&v2, "retired")], "4").await;
    let kept = BTreeSet::from([v2.release().to_owned(), v4.release().to_owned()]);
    let mut environments = kept.clone();
    environments.insert("notes".into());
    assert_eq!(left(&target, name), (kept, environments));
    let traces = target.shell(&format!(
        "find {} \\( -name '*{}*' -o -name '*{}*' \\) -not -path '*/records/*' -not -path '*/manifests/*'",
        root(name),
        v1.release(),
        v3.release()
    ));
    assert_eq!(traces, "");
    let (status, refused) =
        d.program.post(&format!("/deploy/{}/rollback", v1.id()), &json!({ "release": v1.release() })).await;
    assert_eq!(status, 409, "{refused:#}");
    target.forget(name);
}

#[tokio::test]
async fn a_deployer_that_was_killed_in_verify_leaves_the_next_ones_release_alone() {
    let name = "e2e-killed-in-verify";
    let target = target();
    target.forget(name);
    let port = target.port(61);
    let mut a = Deployer::start(name, port).await;
    let b = Deployer::start(name, port).await;
    let v1 = a.deploy("1").await;
    a.program.pipeline(name, "[settings.health]\nattempts = 100\ndeadline_seconds = 100\n");
    a.service.write("SICK", "");
    let v2 = a.program.submit(&a.request("2")).await;
    a.program.phase(&v2, "Verify Health", "running").await;
    a.program.kill();
    end_the_lease(&target, name);

    // What A left half done is settled first: B would fail here, and leave the service as it should be.
    b.service.write("SICK", "");
    let sick = b.program.deploy(&b.request("sick")).await.failed();
    assert_eq!(sick.0["aftermath"], "restored", "{:#}", sick.0);
    b.serves("1").await;
    std::fs::remove_file(b.service.folder.join("SICK")).unwrap();
    let v3 = b.deploy("3").await;
    let before = target.shell(&format!("cat {}/run/{}.pid", root(name), v3.release()));

    a.program.run().await;
    let taken = a.program.end(&v2).await.failed();
    assert_eq!(taken.0["aftermath"], "taken_over", "{:#}", taken.0);
    assert!(taken.error().contains(v3.id()), "it says who has it: {}", taken.error());
    assert_eq!(target.shell(&format!("cat {}/run/{}.pid", root(name), v3.release())), before);
    let all = [(&v3, "live"), (&sick, "bad"), (&taken, "bad"), (&v1, "retired")];
    agree(&[&a, &b], &all, "3").await;
    target.forget(name);
}

// The proxy works beside the ssh that looks at the target through it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_older_than_the_target_learns_from_it() {
    let name = "e2e-old-journal";
    let target = target();
    target.forget(name);
    let port = target.port(62);
    let mut a = Deployer::start(name, port).await;
    let v1 = a.deploy("1").await;
    a.program.stop();
    let data = a.program.folder.path().join("data");
    let backup = a.program.folder.path().join("backup");
    copy(&data, &backup);
    a.program.run().await;
    let v2 = a.deploy("2").await;
    let v3 = a.deploy("3").await;
    let v4 = a.deploy("4").await;
    a.program.stop();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    a.program.run().await;

    let all = [(&v4, "live"), (&v3, "retired"), (&v2, "retired"), (&v1, "retired")];
    agree(&[&a], &all, "4").await;
    assert!(a.program.log().contains("this deployer's journal had it as"), "it is said");
    let (status, back) = a.program.post(&format!("/deploy/{}/rollback", v1.id()), &json!({})).await;
    assert_eq!((status, &back["release"]), (200, &json!(v3.release())), "{back:#}");
    a.serves("3").await;

    // Without the target there is only the journal, and that is said; nothing is rolled back by it.
    let proxy = Proxy::start(&target).await;
    let away = Deployer::with(proxy.target.clone(), None, name, port).await;
    agree(&[&away], &[(&v4, "retired"), (&v3, "live"), (&v2, "retired"), (&v1, "retired")], "3").await;
    proxy.cut();
    let (status, list) = away.program.get(&format!("/releases/{name}")).await;
    assert_eq!((status, &list[0]["target_asked"]), (200, &json!(false)), "{list:#}");
    let (status, refused) = away.program.post(&format!("/deploy/{}/rollback", v3.id()), &json!({})).await;
    assert_eq!(status, 503, "{refused:#}");
    target.forget(name);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_job_runs_on_its_own_target_only() {
    let name = "e2e-own-target";
    let server = target();
    server.forget(name);
    let port = server.port(63);
    let proxy = Proxy::start(&server).await;
    let mut a = Deployer::with(server.clone(), None, name, port).await;
    let v1 = a.deploy("1").await;
    a.program.pipeline(name, "[settings.process]\nbuild = [\"sleep 5\"]\n");
    let running = a.program.submit(&a.request("2")).await;
    let pending = a.program.submit(&a.request("3")).await;
    let unwanted = a.program.submit(&a.request("4")).await;
    a.program.phase(&running, "Build", "running").await;
    a.program.kill();

    // The same machine by another name is another target, as far as anybody can tell.
    a.program.target = proxy.target.clone();
    a.program.run().await;
    for id in [&running, &pending] {
        let (_, job) = a.program.get(&format!("/deploy/{id}")).await;
        assert!(job["completed_at"].is_null(), "{job:#}");
    }
    let log = a.program.log();
    assert!(log.contains("this job is for") && log.contains(&pending), "{log}");
    let (status, problem) = a.program.post(&format!("/deploy/{}/rollback", v1.id()), &json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("other-target")), "{problem:#}");
    let (status, problem) = a.program.delete(&format!("/deploy/{running}")).await;
    assert_eq!((status, &problem["code"]), (409, &json!("other-target")), "{problem:#}");
    let (status, job) = a.program.delete(&format!("/deploy/{unwanted}")).await;
    assert_eq!((status, &job["status"]), (200, &json!("cancelled")), "{job:#}");
    a.serves("1").await;
    assert_eq!(recorded(&server, name).0, v1.release());

    // Back at its own: they go on, in their order.
    a.program.target = server.clone();
    a.program.kill();
    a.program.run().await;
    let lines = a.program.end(&running).await.completed();
    a.program.end(&pending).await.completed();
    let lines = a.program.lines(lines.id()).await.join("\n");
    assert!(lines.contains("until the deployer is started with the job's own target again"), "{lines}");
    server.forget(name);
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_left_alone() {
    let name = "e2e-foreign";
    let target = target();
    target.forget(name);
    let a = Deployer::start(name, target.port(64)).await;
    let folder = root(name);
    let look = || target.shell(&format!("ls -lAR --time-style=full-iso {folder}; stat -c '%y %a' {folder}"));
    target.shell(&format!("mkdir -p {folder}/env/bin && touch {folder}/app.py"));
    let before = look();
    let refused = a.program.deploy(&a.request("1")).await.failed();
    assert_eq!(refused.phase("Validation")["status"], "failed", "{:#}", refused.0);
    for part in [folder.as_str(), "app.py", "another service name", "--root"] {
        assert!(refused.error().contains(part), "{}", refused.error());
    }
    assert_eq!(look(), before);

    target.shell(&format!("rm -r {folder} && echo mine >{folder}"));
    let refused = a.program.deploy(&a.request("1")).await.failed();
    assert!(refused.error().contains("is not a folder"), "{}", refused.error());
    assert_eq!(target.shell(&format!("cat {folder}")), "mine");

    // A file system of its own, with what every one has in it, is not somebody else's.
    target.shell(&format!("rm {folder} && mkdir -p {folder}/lost+found"));
    a.deploy("1").await;
    target.forget(name);
}

#[tokio::test]
async fn an_older_release_is_not_registered_after_another_deployers() {
    let name = "e2e-register-late";
    let target = target();
    target.forget(name);
    let registry = Registry::start(Dialect::Droplets).await.unwrap();
    let (url, registry_port) = (registry.url(), registry.address().port());
    registry.stop().await;
    let mut a = Deployer::with(target.clone(), Some(&url), name, target.port(65)).await;
    let v1 = a.deploy("1").await;
    assert_eq!(v1.phase("Register")["status"], "failed", "{:#}", v1.0);
    a.program.kill();
    let b = Deployer::start(name, target.port(65)).await;
    let v2 = b.deploy("2").await;
    let registry = Registry::start_on(Dialect::Droplets, registry_port).await.unwrap();
    a.program.run().await;
    let began = std::time::Instant::now();
    let by = loop {
        let (_, job) = a.program.get(&format!("/deploy/{}", v1.id())).await;
        let job = Job(job);
        let register = job.phase("Register");
        assert_ne!(register["status"], "success", "{register:#}");
        if let Some(by) = register["details"]["retry"]["superseded_by"].as_str() {
            break by.to_owned();
        }
        assert!(began.elapsed().as_secs() < 60, "{register:#}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(by, v2.id());
    drop(registry);
    target.forget(name);
}
