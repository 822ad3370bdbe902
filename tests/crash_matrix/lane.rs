//! A service and a deployer of its own, which is killed at one point after the other.

use std::time::{Duration, Instant};

use deployer_tests::{Job, Program, Served, Service, client, deployment, serving, target, wrongs};
use serde_json::{Value, json};

/// What is deployed again and again.
#[derive(Clone, Copy)]
pub struct Redeployment {
    pub method: &'static str,
    /// The new release answers 500, so that the one before has to come back.
    pub sick: bool,
    /// One point of so many is in the sample.
    pub every: usize,
}

pub struct Lane {
    program: Program,
    service: Service,
    redeployment: Redeployment,
    served: Served,
    round: u32,
}

/// A record that the journal makes durable.
pub struct Record {
    /// As in `12.3`: its part, and its place there.
    pub place: String,
    pub what: String,
}

/// What came of one point.
pub struct Crashed {
    pub point: String,
    /// Whether the run came that far.
    pub reached: bool,
    pub completed: bool,
    pub wrongs: Vec<String>,
}

impl Lane {
    /// With a first release that serves.
    pub async fn start(name: String, redeployment: Redeployment, port: u16) -> Self {
        let target = target();
        target.forget(&name);
        let port = target.port(port);
        let program = Program::start(target, None).await;
        // One wrong answer is enough. The pauses are long, so that few records depend on how fast the service is.
        program.pipeline(&name, "[settings.health]\nattempts = 1\ninterval_ms = 1000\n");
        let service = Service::copy(&program.services(), "hello-quick", &name, port);
        let first = program.deploy(&request(&service, redeployment.method, "0")).await.completed();
        let served = Served { release: first.release().into(), version: "0".into() };
        if redeployment.sick {
            service.write("SICK", "");
        }
        Lane { program, service, redeployment, served, round: 0 }
    }

    /// The records of a redeployment that nothing interrupts.
    pub async fn count(&mut self) -> Vec<Record> {
        let before = self.program.log().len();
        let crashed = self.crash("0.0:after").await;
        assert!(crashed.wrongs.is_empty(), "{:#?}", crashed.wrongs);
        let log = self.program.log().split_off(before);
        let record = |line: &str| {
            let (place, what) = line.split_once(": record ")?.1.split_once(": ")?;
            Some(Record { place: place.into(), what: what.into() })
        };
        log.lines().filter_map(record).collect()
    }

    /// Deploys a new version with a deployer that dies at a point, and looks at what the next one makes of it.
    pub async fn crash(&mut self, point: &str) -> Crashed {
        self.round += 1;
        let version = self.round.to_string();
        self.service.write("VERSION", &version);
        let latest = self.latest().await.unwrap().id().to_owned();
        self.restart(Some(point)).await;
        // The answer may be lost with the deployer.
        let request = request(&self.service, self.redeployment.method, &version);
        let url = format!("{}/deploy", self.program.url);
        let _ = client().post(url).json(&request).send().await;
        let reached = self.has_died(&latest).await;
        self.restart(None).await;

        let job = self.latest().await.unwrap();
        let method = self.redeployment.method;
        let mut wrongs = if job.id() == latest {
            serving(&self.program, &self.service, method, &self.served).await
        } else {
            let job = self.program.end(job.id()).await;
            let (served, wrongs) =
                wrongs(&self.program, &self.service, method, &job, &self.served, &version).await;
            self.served = served;
            wrongs
        };
        let job = self.latest().await.unwrap();
        let completed = job.0["status"] == "completed";
        if job.id() != latest && completed == self.redeployment.sick {
            wrongs.push(format!("the job is {}: {}", job.0["status"], job.error()));
        }
        let wrongs = wrongs.into_iter().map(|wrong| format!("{point}, {}: {wrong}", job.id())).collect();
        Crashed { point: point.into(), reached, completed, wrongs }
    }

    async fn restart(&mut self, crash_at: Option<&str>) {
        self.program.kill();
        self.program.crash_at = crash_at.map(Into::into);
        self.program.run().await;
    }

    /// Waits until the deployer has died, or a later job than this one is over without that.
    async fn has_died(&mut self, latest: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.program.has_died() {
            if let Some(job) = self.latest().await
                && job.id() != latest
                && !job.0["completed_at"].is_null()
            {
                // It may die of its very last record, which is here already.
                tokio::time::sleep(Duration::from_millis(200)).await;
                return self.program.has_died();
            }
            assert!(Instant::now() < deadline, "the deployer neither dies nor ends its job");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }

    /// The service's newest job, if the deployer answers.
    async fn latest(&self) -> Option<Job> {
        let url = format!("{}/deploy/history/{}?limit=1", self.program.url, self.service.name);
        let jobs: Value = client().get(url).send().await.ok()?.json().await.ok()?;
        jobs.get(0).cloned().map(Job)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.program.kill();
        self.program.target.forget(&self.service.name);
    }
}

fn request(service: &Service, method: &str, version: &str) -> Value {
    deployment(service, method, json!({ "ROUND": version }))
}
