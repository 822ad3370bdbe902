//! Plugins work on what is there, and nothing secret is recorded or shown.

use std::path::Path;
use std::time::{Duration, Instant};

use deployer_tests::{Job, Program, Service, Target, client, deployment, target};
use serde_json::{Value, json};

/// Shows its environment wherever it can: in its log, in its answers, in its headers.
const SERVER: &str = r#"
import json, os, signal, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        shown = sys.argv if self.path == "/argv" else dict(os.environ)
        if self.path == "/version":
            shown = (ROOT / "VERSION").read_text().strip()
        body = json.dumps(shown).encode()
        print("answered", body.decode(), flush=True)
        self.send_response(500 if (ROOT / "SICK").exists() and self.path == "/health" else 200)
        self.send_header("X-Version", os.environ.get("APP_VERSION", ""))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("my environment is", dict(os.environ), flush=True)
for value in os.environ.values():
    print(value, flush=True)
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

fn service(program: &Program, name: &str, port: u16) -> Service {
    let service = Service::copy(&program.services(), "hello-quick", name, port);
    service.write("server.py", SERVER);
    service
}

/// Removes every trace of a service, and the processes that an earlier run of the test may have left.
fn forget(target: &Target, name: &str) {
    target.shell(&format!(
        "for cwd in /proc/[0-9]*/cwd; do case \"$(readlink $cwd)\" in /opt/fpai/services/{name}/*) \
         pid=${{cwd#/proc/}}; kill -9 ${{pid%/cwd}};; esac; done; true"
    ));
    target.forget(name);
}

/// What the service answers, asked on the target itself.
fn answer(program: &Program, service: &Service, path: &str) -> Value {
    let text = program.target.shell(&format!("curl -sS http://127.0.0.1:{}{path}", service.port));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn roll_back(program: &Program, of: &Job) -> Job {
    let (status, back) = program.post(&format!("/deploy/{}/rollback", of.id()), &json!({})).await;
    assert_eq!(status, 200, "{back:#}");
    Job(back)
}

#[tokio::test]
async fn an_image_is_what_its_dockerfile_says() {
    let name = "e2e-as-it-stands";
    let target = target();
    forget(&target, name);
    let program = Program::start(target.clone(), None).await;
    let service = service(&program, name, 18070);
    let dockerfile = "FROM python:3.11-slim\nRUN useradd postgres\nWORKDIR /srv/app\nRUN echo postgres >/engine\n\
                      COPY server.py VERSION /srv/app/\nCMD [\"python3\", \"server.py\"]\n";
    service.write("Dockerfile", dockerfile);
    let environment = json!({
        "DB_USER": "postgres",
        "APP_HOME": "/srv/app",
        "BASE_IMAGE": "python:3.11-slim",
        "FLASK_APP": "server.py",
        "HASH_ALG": "sha256",
        "BIN_DIR": "/usr/bin",
    });
    let request = deployment(&service, "docker", environment.clone());
    let first = program.deploy(&request).await.completed();
    let image = format!("{name}:{}", first.release());
    let inside = target.shell(&format!(
        "docker run --rm --entrypoint sh {image} -c 'cat /engine; id -un postgres; pwd; ls /srv/app'"
    ));
    assert_eq!(inside, "postgres\npostgres\n/srv/app\nVERSION\nserver.py");
    let answered = answer(&program, &service, "/health");
    for (name, value) in environment.as_object().unwrap() {
        assert_eq!(&answered[name], value);
    }

    // A digest is what the image is found again by.
    service.write("VERSION", "2\n");
    let second = program.deploy(&request).await.completed();
    assert_eq!(answer(&program, &service, "/version"), "2");
    roll_back(&program, &second).await.completed();
    assert_eq!(answer(&program, &service, "/version"), "0");
    let running = target.shell(&format!("docker inspect -f '{{{{.Image}}}}' {name}-{}", first.release()));
    assert_eq!(running, target.shell(&format!("docker inspect -f '{{{{.Id}}}}' {image}")));
    forget(&target, name);
}

async fn a_command_is_what_its_procfile_says(method: &str, name: &str, port: u16) {
    let target = target();
    forget(&target, name);
    let program = Program::start(target.clone(), None).await;
    let service = service(&program, name, port);
    program.deploy(&deployment(&service, method, json!({}))).await.completed();

    let request = deployment(&service, method, json!({ "FLASK_APP": "server.py", "BIN_DIR": "/usr/bin" }));
    program.deploy(&request).await.completed();
    assert_eq!(answer(&program, &service, "/argv"), json!(["server.py"]));

    service.write("Procfile", "web: python3 -u server.py main:app\n");
    let environment = json!({ "APP_MODULE": "main:app", "PYTHON": "python3", "HASH_ALG": "sha256" });
    let third = program.deploy(&deployment(&service, method, environment)).await.completed();
    assert_eq!(answer(&program, &service, "/argv"), json!(["server.py", "main:app"]));
    let shown = answer(&program, &service, "/health");
    assert_eq!((&shown["APP_MODULE"], &shown["HASH_ALG"]), (&json!("main:app"), &json!("sha256")));

    roll_back(&program, &third).await.completed();
    assert_eq!(answer(&program, &service, "/argv"), json!(["server.py"]));
    assert_eq!(answer(&program, &service, "/health")["FLASK_APP"], "server.py");
    forget(&target, name);
}

#[tokio::test]
async fn a_command_is_what_its_procfile_says_by_systemd() {
    a_command_is_what_its_procfile_says("systemd", "e2e-argv-systemd", 18071).await;
}

#[tokio::test]
async fn a_command_is_what_its_procfile_says_by_process() {
    a_command_is_what_its_procfile_says("process", "e2e-argv-process", 18072).await;
}

#[tokio::test]
async fn a_health_check_for_a_version_that_is_in_the_environment_passes() {
    let name = "e2e-version";
    let target = target();
    forget(&target, name);
    let program = Program::start(target.clone(), None).await;
    let service = service(&program, name, 18073);
    for settings in ["body_contains = \"2.4.10\"", "expect_headers = { X-Version = \"2.4.10\" }"] {
        program.pipeline(name, &format!("[settings.health]\n{settings}\n"));
        let request = deployment(&service, "process", json!({ "APP_VERSION": "2.4.10" }));
        let job = program.deploy(&request).await.completed();
        assert_eq!(answer(&program, &service, "/health")["APP_VERSION"], "2.4.10", "{:#}", job.0);
    }
    forget(&target, name);
}

/// What of one release must not be found anywhere.
fn secrets(release: &str) -> Value {
    let key: Vec<String> = (0..6)
        .map(|line| (0..16).map(|place| format!("{release}{:02x}z", line * 37 + place * 11)).collect())
        .collect();
    json!({
        "API_TOKEN": format!("tok-{release}-0a1b2c3d4e5f"),
        "PRIVATE_KEY": format!("-----BEGIN {release} KEY-----\n{}\n-----END {release} KEY-----\n", key.join("\n")),
        "AWKWARD": format!("{release} \"double\" 'single' $HOME `id` \\ grüße 🚀"),
        "LOG_FORMAT": "pretty-json",
        "RELEASE_DATE": "2026-11-25",
    })
}

/// Each text that a secret could be seen by.
fn traces(secrets: &Value) -> Vec<String> {
    let hidden = secrets.as_object().unwrap().iter().filter(|(name, _)| *name != "LOG_FORMAT");
    let values = hidden.map(|(_, value)| value.as_str().unwrap());
    let lines = values.flat_map(str::lines).filter(|line| *line != "2026-11-25" && line.len() >= 8);
    // As it is, and as JSON has it; where a letter may be escaped in one more way, up to that.
    let plain = lines.map(|line| line.split('ü').next().unwrap_or(line));
    plain.flat_map(|line| [line.to_owned(), json!(line).to_string().trim_matches('"').to_owned()]).collect()
}

/// All that the program shows of these jobs, and all that it keeps.
async fn everything(program: &Program, service: &str, jobs: &[&Job]) -> Vec<(String, Vec<u8>)> {
    let mut paths = vec![
        format!("/deploy/history/{service}"),
        format!("/releases/{service}"),
        format!("/audit?service={service}"),
        "/state".into(),
    ];
    for job in jobs {
        paths.extend(["", "/calls", "/events"].map(|part| format!("/deploy/{}{part}", job.id())));
    }
    let mut found = Vec::new();
    for path in paths {
        let answer = client().get(format!("{}{path}", program.url)).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        found.push((path, answer.bytes().await.unwrap().to_vec()));
    }
    found.push(("the log".into(), program.log().into_bytes()));
    files(&program.folder.path().join("data"), &mut found);
    assert!(found.iter().any(|(name, bytes)| name.ends_with("journal.db") && !bytes.is_empty()));
    found
}

fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default()));
        }
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

async fn secrets_are_nowhere(method: &str, name: &str, port: u16) {
    let target = target();
    forget(&target, name);
    let mut program = Program::start(target.clone(), None).await;
    program.pipeline(name, "[environment]\npublic = [\"LOG_FORMAT\"]\n");
    let service = service(&program, name, port);
    let [one, two, three, four] = ["first", "second", "third", "fourth"].map(secrets);
    let first = program.deploy(&deployment(&service, method, one.clone())).await.completed();
    assert_eq!(answer(&program, &service, "/health")["PRIVATE_KEY"], one["PRIVATE_KEY"]);
    let second = program.deploy(&deployment(&service, method, two.clone())).await.completed();
    // Only the target has the values of both.
    let back = roll_back(&program, &second).await.completed();
    assert_eq!(answer(&program, &service, "/health")["API_TOKEN"], one["API_TOKEN"]);

    // What fails says its own values, and what is brought back says those that it has.
    service.write("SICK", "");
    let sick = program.deploy(&deployment(&service, method, three.clone())).await.failed();
    assert_eq!(sick.0["aftermath"], "restored", "{:#}", sick.0);
    std::fs::remove_file(service.folder.join("SICK")).unwrap();

    // One that is killed meanwhile goes on with what it knew.
    let id = program.submit(&deployment(&service, method, four.clone())).await;
    program.phase(&id, "Build", "success").await;
    program.kill();
    program.run().await;
    let killed = program.end(&id).await.completed();

    let jobs = [&first, &second, &back, &sick, &killed];
    let traces: Vec<String> = [&one, &two, &three, &four].into_iter().flat_map(traces).collect();
    for (place, bytes) in everything(&program, name, &jobs).await {
        for trace in &traces {
            assert!(!has(&bytes, trace), "{trace} is in {place}: {}", String::from_utf8_lossy(&bytes));
        }
    }
    // They were met, and what is public is shown.
    for job in jobs {
        let probes = job.phase("Verify Health")["details"].to_string();
        assert!(probes.contains("[env ") && !probes.contains("2026-11-25"), "{probes}");
    }
    let restored = sick.phase("Verify Health")["details"]["restoring"]["checks"].to_string();
    assert!(restored.contains("[env "), "{restored}");
    let last = sick.phase("Verify Health")["details"]["last_log_lines"].to_string();
    assert!(last.contains("[env API_TOKEN]") && last.contains("[env PRIVATE_KEY]"), "{last}");
    assert!(last.contains("pretty-json"), "{last}");
    forget(&target, name);
}

#[tokio::test]
async fn secrets_are_nowhere_by_docker() {
    secrets_are_nowhere("docker", "e2e-secrets-docker", 18074).await;
}

#[tokio::test]
async fn secrets_are_nowhere_by_process() {
    secrets_are_nowhere("process", "e2e-secrets-process", 18075).await;
}

#[tokio::test]
async fn values_that_are_gone_from_the_target_are_said_to_be_unknown() {
    let name = "e2e-unknown-values";
    let target = target();
    forget(&target, name);
    let program = Program::start(target.clone(), None).await;
    let service = service(&program, name, 18076);
    let request = deployment(&service, "process", json!({ "API_TOKEN": "tok-0a1b2c3d4e5f" }));
    let first = program.deploy(&request).await.completed();
    let file = format!("/opt/fpai/services/{name}/env/{}", first.release());
    target.shell(&format!("rm {file}"));
    let second = program.deploy(&request).await.completed();
    let lines = program.lines(second.id()).await;
    let said = |line: &&String| line.contains("the values of API_TOKEN") && line.contains(&file);
    assert_eq!(lines.iter().filter(said).count(), 1, "{lines:#?}");
    forget(&target, name);
}

#[tokio::test]
async fn a_large_environment_holds_nobody_up() {
    let name = "e2e-large";
    let target = target();
    forget(&target, name);
    let program = Program::start(target.clone(), None).await;
    let service = service(&program, name, 18077);
    let line = |value: usize, line: usize| format!("{:016x}", (value * 1000 + line) * 2_654_435_761);
    let value = |value: usize| (0..820).map(|number| line(value, number) + "\n").collect::<String>();
    let values: serde_json::Map<String, Value> =
        (0..60).map(|number| (format!("VALUE_{number}"), json!(value(number)))).collect();
    let request = deployment(&service, "process", Value::Object(values));

    let began = Instant::now();
    let id = program.submit(&request).await;
    let mut longest = Duration::ZERO;
    // Every probe's answer has the whole environment, and so has the log.
    loop {
        for path in [format!("/deploy/{id}"), "/health".into()] {
            let asked = Instant::now();
            let (status, answer) = program.get(&path).await;
            longest = longest.max(asked.elapsed());
            assert_eq!(status, 200, "{answer:#}");
        }
        let (_, job) = program.get(&format!("/deploy/{id}")).await;
        if !job["completed_at"].is_null() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("deployed in {:?}; the slowest answer took {longest:?}", began.elapsed());
    let job = program.end(&id).await.completed();
    assert!(longest < Duration::from_secs(2), "an answer took {longest:?}");
    let shown = program.get(&format!("/deploy/{id}/calls")).await.1.to_string() + &job.0.to_string();
    assert!(shown.contains("[env VALUE_"), "{shown}");
    for number in 0..60 {
        assert!(!shown.contains(&line(number, 400)), "a line of VALUE_{number} is shown");
    }

    // Gone back to, its values come from the target.
    let small = program.deploy(&deployment(&service, "process", json!({}))).await.completed();
    let back = roll_back(&program, &small).await.completed();
    let shown =
        program.get(&format!("/deploy/{}/calls", back.id())).await.1.to_string() + &back.0.to_string();
    assert!(shown.contains("[env VALUE_") && !shown.contains(&line(7, 400)));
    forget(&target, name);
}
