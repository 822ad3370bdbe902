//! The lease's script in a real shell.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use super::*;

/// A real shell, as on a target. On a full disk, nothing can be written, and everything can be renamed.
fn run(folder: &Path, disk_is_full: bool, words: [&str; 6]) -> (Option<i32>, String) {
    let full = if disk_is_full { "trap '' XFSZ; ulimit -f 0\n" } else { "" };
    let output = Command::new("sh")
        .args(["-c", &format!("{full}{SCRIPT}"), "lease"])
        .arg(folder)
        .args([words[0], "30"])
        .args(&words[1..])
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[track_caller]
fn check(folder: &Path, words: [&str; 6], expect: &str) {
    let (code, said) = run(folder, false, words);
    let first = said.lines().next().unwrap_or_default().to_owned();
    assert_eq!((code, first.as_str()), (Some(0), expect), "{words:?}: {said}");
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn the_generation_only_grows_and_outlives_the_lease() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("shop");
    check(&folder, ["take", "A", "t1", "job1", "a", ""], "ours t1 1 0");
    // The same job of the same deployer: after a crash.
    check(&folder, ["take", "A", "t2", "job1", "a", "1"], "ours t2 1 1");
    check(&folder, ["give-up", "A", "t2", "", "", ""], "free");
    check(&folder, ["take", "B", "t3", "job2", "b", ""], "ours t3 2 1");
    // It goes on, and somebody else had the service meanwhile, whether it still has it or not.
    check(&folder, ["take", "A", "t4", "job1", "a", "1"], "passed");
    check(&folder, ["give-up", "B", "t3", "", "", ""], "free");
    let (_, said) = run(&folder, false, ["take", "A", "t4", "job1", "a", "1"]);
    assert_eq!(said, "passed\njob2\nb\n");
    assert!(!folder.join("lock").exists(), "it was not taken");
    check(&folder, ["take", "B", "t5", "job3", "b", ""], "ours t5 3 2");
    assert_eq!(read(&folder, "generation"), "3\nB\njob3\nb\n");
    // The file is lost: a job that knows better goes on from there.
    std::fs::remove_file(folder.join("generation")).unwrap();
    check(&folder, ["take", "B", "t6", "job3", "b", "3"], "ours t6 3 0");
}

#[test]
fn on_a_full_disk_neither_the_lock_nor_the_generation_changes_alone() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("shop");
    check(&folder, ["take", "A", "t1", "job1", "a", ""], "ours t1 1 0");
    let there = || (read(&folder, "lock"), read(&folder, "generation"));
    let before = there();
    let (code, said) = run(&folder, true, ["take", "A", "t2", "job1", "a", "1"]);
    assert_eq!((code, said.lines().next()), (Some(0), Some("ours t1 1 1")), "our own from before");
    assert_eq!(there(), before);
    check(&folder, ["give-up", "A", "t1", "", "", ""], "free");
    let (code, _) = run(&folder, true, ["take", "B", "t3", "job2", "b", ""]);
    assert_eq!(code, Some(23));
    assert_eq!(read(&folder, "generation"), before.1);
    assert!(!folder.join("lock").exists() && !folder.join("generation.new").exists());
    // So the first one's job goes on as if nobody had asked.
    check(&folder, ["take", "A", "t4", "job1", "a", "1"], "ours t4 1 1");
}

/// Each sees the folder while the other makes it its own.
#[test]
fn two_that_come_first_at_once_know_each_other() {
    for round in 0..40 {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("shop");
        let take = |owner: &'static str| {
            let folder = folder.clone();
            std::thread::spawn(move || run(&folder, false, ["take", owner, "t", "job", "who", ""]))
        };
        let (one, other) = (take("A"), take("B"));
        let mut said = [one, other].map(|taken| taken.join().unwrap().1);
        said.sort();
        assert!(said[0].starts_with("held ") && said[1].starts_with("ours "), "{round}: {said:?}");
    }
}

#[test]
fn who_took_a_lease_is_named_after_it_was_given_up() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("shop");
    check(&folder, ["take", "A", "t1", "job1", "a", ""], "ours t1 1 0");
    std::fs::remove_file(folder.join("lock")).unwrap();
    check(&folder, ["take", "B", "t2", "job2", "b", ""], "ours t2 2 1");
    check(&folder, ["give-up", "B", "t2", "", "", ""], "free");
    assert_eq!(run(&folder, false, ["keep", "A", "t1", "", "", ""]).1, "lost\njob2\nb\n");
}

#[test]
fn what_is_somebody_elses_is_not_touched() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("shop");
    let take = ["take", "A", "t1", "job1", "a", ""];
    std::fs::write(&folder, "a file").unwrap();
    check(&folder, take, "foreign file");
    std::fs::remove_file(&folder).unwrap();
    for (mark, expect) in [
        ("env/bin", "foreign folder"),
        ("releases/20241124031500", "foreign folder"),
        ("lost+found", "ours t1 1 0"),
        ("env/20241124-031500-001", "ours t1 1 0"),
        ("releases/20241124-031500-001", "ours t1 1 0"),
        ("records", "ours t1 1 0"),
    ] {
        std::fs::create_dir_all(folder.join(mark)).unwrap();
        check(&folder, take, expect);
        std::fs::remove_dir_all(&folder).unwrap();
    }
    // Left by one that died in the middle of taking it.
    for mark in ["generation.new", "lock.new"] {
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(mark), "1").unwrap();
        check(&folder, take, "ours t1 1 0");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
