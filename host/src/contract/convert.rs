//! The contract's records from the model's, and the other way round: each once.

use super::bindings::deployer::pipeline::types as wit;
use crate::model;

impl From<model::Layout> for wit::Layout {
    fn from(layout: model::Layout) -> Self {
        let model::Layout { root, files, environment } = layout;
        Self { root, files, environment }
    }
}

impl From<&model::Variable> for wit::Variable {
    fn from(variable: &model::Variable) -> Self {
        Self { name: variable.name.clone(), one_line: variable.one_line }
    }
}

impl From<wit::Files> for model::Files {
    fn from(files: wit::Files) -> Self {
        let wit::Files { path, count, bytes, sent_count, sent_bytes, digest } = files;
        Self { path, count, bytes, sent_count, sent_bytes, digest }
    }
}

impl From<model::Files> for wit::Files {
    fn from(files: model::Files) -> Self {
        let model::Files { path, count, bytes, sent_count, sent_bytes, digest } = files;
        Self { path, count, bytes, sent_count, sent_bytes, digest }
    }
}

impl From<wit::Artifact> for model::Artifact {
    fn from(artifact: wit::Artifact) -> Self {
        let wit::Artifact { kind, reference, digest, bytes } = artifact;
        Self { kind, reference, digest, bytes }
    }
}

impl From<model::Artifact> for wit::Artifact {
    fn from(artifact: model::Artifact) -> Self {
        let model::Artifact { kind, reference, digest, bytes } = artifact;
        Self { kind, reference, digest, bytes }
    }
}

impl From<wit::Instance> for model::Instance {
    fn from(instance: wit::Instance) -> Self {
        let wit::Instance { kind, name, port, alive, log_tail } = instance;
        Self { kind, name, port, alive, log_tail }
    }
}

impl From<model::Instance> for wit::Instance {
    fn from(instance: model::Instance) -> Self {
        let model::Instance { kind, name, port, alive, log_tail } = instance;
        Self { kind, name, port, alive, log_tail }
    }
}

impl From<wit::Severity> for model::Severity {
    fn from(severity: wit::Severity) -> Self {
        match severity {
            wit::Severity::Passed => Self::Passed,
            wit::Severity::Warning => Self::Warning,
            wit::Severity::Failed => Self::Failed,
        }
    }
}

impl From<wit::Finding> for model::Finding {
    fn from(finding: wit::Finding) -> Self {
        let wit::Finding { severity, check, message, next } = finding;
        Self { severity: severity.into(), check, message, next }
    }
}

impl From<wit::Probe> for model::Probe {
    fn from(probe: wit::Probe) -> Self {
        let wit::Probe { at_ms, took_ms, asked, answered, body } = probe;
        Self { at_ms, took_ms, asked, answered, body }
    }
}

impl From<wit::Verdict> for model::Verdict {
    fn from(verdict: wit::Verdict) -> Self {
        let wit::Verdict { outcome, summary, probes } = verdict;
        let outcome = match outcome {
            wit::Outcome::Passed => model::Outcome::Passed,
            wit::Outcome::Failed => model::Outcome::Failed,
        };
        Self { outcome, summary, probes: probes.into_iter().map(Into::into).collect() }
    }
}

impl From<wit::Registration> for model::Confirmation {
    fn from(registration: wit::Registration) -> Self {
        let wit::Registration { droplet_id, endpoint, response } = registration;
        Self { droplet_id, endpoint, response }
    }
}

impl From<wit::Fault> for model::Fault {
    fn from(fault: wit::Fault) -> Self {
        match fault {
            wit::Fault::Request => Self::Request,
            wit::Fault::Target => Self::Target,
            wit::Fault::Plugin => Self::Plugin,
            wit::Fault::Host => Self::Host,
        }
    }
}

/// The journal's form of an error that a plugin reported.
pub fn failure(plugin: &str, error: wit::Error) -> model::Failure {
    model::Failure {
        fault: error.fault.into(),
        plugin: Some(plugin.into()),
        attempted: error.attempted,
        seen: error.seen,
        next: error.next,
    }
}
