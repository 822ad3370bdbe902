#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::http::ledger::Ledger;
use crate::http::{self, App};
use crate::journal::{JobLog as _, now};
use crate::model::{Aftermath, EventKind, JobState, NewEvent};

struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    address: SocketAddr,
}

async fn start(ledger: &Arc<Ledger>, address: &str) -> Server {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    let listener: TcpListener = socket.listen(64).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let app = Arc::new(App::new(ledger.clone(), None));
    let task = tokio::spawn(async move {
        http::serve(listener, app, async { stopped.await.unwrap_or_default() }).await.unwrap();
    });
    Server { stop, task, address }
}

impl Server {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

async fn submit(client: &Client) -> String {
    let body = json!({ "service_path": "hello", "service_name": "hello", "service_port": 8001 });
    let answer = client.post(&["deploy"], &body, None, None).await.unwrap();
    answer.get("deploy_job_id").and_then(Value::as_str).unwrap().to_owned()
}

#[tokio::test]
async fn a_job_is_followed_across_a_restart_of_the_server() {
    let ledger = Arc::new(Ledger::open().await);
    let server = start(&ledger, "127.0.0.1:0").await;
    let address = server.address.to_string();
    let client = Client::new(&format!("http://{address}"), None).unwrap();
    let job = submit(&client).await;

    let mut display = Display::new(false, false, false);
    let restart = async {
        let log = |text: &str| NewEvent { at: now(), kind: EventKind::Log, data: json!({ "line": text }) };
        ledger.journal.append(&job, &[log("before")]).await.unwrap();
        server.stop().await;
        ledger.journal.append(&job, &[log("meanwhile")]).await.unwrap();
        let server = start(&ledger, &address).await;
        ledger.journal.append(&job, &[log("after")]).await.unwrap();
        ledger.finish(&job, JobState::Completed, None).await;
        server
    };
    let (watched, server) = tokio::join!(watch(&client, &job, &mut display), restart);
    watched.unwrap();
    // Each line once, in order, whichever connection brought it.
    assert_eq!(display.last_words(), ["before", "meanwhile", "after"]);
    server.stop().await;
}

#[tokio::test]
async fn the_events_so_far_are_read_without_waiting_for_more() {
    let ledger = Arc::new(Ledger::open().await);
    let server = start(&ledger, "127.0.0.1:0").await;
    let client = Client::new(&format!("http://{}", server.address), None).unwrap();
    let job = submit(&client).await;
    let mut kinds = Vec::new();
    so_far(&client, &job, |seen| kinds.push((seen.id, seen.kind))).await.unwrap();
    assert_eq!(kinds, [(1, EventKind::Job)]);
    ledger.finish(&job, JobState::Failed(Aftermath::Untouched), None).await;
    let value = client.get(&["deploy", &job]).await.unwrap();
    assert_eq!(finish(&client, value, false, &[]).unwrap(), ExitCode::FAILURE);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_not_to_be() {
    let ledger = Arc::new(Ledger::open().await);
    let server = start(&ledger, "127.0.0.1:0").await;
    let url = format!("http://{}", server.address);
    server.stop().await;
    let client = Client::new(&url, None).unwrap();
    let error = client.get(&["health"]).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("no deployer answers at {url}/: start one with `deployer serve`, or give --server")
    );
}

#[tokio::test]
async fn a_problem_reaches_the_command_line_with_its_hint() {
    let ledger = Arc::new(Ledger::open().await);
    let server = start(&ledger, "127.0.0.1:0").await;
    let client = Client::new(&format!("http://{}", server.address), None).unwrap();
    let Err(ClientError::Problem(problem)) = client.get(&["deploy", "deploy-none"]).await else {
        panic!("there is no such job");
    };
    assert_eq!((problem.status, problem.code.as_str()), (404, "job-not-found"));
    assert!(problem.hint.contains("history"));
    server.stop().await;
}
