//! The deployer's own API is not a destination for a plugin, whichever way it takes; and the registry's credentials
//! go to the registry only.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::fixture::{Remembered, call, context, deployment, granted};
use crate::capability::{HttpClient, Login, Registry, StepContext};
use crate::demo::sshd::Sshd;
use crate::http::ledger::Ledger;
use crate::http::{self, App};
use crate::journal::JobLog;
use crate::model::Grant;
use crate::secret::{Hidden, Redactor, Secret};
use crate::ssh::{Credentials, Ssh};

/// What a plugin hears: an answer, or why there is none.
async fn asked(context: &StepContext, text: &str) -> String {
    match call(context.clone()).await.validate(&deployment("ask", text)).await {
        Ok(findings) => findings.into_iter().map(|finding| finding.message).collect(),
        Err(error) => {
            let error = error.into_error();
            format!("{}: {}; {}", error.attempted, error.seen, error.next)
        }
    }
}

/// A deployer's API, and what it was made to do.
async fn api() -> (SocketAddr, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::open().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Arc::new(App::new(ledger.clone(), None));
    tokio::spawn(http::serve(listener, app, std::future::pending()));
    (address, ledger)
}

/// Another port that leads to a server, as a forwarding or a proxy of this machine does.
async fn forwarding(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    address
}

#[tokio::test]
async fn no_way_leads_a_plugin_to_the_deployers_own_api() {
    let (own, ledger) = api().await;
    let (port, other) = (own.port(), forwarding(own).await.port());
    let state = tempfile::tempdir().unwrap();
    let sshd = Sshd::start(state.path(), "demo").await.unwrap();
    let credentials =
        Credentials { key: sshd.key_file().to_owned(), known_hosts: sshd.known_hosts().to_owned() };
    let recorder = Remembered::new();
    let step = StepContext {
        // This machine is its own target.
        ssh: Ssh::new(format!("demo@{}", sshd.address()).parse().unwrap(), credentials),
        http: HttpClient::beside(own).unwrap(),
        registry: Some(Registry { url: format!("http://localhost:{port}"), token: None, login: None }),
        ..granted(context(&recorder).await, &Grant::ALL)
    };
    // The API is there, for those who may ask it.
    let open = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(open.get(format!("http://{own}/capabilities")).send().await.unwrap().status().is_success());

    for way in [
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("http://0.0.0.0:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("http://2130706433:{port}"),
        format!("network {port}"),
        "registry".into(),
    ] {
        let told = asked(&step, &format!("POST {way} /deploy")).await;
        let seen = format!("call http.send: plugin `naughty` asked {own}, which is the deployer's own API; ");
        assert!(told.starts_with(&seen), "{way}: {told}");
    }
    let calls = recorder.calls();
    assert_eq!(calls.len(), 7, "a refused call is on record");
    let error = calls[0].2.as_ref().unwrap().error.clone().unwrap_or_default();
    assert!(error.contains("the deployer's own API"), "{error}");

    // Where the address tells nothing, the API itself refuses what comes from a plugin.
    for way in [format!("loopback {port}"), format!("http://127.0.0.1:{other}"), format!("network {other}")] {
        for request in [format!("POST {way} /deploy"), format!("GET {way} /health")] {
            let told = asked(&step, &request).await;
            assert!(told.starts_with("403 ") && told.contains("\"plugin-refused\""), "{request}: {told}");
        }
    }
    // The mark cannot be taken off.
    for header in ["x-deployer-plugin: ", "X-Deployer-Plugin: none", "connection: x-deployer-plugin"] {
        let told = asked(&step, &format!("POST http://127.0.0.1:{other} /deploy\n{header}")).await;
        assert!(told.contains("is the host's to set"), "{header}: {told}");
    }
    assert_eq!(ledger.journal.counts().await.unwrap(), [], "nothing is deployed");
    sshd.stop().await;
}

/// Answers each request with 200 and its own first line and `Authorization` and mark.
async fn mirror() -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut seen, mut part) = (Vec::new(), [0; 4096]);
            while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                let count = stream.read(&mut part).await.unwrap();
                seen.extend_from_slice(&part[..count]);
            }
            let text = String::from_utf8(seen).unwrap();
            let shown = |line: &&str| line.starts_with("authorization") || line.starts_with("x-deployer");
            let lines: Vec<&str> = text.lines().take(1).chain(text.lines().filter(shown)).collect();
            let body = lines.join("|");
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn the_registrys_credentials_stay_below_its_base() {
    let registry = mirror().await;
    let recorder = Remembered::new();
    let login = Login { user: "ann".into(), password: Secret::new("pass:word") };
    let given = Registry { url: format!("http://{registry}/api"), token: None, login: Some(login) };
    let hidden = given.secrets().into_iter();
    let hidden = hidden.map(|(label, secret)| Hidden::registry(label, Secret::new(secret))).collect();
    let step = StepContext {
        registry: Some(given),
        redactor: Redactor::new(hidden, vec![]),
        ..granted(context(&recorder).await, &Grant::ALL)
    };
    let told = asked(&step, "GET registry /droplets?a=b\nauthorization: Basic forged").await;
    assert!(told.starts_with("200 GET /api/droplets?a=b HTTP/1.1|"), "{told}");
    assert!(
        told.ends_with("|x-deployer-plugin: naughty") || told.contains("|x-deployer-plugin: naughty|"),
        "{told}"
    );
    assert!(!told.contains("forged"), "{told}");
    for path in ["/../admin", "/%2e%2e/admin", "/..\\admin", "//evil.example/x", "/a#b", "/a/..;/../admin"] {
        let told = asked(&step, &format!("GET registry {path}")).await;
        assert!(told.contains("the path \""), "{path}: {told}");
    }
    let told = asked(&step, "GET registry /droplets\nhost: evil.example").await;
    assert!(told.contains("cannot be sent to the registry"), "{told}");
    let told = asked(&step, "CONNECT registry /droplets").await;
    assert!(told.contains("is not an HTTP method that can be sent"), "{told}");
    // Another destination gets none of it.
    let told = asked(&step, &format!("GET http://{registry} /droplets")).await;
    assert!(!told.contains("authorization"), "{told}");
    let all = format!("{:?}", recorder.all());
    // "ann:pass:word" in base64.
    for secret in ["pass:word", "YW5uOnBhc3M6d29yZA"] {
        assert!(!all.contains(secret), "{secret} is in {all}");
    }
}
