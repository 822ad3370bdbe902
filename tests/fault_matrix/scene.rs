//! A service, its deployer, and everything around them that can fail.

use std::time::{Duration, Instant};

use deployer::demo::registry::{Behaviour, Dialect, Registry};
use deployer_tests::{Job, Program, Proxy, Served, Service, Target, deployment, target, wrongs};
use serde_json::{Value, json};

use crate::Fault;

/// One that was stopped several times in a minute is not started again, if nobody forgives it.
const START_DOCKER: &str =
    "systemctl reset-failed docker.socket docker; systemctl start docker.socket docker";

pub struct Scene {
    method: &'static str,
    proxy: Proxy,
    registry: Option<Registry>,
    registry_port: u16,
    program: Program,
    service: Service,
    /// Past the proxy.
    server: Target,
    served: Served,
    round: u32,
}

/// What came of a fault.
pub struct Struck {
    pub completed: bool,
    pub wrongs: Vec<String>,
}

impl Scene {
    /// With a first release that serves, and a file system of its own for the service.
    pub async fn set(name: &str, method: &'static str, port: u16) -> Self {
        let server = target();
        server.forget(name);
        let folder = folder(name);
        server.shell(&format!("mkdir -p {folder} && mount -t tmpfs -o size=256m tmpfs {folder}"));
        let proxy = Proxy::start(&server).await;
        let registry = Registry::start(Dialect::Droplets).await.unwrap();
        let program = Program::start(proxy.target.clone(), Some(&registry.url())).await;
        // Every phase takes long enough for a fault to come in its middle.
        let build = if method == "systemd" { "[settings.systemd]\nbuild = [\"sleep 1\"]\n" } else { "" };
        program.pipeline(name, &format!("[settings.preflight]\nmin_free_bytes = 0\n{build}"));
        let service = Service::copy(&program.services(), "hello-quick", name, server.port(port));
        let dockerfile = service.read("Dockerfile");
        service.write("Dockerfile", &format!("{dockerfile}RUN sleep 1\n"));
        let registry_port = registry.address().port();
        let mut scene = Scene {
            method,
            proxy,
            registry: Some(registry),
            registry_port,
            program,
            service,
            server,
            served: Served { release: String::new(), version: "0".into() },
            round: 0,
        };
        let request = scene.change();
        let first = scene.program.deploy(&request).await.completed();
        scene.served.release = first.release().into();
        scene
    }

    /// Deploys a new version while a fault comes in a phase, and looks at how it ends.
    pub async fn strike(&mut self, fault: Fault, phase: &str) -> Struck {
        self.round += 1;
        let request = self.change();
        let id = self.program.submit(&request).await;
        loop {
            let job = Job(self.program.get(&format!("/deploy/{id}")).await.1);
            if job.phase(phase)["status"] != "pending" || !job.0["completed_at"].is_null() {
                break;
            }
        }
        self.begin(fault).await;
        // One that does not pass by itself lasts until the job has ended all the same.
        if let Some(time) = fault.lasts() {
            tokio::time::sleep(time).await;
            self.relent(fault).await;
        }
        let job = self.program.end(&id).await;
        if fault.lasts().is_none() {
            self.relent(fault).await;
        }
        // What went down with the server comes back with it, a moment later.
        if fault == Fault::DockerStopped {
            let deadline = Instant::now() + Duration::from_secs(20);
            while self.service.get("/health").await.is_err() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let version = self.round.to_string();
        let (served, mut wrongs) =
            wrongs(&self.program, &self.service, self.method, &job, &self.served, &version).await;
        self.served = served;
        if matches!(fault, Fault::RegistryDown | Fault::RegistryNonsense) {
            let register = &job.phase("Register")["status"];
            if job.0["status"] != "completed" || register != "failed" {
                wrongs.push(format!("the job is {}, and Register is {register}", job.0["status"]));
            }
        }
        let why = || format!("{} {} ({})", job.0["status"], job.0["aftermath"], job.error());
        let wrongs: Vec<String> = wrongs
            .into_iter()
            .map(|wrong| format!("{}, {fault:?} in {phase}, {id}, {}: {wrong}", self.method, why()))
            .collect();
        Struck { completed: job.0["status"] == "completed", wrongs }
    }

    /// Makes the service another one, and gives the request to deploy it.
    fn change(&self) -> Value {
        let version = self.round.to_string();
        self.service.write("VERSION", &version);
        // Incompressible, and never what it was before.
        let payload: String = (0..4 << 20).map(|place| noise(self.round, place)).collect();
        self.service.write("payload", &payload);
        deployment(&self.service, self.method, json!({ "ROUND": version, "DELAY": "1" }))
    }

    async fn begin(&mut self, fault: Fault) {
        let folder = folder(&self.service.name);
        match fault {
            Fault::Cut => self.proxy.cut(),
            Fault::Silence => self.proxy.silence(),
            Fault::SshdRestart => self.server.inside("systemctl restart ssh; pkill -f '^sshd: root' || true"),
            // It ends when there is no space left, which is what it is for.
            Fault::DiskFull => {
                self.server.shell(&format!("cat /dev/zero >{folder}/filler 2>/dev/null || true"));
            }
            Fault::DockerStopped => self.server.inside("systemctl stop docker.socket docker"),
            Fault::RegistryDown => {
                if let Some(registry) = self.registry.take() {
                    registry.stop().await;
                }
            }
            Fault::RegistryNonsense => {
                if let Some(registry) = &self.registry {
                    registry.behave(Behaviour::Nonsense);
                }
            }
        }
    }

    async fn relent(&mut self, fault: Fault) {
        match fault {
            Fault::Cut | Fault::Silence => self.proxy.resume(),
            Fault::SshdRestart => {}
            Fault::DiskFull => {
                self.server.shell(&format!("rm {}/filler", folder(&self.service.name)));
            }
            Fault::DockerStopped => self.server.inside(START_DOCKER),
            Fault::RegistryDown => {
                let again = Registry::start_on(Dialect::Droplets, self.registry_port).await.unwrap();
                self.registry = Some(again);
            }
            Fault::RegistryNonsense => {
                if let Some(registry) = &self.registry {
                    registry.behave(Behaviour::Sound);
                }
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.program.kill();
        // A test that failed in the middle leaves the server as the next one needs it.
        self.server.inside(START_DOCKER);
        let name = &self.service.name;
        self.server.forget(name);
        self.server.shell(&format!("umount {0} && rmdir {0}", folder(name)));
    }
}

fn folder(name: &str) -> String {
    format!("/opt/fpai/services/{name}")
}

/// A character that looks random, and is always the same for a place in a round.
fn noise(round: u32, place: u32) -> char {
    let mixed = (place ^ round.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
    char::from(b'!' + u8::try_from((mixed ^ mixed >> 15) % 90).unwrap())
}
