//! The deployer's own disk is full for a while, in each phase: the job goes on by itself once there is space again,
//! and until then the deployer says how it is.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use deployer_tests::{Job, Program, Served, Service, deployment, target, wrongs};
use serde_json::{Value, json};

const FULL_FOR: Duration = Duration::from_secs(20);

/// The program's data folder, on a small file system of its own.
struct Disk {
    folder: PathBuf,
}

impl Disk {
    async fn under(program: &mut Program) -> Disk {
        program.stop();
        let folder = program.folder.path().join("data");
        let before = program.folder.path().join("data-before");
        std::fs::rename(&folder, &before).unwrap();
        std::fs::create_dir(&folder).unwrap();
        let place = folder.to_str().unwrap();
        run(&["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", place]);
        run(&["cp", "-a", &format!("{}/.", before.display()), place]);
        program.run().await;
        Disk { folder }
    }

    fn fill(&self) {
        let filler = std::fs::File::create(self.folder.join("filler")).unwrap();
        let ended = std::io::copy(&mut std::io::repeat(7), &mut &filler).unwrap_err();
        assert_eq!(ended.kind(), std::io::ErrorKind::StorageFull, "{ended}");
    }

    fn free(&self) {
        std::fs::remove_file(self.folder.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the program may still have its journal open.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

fn run(command: &[&str]) {
    let status = Command::new(command[0]).args(&command[1..]).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn change(service: &Service, version: &str) -> Value {
    service.write("VERSION", version);
    deployment(service, "systemd", json!({ "ROUND": version, "DELAY": "1" }))
}

async fn until(program: &Program, id: &str, phase: &str, passed: impl Fn(&str) -> bool) {
    loop {
        let job = Job(program.get(&format!("/deploy/{id}")).await.1);
        if passed(job.phase(phase)["status"].as_str().unwrap()) || !job.0["completed_at"].is_null() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_disk_that_is_full_for_a_while_holds_jobs_up_and_nothing_else() {
    let name = "e2e-full";
    let target = target();
    target.forget(name);
    let mut program = Program::start(target.clone(), None).await;
    let service = Service::copy(&program.services(), "hello-quick", name, target.port(47));
    program.pipeline(
        name,
        "[settings.systemd]\nbuild = [\"sleep 1\"]\n[settings.health]\ndeadline_seconds = 4\nattempts = 1\n",
    );
    let other = Service::copy(&program.services(), "hello-quick", "e2e-full-other", target.port(47));
    let disk = Disk::under(&mut program).await;
    let first = program.deploy(&change(&service, "0")).await.completed();
    let mut serves = Served { release: first.release().into(), version: "0".into() };
    let mut wrong = Vec::new();
    let phases = ["Validation", "Transfer", "Build", "Start Service", "Verify Health", "unwinding"];
    for (round, phase) in (1..).zip(phases) {
        // A log that was taken back into the journal before has room in it, by chance. This begins without.
        program.stop();
        program.run().await;
        let version = round.to_string();
        if phase == "unwinding" {
            service.write("SICK", "");
        }
        let id = program.submit(&change(&service, &version)).await;
        match phase {
            "unwinding" => until(&program, &id, "Verify Health", |status| status == "failed").await,
            phase => until(&program, &id, phase, |status| status != "pending").await,
        }
        disk.fill();
        let began = Instant::now();

        // What cannot be recorded is refused, and what is known is answered.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (status, problem) = program.post("/deploy", &deployment(&other, "systemd", json!({}))).await;
        assert_eq!((status, problem["code"].as_str()), (503, Some("journal-unavailable")), "{problem:#}");
        assert!(problem["hint"].as_str().unwrap().contains("free space"), "{problem:#}");
        let (status, health) = program.get("/health").await;
        assert_eq!(status, 500, "{health:#}");
        assert_ne!(health["journal_status"], "writable", "{health:#}");
        let (status, job) = program.get(&format!("/deploy/{id}")).await;
        assert_eq!((status, job["status"].as_str()), (200, Some("running")), "{phase}: {job:#}");
        tokio::time::sleep(FULL_FOR.saturating_sub(began.elapsed())).await;
        disk.free();

        let freed = Instant::now();
        let job = program.end(&id).await;
        println!("{phase}: {} {} {:?} after", job.0["status"], job.0["aftermath"], freed.elapsed());
        let expect = if phase == "unwinding" { "failed" } else { "completed" };
        assert_eq!(job.0["status"], expect, "{phase}: {:#}", job.0);
        assert!(freed.elapsed() < Duration::from_secs(60), "{phase}: {:?}", freed.elapsed());
        let lines = program.lines(&id).await.join("\n");
        assert!(lines.contains("continuing from what is recorded"), "{phase}: {lines}");
        let (now, found) = wrongs(&program, &service, "systemd", &job, &serves, &version).await;
        wrong.extend(found.into_iter().map(|found| format!("{phase}: {found}")));
        serves = now;
        let (status, health) = program.get("/health").await;
        assert_eq!((status, health["journal_status"].as_str()), (200, Some("writable")), "{health:#}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(program.get("/deploy/history/e2e-full-other").await.0, 404, "nothing was half accepted");
    drop(disk);
    program.kill();
    target.forget(name);
}
