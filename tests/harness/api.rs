//! The API, as a script would call it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{Program, client};
use crate::service::Service;

/// A job's record, as the API shows it.
#[derive(Clone, Debug)]
pub struct Job(pub Value);

/// A request to deploy a service.
pub fn deployment(service: &Service, method: &str, environment: Value) -> Value {
    json!({
        "service_path": service.name,
        "service_name": service.name,
        "service_port": service.port,
        "deployment_method": method,
        "environment_vars": environment,
    })
}

impl Program {
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.url);
        answer(client().post(url).timeout(Duration::from_secs(300)).json(body)).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(client().get(format!("{}{path}", self.url))).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        answer(client().delete(format!("{}{path}", self.url))).await
    }

    /// Asks for a deployment, and gives the job's id.
    pub async fn submit(&self, request: &Value) -> String {
        let (status, body) = self.post("/deploy", request).await;
        assert_eq!(status, 202, "{body:#}");
        body["deploy_job_id"].as_str().unwrap().to_owned()
    }

    /// Deploys, and waits for the end.
    pub async fn deploy(&self, request: &Value) -> Job {
        let id = self.submit(request).await;
        self.end(&id).await
    }

    /// Waits until a job is over: its event stream ends then.
    pub async fn end(&self, id: &str) -> Job {
        let deadline = Instant::now() + Duration::from_secs(600);
        loop {
            // A stream that breaks because the program was killed is opened again.
            let url = format!("{}/deploy/{id}/events", self.url);
            if let Ok(stream) = client().get(url).timeout(Duration::from_secs(600)).send().await {
                let _ = stream.bytes().await;
            }
            let (status, job) = self.get(&format!("/deploy/{id}")).await;
            assert_eq!(status, 200, "{job:#}");
            if !job["completed_at"].is_null() {
                return Job(job);
            }
            assert!(Instant::now() < deadline, "{job:#}");
        }
    }

    /// A service's jobs, newest first, once all of them are over: one may have been accepted after its caller had left.
    pub async fn ended(&self, service: &str) -> Vec<Value> {
        loop {
            let (status, jobs) = self.get(&format!("/deploy/history/{service}?limit=500")).await;
            assert_eq!(status, 200, "{jobs:#}");
            let jobs = jobs.as_array().unwrap().clone();
            let Some(open) = jobs.iter().find(|job| job["completed_at"].is_null()) else { return jobs };
            self.end(open["deploy_job_id"].as_str().unwrap()).await;
        }
    }

    /// Waits until a phase of a job has a status.
    pub async fn phase(&self, id: &str, phase: &str, status: &str) -> Job {
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            let (_, job) = self.get(&format!("/deploy/{id}")).await;
            let job = Job(job);
            if job.phase(phase)["status"] == status {
                return job;
            }
            assert!(job.0["completed_at"].is_null() && Instant::now() < deadline, "{:#}", job.0);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a phase of a job has a status, which may come after the job's end.
    pub async fn phase_at_last(&self, id: &str, phase: &str, status: &str) -> Job {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (_, job) = self.get(&format!("/deploy/{id}")).await;
            let job = Job(job);
            if job.phase(phase)["status"] == status {
                return job;
            }
            assert!(Instant::now() < deadline, "{:#}", job.0);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All log lines of a job.
    pub async fn lines(&self, id: &str) -> Vec<String> {
        let url = format!("{}/deploy/{id}/events", self.url);
        let text = client().get(url).send().await.unwrap().text().await.unwrap();
        text.lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .filter_map(|data| serde_json::from_str::<Value>(data.trim()).ok())
            .filter_map(|data| data["line"].as_str().map(Into::into))
            .collect()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

impl Job {
    pub fn phase(&self, name: &str) -> &Value {
        let phases = self.0["phases"].as_array().unwrap();
        phases.iter().find(|phase| phase["phase"] == name).unwrap()
    }

    /// Every phase's status, in order.
    pub fn statuses(&self) -> Vec<String> {
        let phases = self.0["phases"].as_array().unwrap();
        phases.iter().map(|phase| phase["status"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub fn completed(self) -> Self {
        assert_eq!(self.0["status"], "completed", "{:#}", self.0);
        assert_eq!(self.0["success"], true, "{:#}", self.0);
        self
    }

    #[track_caller]
    pub fn failed(self) -> Self {
        assert_eq!(self.0["status"], "failed", "{:#}", self.0);
        assert_eq!(self.0["success"], false, "{:#}", self.0);
        self
    }

    pub fn id(&self) -> &str {
        self.0["deploy_job_id"].as_str().unwrap()
    }

    pub fn release(&self) -> &str {
        self.0["release"].as_str().unwrap()
    }

    pub fn error(&self) -> &str {
        self.0["error"].as_str().unwrap_or_default()
    }
}
