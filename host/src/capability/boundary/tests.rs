//! What a step may reach, case by case.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use super::*;

fn boundary() -> Boundary {
    Boundary {
        services: "/opt/fpai/services".into(),
        service: "one".into(),
        environments: vec!["/opt/fpai/services/one/env/2".into(), "/opt/fpai/services/one/env/1".into()],
    }
}

fn grants(paths: &[&str]) -> Grants {
    Grants::default().with_paths(paths.iter().map(|path| path.parse().unwrap()))
}

const UNIT: &str = "/etc/systemd/system/deployer-one.service";

#[test]
fn what_is_written_stays_in_the_services_folder() {
    use OutOfReach::{HostsOwn, Outside};
    let outside = Err(Outside(Grant::TargetWrite));
    let unit = grants(&["target.write:/etc/systemd/system/deployer-{service}.service"]);
    let check = |grants: &Grants, path: &str, expect: Result<(), OutOfReach>| {
        assert_eq!(boundary().judge(grants, Use::Write, path), expect, "{path}");
    };
    let none = Grants::default();
    for path in ["docker/2.json", "releases/2/x", "venvs/a/b", "environment", "locks", "./run//2.pid"] {
        check(&none, &format!("/opt/fpai/services/one/{path}"), Ok(()));
    }
    for path in [
        "/etc/passwd",
        "/",
        "/opt",
        "/opt/fpai/services",
        "/opt/fpai/services/one",
        "/opt/fpai/services/two/releases/1",
        "/opt/fpai/services/one-more/x",
        "/opt/fpai/services/two",
        UNIT,
    ] {
        check(&none, path, outside);
    }
    for own in [
        "lock",
        "lock.running",
        "generation",
        "records",
        "records/1.json",
        "live.json",
        "intent.json",
        "current",
    ] {
        check(&none, &format!("/opt/fpai/services/one/{own}"), Err(HostsOwn));
        check(&grants(&["target.write:/"]), &format!("/opt/fpai/services/two//{own}"), Err(HostsOwn));
    }
    check(&none, "/opt/fpai/services/one/env", Err(HostsOwn));
    check(&grants(&["target.write:/"]), "/opt/fpai/services/one/./env/2", Err(HostsOwn));
    check(&unit, UNIT, Ok(()));
    check(&unit, "/etc/systemd/system/deployer-two.service", outside);
    check(&unit, "/etc/systemd/system/deployer-one.service/x", outside);
    check(&grants(&["target.write:/srv/"]), "/srv/a/b", Ok(()));
    check(&grants(&["target.write:/srv/"]), "/srv", outside);
    check(&grants(&["target.write:/srv/"]), "/srvx/a", outside);
    check(&grants(&["target.write:/"]), "/etc/passwd", Ok(()));
    // A path is granted to one kind of call.
    check(&grants(&["target.upload:/srv/"]), "/srv/a", outside);
    let upload = boundary().judge(&grants(&["target.upload:/srv/"]), Use::Upload, "/srv/a");
    assert_eq!(upload, Ok(()));
}

#[test]
fn environments_are_read_by_nobody_and_placed_where_they_belong() {
    use OutOfReach::{HostsOwn, NotItsOwn, Outside, Secret};
    let everything = grants(&["environment:/srv/", "target.read:/", "target.run:/"]);
    let check = |purpose: Use, path: &str, expect: Result<(), OutOfReach>| {
        assert_eq!(boundary().judge(&everything, purpose, path), expect, "{purpose:?} {path}");
    };
    let root = "/opt/fpai/services/one";
    for path in ["/opt/fpai/services/one/env/2", "/opt/fpai/services//two/./env/1.multiline"] {
        check(Use::Read, path, Err(Secret));
        check(Use::RunIn, path, Err(Secret));
    }
    check(Use::Read, "/etc/passwd", Ok(()));
    check(Use::Read, &format!("{root}/live.json"), Ok(()));
    check(Use::Read, &format!("{root}/releases/2/env/x"), Ok(()));
    for purpose in [Use::Place, Use::Environment] {
        check(purpose, &format!("{root}/env/2"), Ok(()));
        check(purpose, &format!("{root}/env/1.multiline"), Ok(()));
        check(purpose, &format!("{root}/env/22"), Err(NotItsOwn));
        check(purpose, &format!("{root}/env/2.a/b"), Err(NotItsOwn));
        check(purpose, &format!("{root}/env"), Err(NotItsOwn));
        check(purpose, "/opt/fpai/services/two/env/2", Err(NotItsOwn));
        check(purpose, &format!("{root}/lock"), Err(HostsOwn));
    }
    check(Use::Place, "/srv/env", Ok(()));
    check(Use::Place, "/etc/env", Err(Outside(Grant::Environment)));
    check(Use::Place, &format!("{root}/releases/2/.env"), Err(Outside(Grant::Environment)));
    check(Use::Environment, "/etc/env", Err(NotItsOwn));
    check(Use::Environment, &format!("{root}/releases/2/.env"), Ok(()));
}

#[test]
fn commands_run_in_the_services_folder() {
    let check = |grants: &Grants, path: &str, expect: Result<(), OutOfReach>| {
        assert_eq!(boundary().judge(grants, Use::RunIn, path), expect, "{path}");
    };
    let outside = Err(OutOfReach::Outside(Grant::TargetRun));
    check(&Grants::default(), "/opt/fpai/services/one", Ok(()));
    check(&Grants::default(), "/opt/fpai/services/one/releases/2", Ok(()));
    check(&Grants::default(), "/opt/fpai/services/two/releases/2", outside);
    check(&Grants::default(), "/tmp", outside);
    check(&grants(&["target.run:/tmp"]), "/tmp", Ok(()));
    let reads = boundary().judge(&grants(&["target.run:/tmp"]), Use::ReadIn, "/tmp");
    assert_eq!(reads, Err(OutOfReach::Outside(Grant::TargetRead)));
}

#[test]
fn words_of_commands_name_no_environment() {
    let check = |word: &str, directory: Option<&str>, reads: bool, changes: bool| {
        let seen = |reads| boundary().exposes(word, directory, reads);
        assert_eq!((seen(true), seen(false)), (reads, changes), "{word} in {directory:?}");
    };
    let root = "/opt/fpai/services/one";
    check("/opt/fpai/services/one/env/2", None, true, false);
    check("/opt/fpai/services/one/env/2.multiline", None, true, false);
    check("--env-file=/opt/fpai/services/one/env/3", None, true, true);
    check("/opt/fpai/services/two/env/2", None, true, true);
    check("/opt/fpai/services/one/env", None, true, true);
    check("/opt/fpai//services/./one/env/3", None, true, true);
    check("/opt/fpai/services/one/releases/../env/3", None, true, true);
    check("/opt/fpai/services/one/current/../../env/3", None, true, true);
    check("/opt/fpai/services/one/current/../env/3", None, false, false);
    check("cat '/opt/fpai/services/one/env/3'; true", None, true, true);
    check("../../env/3", Some("/opt/fpai/services/one/releases/2"), true, true);
    check("env/3", Some(root), true, true);
    check("env/3", None, false, false);
    check("env/bin/python", Some("/opt/fpai/services/one/releases/2"), false, false);
    check("/opt/fpai/services/one/releases/2/env/x", None, false, false);
    check("/usr/bin/env", None, false, false);
    check("/proc/self/root/opt/fpai/services/two/env/2", None, true, true);
    check("/proc/1/task/1/root/opt/fpai/services/one/env/2", None, true, false);
    check("/proc/self/cwd/env/3", Some(root), true, true);
    check("/proc/self/cwd/../../env/3", Some("/opt/fpai/services/one/releases/2"), true, true);
    check("/mnt/all/opt/fpai/services/two/env/2", None, true, true);
    check("/mnt/opt/fpai/services-of-others/two/env/2", None, false, false);
    check("a/b", None, false, false);
    check("", Some(root), false, false);
}

#[test]
fn a_boundary_moves_with_the_services_folder() {
    let moved = boundary().at("/data/services");
    assert_eq!(moved.root(), "/data/services/one");
    assert_eq!(moved.environments[0], "/data/services/one/env/2");
    assert_eq!(moved.judge(&Grants::default(), Use::Write, "/data/services/one/x"), Ok(()));
    assert!(moved.judge(&Grants::default(), Use::Write, "/opt/fpai/services/one/x").is_err());
}
