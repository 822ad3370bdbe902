//! A connection that carries as much as it can: what must not wait does not.

use std::time::{Duration, Instant};

use deployer::model::RemoteProcess;
use deployer::ssh::{
    Exit, KillOutcome, LEASE_TIME, Lease, LeaseRequest, RemoteCommand, Slot, SlotRequest, Ssh, SshError,
    Stream, Taken, UploadEntry, UploadKind, Watch,
};
use futures::future::join_all;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::server::{Server, group_runs};

/// Tells that a command runs, and has said so.
struct Started {
    process: Option<RemoteProcess>,
    told: Option<oneshot::Sender<RemoteProcess>>,
}

impl Watch for Started {
    fn started(&mut self, process: &RemoteProcess) {
        self.process = Some(process.clone());
    }

    fn line(&mut self, _: Stream, _: &str) {
        if let (Some(told), Some(process)) = (self.told.take(), self.process.take()) {
            let _ = told.send(process);
        }
    }
}

struct Running {
    cancel: CancellationToken,
    started: oneshot::Receiver<RemoteProcess>,
    end: JoinHandle<Result<Exit, SshError>>,
}

/// A script that says something when it is on its way.
fn start(ssh: &Ssh, script: &str) -> Running {
    let command = RemoteCommand::new(["sh", "-c", script]);
    let (told, started) = oneshot::channel();
    let (ssh, cancel) = (ssh.clone(), command.cancel.clone());
    let end = tokio::spawn(async move {
        ssh.run(&command, &mut Started { process: None, told: Some(told) }).await.map(|output| output.exit)
    });
    Running { cancel, started, end }
}

fn request(server: &Server, owner: &str) -> LeaseRequest {
    LeaseRequest {
        folder: server.remote("service"),
        owner: owner.into(),
        job: format!("the job of {owner}"),
        who: owner.into(),
        expected: None,
    }
}

async fn lease(server: &Server, ssh: &Ssh) -> Lease {
    match ssh.take_lease(&request(server, "first")).await.unwrap() {
        Taken::Ours(lease) => lease,
        Taken::Held { holder, .. } | Taken::Passed(holder) => panic!("{holder} has it"),
        Taken::Foreign(foreign) => panic!("{foreign:?}"),
    }
}

/// How long something took.
async fn timed<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (what.await, begun.elapsed())
}

const SOON: Duration = Duration::from_secs(5);
const SLEEP: &str = "echo ready; exec sleep 300";

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_outlives_its_time_while_every_channel_for_commands_is_busy() {
    let server = Server::start();
    let (ssh, other) = (server.ssh(), server.ssh());
    let lease = lease(&server, &ssh).await;
    let mut busy: Vec<Running> = (0..7).map(|_| start(&ssh, SLEEP)).collect();
    for running in &mut busy {
        (&mut running.started).await.unwrap();
    }
    // Its second begins when it has a channel, half a minute from now.
    let begun = Instant::now();
    let waiting = {
        let ssh = ssh.clone();
        let command = RemoteCommand::new(["true"]).timeout(Duration::from_secs(1));
        tokio::spawn(async move { ssh.run(&command, &mut ()).await.map(|output| output.exit) })
    };
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < LEASE_TIME + Duration::from_secs(4) {
        let (renewed, took) = timed(lease.renew()).await;
        renewed.unwrap();
        slowest = slowest.max(took);
        match other.take_lease(&request(&server, "second")).await.unwrap() {
            Taken::Held { holder, .. } => assert_eq!(holder.who, "first"),
            Taken::Passed(_) | Taken::Foreign(_) => panic!("nobody had it before"),
            Taken::Ours(_) => panic!("the lease was taken from a living holder after {:?}", begun.elapsed()),
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    println!("the slowest renewal took {slowest:?}");
    assert!(slowest < SOON, "a renewal took {slowest:?}");
    assert!(!waiting.is_finished(), "all channels are busy");

    // A command is ended while all are busy, and leaves its channel to the one that waits.
    let victim = busy.pop().unwrap();
    victim.cancel.cancel();
    let (end, took) = timed(victim.end).await;
    assert!(matches!(end.unwrap(), Err(SshError::Cancelled { ended: KillOutcome::Terminated, .. })));
    assert!(took < SOON, "the ending took {took:?}");
    assert_eq!(waiting.await.unwrap().unwrap(), Exit::Code(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_commands_are_ended_side_by_side() {
    let server = Server::start();
    let ssh = server.ssh();
    let deaf = "trap '' TERM HUP PIPE; echo ready; sleep 300 & wait; sleep 300";
    let mut times = Vec::new();
    for count in [1, 7] {
        let mut busy: Vec<Running> = (0..count).map(|_| start(&ssh, deaf)).collect();
        let mut groups = Vec::new();
        for running in &mut busy {
            groups.push((&mut running.started).await.unwrap().group);
        }
        for running in &busy {
            running.cancel.cancel();
        }
        let (ends, took) = timed(join_all(busy.into_iter().map(|running| running.end))).await;
        for end in ends {
            let Err(SshError::Cancelled { ended, .. }) = end.unwrap() else { panic!("it was cancelled") };
            // On a server that is too slow to answer in time, it is ended twice at once: either may find it gone.
            assert!(!matches!(ended, KillOutcome::Unknown(_)), "{ended:?}");
        }
        assert!(!groups.into_iter().any(group_runs));
        times.push(took);
    }
    println!("one command was ended in {:?}, and seven in {:?}", times[0], times[1]);
    assert!(times[1] < times[0] * 6, "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_few_sessions_is_worked_with() {
    for allowed in [3, 5] {
        let server = Server::start_with(&["ed25519"], &format!("MaxSessions {allowed}"));
        let ssh = server.ssh();
        let lease = lease(&server, &ssh).await;
        ssh.write_file(&server.remote("file"), b"x", 0o600).await.unwrap();
        let mut long = start(&ssh, SLEEP);
        let process = (&mut long.started).await.unwrap();
        let mut others: Vec<Running> = (0..8).map(|_| start(&ssh, "sleep 0.2")).collect();
        for _ in 0..5 {
            let (renewed, took) = timed(lease.renew()).await;
            renewed.unwrap();
            assert!(took < SOON, "with {allowed} sessions a renewal took {took:?}");
            ssh.stat(&server.remote("file")).await.unwrap().unwrap();
        }
        long.cancel.cancel();
        let (end, took) = timed(long.end).await;
        assert!(matches!(end.unwrap(), Err(SshError::Cancelled { ended: KillOutcome::Terminated, .. })));
        assert!(took < SOON, "with {allowed} sessions the ending took {took:?}");
        assert!(!group_runs(process.group));
        for running in others.drain(..) {
            assert_eq!(running.end.await.unwrap().unwrap(), Exit::Code(0), "{allowed}");
        }
    }
}

#[tokio::test]
async fn a_server_with_too_few_sessions_is_told_what_to_set() {
    for (allowed, words) in [(1, "1 session on a connection"), (2, "2 sessions on a connection")] {
        let server = Server::start_with(&["ed25519"], &format!("MaxSessions {allowed}"));
        let ssh = server.ssh();
        ssh.connect().await.unwrap();
        let error = ssh.run(&RemoteCommand::new(["true"]), &mut ()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words) && text.contains("set `MaxSessions 10`"), "{text}");
        assert!(!error.retryable());
        let Err(error) = ssh.take_lease(&request(&server, "first")).await else { panic!("{allowed}") };
        assert_eq!(error.to_string(), text);
    }
}

async fn asked(ssh: &Ssh, name: &str) -> SlotRequest {
    ssh.request_slot((true, name.into())).await
}

async fn granted(ssh: &Ssh, name: &str) -> Slot {
    match asked(ssh, name).await {
        SlotRequest::Granted(place) => place,
        SlotRequest::Queued(_) => panic!("{name} has to wait"),
    }
}

#[tokio::test]
async fn there_are_as_many_slots_as_the_server_has_sessions_for_commands() {
    for (settings, expect) in [("", 7), ("MaxSessions 5", 2), ("MaxSessions 3", 1)] {
        let server = Server::start_with(&["ed25519"], settings);
        let ssh = server.ssh();
        let mut slots = Vec::new();
        for number in 0..expect {
            slots.push(granted(&ssh, &number.to_string()).await);
        }
        let SlotRequest::Queued(waiting) = asked(&ssh, "last").await else {
            panic!("one too many: {settings}")
        };
        assert_eq!(waiting.workers(), expect);
        slots.pop();
        let last = waiting.slot().await;
        assert!(matches!(asked(&ssh, "later").await, SlotRequest::Queued(_)));
        drop((slots, last));
        granted(&ssh, "alone").await;
    }
}

#[tokio::test]
async fn where_no_server_is_nobody_waits_for_a_slot() {
    let server = Server::start();
    let ssh = server.ssh();
    drop(server);
    let _slots = [granted(&ssh, "1").await, granted(&ssh, "2").await, granted(&ssh, "3").await];
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_keeps_nobody_waiting() {
    let server = Server::start();
    let ssh = server.ssh();
    let lease = lease(&server, &ssh).await;
    let tree = tempfile::tempdir().unwrap();
    let content = vec![7; 200 << 20];
    std::fs::write(tree.path().join("large"), &content).unwrap();
    let sha256 = hex::encode(Sha256::digest(&content));
    let kind = UploadKind::File { size: content.len() as u64, sha256 };
    let entries = [UploadEntry { path: "large".into(), kind, mode: 0o644 }];
    let _slot = granted(&ssh, "the upload").await;
    let small = server.remote("small");
    // Through sessions of the upload's own, and, where others have all slots, through the one that is shared.
    for others in [0, 6] {
        let mut slots = Vec::new();
        for number in 0..others {
            slots.push(granted(&ssh, &number.to_string()).await);
        }
        let mut commands: Vec<Running> =
            (0..others + usize::from(others > 0)).map(|_| start(&ssh, SLEEP)).collect();
        for running in &mut commands {
            (&mut running.started).await.unwrap();
        }
        let uploading = {
            let (ssh, to, from) = (ssh.clone(), server.remote("release"), tree.path().to_owned());
            let entries = entries.clone();
            tokio::spawn(async move { ssh.upload(&from, &entries, &to, &|_| ()).await })
        };
        let (mut slowest, mut rounds) = (Duration::ZERO, 0);
        while !uploading.is_finished() {
            let (done, took) = timed(async {
                lease.renew().await?;
                ssh.write_file(&small, b"x", 0o600).await?;
                ssh.stat(&small).await
            })
            .await;
            done.unwrap();
            slowest = slowest.max(took);
            rounds += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let uploaded = uploading.await.unwrap().unwrap();
        println!("{others} others: {rounds} rounds beside {:?}, the slowest {slowest:?}", uploaded.duration);
        assert!(slowest < SOON, "{others} others: a renewal and two file calls took {slowest:?}");
        for running in commands {
            running.cancel.cancel();
            let _ = running.end.await;
        }
    }
}
