//! Answers: each function, what is believed, what is said on the way.

use serde_json::json;

use super::fixture::{Remembered, Told, call, context, deployment, granted, hiding, plugin, runtime};
use crate::capability::{Amount, Level, Source, StepContext};
use crate::contract::{Fault, Occasion, Publication, Release};
use crate::model::{Artifact, Grant, Instance, Outcome, Severity};
use crate::plugin::{Invocation, StepError, StepFailure};

/// One `validate`, and what it found.
async fn found(context: StepContext, deed: &str, with: &str) -> Result<String, StepError> {
    let findings = call(context).await.validate(&deployment(deed, with)).await?;
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].severity, Severity::Passed);
    Ok(findings[0].message.clone())
}

#[tokio::test]
async fn every_function_answers() {
    let recorder = Remembered::new();
    // Its instance has commands, which are its own words.
    let context = granted(context(&recorder).await, &[Grant::TargetRead]);
    let mut deployment = deployment("nothing", "");
    let step = || context.clone();

    call(step()).await.validate(&deployment).await.unwrap();
    let files = call(step()).await.transfer(&deployment).await.unwrap();
    let artifact = call(step()).await.build(&deployment, &files).await.unwrap();
    assert_eq!(artifact.reference, deployment.layout.files);
    let instance = call(step()).await.start(&deployment, &artifact).await.unwrap();
    assert_eq!((instance.name.as_str(), instance.port), ("0001", 8001));
    let verdict = call(step()).await.verify(&deployment, &instance).await.unwrap();
    assert_eq!((verdict.outcome, verdict.summary.as_str()), (Outcome::Passed, "0001 is fine"));
    assert_eq!(call(step()).await.inspect(&deployment, &artifact).await.unwrap(), Some(artifact.clone()));
    call(step()).await.promote(&deployment, &instance).await.unwrap();
    let publication =
        Publication { occasion: Occasion::Deployed, droplet_id: Some(7), endpoint: "http://h:8001".into() };
    let registration = call(step()).await.register(&deployment, &publication).await.unwrap();
    assert_eq!(registration.droplet_id, Some(7));
    call(step()).await.discard(&deployment, &artifact).await.unwrap();

    assert_eq!(call(step()).await.restore(&deployment).await.unwrap(), None);
    let earlier = Instance { name: "0000".into(), ..instance };
    let layout = deployment.layout.clone();
    deployment.previous = Some(Release {
        id: "0000".into(),
        layout,
        artifact: artifact.into(),
        instance: earlier.clone().into(),
    });
    assert_eq!(call(step()).await.restore(&deployment).await.unwrap(), Some(earlier));
    let said = recorder.lines();
    assert_eq!(said, ["stdout: promote 0001", &format!("stdout: discard {}", deployment.layout.files)]);
}

#[tokio::test]
async fn nothing_stays_between_two_calls() {
    let recorder = Remembered::new();
    let context = context(&recorder).await;
    assert_eq!(found(context.clone(), "count", "").await.unwrap(), "1");
    assert_eq!(found(context, "count", "").await.unwrap(), "1");
}

#[tokio::test]
async fn a_function_that_is_not_there_is_missing() {
    let recorder = Remembered::new();
    let call = Invocation::new(&runtime(), plugin("preflight").await, context(&recorder).await);
    let error = call.restore(&deployment("nothing", "")).await.unwrap_err();
    assert_eq!(error.failure, StepFailure::Missing);
    assert_eq!(error.into_error().fault, Fault::Plugin);
}

#[tokio::test]
async fn lies_are_found_out() {
    let recorder = Remembered::new();
    let context = context(&recorder).await;
    let lie = deployment("lie", "");
    let files = call(context.clone()).await.transfer(&lie).await.unwrap_err();
    assert!(matches!(&files.failure, StepFailure::InvalidAnswer(what) if what.contains("/etc")), "{files}");

    let honest = call(context.clone()).await.transfer(&deployment("nothing", "")).await.unwrap();
    let artifact = call(context.clone()).await.build(&lie, &honest).await.unwrap();
    let instance = call(context).await.start(&lie, &artifact).await.unwrap_err();
    assert!(
        matches!(&instance.failure, StepFailure::InvalidAnswer(what) if what.contains("port 0")),
        "{instance}"
    );
}

#[tokio::test]
async fn looking_changes_nothing() {
    let recorder = Remembered::new();
    let all = Grant::ALL;
    let context = granted(context(&recorder).await, &all);
    let artifact =
        Artifact { kind: "files".into(), reference: "/f".into(), digest: String::new(), bytes: None };
    for (deed, made) in
        [("run_changes", "target.run"), ("place", "environment.place"), ("files", "target.write-file")]
    {
        let asked = call(context.clone()).await.inspect(&deployment(deed, "/tmp/x"), &artifact).await;
        let told = asked.unwrap_err().into_error();
        assert_eq!(told.fault, Fault::Plugin, "{told:?}");
        assert!(told.attempted.contains(made) && told.seen.contains("`inspect`"), "{told:?}");
    }
    assert_eq!(recorder.calls(), [], "nothing was even tried");
}

#[tokio::test]
async fn what_it_says_is_kept_in_order_and_without_secrets() {
    let recorder = Remembered::new();
    let context = hiding(context(&recorder).await, &[("TOKEN", "s3cr3t-1")]);
    found(context, "say", "the token is s3cr3t-1").await.unwrap();
    // What has no line's end comes out at the call's end.
    assert_eq!(
        recorder.lines(),
        [
            "stdout: out: the token is [env TOKEN]",
            "plugin: log: the token is [env TOKEN]",
            "plugin: second line",
            "stderr: err: the token is [env TOKEN]",
        ]
    );
    let levels: Vec<Level> = recorder
        .all()
        .iter()
        .filter_map(|told| if let Told::Log(level, _, _) = told { Some(*level) } else { None })
        .collect();
    assert_eq!(levels, [Level::Info, Level::Warn, Level::Warn, Level::Warn]);
}

#[tokio::test]
async fn its_own_error_is_passed_on_without_secrets() {
    let recorder = Remembered::new();
    let context = hiding(context(&recorder).await, &[("TOKEN", "s3cr3t-1")]);
    let error = found(context, "fail", "s3cr3t-1 was wrong").await.unwrap_err();
    assert_eq!((error.plugin.as_str(), error.function), ("naughty", "validate"));
    let told = error.into_error();
    assert_eq!((told.fault, told.seen.as_str()), (Fault::Target, "[env TOKEN] was wrong"));
}

#[tokio::test]
async fn a_flood_is_cut_and_counted() {
    let recorder = Remembered::new();
    found(context(&recorder).await, "flood", "30000").await.unwrap();
    let lines = recorder.lines();
    assert_eq!(lines.len(), 20_000);
    assert_eq!(lines.last().map(String::as_str), Some("stdout: line 19999"));
    let all = recorder.all();
    let notice = all.iter().find_map(|told| match told {
        Told::Log(Level::Warn, Source::Host, line) => Some(line.clone()),
        _ => None,
    });
    assert!(notice.unwrap().starts_with("10000 lines are left out"));
}

#[tokio::test]
async fn progress_comes_now_and_then_and_at_the_end() {
    let recorder = Remembered::new();
    found(context(&recorder).await, "progress", "").await.unwrap();
    let amounts: Vec<Amount> = recorder
        .all()
        .into_iter()
        .filter_map(|told| if let Told::Progress(amount) = told { Some(amount) } else { None })
        .collect();
    assert!(amounts.len() < 20, "{} reports", amounts.len());
    assert_eq!(amounts.first().unwrap().files_done, 0);
    assert_eq!(
        *amounts.last().unwrap(),
        Amount { files_done: 100, files_total: 100, bytes_done: 0, bytes_total: 7 }
    );
}

#[tokio::test]
async fn settings_are_checked_by_the_plugins_schema() {
    let plugin = super::fixture::naughty().await;
    let check = |settings: serde_json::Value, expect: &[(&str, &str)]| {
        let problems = plugin.check_settings(&settings).err().unwrap_or_default();
        let told: Vec<(String, String)> =
            problems.into_iter().map(|problem| (problem.path.join("."), problem.message)).collect();
        assert_eq!(told.len(), expect.len(), "{told:?}");
        for ((path, message), (expect_path, part)) in told.iter().zip(expect) {
            assert!(path == expect_path && message.contains(part), "{told:?}");
        }
    };
    check(json!({ "deed": "nothing" }), &[]);
    check(json!({ "deed": "nothing", "with": "x" }), &[]);
    check(json!({}), &[("deed", "is missing")]);
    check(json!({ "deed": "nothing", "with": 7 }), &[("with", "7 is not of type \"string\"")]);
    check(
        json!({ "deed": "nothing", "whit": "x" }),
        &[("whit", "is not a setting of the plugin `naughty`; it has deed, with")],
    );
    check(json!({ "deed": "steal" }), &[("deed", "steal")]);
    check(json!([]), &[("", "object")]);
}

#[tokio::test]
async fn the_records_can_be_kept_as_json() {
    let recorder = Remembered::new();
    let context = context(&recorder).await;
    let deployment = deployment("nothing", "");
    let files = call(context).await.transfer(&deployment).await.unwrap();
    let kept = serde_json::to_value((&deployment, &files)).unwrap();
    assert_eq!(
        serde_json::from_value::<(crate::contract::Deployment, _)>(kept).unwrap(),
        (deployment, files)
    );
}
