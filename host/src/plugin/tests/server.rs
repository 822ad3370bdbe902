//! A real SSH server: what a plugin does there, and what becomes of it.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fixture::{Remembered, Told, call, context, deployment, granted, hiding};
use crate::capability::{Amount, Boundary, EnvironmentSource, Limits, ServiceFolder, StepContext};
use crate::demo::sshd::Sshd;
use crate::model::Grant;
use crate::plugin::{StepError, StepFailure};
use crate::ssh::{Credentials, Ssh};

/// A server, a folder of its own on it, and a step that may do everything.
pub struct There {
    pub server: Sshd,
    pub folder: tempfile::TempDir,
    pub recorder: Arc<Remembered>,
    pub step: StepContext,
}

pub async fn there() -> There {
    let folder = tempfile::tempdir().unwrap();
    let server = Sshd::start(&folder.path().join("server"), "deployer").await.unwrap();
    let credentials = Credentials { key: server.key_file().into(), known_hosts: server.known_hosts().into() };
    let ssh = Ssh::new(format!("deployer@{}", server.address()).parse().unwrap(), credentials);
    let recorder = Remembered::new();
    std::fs::create_dir(folder.path().join("one")).unwrap();
    let services = folder.path().display().to_string();
    let boundary = Boundary::new(&services, "one", [format!("{services}/one/env/0001")]);
    let step = StepContext { ssh, boundary, ..granted(context(&recorder).await, &Grant::ALL) };
    There { server, folder, recorder, step }
}

impl There {
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join("one").join(name).display().to_string()
    }
}

pub async fn found(step: &StepContext, deed: &str, with: &str) -> Result<String, StepError> {
    let findings = call(step.clone()).await.validate(&deployment(deed, with)).await?;
    Ok(findings.into_iter().map(|finding| finding.message).collect())
}

#[tokio::test]
async fn a_commands_lines_its_exit_and_its_process_are_on_record() {
    let there = there().await;
    let step = hiding(there.step.clone(), &[("TOKEN", "s3cr3t-1")]);
    let answer = found(&step, "run", "printf one\\ns3cr3t-1\\n").await.unwrap();
    assert_eq!(answer, "Exit::Code(0) one\ns3cr3t-1\n");
    assert_eq!(there.recorder.lines(), ["target: one", "target: [env TOKEN]"]);
    let (_, arguments, ended) = there.recorder.calls().remove(0);
    let ended = ended.unwrap();
    assert_eq!(arguments["argv"], json!(["printf", "one\\n[env TOKEN]\\n"]));
    assert_eq!(
        (ended.exit.as_deref(), ended.output_tail.as_str()),
        (Some("exit status 0"), "one\n[env TOKEN]\n")
    );
    let order: Vec<&str> = there
        .recorder
        .all()
        .iter()
        .map(|told| match told {
            Told::Started(..) => "started",
            Told::Running(_) => "running",
            Told::Log(..) => "log",
            Told::Ended(..) => "ended",
            Told::Progress(_) => "progress",
        })
        .collect();
    assert_eq!(order.first(), Some(&"started"));
    assert_eq!(order.last(), Some(&"ended"));
    assert!(order.contains(&"running"), "{order:?}");

    assert_eq!(found(&step, "run", "false").await.unwrap(), "Exit::Code(1) ");
    there.server.stop().await;
}

#[tokio::test]
async fn a_value_of_several_lines_is_on_no_record_line_by_line() {
    let there = there().await;
    let step = hiding(there.step.clone(), &[("KEY", "first-secret\nsecond-secret\n")]);
    let answer = found(&step, "run", "printf first-secret\\nsecond-secret\\n").await.unwrap();
    assert_eq!(answer, "Exit::Code(0) first-secret\nsecond-secret\n");
    assert_eq!(there.recorder.lines(), ["target: [env KEY]", "target: [env KEY]"]);
    let told = format!("{:?}", there.recorder.all());
    assert!(!told.contains("-secret"), "{told}");
    there.server.stop().await;
}

#[tokio::test]
async fn a_command_ends_with_its_job_and_with_its_time() {
    let there = there().await;
    let cancel = there.step.cancel.clone();
    let cancelling = {
        let recorder = there.recorder.clone();
        tokio::spawn(async move {
            while !recorder.all().iter().any(|told| matches!(told, Told::Running(_))) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
        })
    };
    let begun = Instant::now();
    let error = found(&there.step, "run", "sleep 3600").await.unwrap_err();
    cancelling.await.unwrap();
    assert!(error.is_cancelled(), "{error}");
    let (_, _, ended) = there.recorder.calls().remove(0);
    let cause = ended.unwrap().error.unwrap();
    assert!(cause.contains("cancelled") && cause.contains("ended"), "{cause}");

    let limits = Limits { timeout: Duration::from_millis(500), ..there.step.limits };
    let step = StepContext { limits, cancel: Default::default(), ..there.step.clone() };
    let error = found(&step, "run", "sleep 3600").await.unwrap_err();
    assert!(matches!(error.failure, StepFailure::TimedOutIn { call: "target.run", .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    there.server.stop().await;
}

#[tokio::test]
async fn the_environment_is_placed_and_found_again_and_on_no_record() {
    let there = there().await;
    let path = there.path("env/0001");
    let value = "s3cr3t \"$(x)\"\nand on";
    let step = hiding(there.step.clone(), &[("SECRET", value)]);
    assert_eq!(found(&step, "place", &path).await.unwrap(), "placed");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "SECRET=\"s3cr3t \\\"\\$(x)\\\"\nand on\"\n");

    for deed in ["cat", "run"] {
        let with = if deed == "run" { format!("cat {path}") } else { path.clone() };
        let error = found(&step, deed, &with).await.unwrap_err().to_string();
        assert!(error.contains("plugin `naughty` may not read") && error.contains(&path), "{deed}: {error}");
    }
    let told = format!("{:?}", there.recorder.all());
    assert!(!told.contains("s3cr3t"), "{told}");

    let later = StepContext { environment: EnvironmentSource::OnTarget, ..step };
    assert_eq!(found(&later, "place", &path).await.unwrap(), "placed");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(found(&later, "place", &path).await.unwrap_err().to_string().contains("0644"));
    std::fs::remove_file(&path).unwrap();
    assert!(found(&later, "place", &path).await.unwrap_err().to_string().contains("is gone"));
    there.server.stop().await;
}

#[tokio::test]
async fn files_are_written_moved_looked_at_and_removed() {
    let there = there().await;
    let answer = found(&there.step, "files", &there.path("")).await;
    let answer = answer.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(answer, "None Some(Attributes { kind: Kind::File, size: 7, mode: 416 }) 7 true None");
    there.server.stop().await;
}

#[tokio::test]
async fn a_tree_is_sent_and_counted() {
    let there = there().await;
    let service = tempfile::tempdir().unwrap();
    std::fs::write(service.path().join("VERSION"), "7").unwrap();
    let step =
        StepContext { service_dir: Some(ServiceFolder::open(service.path()).unwrap()), ..there.step.clone() };
    let sha256 = "7902699be42c8a8e46fbbb4501726517e86b22c56a189f7625a6da49081b2451";
    let destination = there.path("releases/0001");
    assert_eq!(found(&step, "upload", &format!("{destination} {sha256}")).await.unwrap(), "sent");
    assert_eq!(std::fs::read_to_string(format!("{destination}/VERSION")).unwrap(), "7");
    assert!(std::fs::metadata(format!("{destination}/folder")).unwrap().is_dir());
    let last = there.recorder.all().into_iter().rev().find_map(|told| match told {
        Told::Progress(amount) => Some(amount),
        _ => None,
    });
    assert_eq!(last, Some(Amount { files_done: 1, files_total: 1, bytes_done: 1, bytes_total: 1 }));

    let other = sha256.replace('7', "8");
    let error = found(&step, "upload", &format!("{destination} {other}")).await.unwrap_err();
    assert!(error.to_string().contains("VERSION changed"), "{error}");
    there.server.stop().await;
}

#[tokio::test]
async fn the_targets_loopback_is_reached() {
    let there = there().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 4096];
        let count = stream.read(&mut asked).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup").await.unwrap();
        String::from_utf8_lossy(&asked[..count]).into_owned()
    });
    assert_eq!(found(&there.step, "http", &format!("loopback {port}")).await.unwrap(), "200 up");
    let asked = answering.await.unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("get /health http/1.1\r\n"), "{asked}");
    // Nobody listens there now.
    assert_eq!(found(&there.step, "http", &format!("loopback {port}")).await.unwrap(), "Failure::Refused");
    there.server.stop().await;
}
