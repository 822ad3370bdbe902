#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
//! Slow, silent and greedy callers on real connections, beside one who only wants an answer.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::job::{DeployRequest, Environment};

/// A server on a port of its own, with few connections.
struct Small {
    address: SocketAddr,
    ledger: Arc<Ledger>,
}

async fn small(bounds: Bounds, tokens: Option<Tokens>) -> Small {
    let ledger = Arc::new(Ledger::open().await);
    let mut app = App::new(ledger.clone(), tokens);
    app.bounds = bounds;
    app.streams = Streams::new(&bounds);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::new(app), std::future::pending()));
    Small { address, ledger }
}

impl Small {
    async fn connect(&self, words: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may have heard enough before the end.
        let _ = stream.write_all(words.as_bytes()).await;
        stream
    }

    /// Asks on a connection of its own, and gives the whole answer.
    async fn ask(&self, words: &str) -> String {
        heard(&mut self.connect(words).await).await
    }
}

/// All that comes until the end of the connection, or until nothing comes any more.
async fn heard(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

const FEW: Bounds =
    Bounds { connections: 8, of_caller: 8, of_strangers: 6, streams: 4, streams_of_caller: 2 };
const STATE: &str = "GET /state HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const KEPT: &str = "GET /state HTTP/1.1\r\nhost: localhost\r\n\r\n";
const HALF_HEAD: &str = "GET /state HTTP/1.1\r\nhost: loc";
const NO_BODY: &str = "POST /deploy HTTP/1.1\r\nhost: localhost\r\ncontent-length: 70\r\n\r\n{";

fn tokens() -> Tokens {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, "ci: aaaaaaaaaaaaaaaaaaaa\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    Tokens::load(&path).unwrap()
}

#[tokio::test]
async fn a_working_caller_is_answered_beside_any_number_of_half_open_ones() {
    let with_token = "GET /state HTTP/1.1\r\nhost: h\r\nauthorization: Bearer aaaaaaaaaaaaaaaaaaaa\r\nconnection: close\r\n\r\n";
    for (words, ask, tokens) in [
        ("", STATE, None),
        (HALF_HEAD, STATE, None),
        (NO_BODY, STATE, None),
        (KEPT, STATE, None),
        ("", with_token, Some(tokens())),
        (HALF_HEAD, with_token, Some(tokens())),
        (NO_BODY, with_token, Some(tokens())),
        (KEPT, with_token, Some(tokens())),
    ] {
        let server = small(FEW, tokens).await;
        let mut open = Vec::new();
        for _ in 0..20 {
            let mut kept = server.connect(words).await;
            if words == KEPT {
                // A connection that is being answered is in use: none of these is closed for another.
                let _ = kept.read(&mut [0; 1024]).await;
            }
            open.push(kept);
        }
        for _ in 0..3 {
            let begun = Instant::now();
            let answer = server.ask(ask).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "beside {words:?}: {answer}");
            assert!(begun.elapsed() < Duration::from_secs(2), "beside {words:?}: {:?}", begun.elapsed());
        }
        assert_eq!(server.ledger.journal.counts().await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_caller_who_makes_room_is_told_so() {
    let server = small(FEW, None).await;
    let mut first = server.connect(HALF_HEAD).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(server.connect(HALF_HEAD).await);
    }
    let answer = heard(&mut first).await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 5\r\n") && answer.contains("too-many-connections"), "{answer}");
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
}

#[tokio::test]
async fn a_full_house_says_so_and_keeps_who_works() {
    let server = small(Bounds { streams: 8, streams_of_caller: 8, ..FEW }, None).await;
    let body = r#"{"service_path": "hello", "service_name": "hello", "service_port": 8001}"#;
    let length = body.len();
    let post = format!(
        "POST /deploy HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let accepted = server.ask(&post).await;
    let id = accepted.split("\"deploy_job_id\":\"").nth(1).unwrap().split('"').next().unwrap();
    let follow = format!("GET /deploy/{id}/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = server.connect(&follow).await;
        let mut part = [0; 4096];
        assert!(stream.read(&mut part).await.unwrap() > 0);
        streams.push(stream);
    }
    let answer = server.ask(STATE).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // One who leaves makes room.
    streams.pop();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !server.ask(STATE).await.starts_with("HTTP/1.1 200 ") {
        assert!(Instant::now() < deadline, "the seat is not free again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.ledger.finish(id, JobState::Completed, None).await;
    for mut stream in streams {
        let mut rest = vec![0; 64 << 10];
        let mut all = String::new();
        while !all.contains("completed") {
            let count = stream.read(&mut rest).await.unwrap();
            assert!(count > 0, "a stream was cut off: {all}");
            all.push_str(&String::from_utf8_lossy(&rest[..count]));
        }
    }
}

#[tokio::test]
async fn nobody_has_all_streams() {
    let server = small(FEW, None).await;
    let accepted = server.ledger.submit(request(), None, actor()).await.unwrap();
    let follow = format!("GET /deploy/{}/events HTTP/1.1\r\nhost: localhost\r\n\r\n", accepted.id);
    let mut open = Vec::new();
    for expect in ["200 OK", "200 OK", "429 Too Many Requests"] {
        let mut stream = server.connect(&follow).await;
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap();
        let answer = String::from_utf8_lossy(&part[..count]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expect}\r\n")), "{answer}");
        open.push(stream);
    }
}

fn request() -> DeployRequest {
    DeployRequest {
        service_path: "hello".into(),
        service_name: "hello".into(),
        droplet_id: None,
        service_port: 8001,
        deployment_method: "docker".into(),
        environment: Environment::default(),
        auto_register: true,
        verification_job_id: None,
    }
}

fn actor() -> crate::model::Actor {
    crate::model::Actor { name: "ann".into(), from: "test".into() }
}

#[tokio::test]
async fn each_slowness_has_its_end_and_its_answer() {
    let server = small(Bounds::of_descriptors(1024), None).await;
    let timed = async |words: &str, drip: &'static str| {
        let mut stream = server.connect(words).await;
        let begun = Instant::now();
        let (mut from, mut to) = stream.split();
        let mut all = Vec::new();
        let dripping = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if !drip.is_empty() && to.write_all(drip.as_bytes()).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            _ = from.read_to_end(&mut all) => {}
            () = dripping => {}
        }
        (String::from_utf8_lossy(&all).into_owned(), begun.elapsed().as_secs_f64())
    };
    let (silent, head, drip, body) = tokio::join!(
        timed("", ""),
        timed(HALF_HEAD, ""),
        timed("GET /state HTTP/1.1\r\nhost: localhost\r\nx-slow: ", "x"),
        timed(NO_BODY, ""),
    );
    assert_eq!(silent.0, "");
    assert!((9.0..13.0).contains(&silent.1), "{}", silent.1);
    for (answer, took) in [head, drip] {
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert!(answer.contains("the request's head did not arrive in time"), "{answer}");
        assert!((9.0..13.0).contains(&took), "{took}");
    }
    assert!(body.0.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{}", body.0);
    assert!(body.0.contains("the request's body did not arrive in time"), "{}", body.0);
    assert!((14.0..18.0).contains(&body.1), "{}", body.1);
}

#[tokio::test]
async fn a_body_a_head_and_a_document_have_their_limits_however_they_come() {
    let server = small(Bounds::of_descriptors(1024), None).await;
    let check = |answer: String, expect: &str| assert!(answer.starts_with(expect), "{answer}");
    let head = "POST /deploy HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    for _ in 0..17 {
        chunked.push_str(&format!("10000\r\n{}\r\n", "x".repeat(0x10000)));
    }
    check(server.ask(&chunked).await, "HTTP/1.1 413 ");
    let deep = "[".repeat(100_000);
    let nested = format!("{head}content-length: {}\r\n\r\n{deep}", deep.len());
    check(server.ask(&nested).await, "HTTP/1.1 400 ");
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    check(
        server.ask(&format!("GET /state HTTP/1.1\r\nhost: localhost\r\n{many}\r\n")).await,
        "HTTP/1.1 431 ",
    );
    let long = "x".repeat(1 << 20);
    let answer = server.ask(&format!("GET /state HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n")).await;
    // The answer may be lost where the caller still sends.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    check(server.ask(STATE).await, "HTTP/1.1 200 ");
}

#[tokio::test]
async fn what_comes_from_a_plugin_is_refused_everywhere() {
    for tokens in [None, Some(tokens())] {
        let api = api(tokens).await;
        for line in ["POST /deploy", "GET /health", "GET /state", "GET /nothing"] {
            let headers = [("x-deployer-plugin", "smoke"), ("authorization", "Bearer aaaaaaaaaaaaaaaaaaaa")];
            let answer = api.ask(line, &headers, HELLO).await;
            answer.has(403, "/code", "plugin-refused");
        }
        assert_eq!(api.ledger.journal.counts().await.unwrap(), []);
    }
}

#[tokio::test]
async fn health_tells_a_stranger_nothing_else() {
    let detail = "203.0.113.7:22 does not answer";
    let api = api(Some(tokens())).await;
    for headers in [&[][..], &[("authorization", "Bearer wrong")]] {
        let answer = api.ask("GET /health", headers, "").await;
        answer.has(500, "/ssh_status", "unreachable").has(500, "/registry_status", "not configured");
        assert!(!answer.body.to_string().contains("203.0.113.7"), "{}", answer.body);
    }
    let known = [("authorization", "Bearer aaaaaaaaaaaaaaaaaaaa")];
    api.ask("GET /health", &known, "").await.has(500, "/details/ssh", detail);

    // Without tokens, it is this machine's own programs that may know.
    let api = super::api(None).await;
    api.ask("GET /health", &[], "").await.has(500, "/details/ssh", detail);
    for headers in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let answer = api.ask("GET /health", &[headers], "").await;
        answer.has(500, "/ssh_status", "unreachable");
        assert_eq!(answer.body.pointer("/details"), None, "{}", answer.body);
    }
}

#[tokio::test]
async fn what_a_caller_gives_only_to_hear_it_again_is_short_and_one_line() {
    let api = api(None).await;
    for wrong in ["x".repeat(256), "two\nlines".into(), "\u{1b}[2J".into()] {
        let message = json!({ "trace_id": wrong, "source": wrong, "message_type": "event" }).to_string();
        let answer = api.ask("POST /message", &[], &message).await;
        answer.has(400, "/errors/0/field", "trace_id").has(400, "/errors/1/field", "source");
        let request = json!({ "service_path": "a", "service_name": "a", "service_port": 1,
                              "verification_job_id": wrong });
        let answer = api.ask("POST /deploy", &[], &request.to_string()).await;
        answer.has(400, "/errors/0/field", "verification_job_id");
    }
    let long = json!({ "service_path": "x".repeat(5000), "service_name": "a", "service_port": 1 });
    api.ask("POST /deploy", &[], &long.to_string()).await.has(400, "/errors/0/field", "service_path");
    let answer = api.ask("POST /deploy", &[("x-deployer-user", "ann\tbob")], HELLO).await;
    let id = answer.body.get("deploy_job_id").and_then(Value::as_str).unwrap();
    api.ask(&format!("GET /deploy/{id}"), &[], "").await.has(200, "/requested_by", "annbob");
}
