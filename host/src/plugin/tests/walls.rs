//! What a plugin must not get away with: other people's files, words that become commands, answers without measure.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::fixture::{Remembered, call, context, deployment, granted};
use super::server::{There, found, there};
use crate::capability::{Started, StepContext, limits};
use crate::model::{Grant, Instance};
use crate::plugin::StepFailure;

async fn refused(there: &There, with: &str, part: &str) {
    match found(&there.step, "hostile", with).await {
        Ok(answer) => panic!("{with}: {answer:?} where {part:?} was expected"),
        Err(error) => assert!(error.to_string().contains(part), "{with}: {error}"),
    }
}

fn put(path: &str, text: &str) {
    std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn what_is_changed_stays_in_the_services_folder() {
    let there = there().await;
    let elsewhere = there.folder.path().join("two/file").display().to_string();
    let outside = there.folder.path().join("server/mine").display().to_string();
    put(&elsewhere, "theirs");
    let mine = there.path("docker/1.json");
    put(&mine, "mine");
    symlink(there.folder.path().join("two"), there.path("link")).unwrap();
    let through = there.path("link/file");
    for with in [
        format!("write {elsewhere}"),
        format!("remove {elsewhere}"),
        format!("rename {elsewhere} {mine}"),
        format!("rename {mine} {elsewhere}"),
        format!("write {outside}"),
        format!("place {outside}"),
        format!("run-in {}", there.folder.path().display()),
        format!("link {} name target", there.folder.path().display()),
        format!("remove {}", there.path("")),
    ] {
        refused(&there, &with, "may not").await;
        refused(&there, &with, "it is outside of").await;
    }
    for with in [format!("write {through}"), format!("remove {through}"), format!("rename {through} {mine}")]
    {
        refused(&there, &with, "which leads to").await;
    }
    // The link itself is the service's own.
    assert_eq!(
        found(&there.step, "hostile", &format!("remove {}", there.path("link"))).await.unwrap(),
        "removed"
    );
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "theirs");
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "mine");
    assert!(!std::path::Path::new(&outside).exists());

    let error = found(&there.step, "hostile", &format!("write {outside}")).await.unwrap_err().to_string();
    assert!(error.contains("plugin `naughty` may not write") && error.contains(&outside), "{error}");
    assert!(error.contains(&format!("\"target.write:{outside}\"]`")), "{error}");
    let paths = [format!("target.write:{outside}").parse().unwrap()];
    let step = StepContext { grants: there.step.grants.clone().with_paths(paths), ..there.step.clone() };
    assert_eq!(found(&step, "hostile", &format!("write {outside}")).await.unwrap(), "written");

    for own in ["lock", "lock.running", "generation", "records/1.json", "live.json", "current", "env/1"] {
        refused(&there, &format!("write {}", there.path(own)), "only the deployer itself writes there").await;
    }
    there.server.stop().await;
}

#[tokio::test]
async fn environments_are_read_by_no_name() {
    let there = there().await;
    let env = there.path("env/0001");
    let theirs = there.folder.path().join("two/env/9").display().to_string();
    for file in [&env, &theirs] {
        put(file, "SECRET=s3cr3t");
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    symlink(&env, there.path("link")).unwrap();
    symlink(there.path("env"), there.path("folder")).unwrap();
    std::fs::hard_link(&env, there.path("hard")).unwrap();
    put(&there.path("private"), "mine");
    std::fs::set_permissions(there.path("private"), std::fs::Permissions::from_mode(0o600)).unwrap();
    for path in ["env/0001", "env//0001", "./env/./0001", "link", "folder/0001", "hard"] {
        refused(&there, &format!("read {}", there.path(path)), "may not read").await;
    }
    refused(&there, &format!("read {theirs}"), "may not read").await;
    refused(&there, &format!("read {}", there.path("releases/../env/0001")), "has `..` in it").await;
    for path in ["env/0001", "link", "folder/0001", "releases/../env/0001", "current/../../env/0001"] {
        refused(&there, &format!("cat {}", there.path(path)), "may not read").await;
    }
    for with in [
        format!("rename {env} {}", there.path("mine")),
        format!("rename {} {env}", there.path("private")),
        format!("remove {env}"),
        format!("remove {}", there.path("env")),
        format!("link {} x y", there.path("env")),
        format!("link {} x y", there.path("folder")),
    ] {
        refused(&there, &with, "only the deployer itself writes there").await;
    }
    refused(
        &there,
        &format!("link {} x ../env/0001", there.path("releases")),
        "points outside of the folder",
    )
    .await;
    refused(&there, &format!("variables {theirs}"), "not this release's environment").await;
    refused(&there, &format!("variables-read {env}"), "a service's environment is there").await;
    refused(&there, &format!("place {}", there.path("env/0002")), "not this release's environment").await;
    assert_eq!(
        found(&there.step, "hostile", &format!("read {}", there.path("private"))).await.unwrap(),
        "mine"
    );
    let own = found(&there.step, "hostile", &format!("variables {env}")).await.unwrap();
    assert!(own.contains("SECRET="), "{own}");
    there.server.stop().await;
}

fn looked_at(alive: &[&str], log: &[&str], grants: &[Grant]) -> Started {
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Started {
        instance: Instance {
            kind: "process".into(),
            name: "one-1".into(),
            port: 8001,
            alive: argv(alive),
            log_tail: argv(log),
        },
        plugin: "starter".into(),
        grants: grants.iter().copied().collect(),
        pipeline_file: "pipelines/one.toml".into(),
    }
}

#[tokio::test]
async fn an_instances_commands_run_under_the_grants_of_who_said_them() {
    let there = there().await;
    let verdict = async |alive: &[&str], log: &[&str], grants: &[Grant]| {
        let started = looked_at(alive, log, grants);
        let instance = started.instance.clone();
        // The one that asks has no grant at all.
        let step = StepContext { started: Some(started), ..granted(there.step.clone(), &[]) };
        let verdict = call(step).await.verify(&deployment("hostile", ""), &instance).await;
        verdict.map(|verdict| verdict.summary).map_err(|error| error.to_string())
    };
    let reads = &[Grant::TargetRead];
    assert_eq!(verdict(&["true"], &["echo", "last"], reads).await.unwrap(), "Liveness::Alive; \"last\"");
    let dead = verdict(&["sh", "-c", "echo gone; exit 3"], &[], reads).await.unwrap();
    assert_eq!(dead, "Liveness::Dead(\"exit status 3: gone\"); \"\"");
    assert_eq!(verdict(&[], &[], &[]).await.unwrap(), "Liveness::Unknown; \"\"");
    let mark = there.path("mark");
    let error = verdict(&["touch", &mark], &["true"], &[Grant::TargetRun]).await.unwrap_err();
    assert!(error.contains("`starter`") && error.contains("`target.read`"), "{error}");
    assert!(!std::path::Path::new(&mark).exists());
    put(&there.path("env/0001"), "SECRET=s3cr3t");
    let error = verdict(&["cat", &there.path("env/0001")], &[], reads).await.unwrap_err();
    assert!(error.contains("may not read"), "{error}");
    let calls = there.recorder.calls();
    assert!(calls.iter().any(|(function, _, _)| function == "instance.alive"), "{calls:?}");
    there.server.stop().await;
}

#[tokio::test]
async fn who_may_run_nothing_says_no_commands() {
    let recorder = Remembered::new();
    let step = granted(context(&recorder).await, &[]);
    let said = deployment("hostile", "alive rm -rf /");
    let files = call(step.clone()).await.transfer(&deployment("nothing", "")).await.unwrap();
    let artifact = call(step.clone()).await.build(&deployment("nothing", ""), &files).await.unwrap();
    let error = call(step.clone()).await.start(&said, &artifact).await.unwrap_err();
    assert!(
        matches!(&error.failure, StepFailure::InvalidAnswer(what) if what.contains("target.read")),
        "{error}"
    );
    let silent = call(step.clone()).await.start(&deployment("hostile", ""), &artifact).await.unwrap();
    assert!(silent.alive.is_empty() && silent.log_tail.is_empty());
    let step = granted(step, &[Grant::TargetRead]);
    assert_eq!(call(step).await.start(&said, &artifact).await.unwrap().alive, ["sh", "-c", "rm -rf /"]);
}

#[tokio::test]
async fn answers_have_a_measure() {
    let recorder = Remembered::new();
    let step = context(&recorder).await;
    // Room enough for what it has to say.
    let limits = crate::capability::Limits { memory_bytes: 512 << 20, ..step.limits };
    let step = StepContext { limits, ..step };
    let check = async |with: &str, part: &str| {
        let error = call(step.clone()).await.validate(&deployment("hostile", with)).await.unwrap_err();
        let told = error.to_string();
        assert!(told.contains(part) && told.len() < 20 << 10, "{with}: {}", limits::brief(&told));
    };
    check("findings 1000000", "at once").await;
    check("findings 1001", "1001 findings, and the limit is 1000").await;
    check("finding 50000000", "handed over more than 40 MiB").await;
    check("error 10000000", "(cut here: 10000000 bytes in all)").await;
    let findings =
        call(step.clone()).await.validate(&deployment("hostile", "finding 10000000")).await.unwrap();
    assert!(findings[0].message.len() < limits::TEXT + 64);

    let files = call(step.clone()).await.transfer(&deployment("nothing", "")).await.unwrap();
    let error = call(step.clone())
        .await
        .build(&deployment("hostile", "artifact 20971520"), &files)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("the artifact's reference has 20971520 bytes"), "{error}");
}

#[tokio::test]
async fn calls_have_a_measure_and_leave_a_small_record() {
    let recorder = Remembered::new();
    let step = granted(context(&recorder).await, &[Grant::TargetRead]);
    let run = async |with: &str| call(step.clone()).await.validate(&deployment("hostile", with)).await;
    run("refused 30000000 50").await.unwrap();
    let calls = recorder.calls();
    assert_eq!(calls.len(), 50);
    for (_, arguments, ended) in &calls {
        let bytes = arguments.to_string().len() + ended.as_ref().unwrap().error.as_ref().unwrap().len();
        assert!(bytes < 2048, "{bytes}");
    }
    let findings = run("refused-argv 1000000 200").await.unwrap();
    assert!(findings[0].message.contains("its arguments have 1000006 bytes"), "{findings:?}");
    // The first hundred are on record, and the others counted.
    assert_eq!(recorder.calls().len(), 50 + usize::try_from(limits::REFUSED_ON_RECORD).unwrap());
    let counted = recorder.all().iter().any(|told| format!("{told:?}").contains("100 more refused calls"));
    assert!(counted);

    let recorder = Remembered::new();
    let limits = crate::capability::Limits { timeout: Duration::from_secs(60), ..step.limits };
    let step = StepContext { recorder: recorder.clone(), limits, ..granted(step.clone(), &[]) };
    let error = call(step).await.validate(&deployment("hostile", "refused 10 20000")).await.unwrap_err();
    let told = "it made more than 10000 calls to the host";
    assert!(matches!(&error.failure, StepFailure::Exceeded(what) if what == told), "{error}");
    assert_eq!(recorder.calls().len(), 100);
}
