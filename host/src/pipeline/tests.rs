use std::path::Path;

use serde_json::{Value, json};

use super::file::{PipelineFile, Size, parse};
use super::plan::{Available, plan};
use crate::model::{Grant, Keep, Phase, Plan, PlannedStep};
use crate::plugin::SettingProblem;

/// The shipped plugins, as far as a plan sees them. `strict` has a schema that knows `memory` only.
struct PluginIndex;

const INDEX: &[(&str, &[Phase])] = &[
    ("docker", &[Phase::Validation, Phase::Build, Phase::StartService]),
    ("bare", &[Phase::Build, Phase::StartService]),
    ("preflight", &[Phase::Validation]),
    ("sftp", &[Phase::Validation, Phase::Transfer]),
    ("health", &[Phase::VerifyHealth]),
    ("registry", &[Phase::Register]),
];

impl Available for PluginIndex {
    fn names(&self) -> Vec<String> {
        INDEX.iter().map(|(name, _)| (*name).into()).collect()
    }

    fn digest(&self, plugin: &str) -> Option<String> {
        INDEX.iter().find(|(name, _)| *name == plugin).map(|(name, _)| format!("digest of {name}"))
    }

    fn serves(&self, plugin: &str, phase: Phase) -> bool {
        INDEX.iter().any(|(name, phases)| *name == plugin && phases.contains(&phase))
    }

    fn is_loading(&self, plugin: &str) -> bool {
        plugin == "slow"
    }

    fn check_settings(&self, plugin: &str, settings: &Value) -> Vec<SettingProblem> {
        let wrong = plugin == "docker" && settings["memory"].is_number();
        let problem = SettingProblem { path: vec!["memory".into()], message: "a number is not text".into() };
        wrong.then_some(problem).into_iter().collect()
    }
}

fn read(name: &str, text: &str) -> PipelineFile {
    parse(Path::new(name), text.into()).unwrap()
}

fn base() -> PipelineFile {
    read("default.toml", include_str!("../../../pipelines/default.toml"))
}

fn check(own: &str, expect: &[&str]) {
    let problems = match parse(Path::new("shop.toml"), own.into()) {
        Ok(own) => match plan(&base(), &own, "docker", &PluginIndex) {
            Ok(_) => vec![],
            Err(error) => error.0.iter().map(ToString::to_string).collect(),
        },
        Err(problem) => vec![problem.to_string()],
    };
    assert_eq!(problems.len(), expect.len(), "{own}\n{problems:#?}");
    for (problem, expect) in problems.iter().zip(expect) {
        assert!(problem.contains(expect), "{own}\nfound    {problem}\nexpected {expect}");
    }
}

#[test]
fn what_may_be_wrong_is_named_with_its_place() {
    check("", &[]);
    check("[settings.docker]\nmemory = \"256m\"\n", &[]);
    check("\n[settings.docker]\nmemory = 256\n", &["shop.toml:3: settings.docker.memory: a number"]);
    check(
        "[settings.dokcer]\n",
        &["shop.toml:1: [settings] has `dokcer`, and there is no such plugin; the plugins are: docker"],
    );
    check("[phases]\nverify = [\"helth\"]\n", &["shop.toml:2: verify has a step `helth`"]);
    check(
        "[phases]\nverify = [\"slow\"]\n",
        &["shop.toml:2: verify has a step `slow`, and this plugin is still being loaded; ask again"],
    );
    check("[phases]\nverify = [\"sftp\"]\n", &["shop.toml:2: the plugin `sftp` does not export `verify`"]);
    check("[phases]\nverify = []\n", &["`verify` needs at least one step"]);
    check("[phases]\nbuild = [\"docker\", \"docker\"]\n", &["`build` needs exactly one step, and has 2"]);
    check("[grants]\nhealth = [\"http.everything\"]\n", &["shop.toml:2: "]);
    check("[grants]\nhealth = [\"target.write:/srv/\"]\n", &[]);
    check(
        "[grants]\nhealth = [\"http.any:/srv\"]\n",
        &["shop.toml:2: \"http.any:/srv\": `http.any` takes no path"],
    );
    check(
        "[grants]\nhealth = [\"target.write:srv\"]\n",
        &["shop.toml:2: \"target.write:srv\": the path has to begin"],
    );
    check("[timeouts]\njob = \"soon\"\n", &["shop.toml:2: `soon` is not a length of time"]);
    check("[retention]\ndays = 0\nstorage = \"0B\"\n", &[]);
    check("[retention]\ndays = -1\n", &["shop.toml:2: `-1` is not a number of days; write it like `7`"]);
    check("[retention]\nstorage = \"2\"\n", &["shop.toml:2: `2` is not a size; write it like `500MB`"]);
    check("[retention]\nweeks = 1\n", &["shop.toml:2: unknown field `weeks`, expected `days` or `storage`"]);
    check("[environment]\npublic = [\"PORT\", \"LOG_LEVEL\"]\n", &[]);
    check("[environment]\nsecret = []\n", &["shop.toml:2: unknown field `secret`, expected `public`"]);
    check("[environment]\npublic = \"PORT\"\n", &["shop.toml:2: invalid type: string \"PORT\""]);
    check(
        "[environment]\npublic = [\"PORT\",\n\"LOG_*\", \"A=b\", \"\"]\n",
        &["shop.toml:3: environment.public has `LOG_*`, which is not a variable's name", "`A=b`", "``"],
    );
    check("[phase]\n", &["shop.toml:1: unknown field `phase`"]);
    check("[phases\n", &["shop.toml:1: "]);
    check("[settings.docker]\nmemory = 1\n[phases]\nverify = [\"x\"]\n", &["shop.toml:2", "shop.toml:4"]);
}

#[test]
fn a_service_changes_what_differs() {
    let base =
        read("default.toml", &format!("{}\n[settings.docker]\nmemory = \"1g\"\ncpus = \"1\"\n", base().text));
    let own = read(
        "shop.toml",
        "[settings.docker]\nmemory = \"256m\"\n[grants]\nhealth = [\"http.any\"]\n\
         [phases]\nverify = [\"health\", { plugin = \"health\", settings = { path = \"/ready\" }, timeout = \"5s\" }]\n\
         [timeouts]\njob = \"3m\"\n[limits.docker]\nmemory_mib = 64\n",
    );
    let plan = plan(&base, &own, "docker", &PluginIndex).unwrap();
    let build = plan.steps(Phase::Build).next().unwrap();
    assert_eq!(build.settings, json!({ "memory": "256m", "cpus": "1" }));
    assert_eq!(build.memory_mib, 64);
    assert!(build.grants.contains(&Grant::Environment));
    let verify: Vec<_> = plan.steps(Phase::VerifyHealth).collect();
    assert_eq!(verify.len(), 2);
    assert_eq!(verify[1].settings, json!({ "path": "/ready" }));
    assert_eq!(verify[1].timeout.as_secs(), 5);
    assert!(verify[0].grants.contains(&Grant::HttpAny) && verify[0].grants.contains(&Grant::HttpLoopback));
    assert_eq!(plan.job_timeout.as_secs(), 180);
    assert_eq!(plan.phase_timeout(Phase::Transfer).as_secs(), 180);
}

#[test]
fn a_grant_with_a_path_is_the_grant_and_the_path() {
    let own = read("shop.toml", "[grants]\nhealth = [\"target.write:/srv/{service}/\"]\n");
    let plan = plan(&base(), &own, "docker", &PluginIndex).unwrap();
    let verify = plan.steps(Phase::VerifyHealth).next().unwrap();
    assert!(verify.grants.contains(&Grant::TargetWrite));
    assert_eq!(
        verify.paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["target.write:/srv/{service}/"]
    );
    // A plan that was kept by an older build has what the shipped plugins need.
    let mut kept = serde_json::to_value(verify).unwrap();
    assert_eq!(kept["paths"], json!(["target.write:/srv/{service}/"]));
    kept.as_object_mut().unwrap().remove("paths");
    let older: PlannedStep = serde_json::from_value(kept).unwrap();
    assert_eq!(older.paths[0].path("shop"), "/etc/systemd/system/deployer-shop.service");
}

#[test]
fn retention_is_laid_over_key_by_key() {
    let check = |own: &str, days: u32, storage_bytes: u64| {
        let plan = plan(&base(), &read("shop.toml", own), "docker", &PluginIndex).unwrap();
        assert_eq!(plan.keep, Keep { days, storage_bytes }, "{own}");
    };
    check("", 7, 2_000_000_000);
    check("[retention]\ndays = 30\n", 30, 2_000_000_000);
    check("[retention]\nstorage = \"500MB\"\n", 7, 500_000_000);
}

#[test]
fn what_is_public_is_replaced() {
    let base = read("default.toml", &format!("{}\n[environment]\npublic = [\"LOG_LEVEL\"]\n", base().text));
    let check = |own: &str, expect: &[&str]| {
        let plan = plan(&base, &read("shop.toml", own), "docker", &PluginIndex).unwrap();
        assert_eq!(plan.public.iter().map(String::as_str).collect::<Vec<_>>(), expect, "{own}");
    };
    check("", &["LOG_LEVEL"]);
    check("[environment]\n", &["LOG_LEVEL"]);
    check("[environment]\npublic = [\"PORT\", \"APP_MODULE\"]\n", &["APP_MODULE", "PORT"]);
    check("[environment]\npublic = []\n", &[]);
    // A plan of an older version has none.
    let mut old =
        serde_json::to_value(plan(&base, &PipelineFile::default(), "docker", &PluginIndex).unwrap()).unwrap();
    old.as_object_mut().unwrap().remove("public");
    assert!(serde_json::from_value::<Plan>(old).unwrap().public.is_empty());
}

#[test]
fn sizes_are_read() {
    let check = |text: &str, expect: Option<u64>| {
        assert_eq!(Size::try_from(text.to_owned()).ok(), expect.map(Size), "{text}");
    };
    check("2GB", Some(2_000_000_000));
    check("1.5 GiB", Some(3 << 29));
    check("0.001kB", Some(1));
    check("10 B", Some(10));
    check("0B", Some(0));
    for text in ["", "GB", "2", "-1GB", "1.GB", ".5GB", "1.2345GB", "2gb", "2 G B", "99999999TB"] {
        check(text, None);
    }
}

#[test]
fn a_method_may_leave_validation_to_others() {
    let plan = plan(&base(), &PipelineFile::default(), "bare", &PluginIndex).unwrap();
    let others: Vec<_> = plan.steps(Phase::Validation).map(|step| step.plugin.as_str()).collect();
    assert_eq!(others, ["preflight", "sftp"]);
    assert_eq!(plan.steps(Phase::Build).next().unwrap().plugin, "bare");
}

/// Every example in `pipelines/` can be read.
#[test]
fn the_examples_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        parse(&path, text).unwrap_or_else(|problem| panic!("{problem}"));
        count += 1;
    }
    assert!(count > 0);
}

/// Every pipeline in the README can be read.
#[test]
fn the_readme_is_read() {
    let readme = include_str!("../../../README.md");
    let examples: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        parse(Path::new("README.md"), example.into())
            .unwrap_or_else(|problem| panic!("{problem}\n{example}"));
    }
}
