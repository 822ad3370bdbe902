use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::model::{PlannedStep, Stored, Variable, samples};
use crate::plugin::SettingProblem;

fn release(status: ReleaseStatus) -> ReleaseRecord {
    ReleaseRecord {
        environment: vec![Variable { name: "COLOUR".into(), one_line: true }],
        artifact: Some(Stored::Known(Artifact {
            kind: "image".into(),
            reference: "shop:r1".into(),
            digest: "sha256:1".into(),
            bytes: Some(9),
        })),
        instance: Some(json!({}).into()),
        ..samples::release("r1", status)
    }
}

fn plan(steps: &[(Phase, &str)]) -> Plan {
    let step = |(phase, plugin): &(Phase, &str)| PlannedStep {
        phase: *phase,
        plugin: (*plugin).into(),
        digest: String::new(),
        settings: json!({ "memory": "1g" }),
        grants: BTreeSet::new(),
        paths: vec![],
        timeout: Duration::from_secs(1),
        memory_mib: 1,
        pipeline: "default.toml".into(),
    };
    Plan {
        job_timeout: Duration::from_secs(1),
        phase_timeouts: vec![],
        steps: steps.iter().map(step).collect(),
        keep: Default::default(),
        public: Default::default(),
    }
}

/// Plugins with the phases that they serve. `renamed` knows no setting of before.
struct Folder(&'static [(&'static str, &'static [Phase])]);

impl Available for Folder {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| (*name).into()).collect()
    }

    fn digest(&self, plugin: &str) -> Option<String> {
        self.names().contains(&plugin.to_owned()).then(String::new)
    }

    fn serves(&self, plugin: &str, phase: Phase) -> bool {
        self.0.iter().any(|(name, phases)| *name == plugin && phases.contains(&phase))
    }

    fn is_loading(&self, _: &str) -> bool {
        false
    }

    fn check_settings(&self, plugin: &str, _: &Value) -> Vec<SettingProblem> {
        let problem = SettingProblem { path: vec!["memory".into()], message: "is not a setting".into() };
        if plugin == "renamed" { vec![problem] } else { vec![] }
    }
}

const METHOD: &[Phase] = &[Phase::Build, Phase::StartService];
const FOLDER: Folder = Folder(&[
    ("docker", METHOD),
    ("renamed", METHOD),
    ("builder", &[Phase::Build]),
    ("health", &[Phase::VerifyHealth]),
]);

fn steps<'a>(method: &'a str, verify: &'a str) -> Vec<(Phase, &'a str)> {
    vec![
        (Phase::Transfer, "no-such-carrier"),
        (Phase::Build, method),
        (Phase::StartService, method),
        (Phase::VerifyHealth, verify),
        (Phase::Register, "no-such-registry"),
    ]
}

#[test]
fn what_is_known_without_the_target() {
    let refused = [Refused { file: "broken.wasm".into(), reason: "it is half a file".into() }];
    let check = |release: &ReleaseRecord, plan: Option<&Plan>, expect: Option<&str>| {
        let found = lacks_here(release, plan, &FOLDER, &refused).map(|because| because.to_string());
        assert_eq!(found.as_deref(), expect, "{release:?}");
    };
    let good = plan(&steps("docker", "health"));
    let retired = release(ReleaseStatus::Retired);
    check(&retired, Some(&good), None);
    check(&release(ReleaseStatus::Live), Some(&good), Some("it is the one that runs"));
    check(&release(ReleaseStatus::Bad), Some(&good), Some("its deployment failed"));
    check(&release(ReleaseStatus::Candidate), Some(&good), Some("it was never verified"));
    check(&release(ReleaseStatus::Removing), Some(&good), Some("it is being removed from the target"));
    check(&release(ReleaseStatus::Removed), Some(&good), Some("it was removed from the target"));
    let unfinished = ReleaseRecord { artifact: None, ..retired.clone() };
    check(&unfinished, Some(&good), Some("it was never completely built and started"));
    check(&retired, None, Some("how it was deployed is not on record, or is from another deployer version"));
    let with = |method: &str, verify: &str, expect: &str| {
        check(&retired, Some(&plan(&steps(method, verify))), Some(expect));
    };
    with("podman", "health", "the plugin `podman`, which knows its artifact, is not in the plugins folder");
    with("docker", "smoke", "the plugin `smoke`, which verifies it, is not in the plugins folder");
    with("docker", "broken", "the plugin `broken` cannot be loaded: it is half a file");
    with("builder", "health", "the installed plugin `builder` does not serve Start Service");
    with(
        "renamed",
        "health",
        "the installed plugin `renamed` rejects its settings: memory: is not a setting",
    );
}

#[test]
fn what_is_seen_on_the_target() {
    let stat = |kind, mode| Some(Stat { kind, size: 1, mode });
    let layout = Layout::new("/opt", "shop", "r1");
    let artifact = |digest: &str| Artifact {
        kind: "image".into(),
        reference: "shop:r1".into(),
        digest: digest.into(),
        bytes: None,
    };
    let whole = OnTarget {
        files: stat(Kind::Directory, 0o755),
        environment: stat(Kind::File, 0o600),
        artifact: Ok(Some(artifact("sha256:1"))),
    };
    let retired = release(ReleaseStatus::Retired);
    let check = |release: &ReleaseRecord, seen: OnTarget, expect: Option<&str>| {
        let found = lacks_there(release, &layout, &seen).map(|because| because.to_string());
        assert_eq!(found.as_deref(), expect, "{seen:?}");
    };
    check(&retired, whole.clone(), None);
    let files = "its files are gone: /opt/shop/releases/r1 is not a folder on the target";
    check(&retired, OnTarget { files: None, ..whole.clone() }, Some(files));
    check(&retired, OnTarget { files: stat(Kind::Link, 0o777), ..whole.clone() }, Some(files));
    let environment = "its environment is gone: /opt/shop/env/r1 is not a file on the target";
    check(&retired, OnTarget { environment: None, ..whole.clone() }, Some(environment));
    let open = OnTarget { environment: stat(Kind::File, 0o644), ..whole.clone() };
    check(&retired, open, Some("its environment /opt/shop/env/r1 has the mode 0644 and not 0600"));
    let without = ReleaseRecord { environment: vec![], ..retired.clone() };
    check(&without, OnTarget { environment: None, ..whole.clone() }, None);
    let gone = "its artifact (image shop:r1) is gone from the target, or was changed there";
    check(&retired, OnTarget { artifact: Ok(None), ..whole.clone() }, Some(gone));
    let another = OnTarget { artifact: Ok(Some(artifact("sha256:2"))), ..whole.clone() };
    check(&retired, another, Some(gone));
    let lacks = OnTarget { artifact: Err("Docker does not answer\n".into()), ..whole };
    check(&retired, lacks, Some("Docker does not answer"));
}

#[test]
fn a_rollback_goes_where_it_was_asked_to_or_nowhere() {
    use ReleaseStatus::{Bad, Live, Retired};
    const GONE: Option<&str> = Some("its image is gone");
    let check = |releases: &[(&str, ReleaseStatus, bool, Option<&str>)],
                 wanted: Option<&str>,
                 expect: Option<(&str, &str, &str)>| {
        let candidates: Vec<Candidate<'_>> = releases
            .iter()
            .map(|(id, status, is_predecessor, unavailable)| Candidate {
                id,
                status: *status,
                is_predecessor: *is_predecessor,
                unavailable: match status {
                    Live => Some("it is the one that runs"),
                    Bad => Some("it failed"),
                    Retired | ReleaseStatus::Candidate | ReleaseStatus::Removing | ReleaseStatus::Removed => {
                        *unavailable
                    }
                },
            })
            .collect();
        let found = refusal("shop", wanted, &candidates);
        let found = found.as_ref().map(|no| (no.code, no.detail.as_str(), no.hint.as_str()));
        assert_eq!(found, expect, "{releases:?} {wanted:?}");
    };
    let none = "no-previous-release";
    let lost = "release-unavailable";
    let all_good = [("c", Live, false, None), ("b", Retired, true, None), ("a", Retired, false, None)];
    check(&all_good, None, None);
    check(&all_good, Some("a"), None);
    check(
        &all_good,
        Some("z"),
        Some((
            none,
            "shop cannot roll back to release z: the target has no such release; it was removed, or never was there",
            "you can roll back to these releases: b, a; name one of them",
        )),
    );
    check(
        &all_good,
        Some("c"),
        Some((
            none,
            "shop cannot roll back to release c: it is the one that runs",
            "you can roll back to these releases: b, a; name one of them",
        )),
    );
    // Never two releases back without a word.
    let newest_lost = [("c", Live, false, None), ("b", Retired, true, GONE), ("a", Retired, false, None)];
    check(
        &newest_lost,
        None,
        Some((
            lost,
            "shop runs release c, and cannot roll back to b, the one before it: its image is gone",
            "you can roll back to release a if you name it",
        )),
    );
    check(&newest_lost, Some("a"), None);
    check(
        &newest_lost,
        Some("b"),
        Some((
            lost,
            "shop cannot roll back to release b: its image is gone",
            "you can roll back to release a if you name it",
        )),
    );
    let only = [("b", Live, false, None), ("a", Retired, true, GONE)];
    let deploy = "it cannot roll back to any of its releases: deploy the version that you want";
    check(
        &only,
        None,
        Some((
            lost,
            "shop runs release b, and cannot roll back to a, the one before it: its image is gone",
            deploy,
        )),
    );
    let first = [("b", Live, false, None), ("a", Bad, false, None)];
    check(&first, None, Some((none, "shop runs release b, and no other release was live before it", deploy)));
    check(
        &[("a", Bad, false, None)],
        None,
        Some((none, "shop has no live release to roll back from", deploy)),
    );
    check(&[], None, Some((none, "shop has no live release to roll back from", "deploy it first")));
}
