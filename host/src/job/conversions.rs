//! The records that steps are given, from what the journal has.

use serde_json::{Value, json};

use crate::capability::{Grants, limits};
use crate::contract::{self, Deployment, Release};
use crate::model::{Finding, JobRecord, PlannedStep, ReleaseRecord, Variable};

/// The contract's view of a job, for a step with these settings.
pub fn deployment(root: &str, job: &JobRecord, settings: &Value) -> Deployment {
    Deployment {
        job: job.id.clone(),
        service: job.service.clone(),
        method: job.method.clone(),
        release: job.release.clone(),
        port: job.request.service_port,
        layout: job.layout(root).into(),
        environment: variables(&job.request.environment),
        settings: settings.to_string(),
        previous: job.previous.as_ref().and_then(|previous| release(root, previous)),
    }
}

/// The contract's view of a release as what a job is about, for a step with these settings.
pub fn of_release(root: &str, release: &ReleaseRecord, job: &str, settings: &Value) -> Deployment {
    Deployment {
        job: job.to_owned(),
        service: release.service.clone(),
        method: release.method.clone(),
        release: release.id.clone(),
        port: release.port,
        layout: release.layout(root).into(),
        environment: variables(&release.environment),
        settings: settings.to_string(),
        previous: None,
    }
}

/// The contract's view of an earlier release; none when it never came as far as an instance.
pub fn release(root: &str, record: &ReleaseRecord) -> Option<Release> {
    let mut artifact = record.artifact()?.clone();
    let mut instance = record.instance()?.clone();
    // An older build took names of any length: they are not a reason to let nothing follow such a release.
    let names = [&mut artifact.kind, &mut artifact.reference, &mut artifact.digest];
    for name in names.into_iter().chain([&mut instance.kind, &mut instance.name]) {
        limits::cut(name, limits::IDENTIFIER);
    }
    for argv in [&mut instance.alive, &mut instance.log_tail] {
        if argv.iter().map(String::len).sum::<usize>() > limits::COMMAND {
            argv.clear();
        }
    }
    Some(Release {
        id: record.id.clone(),
        layout: record.layout(root).into(),
        artifact: artifact.into(),
        instance: instance.into(),
    })
}

/// What a plan grants to a step's plugin.
pub fn granted(planned: &PlannedStep) -> Grants {
    planned.grants.iter().copied().collect::<Grants>().with_paths(planned.paths.iter().cloned())
}

/// What Validation found, as the API shows it.
pub fn findings(findings: &[Finding]) -> Value {
    findings
        .iter()
        .map(|finding| {
            json!({
                "severity": finding.severity.name(), "check": finding.check,
                "message": finding.message, "next": finding.next,
            })
        })
        .collect()
}

pub fn variables(variables: &[Variable]) -> Vec<contract::Variable> {
    variables.iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Severity;

    #[test]
    fn a_release_with_a_name_of_megabytes_can_be_followed() {
        let record: ReleaseRecord = serde_json::from_value(json!({
            "service": "one", "target": "root@t:22", "id": "1", "job": "deploy-1", "status": "live",
            "method": "docker", "port": 8001, "environment": [], "environment_digest": "", "files": null,
            "artifact": { "kind": "image", "reference": "x".repeat(20 << 20), "digest": "", "bytes": null },
            "instance": {
                "kind": "container", "name": "one-1", "port": 8001, "alive": ["y".repeat(1 << 20)],
                "last_words": ["tail"],
            },
            "plugins": {}, "created_at": "2026-11-25T00:00:00Z",
        }))
        .unwrap();
        let release = release("/opt/fpai/services", &record).unwrap();
        assert!(release.artifact.reference.len() < limits::IDENTIFIER + 64);
        assert!(release.instance.alive.is_empty());
        assert_eq!((release.instance.name.as_str(), release.instance.log_tail.len()), ("one-1", 1));
    }

    #[test]
    fn findings_are_shown_in_the_words_of_the_contract() {
        let finding = |severity| Finding {
            severity,
            check: "port 8001 is free".into(),
            message: "nothing listens there".into(),
            next: String::new(),
        };
        let found = [Severity::Passed, Severity::Warning, Severity::Failed].map(finding);
        let shown = findings(&found);
        let severities: Vec<Option<&str>> =
            shown.as_array().into_iter().flatten().map(|one| one.get("severity")?.as_str()).collect();
        assert_eq!(severities, [Some("passed"), Some("warning"), Some("failed")]);
        assert_eq!(shown.pointer("/0/check"), Some(&json!("port 8001 is free")));
    }
}
