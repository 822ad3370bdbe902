//! Callers who mean ill, or are merely slow, beside one who only wants a deployment.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deployer::demo::registry::{Dialect, Registry};
use deployer_tests::{Program, Service, Target, client, deployment, target};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How many do not go on.
const MANY: usize = 1_100;
const TOKEN: &str = "aaaaaaaaaaaaaaaaaaaaaaaa";

/// Connections that said something, and then no more. Some may have been closed by the server meanwhile.
async fn half_open(program: &Program, words: &str) -> Vec<TcpStream> {
    let address = program.url.trim_start_matches("http://").to_owned();
    let mut opening = JoinSet::new();
    for _ in 0..MANY {
        let (address, words) = (address.clone(), words.to_owned());
        opening.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // It may be closed already, for one that came later.
            let _ = stream.write_all(words.as_bytes()).await;
            stream
        });
    }
    opening.join_all().await
}

/// This process holds both what it asks with and what does not go on.
fn more_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let now = getrlimit(Resource::Nofile).current;
    assert!(now.is_none_or(|now| now > 8_000), "this test needs 8,000 open files: raise the hard limit");
}

/// Asks on new connections, and is answered soon each time.
async fn is_answered(program: &Program, path: &str, token: Option<&str>, beside: &str) {
    for _ in 0..5 {
        let begun = Instant::now();
        let mut request = client().get(format!("{}{path}", program.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{path} beside {beside}: {error:?}"));
        assert_eq!(answer.status(), 200, "{path} beside {beside}");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{path} beside {beside} took {took:?}");
    }
}

fn token_file(program: &Program) -> String {
    let path = program.folder.path().join("tokens");
    std::fs::write(&path, format!("ci: {TOKEN}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_goes_on_beside_thousands_who_do_not() {
    more_descriptors();
    let target = target();
    target.forget("e2e-callers");
    let mut program = Program::start(target.clone(), None).await;
    program.kill();
    program.descriptors = Some(1024);
    program.run().await;
    program.pipeline("e2e-callers", "[settings.process]\nbuild = [\"sleep 15\"]\n");
    let service = Service::copy(&program.services(), "hello-quick", "e2e-callers", 18090);
    let id = program.submit(&deployment(&service, "process", json!({}))).await;
    let job = format!("/deploy/{id}");

    // Streams that nobody reads.
    let follow = format!("GET {job}/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let streams = half_open(&program, &follow).await;
    is_answered(&program, &job, None, "streams that nobody reads").await;
    drop(streams);

    let mut open = Vec::new();
    for (beside, words) in [
        ("silence", ""),
        ("half a head", "GET /state HTTP/1.1\r\nhost: loc"),
        (
            "a head without its body",
            "POST /deploy HTTP/1.1\r\nhost: localhost\r\ncontent-length: 70\r\n\r\n{",
        ),
        ("a connection that is kept", "GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ] {
        open.push(half_open(&program, words).await);
        is_answered(&program, &job, None, beside).await;
        is_answered(&program, "/state", None, beside).await;
        let files = program.open_files();
        assert!(files < 800, "{files} files are open beside {beside}");
    }
    program.end(&id).await.completed();
    assert!(target.succeeds("curl -fsS http://127.0.0.1:18090/health"), "the service serves");
    drop(open);
    program.kill();
    target.forget("e2e-callers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_a_token_is_let_in_beside_any_number_of_strangers() {
    more_descriptors();
    let mut program = Program::start(target(), None).await;
    program.kill();
    program.descriptors = Some(1024);
    program.arguments = vec!["--token-file".into(), token_file(&program)];
    program.run().await;
    let mut open = Vec::new();
    for (beside, words) in [
        ("half a head", "GET /state HTTP/1.1\r\nhost: loc"),
        ("a head without its body", "POST /deploy HTTP/1.1\r\nhost: x\r\ncontent-length: 70\r\n\r\n{"),
        ("requests without a token", "GET /state HTTP/1.1\r\nhost: x\r\n\r\n"),
    ] {
        open.push(half_open(&program, words).await);
        is_answered(&program, "/state", Some(TOKEN), beside).await;
    }
    // Strangers are still let in where there is room, and told apart.
    assert_eq!(client().get(format!("{}/state", program.url)).send().await.unwrap().status(), 401);
}

/// A way to the server that counts who takes it.
struct Counted {
    target: Target,
    connections: Arc<AtomicUsize>,
    _known_hosts: tempfile::NamedTempFile,
}

impl Counted {
    async fn way_to(target: &Target) -> Self {
        let (login, behind) = target.address.split_once('@').unwrap();
        let behind = behind.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let known = std::fs::read_to_string(&target.known_hosts).unwrap();
        let old = format!("[127.0.0.1]:{}", behind.rsplit_once(':').unwrap().1);
        let known_hosts = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(known_hosts.path(), known.replace(&old, &format!("[127.0.0.1]:{port}"))).unwrap();
        let mut through = target.clone();
        through.address = format!("{login}@127.0.0.1:{port}");
        through.known_hosts = known_hosts.path().to_str().unwrap().to_owned();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut to = TcpStream::connect(&behind).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
            }
        });
        Counted { target: through, connections, _known_hosts: known_hosts }
    }
}

async fn health(program: &Program, token: Option<&str>) -> (u16, Value) {
    let mut request = client().get(format!("{}/health", program.url));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Asks 200 times, ten side by side.
async fn ask_often(program: &Program) {
    for _ in 0..20 {
        let mut asking = JoinSet::new();
        for _ in 0..10 {
            asking.spawn(client().get(format!("{}/health", program.url)).send());
        }
        for answer in asking.join_all().await {
            answer.unwrap();
        }
    }
}

/// All that a stranger may hear, and not a word more.
fn is_brief(health: &Value, ssh: &str, registry: &str) {
    let expect = json!({
        "status": if ssh == "connected" { health["status"].clone() } else { "unhealthy".into() },
        "ssh_status": ssh, "registry_status": registry, "journal_status": "writable",
    });
    assert_eq!(*health, expect);
}

async fn with_tokens(target: Target, registry: Option<&str>) -> Program {
    let mut program = Program::start(target, registry).await;
    program.kill();
    program.arguments = vec!["--token-file".into(), token_file(&program)];
    program.run().await;
    program
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_for_health_tells_strangers_nothing_and_bans_nobody() {
    let registry = Registry::start(Dialect::Droplets).await.unwrap();
    let (_, at) = registry.url().split_once("://").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let with_password = format!("http://ann:hunter2-hunter2@{at}");

    // A good target: one connection, however often it is asked.
    let way = Counted::way_to(&target()).await;
    let program = with_tokens(way.target.clone(), Some(&with_password)).await;
    way.connections.store(0, Ordering::Relaxed);
    let (status, brief) = health(&program, None).await;
    assert_eq!(status, 200, "{brief:#}");
    is_brief(&brief, "connected", "reachable");
    ask_often(&program).await;
    let made = way.connections.load(Ordering::Relaxed);
    assert!(made <= 1, "{made} connections for 200 questions");
    for path in ["/health", "/state", "/capabilities", "/dependencies"] {
        let answer = client().get(format!("{}{path}", program.url)).bearer_auth(TOKEN).send().await.unwrap();
        let text = answer.text().await.unwrap();
        assert!(!text.contains("hunter2"), "{path}: {text}");
        assert!(path != "/capabilities" || text.contains(&format!("\"http://{at}\"")), "{path}: {text}");
    }
    registry.stop().await;
    assert!(!program.log().contains("hunter2"), "{}", program.log());
    drop(program);

    // A key that the target does not know.
    let way = Counted::way_to(&target()).await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("wrong-key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    let mut wrong = way.target.clone();
    wrong.key = key.to_str().unwrap().to_owned();
    let program = with_tokens(wrong, Some(&with_password)).await;
    let before = way.connections.load(Ordering::Relaxed);
    let (status, brief) = health(&program, None).await;
    assert_eq!(status, 500, "{brief:#}");
    is_brief(&brief, "login refused", "unreachable");
    ask_often(&program).await;
    for _ in 0..10 {
        for path in ["/state", "/dependencies"] {
            client().get(format!("{}{path}", program.url)).bearer_auth(TOKEN).send().await.unwrap();
        }
    }
    let tried = way.connections.load(Ordering::Relaxed) - before;
    assert!(tried <= 1, "{tried} logins for 200 questions");
    let (_, full) = health(&program, Some(TOKEN)).await;
    let details = full["details"].to_string();
    assert!(details.contains("wrong-key") && details.contains(&at), "{full:#}");
    assert!(!details.contains("hunter2"), "{full:#}");
    drop(program);

    // A host that is not known.
    let nobody = empty_file(folder.path());
    let mut unknown = way.target.clone();
    unknown.known_hosts = nobody;
    let program = with_tokens(unknown, None).await;
    let before = way.connections.load(Ordering::Relaxed);
    let (status, brief) = health(&program, None).await;
    assert_eq!(status, 500, "{brief:#}");
    is_brief(&brief, "host key not trusted", "not configured");
    ask_often(&program).await;
    let tried = way.connections.load(Ordering::Relaxed) - before;
    assert!(tried <= 2, "{tried} connections for 200 questions");
    let (_, full) = health(&program, Some(TOKEN)).await;
    assert!(full["details"]["ssh"].as_str().unwrap().contains("known_hosts"), "{full:#}");
}

fn empty_file(folder: &Path) -> String {
    let path = folder.join("known_hosts");
    std::fs::write(&path, "").unwrap();
    path.to_str().unwrap().to_owned()
}
