//! The outside world: what a plugin sees of it, with and without grants.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::fixture::{Remembered, call, context, deployment, granted, hiding};
use crate::capability::{EnvironmentSource, Registry, ServiceFolder, StepContext};
use crate::contract::Fault;
use crate::model::Grant;
use crate::plugin::StepError;
use crate::secret::{Hidden, Redactor, Secret};

async fn found(context: StepContext, deed: &str, with: &str) -> Result<String, StepError> {
    let findings = call(context).await.validate(&deployment(deed, with)).await?;
    Ok(findings.into_iter().map(|finding| finding.message).collect())
}

fn service() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("VERSION"), "7").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("passwd")).unwrap();
    folder
}

#[tokio::test]
async fn the_service_can_be_read_and_not_written() {
    let recorder = Remembered::new();
    let folder = service();
    let service_dir = Some(ServiceFolder::open(folder.path()).unwrap());
    let step = StepContext { service_dir, ..context(&recorder).await };
    let step = granted(step, &[Grant::ServiceRead]);
    assert_eq!(found(step.clone(), "read", "/service/VERSION").await.unwrap(), "7");
    for (deed, with) in [
        ("write", "/service/VERSION"),
        ("write", "/service/new"),
        ("write", "/tmp/new"),
        ("read", "/etc/passwd"),
        ("read", "/service/../../etc/passwd"),
        ("read", "/service/passwd"),
    ] {
        let error = found(step.clone(), deed, with).await.unwrap_err();
        assert!(!error.to_string().contains("service.read"), "{deed} {with}: {error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(std::fs::read_to_string(folder.path().join("VERSION")).unwrap(), "7");
}

#[tokio::test]
async fn without_the_grant_the_message_names_it() {
    let recorder = Remembered::new();
    let folder = service();
    let service_dir = Some(ServiceFolder::open(folder.path()).unwrap());
    let step = StepContext { service_dir, ..context(&recorder).await };
    let error = found(granted(step, &[Grant::TargetRead]), "read", "/service/VERSION").await.unwrap_err();
    let line = "add to `[grants]` in pipelines/one.toml: `naughty = [\"service.read\", \"target.read\"]`";
    assert!(error.to_string().contains(line), "{error}");
}

#[tokio::test]
async fn there_is_no_network_and_nothing_ambient() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let recorder = Remembered::new();
    let step = granted(context(&recorder).await, &Grant::ALL);
    assert!(found(step.clone(), "connect", &address).await.is_err());
    assert!(found(step.clone(), "connect", "localhost:80").await.is_err());
    assert_eq!(found(step, "ambient", "").await.unwrap(), "0 0");
}

#[tokio::test]
async fn calls_without_a_grant_are_refused_and_name_it() {
    for (deed, with, grant) in [
        ("http", "network 8001", "http.network"),
        ("http", "https://example.com", "http.any"),
        ("http", "registry", "http.registry"),
        ("run", "true", "target.read"),
        ("run_changes", "true", "target.run"),
        ("place", "/opt/env", "environment"),
    ] {
        let recorder = Remembered::new();
        let others = Grant::ALL.into_iter().filter(|one| one.as_str() != grant).collect::<Vec<_>>();
        let step = granted(context(&recorder).await, &others);
        let told = found(step, deed, with).await.unwrap_err().into_error();
        assert_eq!(told.fault, Fault::Request);
        let needs = format!("plugin `naughty` needs the grant `{grant}` for ");
        assert!(told.seen.starts_with(&needs), "{deed}: {}", told.seen);
        assert!(
            told.next.starts_with("add it to `[grants]` in pipelines/one.toml: `naughty = ["),
            "{}",
            told.next
        );
        assert!(told.next.contains(&format!("\"{grant}\"")), "{}", told.next);
        // On record as what it is, and nothing was done.
        let calls = recorder.calls();
        assert_eq!(calls.len(), 1, "{deed}: {calls:?}");
        assert_eq!(calls[0].2.as_ref().unwrap().error.as_ref(), Some(&told.seen));
    }
}

#[tokio::test]
async fn a_target_that_is_not_there_is_the_targets_fault_and_on_record() {
    let recorder = Remembered::new();
    let step = granted(context(&recorder).await, &[Grant::TargetRead]);
    let told = found(step, "run", "echo hello").await.unwrap_err().into_error();
    assert_ne!(told.fault, Fault::Plugin, "{told:?}");
    assert_eq!(told.attempted, "run `echo hello`");
    let calls = recorder.calls();
    let (function, arguments, ended) = calls.first().unwrap();
    assert_eq!(function, "target.run");
    assert_eq!(arguments["argv"], serde_json::json!(["echo", "hello"]));
    assert_eq!(ended.as_ref().unwrap().error.as_deref(), Some(told.seen.as_str()));
}

#[tokio::test]
async fn placing_records_names_and_no_values() {
    let recorder = Remembered::new();
    let step = granted(context(&recorder).await, &[Grant::Environment]);
    let step = hiding(step, &[("SECRET", "s3cr3t-1")]);
    // Nobody is there to write to: what matters is the record.
    found(step.clone(), "place", "/opt/fpai/services/one/env/0001").await.unwrap_err();
    let told = format!("{:?}", recorder.all());
    assert!(told.contains("SECRET") && !told.contains("s3cr3t"), "{told}");

    let error = found(step.clone(), "place", "relative").await.unwrap_err().into_error();
    assert_eq!(error.fault, Fault::Plugin);
    let step = StepContext { environment: EnvironmentSource::OnTarget, ..step };
    let error = found(step, "place", "/opt/fpai/services/one/env/0001").await.unwrap_err().into_error();
    assert!(error.attempted.starts_with("resolve the path /opt/fpai/services/one/env"), "{error:?}");
}

/// Answers one request with a body, and returns what was asked.
async fn server(body: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        let mut part = [0; 4096];
        while !seen.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut part).await.unwrap();
            assert_ne!(count, 0);
            seen.extend_from_slice(&part[..count]);
        }
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(seen).unwrap()
    });
    (port, task)
}

#[tokio::test]
async fn an_answer_comes_back_as_it_is_and_is_on_record_without_secrets() {
    let (port, task) = server("the token is s3cr3t-1").await;
    let recorder = Remembered::new();
    let step = granted(context(&recorder).await, &[Grant::HttpNetwork]);
    let step = hiding(step, &[("TOKEN", "s3cr3t-1")]);
    let answer = found(step, "http", &format!("network {port}")).await.unwrap();
    assert_eq!(answer, "200 the token is s3cr3t-1");
    assert!(task.await.unwrap().starts_with("GET /health HTTP/1.1\r\n"));
    let calls = recorder.calls();
    let (function, arguments, ended) = calls.first().unwrap();
    let ended = ended.as_ref().unwrap();
    assert_eq!((function.as_str(), arguments["method"].as_str()), ("http.send", Some("GET")));
    assert_eq!(arguments["url"], format!("http://127.0.0.1:{port}/health"));
    assert_eq!((ended.exit.as_deref(), ended.error.as_deref()), (Some("200"), None));
    assert_eq!(ended.output_tail, "the token is [env TOKEN]");
}

#[tokio::test]
async fn nobody_listening_is_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let recorder = Remembered::new();
    let step = granted(context(&recorder).await, &[Grant::HttpNetwork]);
    assert_eq!(found(step, "http", &format!("network {port}")).await.unwrap(), "Failure::Refused");
    let calls = recorder.calls();
    assert_eq!(calls[0].2.as_ref().unwrap().exit.as_deref(), Some("connection refused"));
}

#[tokio::test]
async fn the_registry_gets_a_token_that_is_on_no_record() {
    let (port, task) = server("you sent tok-123456").await;
    let recorder = Remembered::new();
    let step = granted(context(&recorder).await, &[Grant::HttpRegistry]);
    let told = found(step.clone(), "http", "registry").await.unwrap_err().into_error();
    assert!(told.next.contains("--registry"), "{told:?}");

    let token = Secret::new("tok-123456");
    let redactor = Redactor::new(vec![Hidden::registry("[registry token]", token.clone())], vec![]);
    let registry = Registry { url: format!("http://127.0.0.1:{port}/api/"), token: Some(token), login: None };
    let step = StepContext { registry: Some(registry), redactor, ..step };
    assert_eq!(found(step, "http", "registry").await.unwrap(), "200 you sent tok-123456");
    let seen = task.await.unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("get /api/health http/1.1\r\n"), "{seen}");
    assert!(seen.contains("\r\nauthorization: bearer tok-123456\r\n"), "{seen}");
    let told = format!("{:?}", recorder.all());
    assert!(!told.contains("tok-123456"), "{told}");
}
