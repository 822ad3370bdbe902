//! What this tool did not make is never stopped, replaced or removed: containers, tags, units, users and folders of
//! somebody else. What stands in the way is refused in Validation, by name.

use deployer_tests::{Job, Program, Service, Target, deployment, target};
use serde_json::json;

/// A job that was refused before anything was changed, with these words.
#[track_caller]
fn refused(job: Job, words: &[&str]) {
    let job = job.failed();
    assert_eq!(job.phase("Validation")["status"], "failed", "{:#}", job.0);
    assert_eq!(job.phase("Transfer")["status"], "pending", "{:#}", job.0);
    said(&job, words);
}

#[track_caller]
fn said(job: &Job, words: &[&str]) {
    for word in words {
        assert!(job.error().contains(word), "`{word}` is not in: {}", job.error());
    }
}

/// Three containers that people run: of a release's image, of one built on it, of one that was committed.
struct Bystanders<'a> {
    target: &'a Target,
    name: &'a str,
}

const KINDS: [&str; 3] = ["run", "built", "committed"];

impl Bystanders<'_> {
    fn come(&self, release: &str) {
        let Self { name, .. } = self;
        self.target.shell(&format!(
            "set -e; docker run -d --restart always --name {name}-by-run {name}:{release} sleep infinity; \
             printf 'FROM {name}:{release}\\nRUN touch /by\\n' | docker build -q -t {name}-by-built -; \
             docker run -d --name {name}-by-built {name}-by-built sleep infinity; \
             docker commit {name}-{release} {name}-by-committed; \
             docker run -d --name {name}-by-committed {name}-by-committed sleep infinity"
        ));
    }

    fn seen(&self) -> String {
        let names = KINDS.map(|kind| format!("{}-by-{kind}", self.name)).join(" ");
        self.target.shell(&format!(
            "docker inspect -f '{{{{.Id}}}} {{{{.State.StartedAt}}}} {{{{.State.Running}}}} {{{{.RestartCount}}}} \
             {{{{.HostConfig.RestartPolicy.Name}}}} {{{{.Image}}}}' {names}"
        ))
    }

    fn go(&self) {
        for kind in KINDS {
            let name = format!("{}-by-{kind}", self.name);
            self.target
                .shell(&format!("{{ docker rm -f {name}; docker rmi -f {name}; }} >/dev/null 2>&1; true"));
        }
    }
}

#[tokio::test]
async fn containers_of_a_services_image_run_on() {
    let name = "e2e-bystanders";
    let target = target();
    let bystanders = Bystanders { target: &target, name };
    bystanders.go();
    target.forget(name);
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(30));
    let deploy = async |version: &str| {
        service.write("VERSION", version);
        program.deploy(&deployment(&service, "docker", json!({ "ROUND": version }))).await
    };
    let running = || {
        target.shell(&format!(
            "docker ps --format '{{{{.Names}}}}' --filter name=^/{name}-2 --filter label=io.deployer.container"
        ))
    };

    let first = deploy("1").await.completed();
    bystanders.come(first.release());
    let before = bystanders.seen();
    assert_eq!(before.matches(" true 0 ").count(), 3, "{before}");

    let second = deploy("2").await.completed();
    assert_eq!(bystanders.seen(), before, "after a redeployment");
    assert_eq!(running(), format!("{name}-{}", second.release()));

    service.write("SICK", "");
    let sick = deploy("3").await.failed();
    assert_eq!(sick.0["aftermath"], "restored", "{:#}", sick.0);
    assert_eq!(bystanders.seen(), before, "after a restoration");
    assert_eq!(running(), format!("{name}-{}", second.release()));
    std::fs::remove_file(service.folder.join("SICK")).unwrap();

    let (status, back) = program.post(&format!("/deploy/{}/rollback", second.id()), &json!({})).await;
    assert_eq!(status, 200, "{back:#}");
    assert_eq!(bystanders.seen(), before, "after a rollback");
    assert_eq!(running(), format!("{name}-{}", first.release()));

    program.pipeline(name, "[retention]\ndays = 0\n");
    deploy("4").await.completed();
    let fifth = deploy("5").await.completed();
    assert_eq!(bystanders.seen(), before, "after old releases were removed");
    assert_eq!(running(), format!("{name}-{}", fifth.release()));
    let removed = &fifth.0["retention"]["removed"];
    assert!(!removed.to_string().contains(first.release()), "its image is in use: {removed:#}");
    assert!(target.succeeds(&format!("docker image inspect {name}-by-built {name}-by-committed")));
    let answer = service.text("/health").await;
    assert!(answer.contains("\"version\": \"5\""), "{answer}");
    bystanders.go();
    target.forget(name);
}

#[tokio::test]
async fn a_container_of_an_earlier_deployer_is_known_by_its_launch() {
    let name = "e2e-upgraded";
    let target = target();
    target.forget(name);
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(31));
    let request = deployment(&service, "docker", json!({ "ROUND": "1" }));
    let first = program.deploy(&request).await.completed();

    // As an earlier deployer left it: neither the container nor its launch has the label.
    let container = format!("{name}-{}", first.release());
    let launch = format!("/opt/fpai/services/{name}/docker/{}.json", first.release());
    target.shell(&format!(
        "python3 - {launch} <<'END'\n\
         import json, subprocess, sys\n\
         launch = json.load(open(sys.argv[1]))\n\
         own = ('io.deployer.container=', 'io.deployer.root=')\n\
         words = launch['arguments']\n\
         keep = [i for i, word in enumerate(words) if not word.startswith(own)\n\
                 and not (i + 1 < len(words) and words[i + 1].startswith(own))]\n\
         launch['arguments'] = [words[i] for i in keep]\n\
         json.dump(launch, open(sys.argv[1], 'w'))\n\
         subprocess.run(['docker', 'rm', '-f', launch['container']], check=True)\n\
         subprocess.run(['docker', *launch['arguments']], check=True)\n\
         END"
    ));
    let label =
        format!("docker inspect -f '{{{{index .Config.Labels \"io.deployer.container\"}}}}' {container}");
    assert_eq!(target.shell(&label), "");
    let second = program.deploy(&request).await.completed();
    assert!(!target.succeeds(&format!("docker inspect {container}")), "it was not retired");
    let (status, back) = program.post(&format!("/deploy/{}/rollback", second.id()), &json!({})).await;
    assert_eq!(status, 200, "{back:#}");
    assert!(target.succeeds(&format!("docker inspect {container}")));
    program.deploy(&request).await.completed();
    assert!(!target.succeeds(&format!("docker inspect {container}")), "it was not retired");
    target.forget(name);
}

#[tokio::test]
async fn a_tag_of_somebody_else_stays_where_it_is() {
    let name = "e2e-foreign-tag";
    let tag = format!("{name}:latest");
    let target = target();
    target.forget(name);
    target.shell(&format!(
        "docker rmi -f {tag} >/dev/null 2>&1; tar -c -C /etc hostname | docker import - {tag}"
    ));
    let image = |tag: &str| target.shell(&format!("docker image inspect -f '{{{{.Id}}}}' {tag}"));
    let foreign = image(&tag);
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(32));
    let request = deployment(&service, "docker", json!({ "ROUND": "1" }));
    refused(program.deploy(&request).await, &[&tag, "latest = false", &format!("docker rmi {tag}")]);
    assert_eq!(image(&tag), foreign);

    program.pipeline(name, "[settings.docker]\nlatest = false\n");
    let first = program.deploy(&request).await.completed();
    assert_eq!(image(&tag), foreign);
    // One that is built from ours has all of its labels.
    target.shell(&format!(
        "echo 'FROM {name}:{}' | docker build -q --label by=hand -t {tag} -",
        first.release()
    ));
    let built = image(&tag);
    program.pipeline(name, "");
    refused(program.deploy(&request).await, &[&tag]);
    assert_eq!(image(&tag), built);

    // Out of the way, the tag follows what runs, forth and back.
    target.shell(&format!("docker rmi {tag}"));
    let second = program.deploy(&request).await.completed();
    assert_eq!(image(&tag), image(&format!("{name}:{}", second.release())));
    service.write("VERSION", "3");
    let third = program.deploy(&request).await.completed();
    assert_eq!(image(&tag), image(&format!("{name}:{}", third.release())));
    let (status, back) = program.post(&format!("/deploy/{}/rollback", third.id()), &json!({})).await;
    assert_eq!(status, 200, "{back:#}");
    assert_eq!(image(&tag), image(&format!("{name}:{}", second.release())));
    target.forget(name);
}

#[tokio::test]
async fn a_service_called_as_its_base_image_does_not_grow() {
    let name = "python";
    let target = target();
    target.forget(name);
    target.shell("docker tag python:3.11-slim python:latest");
    let image =
        |tag: &str, what: &str| target.shell(&format!("docker image inspect -f '{{{{{what}}}}}' {tag}"));
    let base = image("python:3.11-slim", ".Id");
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(33));
    service.write("Dockerfile", &service.read("Dockerfile").replace("python:3.11-slim", "python"));
    let request = deployment(&service, "docker", json!({ "ROUND": "1" }));
    for _ in 0..3 {
        refused(program.deploy(&request).await, &["python:latest", "latest = false"]);
        assert_eq!(image("python:latest", ".Id"), base);
    }
    // Also before the image was ever pulled.
    target.shell("docker rmi python:latest");
    refused(program.deploy(&request).await, &["the Dockerfile names the image `python`", "latest = false"]);
    target.shell("docker tag python:3.11-slim python:latest");

    program.pipeline(name, "[settings.docker]\nlatest = false\n");
    let mut layers = Vec::new();
    for round in 0..3 {
        service.write("VERSION", &round.to_string());
        let job = program.deploy(&request).await.completed();
        layers.push(image(&format!("python:{}", job.release()), "len .RootFS.Layers"));
        assert_eq!(image("python:latest", ".Id"), base);
    }
    assert!(layers.iter().all(|count| *count == layers[0]), "{layers:?}");
    target.forget(name);
    assert_eq!(image("python:latest", ".Id"), base, "what is not the service's was forgotten too");
    target.shell("docker rmi python:latest");
}

#[tokio::test]
async fn a_container_of_somebody_else_keeps_its_name() {
    let name = "e2e-foreign-name";
    let target = target();
    target.forget(name);
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(34));
    let good = service.read("Dockerfile");
    let request = deployment(&service, "docker", json!({ "ROUND": "1" }));
    service.write("Dockerfile", &format!("{good}RUN sleep 13579\n"));
    let first = program.submit(&request).await;
    program.phase(&first, "Build", "running").await;

    // The next one waits, so that its release is known and its container's name can be taken.
    service.write("Dockerfile", &good);
    let second = program.submit(&request).await;
    let (_, waiting) = program.get(&format!("/deploy/{second}")).await;
    assert_eq!(waiting["status"], "pending", "{waiting:#}");
    let taken = format!("{name}-{}", waiting["release"].as_str().unwrap());
    target.shell(&format!("docker run -d --name {taken} python:3.11-slim sleep infinity"));
    let look = |name: &str| {
        target.shell(&format!("docker inspect -f '{{{{.Id}}}} {{{{.State.StartedAt}}}}' {name}"))
    };
    let before = look(&taken);
    program.delete(&format!("/deploy/{first}")).await;
    refused(program.end(&second).await, &[&taken, &format!("docker rename {taken}")]);
    assert_eq!(look(&taken), before);
    target.shell(&format!("docker rm -f {taken}"));

    // One that has the service's port, too: a copy of what this tool ran, with all of its labels and under its name.
    let third = program.deploy(&request).await.completed();
    let taken = format!("{name}-{}", third.release());
    target.shell(&format!(
        "docker commit {taken} {name}-copy && docker rm -f {taken} && \
         docker run -d --name {taken} -p {0}:{0} -e PORT={0} {name}-copy",
        service.port
    ));
    let before = look(&taken);
    refused(program.deploy(&request).await, &[&taken, &format!("docker stop {taken}")]);
    assert_eq!(look(&taken), before);
    target.shell(&format!("docker rm -f {taken} && docker rmi {name}-copy"));
    target.forget(name);
}

#[tokio::test]
async fn a_unit_made_by_hand_is_left_as_it_is() {
    let name = "e2e-by-hand";
    let unit = format!("deployer-{name}.service");
    let file = format!("/etc/systemd/system/{unit}");
    let go = "/tmp/e2e-by-hand-go";
    let target = target();
    target.shell(&format!("rm -rf {go} /srv/{unit} {file}.d"));
    target.forget(name);
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(35));
    let request = deployment(&service, "systemd", json!({ "ROUND": "1" }));
    let text = "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n";
    let make = |path: &str| {
        target.shell(&format!("printf '{text}' >{path} && systemctl enable -q --now {path} 2>&1"));
    };
    let look = || {
        target.shell(&format!(
            "sha256sum {file}; readlink {file}; systemctl is-active {unit}; systemctl is-enabled {unit}; \
             systemctl show -p MainPID -p ExecMainStartTimestamp {unit}; true"
        ))
    };

    make(&file);
    let before = look();
    refused(program.deploy(&request).await, &[&file, "systemctl disable --now"]);
    assert_eq!(look(), before);
    target.forget(name);

    // A link to a unit elsewhere.
    make(&format!("/srv/{unit}"));
    let before = look();
    refused(program.deploy(&request).await, &[&format!("a link to /srv/{unit}"), "systemctl disable --now"]);
    assert_eq!(look(), before);
    target.shell(&format!("systemctl disable -q --now {unit}; rm -f /srv/{unit}; true"));
    target.forget(name);

    // Settings for a unit that is not there yet.
    target.shell(&format!("mkdir {file}.d && printf '[Service]\\nNice=5\\n' >{file}.d/by.conf"));
    refused(program.deploy(&request).await, &[&format!("{file}.d/by.conf"), "another name"]);
    assert!(target.succeeds(&format!("test -e {file}.d/by.conf")));
    target.shell(&format!("rm -r {file}.d"));

    // One that comes while the service is built, when Validation is over.
    program.pipeline(
        name,
        &format!("[settings.systemd]\nbuild = [\"until test -e {go}; do sleep 0.1; done\"]\n"),
    );
    let id = program.submit(&request).await;
    program.phase(&id, "Build", "running").await;
    make(&file);
    let before = look();
    target.shell(&format!("touch {go}"));
    let late = program.end(&id).await.failed();
    assert_eq!(late.phase("Start Service")["status"], "failed", "{:#}", late.0);
    said(&late, &[&file, "systemctl disable --now"]);
    assert_eq!(look(), before);
    target.forget(name);

    // Out of the way, and with settings that somebody lays over ours later.
    program.deploy(&request).await.completed();
    target.shell(&format!("mkdir {file}.d && printf '[Service]\\nNice=5\\n' >{file}.d/by.conf"));
    let warned = program.deploy(&request).await.completed();
    let findings = warned.phase("Validation")["details"].to_string();
    assert!(findings.contains(&format!("{file}.d/by.conf")), "{findings}");
    assert!(target.succeeds(&format!("test -e {file}.d/by.conf")));
    target.shell(&format!("rm -rf {file}.d {go}"));
    target.forget(name);
}

#[tokio::test]
async fn users_and_folders_of_somebody_else_are_left_as_they_are() {
    let name = "e2e-foreign-user";
    let user = format!("svc-{name}");
    let state = format!("/var/lib/deployer/{name}");
    let root = format!("/opt/fpai/services/{name}");
    let target = target();
    target.forget(name);
    target.shell(&format!(
        "rm -rf {state}; userdel {user} 2>/dev/null; useradd --system --home-dir /srv/by-hand {user}; \
         mkdir -p {state} && echo mine >{state}/notes"
    ));
    let program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(36));
    let request = deployment(&service, "systemd", json!({ "ROUND": "1" }));
    let look = || {
        target.shell(&format!(
            "getent passwd {user}; stat -c '%U %a %n' {state} {state}/notes; sha256sum {state}/notes"
        ))
    };
    let before = look();

    refused(
        program.deploy(&request).await,
        &[&user, &format!("user = \"{user}\""), &state, "belongs to root"],
    );
    assert_eq!(look(), before);
    program.pipeline(name, &format!("[settings.systemd]\nuser = \"{user}\"\n"));
    refused(program.deploy(&request).await, &[&state, &format!("chown -R {user} {state}")]);
    assert_eq!(look(), before);
    target.shell(&format!("chown -R {user} {state}"));
    let before = look();
    program.deploy(&request).await.completed();
    assert_eq!(look(), before);

    // The link to the live release is this tool's only as a link to a release.
    target.shell(&format!("rm {root}/current && mkdir {root}/current && echo mine >{root}/current/notes"));
    refused(program.deploy(&request).await, &[&format!("{root}/current"), "mv "]);
    target.shell(&format!("rm -r {root}/current && ln -s {state} {root}/current"));
    refused(program.deploy(&request).await, &[&format!("{root}/current"), &state]);
    assert_eq!(target.shell(&format!("readlink {root}/current")), state);
    target.shell(&format!("rm {root}/current"));

    // Among the virtual environments and the releases, too.
    target.shell(&format!(
        "mkdir -p {root}/venvs/mine {root}/releases/.mine.partial && touch {root}/venvs/mine/x"
    ));
    service.write("requirements.txt", "\n");
    program.deploy(&request).await.completed();
    assert!(target.succeeds(&format!("test -e {root}/venvs/mine/x -a -d {root}/releases/.mine.partial")));
    target.forget(name);
    target.shell(&format!("rm -rf {state}; userdel {user}"));
}
