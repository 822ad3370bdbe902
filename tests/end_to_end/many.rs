//! Many services at once, with a second deployer beside: each job has its place on the target, and the others
//! wait without their time running.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use deployer_tests::{Job, Program, Service, Target, client, deployment, target};
use serde_json::{Value, json};

const SERVICES: usize = 40;
/// As many jobs as sshd's default allows.
const AT_ONCE: usize = 7;
/// How long a service builds, and how long one does that the second deployer wants: its lease is renewed twice
/// meanwhile.
const BUILD_SECONDS: u64 = 8;
const LONG_BUILD_SECONDS: u64 = 25;
/// These ports are looked at on the target only.
const FIRST_PORT: u16 = 19_100;

fn name(number: usize) -> String {
    format!("e2e-crowd-{number:02}")
}

fn is_wanted(number: usize) -> bool {
    number.is_multiple_of(10)
}

/// Ends what the services left, and removes it.
fn clear(target: &Target) {
    target.shell(
        "for file in /opt/fpai/services/e2e-crowd-*/run/*.pid; do \
           [ ! -f \"$file\" ] || { read -r pid rest <\"$file\"; kill -s KILL -- \"-$pid\" 2>/dev/null; }; \
         done; rm -rf /opt/fpai/services/e2e-crowd-*; true",
    );
}

/// Each lease that there is: whose it is, and how many seconds it has left by the target's clock.
fn leases(target: &Target) -> Vec<(String, String, i64)> {
    let said = target.shell(
        "for file in /opt/fpai/services/e2e-crowd-*/lock; do \
           left=$(($(stat -c %Y \"$file\" 2>/dev/null || echo 0) - $(date +%s))); \
           owner=$(tr '\\n' ' ' <\"$file\" 2>/dev/null) || continue; \
           [ ! -f \"$file\" ] || echo \"$(basename $(dirname \"$file\"))|$owner|$left\"; \
         done",
    );
    said.lines()
        .filter_map(|line| {
            let mut parts = line.split('|');
            Some((parts.next()?.into(), parts.next()?.into(), parts.next()?.parse().ok()?))
        })
        .collect()
}

/// Each service, what its folder leads to, and how it answers.
fn live(target: &Target) -> String {
    let mut line = String::new();
    for number in 0..SERVICES {
        let (name, port) = (name(number), usize::from(FIRST_PORT) + number);
        line += &format!("ask {name} {port}; ");
    }
    target.shell(&format!(
        "ask() {{ echo $1 $(readlink /opt/fpai/services/$1/current) $(python3 -c 'import sys, urllib.request; \
         print(urllib.request.urlopen(\"http://127.0.0.1:\" + sys.argv[1] + \"/health\").status)' $2 2>&1 | tail -n 1); \
         }}; {line}"
    ))
}

/// How many jobs ran at the same time.
fn at_once(jobs: &[Job]) -> usize {
    let time = |job: &Job, name: &str| job.0[name].as_str().unwrap().to_owned();
    let mut events: Vec<(String, bool)> = Vec::new();
    for job in jobs {
        events.extend([(time(job, "started_at"), true), (time(job, "completed_at"), false)]);
    }
    // An end comes before a beginning in the same moment.
    events.sort();
    let (mut now, mut most) = (0_usize, 0);
    for (_, begins) in events {
        now = if begins { now + 1 } else { now - 1 };
        most = most.max(now);
    }
    most
}

async fn jobs(program: &Program, ids: &[String]) -> Vec<Job> {
    let mut jobs = Vec::new();
    for id in ids {
        jobs.push(Job(program.get(&format!("/deploy/{id}")).await.1));
    }
    jobs
}

/// What the first deployer's jobs were seen to be while they went.
#[derive(Default)]
struct Seen {
    most_pending: usize,
    leases: usize,
    least_left: BTreeMap<String, i64>,
}

impl Seen {
    fn look(&mut self, target: &Target, jobs: &[Job], owner: &str) {
        let pending: Vec<&Job> = jobs.iter().filter(|job| job.0["status"] == "pending").collect();
        self.most_pending = self.most_pending.max(pending.len());
        for job in pending {
            assert_eq!(job.0["started_at"], Value::Null, "its time runs: {:#}", job.0);
            assert!(job.statuses()[..5].iter().all(|status| status == "pending"), "{:#}", job.0);
        }
        for (service, lock, left) in leases(target) {
            assert!(lock.contains(owner), "{service} is another's: {lock}");
            self.leases += 1;
            let least = self.least_left.entry(service).or_insert(left);
            *least = left.min(*least);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_services_build_at_once_and_nobody_loses_a_lease_or_fails_for_waiting() {
    let target = target();
    clear(&target);
    let first = Program::start(target.clone(), None).await;
    let second = Program::start(target.clone(), None).await;
    let owner = std::fs::read_to_string(first.folder.path().join("data/owner")).unwrap().trim().to_owned();

    // With its plugins loaded, it is quick enough to come in the middle of a build.
    for program in [&first, &second] {
        let loaded = client().get(format!("{}/capabilities", program.url)).timeout(Duration::from_secs(300));
        assert!(loaded.send().await.unwrap().status().is_success());
    }

    let mut ids = Vec::new();
    for number in 0..SERVICES {
        let port = FIRST_PORT + u16::try_from(number).unwrap();
        let service = Service::copy(&first.services(), "hello-quick", &name(number), port);
        let seconds = if is_wanted(number) { LONG_BUILD_SECONDS } else { BUILD_SECONDS };
        first.pipeline(&service.name, &format!("[settings.process]\nbuild = [\"sleep {seconds}\"]\n"));
        ids.push(first.submit(&deployment(&service, "process", json!({}))).await);
    }
    // One more, which is cancelled while it waits: at once, and it never began.
    let extra = Service::copy(&first.services(), "hello-quick", "e2e-crowd-extra", FIRST_PORT - 1);
    let cancelled = first.submit(&deployment(&extra, "process", json!({}))).await;
    let begun = Instant::now();
    let (status, body) = first.delete(&format!("/deploy/{cancelled}")).await;
    assert!(status < 300, "{status} {body:#}");
    let job = first.end(&cancelled).await;
    assert_eq!((&job.0["status"], &job.0["started_at"]), (&json!("cancelled"), &Value::Null), "{:#}", job.0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    // The second deployer wants what the first one builds, again and again.
    let mut wanted = BTreeMap::new();
    let mut seen = Seen::default();
    let began = Instant::now();
    loop {
        let now = jobs(&first, &ids).await;
        seen.look(&target, &now, &owner);
        for job in now.iter().enumerate().filter(|(number, _)| is_wanted(*number)).map(|(_, job)| job) {
            if job.phase("Build")["status"] == "running" && !wanted.contains_key(job.id()) {
                let service = job.0["service_name"].as_str().unwrap();
                let copy = Service::copy(&second.services(), "hello-quick", service, FIRST_PORT - 2);
                let theirs = second.submit(&deployment(&copy, "process", json!({}))).await;
                wanted.insert(job.id().to_owned(), theirs);
            }
        }
        if now.iter().all(|job| !job.0["completed_at"].is_null()) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(400), "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!(
        "{SERVICES} services in {:?}; up to {} waited; {} looks at leases, the least left {:?} s",
        began.elapsed(),
        seen.most_pending,
        seen.leases,
        seen.least_left.values().min(),
    );

    let jobs = jobs(&first, &ids).await;
    let live = live(&target);
    for (number, job) in jobs.iter().enumerate() {
        let job = job.clone().completed();
        let expect = format!("{} releases/{} 200", name(number), job.release());
        assert!(live.lines().any(|line| line == expect), "not {expect}:\n{live}");
        // What came much later did not begin before it.
        for later in jobs.iter().skip(number + AT_ONCE + 1) {
            assert!(job.0["started_at"].as_str() <= later.0["started_at"].as_str(), "{:#}", later.0);
        }
    }
    assert_eq!(at_once(&jobs), AT_ONCE);
    assert!(seen.most_pending >= SERVICES - AT_ONCE - 3, "{}", seen.most_pending);
    assert!(seen.leases > 20, "{}", seen.leases);
    let short: Vec<_> = seen.least_left.iter().filter(|(_, left)| **left < 8).collect();
    assert!(short.is_empty(), "leases that were nearly over: {short:?}");
    let last = first.lines(&ids[SERVICES - 1]).await.join("\n");
    assert!(last.contains("waiting: 7 jobs run on the target"), "{last}");

    assert_eq!(wanted.len(), SERVICES / 10, "{wanted:?}");
    for (theirs, ours) in &wanted {
        let job = second.end(ours).await.failed();
        assert!(job.error().contains(theirs) && job.error().contains("alive"), "{:#}", job.0);
    }
    clear(&target);
}
