//! Plugins that mean no good: what they may not touch, and how little they can cost.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use deployer_tests::{Job, Program, Service, Target, deployment, say, target};
use serde_json::{Value, json};

const ROOT: &str = "/opt/fpai/services";
/// All that the server may take, whatever a plugin does.
const MEMORY: u64 = 512 << 20;
/// What one refused call may leave in the journal.
const RECORD: u64 = 8 << 10;

/// The tests' own plugin, compiled.
fn naughty() -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--target", "wasm32-wasip2", "-p", "naughty"])
        .current_dir(&root)
        .status()
        .unwrap();
    assert!(status.success());
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    std::fs::read(folder.join("wasm32-wasip2/release/naughty.wasm")).unwrap()
}

fn patched(mut wasm: Vec<u8>, old: &str, new: &str) -> Vec<u8> {
    let at = wasm.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
    let new = format!("{new:<width$}", width = old.len());
    wasm[at..at + old.len()].copy_from_slice(new.as_bytes());
    wasm
}

async fn start(target: &Target) -> Program {
    let program = Program::start(target.clone(), None).await;
    std::fs::write(program.plugins().join("naughty.wasm"), naughty()).unwrap();
    program
}

/// A deployment in which the plugin does this in one phase, with these grants.
async fn deed(program: &Program, service: &Service, phase: &str, with: &str, grants: &[&str]) -> Job {
    program.pipeline(
        &service.name,
        &format!(
            "[phases]\n{phase} = [\"naughty\"]\n[grants]\nnaughty = {grants:?}\n\
             [timeouts]\nvalidation = \"5m\"\n[settings.naughty]\ndeed = \"hostile\"\nwith = {with:?}\n"
        ),
    );
    program.deploy(&deployment(service, "process", json!({ "ROUND": "1" }))).await
}

#[tokio::test]
async fn an_instances_words_are_no_commands_without_the_grant() {
    let target = target();
    let name = "hostile-words";
    stop(&target, name);
    target.shell("rm -f /root/hole");
    let program = start(&target).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(80));
    let words = "alive touch /root/hole";
    for grants in [&[][..], &["target.run", "target.write", "environment"]] {
        let job = deed(&program, &service, "start", words, grants).await.failed();
        assert_eq!(job.phase("Start Service")["status"], "failed", "{:#}", job.0);
        assert!(job.error().contains("`target.read`"), "{:#}", job.0);
        assert!(!target.succeeds("test -e /root/hole"), "the words were run");
    }
    // Under its own grants it reads, and what it may not read stays unread: by the check, and by the host.
    let words = format!("alive cat {ROOT}/{name}/env/*");
    let job = deed(&program, &service, "start", &words, &["target.read"]).await.failed();
    assert!(job.error().contains("may not read"), "{:#}", job.0);
    assert!(!job.0.to_string().contains("ROUND="), "{:#}", job.0);

    // A good one is looked at under its own plugin's grants, on record; the check has none of them.
    program.pipeline(name, "");
    let job = program.deploy(&deployment(&service, "process", json!({ "ROUND": "1" }))).await.completed();
    let (_, calls) = program.get(&format!("/deploy/{}/calls", job.id())).await;
    assert!(calls.to_string().contains("instance.alive"), "{calls:#}");
    stop(&target, name);
}

#[tokio::test]
async fn other_peoples_files_stay_as_they_are() {
    let target = target();
    let (name, other) = ("hostile-paths", "hostile-bystander");
    for name in [name, other] {
        stop(&target, name);
    }
    let program = start(&target).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(81));
    let (root, theirs) = (format!("{ROOT}/{name}"), format!("{ROOT}/{other}"));
    target.shell(&format!(
        "mkdir -p {theirs}/releases/1 {theirs}/env {root}/env {root}/docker {root}/records; echo theirs >{theirs}/releases/1/file; \
         umask 077; echo SECRET=theirs >{theirs}/env/1; echo SECRET=mine >{root}/env/1; ln -s {theirs} {root}/link; \
         ln -s env/1 {root}/soft; ln {root}/env/1 {root}/hard; echo x >{root}/docker/1.json"
    ));
    let state = format!(
        "cd {ROOT}; find {other} {name}/env/1 {name}/hard {name}/soft /etc/passwd /etc/cron.d -type f -exec sha256sum {{}} +"
    );
    let before = target.shell(&state);
    let grants =
        &["target.read", "target.run", "target.write", "target.upload", "environment", "service.read"];
    for (with, part) in [
        (format!("remove {theirs}/releases/1"), "it is outside of"),
        (format!("write {theirs}/releases/1/file"), "it is outside of"),
        (format!("remove {root}/link/releases"), "which leads to"),
        (format!("rename {theirs}/releases/1/file {root}/mine"), "it is outside of"),
        ("write /etc/cron.d/mine".into(), "target.write:/etc/cron.d/mine"),
        ("place /etc/cron.d/mine".into(), "environment:/etc/cron.d/mine"),
        ("run-in /tmp".into(), "target.run:/tmp"),
        (format!("link {theirs} x y"), "it is outside of"),
        (format!("write {root}/lock"), "only the deployer itself"),
        (format!("write {root}/live.json"), "only the deployer itself"),
        (format!("remove {root}/env/1"), "only the deployer itself"),
        (format!("rename {root}/env/1 {root}/mine"), "only the deployer itself"),
        (format!("read {root}/env/1"), "may not read"),
        (format!("read {root}//env/./1"), "may not read"),
        (format!("read {root}/soft"), "may not read"),
        (format!("read {root}/hard"), "may not read"),
        (format!("read {root}/current/../env/1"), "`..` in it"),
        (format!("read {theirs}/env/1"), "may not read"),
        (format!("cat {root}/soft"), "may not read"),
        (format!("cat {root}/current/../../env/1"), "may not read"),
        (format!("cat {theirs}/env/1"), "may not read"),
        (format!("variables {theirs}/env/1"), "not this release's environment"),
    ] {
        let job = deed(&program, &service, "validation", &with, grants).await.failed();
        assert!(job.error().contains(part), "{with}: {:#}", job.0);
        assert!(job.error().contains("`naughty`") || part.contains(".."), "{with}: {:#}", job.0);
    }
    assert_eq!(target.shell(&state), before);
    // With the line that the refusal names, it may.
    let line = "target.write:/etc/cron.d/{service}-mine";
    deed(&program, &service, "validation", &format!("write /etc/cron.d/{name}-mine"), &[line])
        .await
        .completed();
    assert_eq!(target.shell(&format!("cat /etc/cron.d/{name}-mine; rm /etc/cron.d/{name}-mine")), "mine");
    stop(&target, name);
    target.forget(other);
}

/// Ends what runs in the service's folder, and forgets the service. A test that failed has left it.
fn stop(target: &Target, name: &str) {
    target.shell(&format!(
        "for process in /proc/[0-9]*; do case $(readlink $process/cwd) in {ROOT}/{name}/*) kill ${{process#/proc/}} ;; esac; \
         done; true"
    ));
    target.forget(name);
}

/// In bytes, as the kernel counts it.
fn memory(program: &Program, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn journal(program: &Program) -> u64 {
    let folder = program.folder.path().join("data");
    let size = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |found| found.len());
    size("journal.db") + size("journal.db-wal")
}

/// What one hostile deed cost: the most memory meanwhile, what stayed, and what is in the journal.
struct Cost {
    peak: u64,
    after: u64,
    journal: u64,
    seconds: f64,
}

async fn cost<T>(program: &Program, what: &str, deed: impl Future<Output = T>) -> (T, Cost) {
    std::fs::write(format!("/proc/{}/clear_refs", program.id()), "5").unwrap();
    let (before, journal_before) = (memory(program, "VmRSS"), journal(program));
    let begun = Instant::now();
    let done = deed.await;
    let seconds = begun.elapsed().as_secs_f64();
    let (peak, after) = (memory(program, "VmHWM"), memory(program, "VmRSS"));
    let journal = journal(program).saturating_sub(journal_before);
    say(&format!(
        "hostile: {what:<28} before {:>4} MiB, peak {:>4} MiB, after {:>4} MiB, journal {:>8} bytes, {seconds:.1} s",
        before >> 20,
        peak >> 20,
        after >> 20,
        journal
    ));
    assert!(peak < MEMORY, "{what}: {} MiB", peak >> 20);
    (done, Cost { peak, after, journal, seconds })
}

#[tokio::test]
async fn what_is_said_without_measure_costs_little_and_disturbs_nobody() {
    let target = target();
    let (name, healthy) = ("hostile-sizes", "hostile-neighbour");
    for name in [name, healthy] {
        stop(&target, name);
    }
    let program = start(&target).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(82));
    let neighbour = Service::copy(&program.services(), "hello-quick", healthy, target.port(83));
    let good = deployment(&neighbour, "process", json!({ "ROUND": "1" }));
    let alone = Instant::now();
    program.deploy(&good).await.completed();
    let alone = alone.elapsed();
    // What a deployment leaves in the journal: the hostile one and the neighbour's have as much to say.
    let before = journal(&program);
    program.deploy(&good).await.completed();
    let plain = journal(&program).saturating_sub(before);
    let idle = memory(&program, "VmRSS");

    let read = &["target.read"];
    let mut most_after = 0;
    for (phase, with, part, calls) in [
        ("validation", "findings 1000000", "", 0),
        ("validation", "findings 400000", "400000 findings, and the limit is 1000", 0),
        ("validation", "finding 50000000", "handed over more than", 0),
        ("validation", "error 30000000", "cut here: 30000000 bytes in all", 0),
        ("build", "artifact 20971520", "the artifact's reference has 20971520 bytes", 0),
        ("validation", "refused 30000000 50", "", 50),
        ("validation", "refused-argv 1000000 1000", "", 100),
        ("validation", "calls", "more than 10000 calls", 10_000),
    ] {
        let request = deployment(&neighbour, "process", json!({ "ROUND": "1" }));
        let both = async {
            let beside = async {
                let begun = Instant::now();
                program.deploy(&request).await.completed();
                begun.elapsed()
            };
            tokio::join!(deed(&program, &service, phase, with, read), beside)
        };
        let ((job, beside), cost) = cost(&program, with, both).await;
        if with == "findings 1000000" {
            let ended = ["handed over more than 40 MiB", "needs more than its 128 MiB"];
            assert!(ended.iter().any(|part| job.error().contains(part)), "{:#}", job.0);
        } else if part.is_empty() {
            job.completed();
        } else {
            let job = job.failed();
            assert!(job.error().contains(part), "{with}: {}", &job.error()[..job.error().len().min(500)]);
            assert!(job.error().len() < 64 << 10);
        }
        let record = cost.journal.saturating_sub(2 * plain.max(300 << 10)) / u64::max(calls, 1);
        assert!(record < RECORD.max(if calls == 0 { 1 << 20 } else { 0 }), "{with}: {record} bytes a call");
        most_after = most_after.max(cost.after);
        say(&format!(
            "hostile:   the neighbour took {beside:.1?} beside it, and {alone:.1?} alone; peak {}",
            cost.peak
        ));
        assert!(beside < alone * 4 + Duration::from_secs(10), "{with}: {beside:?} and {alone:?} alone");
    }
    // The memory is back, and the same service deploys with good plugins.
    assert!(most_after < idle + (160 << 20), "{} MiB, and {} MiB before", most_after >> 20, idle >> 20);
    program.pipeline(name, "");
    program.deploy(&deployment(&service, "process", json!({ "ROUND": "2" }))).await.completed();
    let (_, history) = program.get(&format!("/deploy/history/{name}")).await;
    assert!(history.to_string().len() < 4 << 20, "{} bytes", history.to_string().len());

    // A record of what runs that an older build let grow without measure is no reason to deploy nothing more.
    target.shell(&format!("head -c 2000000 /dev/zero | tr '\\0' x >{ROOT}/{name}/live.json"));
    program.deploy(&deployment(&service, "process", json!({ "ROUND": "3" }))).await.completed();
    for name in [name, healthy] {
        stop(&target, name);
    }
}

#[tokio::test]
async fn a_file_that_is_hard_to_load_holds_nobody_up() {
    let target = target();
    let name = "hostile-loading";
    stop(&target, name);
    let program = start(&target).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(84));
    let good = deployment(&service, "process", json!({ "ROUND": "1" }));
    program.deploy(&good).await.completed();

    let naughty = naughty();
    let looping = patched(naughty.clone(), "describe:answers", "describe:loops");
    let schemas = patched(naughty, "describe:answers", "describe:schemas");
    for (file, bytes) in [("loops.wasm", looping), ("schemas.wasm", schemas)] {
        std::fs::write(program.plugins().join(file), bytes).unwrap();
    }
    let (submitted, _) = cost(&program, "a describe that loops", async {
        let begun = Instant::now();
        let id = program.submit(&good).await;
        let submitted = begun.elapsed();
        program.end(&id).await.completed();
        submitted
    })
    .await;
    assert!(submitted < Duration::from_secs(3), "{submitted:?}");
    let refused = async {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (_, answer) = program.get("/capabilities").await;
            let refused = answer["refused_plugins"].to_string();
            if refused.contains("within 5 s") && refused.contains("handed over more than") {
                return answer;
            }
            assert!(Instant::now() < deadline, "{answer:#}");
        }
    };
    let (answer, cost): (Value, Cost) = cost(&program, "schema of 100,000 properties", refused).await;
    assert!(cost.seconds < 60.0 && cost.after < 300 << 20, "{answer:#}");
    stop(&target, name);
}
