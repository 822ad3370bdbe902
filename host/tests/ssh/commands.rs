use std::time::{Duration, Instant};

use deployer::model::RemoteProcess;
use deployer::ssh::{Exit, KillOutcome, RemoteCommand, SshError, Stream, Watch, environment_text};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::server::{Server, group_runs, until};

#[derive(Debug, PartialEq)]
enum Seen {
    Started(RemoteProcess),
    Line(Stream, String),
}

struct Watcher(UnboundedSender<Seen>);

impl Watch for Watcher {
    fn started(&mut self, process: &RemoteProcess) {
        let _ = self.0.send(Seen::Started(process.clone()));
    }

    fn line(&mut self, stream: Stream, line: &str) {
        let _ = self.0.send(Seen::Line(stream, line.to_owned()));
    }
}

fn watcher() -> (Watcher, UnboundedReceiver<Seen>) {
    let (sender, receiver) = unbounded_channel();
    (Watcher(sender), receiver)
}

async fn started(seen: &mut UnboundedReceiver<Seen>) -> RemoteProcess {
    match seen.recv().await.unwrap() {
        Seen::Started(process) => process,
        other => panic!("{other:?}"),
    }
}

/// A program with a child, both deaf to polite requests if so wished.
fn stubborn(deaf: bool) -> RemoteCommand {
    let trap = if deaf { "trap '' TERM HUP PIPE; " } else { "" };
    RemoteCommand::new(["sh", "-c", &format!("{trap}sleep 300 & echo ready; wait; sleep 300")])
}

async fn ready(seen: &mut UnboundedReceiver<Seen>) -> RemoteProcess {
    let process = started(seen).await;
    assert_eq!(seen.recv().await, Some(Seen::Line(Stream::Stdout, "ready".into())));
    process
}

#[tokio::test]
async fn words_arrive_as_they_are() {
    let server = Server::start();
    let ssh = server.ssh();
    let words = [
        "a b",
        "it's",
        "\"",
        "$(touch /tmp/x)",
        "`id`",
        "new\nline",
        "\\",
        "*",
        "~",
        "",
        "größe",
        "-n",
        "a;b|c&d",
        "!!",
        "\t",
        "#",
    ];
    let argv = ["printf", "[%s]\\0"].into_iter().chain(words);
    let output = ssh.run(&RemoteCommand::new(argv), &mut ()).await.unwrap();
    let expect: String = words.iter().map(|word| format!("[{word}]\0")).collect();
    assert_eq!(output.stdout, expect);
    assert_eq!(output.stderr, "");
    assert_eq!(output.exit, Exit::Code(0));
}

#[tokio::test]
async fn exits_and_signals_are_told_apart() {
    let server = Server::start();
    let ssh = server.ssh();
    let exit =
        async |argv: &[&str]| ssh.run(&RemoteCommand::new(argv.iter().copied()), &mut ()).await.unwrap().exit;
    assert_eq!(exit(&["true"]).await, Exit::Code(0));
    assert_eq!(exit(&["sh", "-c", "exit 7"]).await, Exit::Code(7));
    assert_eq!(exit(&["sh", "-c", "kill -TERM $$"]).await, Exit::Signal("TERM".into()));
    assert_eq!(exit(&["sh", "-c", "kill -KILL $$"]).await, Exit::Signal("KILL".into()));
    assert_eq!(exit(&["no-such-program"]).await, Exit::Code(127));
}

#[tokio::test]
async fn input_directory_and_environment_reach_the_command() {
    let server = Server::start();
    let ssh = server.ssh();
    let mut command = RemoteCommand::new(["cat"]);
    assert_eq!(ssh.run(&command, &mut ()).await.unwrap().stdout, "");
    let input = "line\n".repeat(100_000);
    command.input = Some(input.clone().into_bytes());
    assert_eq!(ssh.run(&command, &mut ()).await.unwrap().stdout, input);
    // One that does not read its input ends all the same.
    let mut command = RemoteCommand::new(["true"]);
    command.input = Some(vec![0; 20_000_000]);
    assert_eq!(ssh.run(&command, &mut ()).await.unwrap().exit, Exit::Code(0));

    let mut command =
        RemoteCommand::new(["sh", "-c", "pwd; printf '%s|%s|%s\\n' \"$GREETING\" \"$PLAIN\" \"$_n\""]);
    let directory = server.path("a b");
    std::fs::create_dir(&directory).unwrap();
    let file = server.path("env file");
    let odd = "two words $HOME $(id) `id` \"q\" 'q' \\ \\n !\nnext line";
    let text = environment_text([("GREETING", odd), ("PLAIN", "x"), ("_n", "y")]).unwrap();
    std::fs::write(&file, text).unwrap();
    command.directory = Some(directory.display().to_string());
    command.environment_file = Some(file.display().to_string());
    let output = ssh.run(&command, &mut ()).await.unwrap();
    let expect = format!("{}\n{odd}|x|y\n", directory.display());
    assert_eq!(output.stdout, expect);

    command.environment_file = Some(server.remote("missing"));
    let error = ssh.run(&command, &mut ()).await.unwrap_err();
    assert!(matches!(&error, SshError::NoEnvironmentFile { path, .. } if path.ends_with("missing")));
    command.directory = Some(server.remote("missing"));
    let error = ssh.run(&command, &mut ()).await.unwrap_err();
    assert!(matches!(&error, SshError::NoDirectory { path, .. } if path.ends_with("missing")));
}

#[tokio::test]
async fn the_watcher_sees_the_process_and_then_each_line() {
    let server = Server::start();
    let ssh = server.ssh();
    let (mut watch, mut seen) = watcher();
    let script = "echo $$; printf '10%%\\r100%%\\n'; printf err >&2";
    let output = ssh.run(&RemoteCommand::new(["sh", "-c", script]), &mut watch).await.unwrap();
    let process = started(&mut seen).await;
    assert_eq!(output.stdout, format!("{}\n10%\r100%\n", process.group));
    assert_eq!(output.stderr, "err");
    drop(watch);
    let mut lines = Vec::new();
    while let Some(Seen::Line(stream, line)) = seen.recv().await {
        lines.push((stream, line));
    }
    lines.sort_by_key(|(stream, _)| *stream == Stream::Stderr);
    let expect = [
        (Stream::Stdout, process.group.to_string()),
        (Stream::Stdout, "10%".into()),
        (Stream::Stdout, "100%".into()),
        (Stream::Stderr, "err".into()),
    ];
    assert_eq!(lines, expect);
}

#[tokio::test]
async fn long_output_keeps_its_end() {
    let server = Server::start();
    let command = RemoteCommand::new(["sh", "-c", "seq 1 400000; echo over >&2"]);
    let output = server.ssh().run(&command, &mut ()).await.unwrap();
    assert!(output.stdout.starts_with("[the first "), "{}", &output.stdout[..80]);
    assert!(output.stdout.ends_with("399999\n400000\n"));
    assert!(output.stdout.len() < 1_100_000);
    assert_eq!(output.stderr, "over\n");
}

#[tokio::test]
async fn a_command_is_over_when_it_exits_even_if_it_left_something_running() {
    let server = Server::start();
    let command = RemoteCommand::new(["sh", "-c", "sleep 300 & echo $!"]);
    let (mut watch, mut seen) = watcher();
    let begun = Instant::now();
    let ssh = server.ssh();
    let output = ssh.run(&command, &mut watch).await.unwrap();
    assert_eq!(output.exit, Exit::Code(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
    // Its leader is gone; the group is ended all the same.
    let process = started(&mut seen).await;
    assert!(group_runs(process.group));
    assert_eq!(ssh.kill_group(&process).await.unwrap(), KillOutcome::Terminated);
    assert!(!group_runs(process.group));
}

#[tokio::test]
async fn a_timeout_ends_the_remote_process() {
    let server = Server::start();
    let ssh = server.ssh();
    for (deaf, expect) in [(false, KillOutcome::Terminated), (true, KillOutcome::Killed)] {
        let (mut watch, mut seen) = watcher();
        let command = stubborn(deaf).timeout(Duration::from_millis(700));
        let error = ssh.run(&command, &mut watch).await.unwrap_err();
        let SshError::TimedOut { ended, last, .. } = &error else { panic!("{error}") };
        assert_eq!(*ended, expect, "{error}");
        assert_eq!(last, "ready");
        let process = ready(&mut seen).await;
        assert!(!group_runs(process.group));
        assert_eq!(ssh.kill_group(&process).await.unwrap(), KillOutcome::Gone);
    }
}

#[tokio::test]
async fn cancelling_and_dropping_end_the_remote_process() {
    let server = Server::start();
    let ssh = server.ssh();

    let (mut watch, mut seen) = watcher();
    let command = stubborn(true);
    let cancel = command.cancel.clone();
    let run = {
        let ssh = ssh.clone();
        tokio::spawn(async move { ssh.run(&command, &mut watch).await })
    };
    let process = ready(&mut seen).await;
    assert!(group_runs(process.group));
    cancel.cancel();
    let error = run.await.unwrap().unwrap_err();
    assert!(matches!(error, SshError::Cancelled { ended: KillOutcome::Killed, .. }), "{error}");
    assert!(!group_runs(process.group));

    let (mut watch, mut seen) = watcher();
    let run = {
        let ssh = ssh.clone();
        tokio::spawn(async move { ssh.run(&stubborn(false), &mut watch).await.map(|_| ()) })
    };
    let process = ready(&mut seen).await;
    run.abort();
    until("the dropped command has ended", || !group_runs(process.group)).await;

    // Dropped before the process's name was known.
    let mark = format!("4{}", server.port);
    let command = RemoteCommand::new(["sleep", &mark]);
    for wait in 0..20 {
        let _ = tokio::time::timeout(Duration::from_millis(wait), ssh.run(&command, &mut ())).await;
    }
    let sleeping = || {
        let found = std::process::Command::new("pgrep").args(["-fx", &format!("sleep {mark}")]).output();
        !found.unwrap().stdout.is_empty()
    };
    // The last one's end comes after all others' were begun; then none may appear any more.
    ssh.run(&RemoteCommand::new(["true"]), &mut ()).await.unwrap();
    until("none of the dropped commands runs", || !sleeping()).await;
}

#[tokio::test]
async fn a_group_is_only_ended_if_it_is_the_one_meant() {
    let server = Server::start();
    let ssh = server.ssh();
    let (mut watch, mut seen) = watcher();
    let run = {
        let ssh = ssh.clone();
        tokio::spawn(async move { ssh.run(&stubborn(false), &mut watch).await })
    };
    let process = ready(&mut seen).await;
    let (boot, ticks) = process.started.split_once('/').unwrap();
    for started in [format!("{boot}/{ticks}0"), format!("other-boot/{ticks}")] {
        let other = RemoteProcess { group: process.group, started };
        assert_eq!(ssh.kill_group(&other).await.unwrap(), KillOutcome::Gone);
        assert!(group_runs(process.group));
    }
    // As after a crash: another connection, and only what was written down.
    let written = serde_json::to_string(&process).unwrap();
    let read: RemoteProcess = serde_json::from_str(&written).unwrap();
    assert_eq!(server.ssh().kill_group(&read).await.unwrap(), KillOutcome::Terminated);
    assert_eq!(run.await.unwrap().unwrap().exit, Exit::Signal("TERM".into()));
}

#[tokio::test]
async fn a_connection_lost_under_a_command_leaves_its_outcome_open() {
    let server = Server::start();
    let ssh = server.ssh();
    let (mut watch, mut seen) = watcher();
    let run = {
        let ssh = ssh.clone();
        tokio::spawn(async move { ssh.run(&stubborn(true), &mut watch).await })
    };
    let process = ready(&mut seen).await;
    server.cut();
    let error = run.await.unwrap().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("outcome is unknown"), "{text}");
    let SshError::Lost { process: Some(left), .. } = error else { panic!("{text}") };
    assert_eq!(left, process);
    assert!(group_runs(process.group));
    assert_eq!(ssh.kill_group(&left).await.unwrap(), KillOutcome::Killed);
    assert!(!group_runs(process.group));
}

#[tokio::test]
async fn a_shell_that_runs_nothing_is_told() {
    let server = Server::start_with(&["ed25519"], "ForceCommand echo Not for you");
    let error = server.ssh().run(&RemoteCommand::new(["true"]), &mut ()).await.unwrap_err();
    assert!(matches!(&error, SshError::NotStarted { .. }), "{error}");
    assert!(error.to_string().contains("Not for you"), "{error}");
}

#[tokio::test]
async fn noise_from_a_login_file_is_no_output() {
    let noisy = "ForceCommand printf Welcome; echo Warning >&2; eval \"$SSH_ORIGINAL_COMMAND\"";
    let server = Server::start_with(&["ed25519"], noisy);
    let command = RemoteCommand::new(["sh", "-c", "echo 'a  b'; echo err >&2"]);
    let (mut watch, mut seen) = watcher();
    let output = server.ssh().run(&command, &mut watch).await.unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("a  b\n", "err\n"));
    started(&mut seen).await;
}
