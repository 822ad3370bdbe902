//! A deployer is killed from Start on, another one completes a deployment, and the first one starts again: the
//! other one's release still runs, with its own bytes, and the first one's job says so.

use std::time::{Duration, Instant};

use deployer_tests::{Job, Program, Served, Service, client, deployment, sample, say, serving, target};
use serde_json::{Value, json};

struct Two {
    first: Program,
    second: Program,
    /// Each has its own copy.
    services: [Service; 2],
    method: &'static str,
    round: u32,
}

impl Two {
    async fn start(name: &str, method: &'static str, port: u16) -> Two {
        let target = target();
        target.forget(name);
        let port = target.port(port);
        let first = Program::start(target.clone(), None).await;
        let second = Program::start(target, None).await;
        for program in [&first, &second] {
            program.pipeline(name, "[settings.health]\nattempts = 1\ninterval_ms = 1000\n");
        }
        let services =
            [&first, &second].map(|program| Service::copy(&program.services(), "hello-quick", name, port));
        Two { first, second, services, method, round: 0 }
    }

    fn request(&mut self, which: usize) -> (Value, String) {
        self.round += 1;
        let version = self.round.to_string();
        let service = &self.services[which];
        service.write("VERSION", &version);
        (deployment(service, self.method, json!({ "ROUND": version })), version)
    }

    async fn restart_first(&mut self, crash_at: Option<&str>) {
        self.first.kill();
        self.first.crash_at = crash_at.map(Into::into);
        self.first.run().await;
    }

    /// The first one's newest job, if it answers.
    async fn latest(&self) -> Option<Job> {
        let url = format!("{}/deploy/history/{}?limit=1", self.first.url, self.services[0].name);
        let jobs: Value = client().get(url).send().await.ok()?.json().await.ok()?;
        jobs.get(0).cloned().map(Job)
    }

    /// The places of the records from Start on, in a redeployment that nothing interrupts.
    async fn places(&mut self) -> Vec<String> {
        let (request, _) = self.request(0);
        self.first.deploy(&request).await.completed();
        self.restart_first(Some("0.0:after")).await;
        let before = self.first.log().len();
        let (request, _) = self.request(0);
        self.first.deploy(&request).await.completed();
        let log = self.first.log().split_off(before);
        let records: Vec<(String, bool)> = log
            .lines()
            .filter_map(|line| line.split_once(": record ")?.1.split_once(": "))
            .map(|(place, what)| (place.to_owned(), what.starts_with("the job's state")))
            .collect();
        // The job's state changes with each phase: Start is the fourth.
        let start = records.iter().enumerate().filter(|(_, (_, state))| *state).nth(3).unwrap().0;
        records.into_iter().skip(start).map(|(place, _)| place).collect()
    }

    /// What is wrong after a crash at a point with a deployment in between.
    async fn crash(&mut self, point: &str) -> Vec<String> {
        let latest = self.latest().await.unwrap().id().to_owned();
        self.restart_first(Some(point)).await;
        let (request, _) = self.request(0);
        let _ = client().post(format!("{}/deploy", self.first.url)).json(&request).send().await;
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.first.has_died() {
            let over =
                self.latest().await.is_some_and(|job| job.id() != latest && !job.0["completed_at"].is_null());
            if over {
                break;
            }
            assert!(Instant::now() < deadline, "{point}: the deployer neither dies nor ends its job");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.first.kill();
        let name = self.services[0].name.clone();
        // Its lease ends with its time, which is the file's.
        let lock = format!("/opt/fpai/services/{name}/lock");
        self.first.target.shell(&format!("test ! -f {lock} || touch -d @1 {lock}"));

        let (request, version) = self.request(1);
        let done = self.second.deploy(&request).await;
        if done.0["status"] != "completed" {
            return vec![format!(
                "{point}: the second deployer's job is {}: {}",
                done.0["status"],
                done.error()
            )];
        }
        let served = Served { release: done.release().into(), version };
        self.restart_first(None).await;
        let job = self.latest().await.unwrap();
        let job = self.first.end(job.id()).await;
        let mut wrongs = serving(&self.second, &self.services[1], self.method, &served).await;
        match (job.0["status"].as_str().unwrap(), job.0["aftermath"].as_str()) {
            ("completed", _) => {}
            ("failed", Some("taken_over")) if job.error().contains(done.id()) => {}
            (status, aftermath) => wrongs.push(format!("the job is {status} {aftermath:?}: {}", job.error())),
        }
        let lists = [self.list(&self.first).await, self.list(&self.second).await];
        let live = |list: &[(String, String)]| {
            list.iter().filter(|(_, status)| status == "live").map(|(id, _)| id.clone()).collect::<Vec<_>>()
        };
        if lists[0] != lists[1] || live(&lists[0]) != [served.release.clone()] {
            wrongs.push(format!("{served:?} serves, and the two list\n{:?}\n{:?}", lists[0], lists[1]));
        }
        wrongs.into_iter().map(|wrong| format!("{point}, {}: {wrong}", job.id())).collect()
    }

    async fn list(&self, program: &Program) -> Vec<(String, String)> {
        let (_, list) = program.get(&format!("/releases/{}", self.services[0].name)).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = list.as_array().cloned().unwrap_or_default();
        list.iter().map(|release| (text(&release["release"]), text(&release["status"]))).collect()
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        self.first.kill();
        self.second.kill();
        self.first.target.forget(&self.services[0].name);
    }
}

async fn takeovers(name: &str, method: &'static str, port: u16, first: usize, every: usize) {
    let mut two = Two::start(name, method, port).await;
    let places = two.places().await;
    let all: Vec<String> =
        places.iter().flat_map(|place| ["before", "after"].map(|side| format!("{place}:{side}"))).collect();
    let points = sample(&all, first, every);
    let mut wrongs = Vec::new();
    for point in &points {
        wrongs.extend(two.crash(point).await);
    }
    say(&format!("crash matrix: {name}: {} of {} points with a takeover", points.len(), all.len()));
    assert!(wrongs.is_empty(), "{} are wrong:\n{wrongs:#?}", wrongs.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_docker_deployment_of_another_deployer_after_a_crash() {
    takeovers("matrix-taken-docker", "docker", 36, 0, 24).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_systemd_deployment_of_another_deployer_after_a_crash() {
    takeovers("matrix-taken-systemd", "systemd", 37, 4, 20).await;
}
