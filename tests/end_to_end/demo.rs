//! `deployer demo`: a deployment on this machine, and nothing left after it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use deployer_tests::{client, program};

#[tokio::test]
async fn the_demo_serves_until_it_is_interrupted_and_leaves_nothing() {
    let state = tempfile::tempdir().unwrap();
    let mut demo = Command::new(program())
        .arg("demo")
        .env("XDG_STATE_HOME", state.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines.by_ref() {
        let line = line.unwrap();
        said.push(line.clone());
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    let serves =
        said.iter().find(|line| line.starts_with("hello serves at")).unwrap_or_else(|| panic!("{said:#?}"));
    let url = serves.split_whitespace().find(|word| word.starts_with("http")).unwrap();
    for phase in ["Validation", "Transfer", "Build", "Start Service", "Verify Health", "Register"] {
        assert!(said.iter().any(|line| line.starts_with(&format!("{phase}: success"))), "{phase}: {said:#?}");
    }
    let answer = client().get(format!("{url}/health")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);

    let interrupted = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    // It ends when it has ended what it started: its output closes then.
    for line in lines {
        line.unwrap();
    }
    assert!(demo.wait().unwrap().success());
    assert!(client().get(format!("{url}/health")).send().await.is_err(), "the service still answers");
}
