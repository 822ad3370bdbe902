//! The records that steps are given, from what the journal has.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::journal::{Failure, Fault, JobRecord, ReleaseRecord, Variable};
use crate::stage::{self, Deployment, Layout, Release};

/// Where a release of a service lives under the target's services root.
pub fn layout(root: &str, service: &str, release: &str) -> Layout {
    let root = format!("{}/{service}", root.trim_end_matches('/'));
    Layout { files: format!("{root}/releases/{release}"), environment: format!("{root}/env/{release}"), root }
}

/// The contract's view of a job, for a step with these settings.
pub fn deployment(root: &str, job: &JobRecord, settings: &Value) -> Deployment {
    Deployment {
        job: job.id.clone(),
        service: job.service.clone(),
        method: job.method.clone(),
        release: job.release.clone(),
        port: job.request.service_port,
        layout: layout(root, &job.service, &job.release),
        environment: variables(&job.request.environment),
        settings: settings.to_string(),
        previous: job.previous.as_ref().and_then(|previous| release(root, previous)),
    }
}

/// The contract's view of an earlier release; none when it never came as far as an instance.
pub fn release(root: &str, record: &ReleaseRecord) -> Option<Release> {
    Some(Release {
        id: record.id.clone(),
        layout: layout(root, &record.service, &record.id),
        artifact: value(record.artifact.as_ref()?)?,
        instance: value(record.instance.as_ref()?)?,
    })
}

pub fn value<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

fn variables(variables: &[Variable]) -> Vec<stage::Variable> {
    variables
        .iter()
        .map(|variable| stage::Variable { name: variable.name.clone(), one_line: variable.one_line })
        .collect()
}

/// The journal's form of an error that a plugin reported.
pub fn failure(plugin: &str, error: stage::Error) -> Failure {
    Failure {
        fault: match error.fault {
            stage::Fault::Request => Fault::Request,
            stage::Fault::Target => Fault::Target,
            stage::Fault::Plugin => Fault::Plugin,
            stage::Fault::Host => Fault::Host,
        },
        plugin: Some(plugin.into()),
        attempted: error.attempted,
        seen: error.seen,
        next: error.next,
    }
}
