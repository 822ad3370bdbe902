//! A service with releases, and what is promised of them.

use std::process::Output;

use deployer_tests::{Job, Program, Service, Target, deployment, target};
use serde_json::{Value, json};

/// A copy of `hello-quick`, its deployer, and the releases that it had, oldest first.
pub struct Scene {
    pub program: Program,
    pub target: Target,
    pub service: Service,
    pub method: &'static str,
    pub releases: Vec<String>,
}

/// Removes every trace of a service, background processes too.
pub fn clean(target: &Target, service: &str, port: u16) {
    target.shell(&format!(
        "ss -Hltnp 'sport = :{port}' | grep -v docker-proxy | grep -o 'pid=[0-9]*' | cut -d= -f2 | xargs -r kill -9; true"
    ));
    target.forget(service);
}

impl Scene {
    /// With so many releases, of which the last one is live.
    pub async fn set(method: &'static str, name: &str, place: u16, releases: usize, pipeline: &str) -> Scene {
        let target = target();
        clean(&target, name, target.port(place));
        let program = Program::start(target.clone(), None).await;
        program.pipeline(name, pipeline);
        let service = Service::copy(&program.services(), "hello-quick", name, target.port(place));
        let mut scene = Scene { program, target, service, method, releases: vec![] };
        for _ in 0..releases {
            let job = scene.deploy().await.completed();
            scene.releases.push(job.release().into());
        }
        scene
    }

    /// Deploys a new version: the number of releases before it.
    pub async fn deploy(&self) -> Job {
        let version = self.releases.len().to_string();
        self.service.write("VERSION", &version);
        self.program.deploy(&self.request(&version)).await
    }

    pub fn request(&self, version: &str) -> Value {
        deployment(&self.service, self.method, json!({ "ROUND": version }))
    }

    pub fn root(&self) -> String {
        format!("/opt/fpai/services/{}", self.service.name)
    }

    /// What runs, so that another start of it is another one.
    pub fn instance(&self) -> String {
        let Service { name, .. } = &self.service;
        self.target.shell(&match self.method {
            "docker" => format!(
                "docker ps --no-trunc --filter label=io.deployer.service={name} --format '{{{{.ID}}}}' | \
                 xargs docker inspect --format '{{{{.Id}}}} {{{{.State.StartedAt}}}} {{{{.HostConfig.RestartPolicy.Name}}}}'"
            ),
            "systemd" => format!("systemctl show -p MainPID,InvocationID deployer-{name}.service"),
            _ => format!("cat {}/run/*.pid", self.root()),
        })
    }

    pub fn end(self) {
        clean(&self.target, &self.service.name, self.service.port);
    }

    pub async fn version(&self) -> String {
        let body: Value = serde_json::from_str(&self.service.text("/health").await).unwrap();
        body["version"].as_str().unwrap().to_owned()
    }

    pub async fn listed(&self, release: &str) -> Value {
        let (status, list) = self.program.get(&format!("/releases/{}", self.service.name)).await;
        assert_eq!(status, 200, "{list:#}");
        let found = list.as_array().unwrap().iter().find(|one| one["release"] == release);
        found.unwrap_or_else(|| panic!("{release} is not in {list:#}")).clone()
    }

    pub async fn ways_back(&self) -> Vec<String> {
        let (_, list) = self.program.get(&format!("/releases/{}", self.service.name)).await;
        let ways = list.as_array().unwrap().iter().filter(|one| one["is_rollback_target"] == true);
        ways.map(|one| one["release"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn latest_job(&self) -> Value {
        let (_, jobs) = self.program.get(&format!("/deploy/history/{}?limit=1", self.service.name)).await;
        jobs[0].clone()
    }

    pub async fn rollback(&self, body: &Value) -> (u16, Value) {
        let latest = self.latest_job().await;
        let id = latest["deploy_job_id"].as_str().unwrap().to_owned();
        self.program.post(&format!("/deploy/{id}/rollback"), body).await
    }

    pub fn command(&self, arguments: &[&str]) -> (bool, String) {
        let Output { status, stdout, stderr } = self.program.command(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        (status.success(), text)
    }

    /// The release before the live one cannot be gone back to: the list, the dry run and the rollback say so and
    /// why, and nothing happens.
    pub async fn refuses(&self, because: &str, instead: &str) {
        let Service { name, .. } = &self.service;
        let (before, latest) = (self.instance(), self.latest_job().await);
        let release = &self.releases[self.releases.len() - 2];
        let listed = self.listed(release).await;
        let said = listed["unavailable"].as_str().unwrap_or_default();
        assert!(said.contains(because), "{because}: {listed:#}");
        assert_eq!(listed["is_predecessor"], true, "{listed:#}");
        assert_eq!(self.ways_back().await, [""; 0], "{because}");

        let (dry, said) = self.command(&["rollback", name, "--dry-run"]);
        assert!(!dry && said.contains(because) && said.contains(release), "{because}: {said}");
        assert!(said.contains(instead), "{instead}: {said}");
        let (shown, list) = self.command(&["releases", name]);
        assert!(shown && list.contains(because), "{because}: {list}");
        for body in [json!({}), json!({ "release": release })] {
            let (status, problem) = self.rollback(&body).await;
            assert_eq!((status, problem["code"].as_str()), (409, Some("release-unavailable")), "{problem:#}");
            assert!(problem["detail"].as_str().unwrap().contains(because), "{because}: {problem:#}");
            assert!(problem["hint"].as_str().unwrap().contains(instead), "{instead}: {problem:#}");
        }
        let (done, said) = self.command(&["rollback", name]);
        assert!(!done && said.contains(because), "{because}: {said}");
        assert_eq!(self.instance(), before, "{because}: something was touched");
        assert_eq!(self.latest_job().await["deploy_job_id"], latest["deploy_job_id"], "no job was made");
    }
}
