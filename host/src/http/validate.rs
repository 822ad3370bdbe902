//! Bodies to values: every wrong field of a request is found at once, and none of the messages has an
//! environment variable's value. Only the shape is looked at here.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::problem::Problem;
use super::types::{Message, MessageKind, VALUE_LIMIT};
use crate::job::{DeployRequest, Environment, FieldProblem, Known};
use crate::model::{is_variable_name, service_name_problem};

/// The longest text that a caller gives only to hear it again, in bytes.
const LABEL_LIMIT: usize = 255;
/// The longest path that Linux takes.
const PATH_LIMIT: usize = 4096;

/// Reads `POST /deploy`'s body. Fields that are not known are ignored, as older callers send some.
///
/// # Errors
/// A problem that names every wrong field, and the fields that are right.
pub fn deploy_request(body: &[u8]) -> Result<DeployRequest, Box<InvalidRequest>> {
    let mut fields =
        Fields::of(body).map_err(|problem| InvalidRequest { problem, known: Known::default() })?;
    let service_path = fields.service_path();
    let service_name = fields.service_name();
    let service_port = fields.service_port();
    let droplet_id = fields.droplet_id();
    let deployment_method = fields.deployment_method();
    let environment = fields.environment();
    let auto_register = fields.auto_register();
    let verification_job_id = fields.optional_label("verification_job_id");
    match (service_path, service_name, service_port) {
        (Some(service_path), Some(service_name), Some(service_port)) if fields.problems.is_empty() => {
            Ok(DeployRequest {
                service_path,
                service_name,
                droplet_id,
                service_port,
                deployment_method,
                environment,
                auto_register,
                verification_job_id,
            })
        }
        (service_path, service_name, _) => {
            let right = |field: &str| !fields.problems.iter().any(|problem| problem.field == field);
            let deployment_method = right("deployment_method").then_some(deployment_method);
            let known = Known { service_path, service_name, deployment_method };
            Err(Box::new(InvalidRequest { problem: Problem::invalid(fields.problems), known }))
        }
    }
}

/// A request that is wrong.
#[derive(Debug)]
pub struct InvalidRequest {
    pub problem: Problem,
    pub known: Known,
}

/// Reads `POST /deploy/{id}/rollback`'s body, which may be empty: the release to go back to.
///
/// # Errors
/// When it is not an object, or `release` is not a string.
pub fn rollback_release(body: &[u8]) -> Result<Option<String>, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut fields = Fields::of(body)?;
    let release = fields.optional_label("release");
    fields.end(release)
}

/// Reads `POST /message`'s body.
///
/// # Errors
/// A problem that names every wrong field.
pub fn message(body: &[u8]) -> Result<Message, Problem> {
    let mut fields = Fields::of(body)?;
    let trace_id = fields.label("trace_id", "the text that the answer is to repeat");
    let source = fields.label("source", "the name of the service that sends");
    let kind = match fields.text("message_type", "one of status, event, command, query").as_deref() {
        None => None,
        Some("status") => Some(MessageKind::Status),
        Some("event") => Some(MessageKind::Event),
        Some("command") => Some(MessageKind::Command),
        Some("query") => Some(MessageKind::Query),
        Some(_) => {
            fields.wrong("message_type", "must be one of status, event, command, query");
            None
        }
    };
    match (trace_id, source, kind) {
        (Some(trace_id), Some(source), Some(kind)) => Ok(Message { trace_id, source, kind }),
        _ => Err(Problem::invalid(fields.problems)),
    }
}

/// # Errors
/// When it is empty, longer than 255 characters, or not printable ASCII.
pub fn idempotency_key(key: &[u8]) -> Result<String, Problem> {
    let visible = key.iter().all(|byte| (b' '..=b'~').contains(byte));
    match std::str::from_utf8(key) {
        Ok(text) if visible && (1..=255).contains(&text.trim().len()) => Ok(text.trim().to_owned()),
        _ => Err(Problem::invalid(vec![FieldProblem::new(
            "Idempotency-Key",
            "must be 1 to 255 printable ASCII characters",
        )])),
    }
}

/// An object's fields, and what is wrong with them so far.
struct Fields {
    object: Map<String, Value>,
    problems: Vec<FieldProblem>,
}

impl Fields {
    fn of(body: &[u8]) -> Result<Fields, Problem> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => Ok(Fields { object, problems: Vec::new() }),
            Ok(other) => Err(Problem::not_json(&format!("it is {}", kind(&other)))),
            Err(_) if body.trim_ascii().is_empty() => Err(Problem::not_json("it is empty")),
            // The parser's own words may quote the text, and with it a secret; its position may not.
            Err(error) => Err(Problem::not_json(&format!(
                "it cannot be read at line {}, column {}",
                error.line(),
                error.column()
            ))),
        }
    }

    fn end<T>(self, value: T) -> Result<T, Problem> {
        if self.problems.is_empty() { Ok(value) } else { Err(Problem::invalid(self.problems)) }
    }

    /// Takes a field. Null is the same as absent.
    fn take(&mut self, field: &str) -> Option<Value> {
        self.object.remove(field).filter(|value| !value.is_null())
    }

    fn wrong(&mut self, field: &str, message: impl Into<String>) {
        self.problems.push(FieldProblem::new(field, message));
    }

    fn text(&mut self, field: &str, meaning: &str) -> Option<String> {
        match self.take(field) {
            None => {
                self.wrong(field, format!("is missing: {meaning}"));
                None
            }
            Some(Value::String(text)) if text.trim().is_empty() => {
                self.wrong(field, format!("is empty: {meaning}"));
                None
            }
            Some(Value::String(text)) => Some(text),
            Some(other) => {
                self.wrong(field, format!("must be a string, and is {}", kind(&other)));
                None
            }
        }
    }

    fn optional_text(&mut self, field: &str) -> Option<String> {
        match self.take(field) {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => {
                self.wrong(field, format!("must be a string or absent, and is {}", kind(&other)));
                None
            }
        }
    }

    /// A text that is logged, kept and shown again: it is short, and prints as one line.
    fn label(&mut self, field: &str, meaning: &str) -> Option<String> {
        let text = self.text(field, meaning)?;
        self.as_label(field, text)
    }

    fn optional_label(&mut self, field: &str) -> Option<String> {
        let text = self.optional_text(field)?;
        self.as_label(field, text)
    }

    fn as_label(&mut self, field: &str, text: String) -> Option<String> {
        if text.len() > LABEL_LIMIT {
            self.wrong(field, format!("is {} bytes long; the limit is {LABEL_LIMIT}", text.len()));
            return None;
        }
        if text.contains(char::is_control) {
            self.wrong(field, "must not have a line break or another control character in it");
            return None;
        }
        Some(text)
    }

    fn service_path(&mut self) -> Option<String> {
        let path = self.text("service_path", "the service's folder on the deployer's machine")?;
        if path.len() > PATH_LIMIT {
            self.wrong("service_path", format!("is {} bytes long; the limit is {PATH_LIMIT}", path.len()));
            return None;
        }
        if path.contains('\0') {
            self.wrong("service_path", "must not have a NUL character in it");
            return None;
        }
        Some(path)
    }

    fn service_name(&mut self) -> Option<String> {
        let name = self.text("service_name", "the name to deploy under")?;
        match service_name_problem(&name) {
            None => Some(name),
            Some(message) => {
                self.wrong("service_name", message);
                None
            }
        }
    }

    fn service_port(&mut self) -> Option<u16> {
        let range = "a whole number from 1 to 65535";
        let message = match self.take("service_port") {
            None => format!("is missing: the port that the service listens on, {range}"),
            Some(Value::Number(number)) => match number.as_u64().and_then(|port| u16::try_from(port).ok()) {
                Some(port) if port > 0 => return Some(port),
                _ => format!("must be {range}, and is {number}"),
            },
            Some(other) => format!("must be {range}, and is {}", kind(&other)),
        };
        self.wrong("service_port", message);
        None
    }

    fn droplet_id(&mut self) -> Option<u64> {
        let value = self.take("droplet_id")?;
        // The journal and most registries keep signed 64-bit numbers.
        let id = value.as_u64().filter(|id| i64::try_from(*id).is_ok());
        if id.is_none() {
            let message = format!("must be a whole number from 0 up, or absent, and is {}", kind(&value));
            self.wrong("droplet_id", message);
        }
        id
    }

    fn deployment_method(&mut self) -> String {
        let name = self.optional_text("deployment_method").unwrap_or_else(|| "docker".to_owned());
        let right = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.len() <= 63
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !right {
            self.wrong(
                "deployment_method",
                "must be a plugin's name: lower-case letters, digits and `-`, as in `docker` or `systemd`",
            );
        }
        name
    }

    fn auto_register(&mut self) -> bool {
        match self.take("auto_register") {
            None => true,
            Some(Value::Bool(value)) => value,
            Some(other) => {
                self.wrong("auto_register", format!("must be true or false, and is {}", kind(&other)));
                true
            }
        }
    }

    fn environment(&mut self) -> Environment {
        let object = match self.take("environment_vars") {
            None => return Environment::default(),
            Some(Value::Object(object)) => object,
            Some(other) => {
                let message = format!("must be an object of strings, and is {}", kind(&other));
                self.wrong("environment_vars", message);
                return Environment::default();
            }
        };
        let mut variables = BTreeMap::new();
        for (name, value) in object {
            match variable(&name, value) {
                Ok(value) => {
                    variables.insert(name, value);
                }
                Err(message) => {
                    let shown: String = name.chars().take(64).collect();
                    self.wrong(&format!("environment_vars.{shown}"), message);
                }
            }
        }
        Environment(variables)
    }
}

/// A variable's value, or what is wrong with it.
pub fn variable(name: &str, value: Value) -> Result<String, String> {
    if !is_variable_name(name) {
        return Err("the name must be letters, digits and `_`, and not begin with a digit".to_owned());
    }
    match value {
        Value::String(text) if text.contains('\0') => Err("must not have a NUL character in it".to_owned()),
        Value::String(text) if text.len() > VALUE_LIMIT => {
            Err(format!("is {} bytes long; the limit is {VALUE_LIMIT}: put it into a file", text.len()))
        }
        Value::String(text) => Ok(text),
        other => Err(format!("must be a string, and is {}: write it as a string", kind(&other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => "a negative number",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
