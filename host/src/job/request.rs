//! What is asked for, before it is a job. Its shape is right; whether it can be done is not looked at yet.

use std::collections::BTreeMap;

use serde::Serialize;

/// A deployment that is asked for. Its shape is right: every field has its type and its range. Whether it can
/// be done (a path inside the root, a method that plugins provide) is not looked at yet.
#[derive(Clone, Debug, PartialEq)]
pub struct DeployRequest {
    pub service_path: String,
    pub service_name: String,
    pub droplet_id: Option<u64>,
    pub service_port: u16,
    pub deployment_method: String,
    pub environment: Environment,
    pub auto_register: bool,
    pub verification_job_id: Option<String>,
}

/// The fields of a request that are right by themselves, and that more can be said of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    pub service_path: Option<String>,
    pub service_name: Option<String>,
    pub deployment_method: Option<String>,
}

/// Environment variables with their values. `Debug` shows the names only, so that no log has a value by
/// accident.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is wrong with one field of a request. It never has an environment variable's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldProblem {
    /// As the request has it: `service_port`, `environment_vars.API_KEY`.
    pub field: String,
    pub message: String,
}

impl FieldProblem {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        FieldProblem { field: field.into(), message: message.into() }
    }
}
