//! What can be checked of a plugin's answers without asking anyone. Each check says what is wrong, if
//! anything.

use crate::contract::{
    Artifact, Deployment, Files, Finding, Instance, Outcome, Registration, Severity, Verdict,
};

type Checked = Result<(), String>;

pub(super) fn findings(_: &Deployment, findings: &Vec<Finding>) -> Checked {
    for finding in findings {
        if finding.check.trim().is_empty() {
            return Err("a finding does not say what was checked".into());
        }
        if finding.severity == Severity::Failed && finding.message.trim().is_empty() {
            return Err(format!("the failed check {:?} does not say what was seen", finding.check));
        }
    }
    Ok(())
}

pub(super) fn files(deployment: &Deployment, files: &Files) -> Checked {
    inside(&files.path, &deployment.layout.root, "the files")?;
    if files.digest.len() != 64 || !files.digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("the files' digest {:?} is not a SHA-256", files.digest));
    }
    if files.sent_bytes > files.bytes || files.sent_count > files.count {
        return Err(format!(
            "it says that it sent {} files and {} bytes, and that there are only {} and {}",
            files.sent_count, files.sent_bytes, files.count, files.bytes
        ));
    }
    Ok(())
}

pub(super) fn artifact(_: &Deployment, artifact: &Artifact) -> Checked {
    named(&artifact.kind, "the artifact's kind")?;
    named(&artifact.reference, "the artifact's reference")
}

pub(super) fn inspected(deployment: &Deployment, found: &Option<Artifact>) -> Checked {
    found.as_ref().map_or(Ok(()), |found| artifact(deployment, found))
}

pub(super) fn instance(_: &Deployment, instance: &Instance) -> Checked {
    named(&instance.kind, "the instance's kind")?;
    named(&instance.name, "the instance's name")?;
    if instance.port == 0 {
        return Err("the instance has the port 0".into());
    }
    program(&instance.alive, "the instance's `alive` command")?;
    program(&instance.log_tail, "the instance's `log-tail` command")
}

pub(super) fn restored(deployment: &Deployment, restored: &Option<Instance>) -> Checked {
    match (restored, &deployment.previous) {
        (Some(one), Some(_)) => instance(deployment, one),
        (Some(_), None) => Err("it restored an instance where there was none before".into()),
        // Nothing came back: the host decides what that means.
        (None, _) => Ok(()),
    }
}

pub(super) fn verdict(_: &Deployment, verdict: &Verdict) -> Checked {
    match verdict.outcome {
        Outcome::Passed => Ok(()),
        Outcome::Failed if verdict.summary.trim().is_empty() => {
            Err("the verdict is `failed` and does not say why".into())
        }
        Outcome::Failed => Ok(()),
    }
}

pub(super) fn registration(_: &Deployment, registration: &Registration) -> Checked {
    named(&registration.endpoint, "the registration's endpoint")?;
    match registration.response.trim() {
        "" => Ok(()),
        response => serde_json::from_str::<serde_json::Value>(response)
            .map(|_| ())
            .map_err(|error| format!("the registry's answer is said to be JSON and is not: {error}")),
    }
}

pub(super) fn nothing(_: &Deployment, (): &()) -> Checked {
    Ok(())
}

fn named(text: &str, what: &str) -> Checked {
    if text.trim().is_empty() {
        Err(format!("{what} is empty"))
    } else if text.contains(['\n', '\r', '\0']) {
        Err(format!("{what} is more than one line: {text:?}"))
    } else {
        Ok(())
    }
}

/// Without any word, there is no command.
fn program(argv: &[String], what: &str) -> Checked {
    match argv.first() {
        Some(program) if program.is_empty() => Err(format!("{what} has an empty program")),
        Some(_) | None => Ok(()),
    }
}

fn inside(path: &str, root: &str, what: &str) -> Checked {
    let below = path.strip_prefix(root.trim_end_matches('/'));
    if below.is_some_and(|below| below.starts_with('/')) && !path.split('/').any(|name| name == "..") {
        Ok(())
    } else {
        Err(format!("{what} are at {path:?}, which is not inside {root}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Layout;

    fn deployment() -> Deployment {
        let layout = Layout {
            root: "/opt/fpai/services/one".into(),
            files: "/opt/fpai/services/one/releases/1".into(),
            environment: "/opt/fpai/services/one/env/1".into(),
        };
        Deployment {
            job: "deploy-1".into(),
            service: "one".into(),
            method: "docker".into(),
            release: "1".into(),
            port: 8001,
            layout,
            environment: vec![],
            settings: "{}".into(),
            previous: None,
        }
    }

    fn told(checked: Checked, part: Option<&str>) {
        match (&checked, part) {
            (Ok(()), None) => {}
            (Err(problem), Some(part)) if problem.contains(part) => {}
            _ => panic!("{checked:?} where {part:?} was expected"),
        }
    }

    #[test]
    fn instances() {
        let good = Instance {
            kind: "container".into(),
            name: "one-1".into(),
            port: 8001,
            alive: vec!["true".into()],
            log_tail: vec!["tail".into()],
        };
        let check = |change: &dyn Fn(&mut Instance), part: Option<&str>| {
            let mut changed = good.clone();
            change(&mut changed);
            told(instance(&deployment(), &changed), part);
        };
        check(&|_| {}, None);
        check(&|one| one.port = 0, Some("port 0"));
        check(&|one| one.name = "  ".into(), Some("name"));
        check(&|one| one.name = "a\nb".into(), Some("one line"));
        check(&|one| one.alive.clear(), None);
        check(&|one| one.alive = vec![String::new(), "x".into()], Some("`alive`"));
        check(&|one| one.log_tail = vec![String::new()], Some("`log-tail`"));
        told(restored(&deployment(), &Some(good)), Some("none before"));
        told(restored(&deployment(), &None), None);
    }

    #[test]
    fn files_are_where_they_belong() {
        let good = Files {
            path: "/opt/fpai/services/one/releases/1".into(),
            count: 3,
            bytes: 30,
            sent_count: 1,
            sent_bytes: 10,
            digest: "ab".repeat(32),
        };
        let check = |change: &dyn Fn(&mut Files), part: Option<&str>| {
            let mut changed = good.clone();
            change(&mut changed);
            told(files(&deployment(), &changed), part);
        };
        check(&|_| {}, None);
        check(&|one| one.path = "/etc".into(), Some("not inside"));
        check(&|one| one.path = "/opt/fpai/services/one-more/x".into(), Some("not inside"));
        check(&|one| one.path = "/opt/fpai/services/one/../two".into(), Some("not inside"));
        check(&|one| one.digest = "abc".into(), Some("SHA-256"));
        check(&|one| one.sent_count = 4, Some("sent"));
    }

    #[test]
    fn the_others() {
        let artifact_of = |kind: &str, reference: &str| Artifact {
            kind: kind.into(),
            reference: reference.into(),
            digest: String::new(),
            bytes: None,
        };
        told(artifact(&deployment(), &artifact_of("image", "one:1")), None);
        told(artifact(&deployment(), &artifact_of("image", "")), Some("reference"));
        told(artifact(&deployment(), &artifact_of("", "one:1")), Some("kind"));
        told(inspected(&deployment(), &None), None);
        told(inspected(&deployment(), &Some(artifact_of("image", "one:1"))), None);
        told(inspected(&deployment(), &Some(artifact_of("image", ""))), Some("reference"));

        let verdict_of =
            |outcome, summary: &str| Verdict { outcome, summary: summary.into(), probes: vec![] };
        told(verdict(&deployment(), &verdict_of(Outcome::Failed, "")), Some("why"));
        told(verdict(&deployment(), &verdict_of(Outcome::Passed, "")), None);

        let registration_of = |endpoint: &str, response: &str| Registration {
            droplet_id: None,
            endpoint: endpoint.into(),
            response: response.into(),
        };
        told(registration(&deployment(), &registration_of("http://h:1", r#"{"id":1}"#)), None);
        told(registration(&deployment(), &registration_of("http://h:1", "OK")), Some("JSON"));
        told(registration(&deployment(), &registration_of("", "{}")), Some("endpoint"));

        let finding = |severity, check: &str, message: &str| Finding {
            severity,
            check: check.into(),
            message: message.into(),
            next: String::new(),
        };
        told(findings(&deployment(), &vec![finding(Severity::Passed, "port", "")]), None);
        told(findings(&deployment(), &vec![finding(Severity::Passed, "", "free")]), Some("checked"));
        told(findings(&deployment(), &vec![finding(Severity::Failed, "port", "")]), Some("seen"));
    }
}
