//! From a file's bytes to a plugin that was checked, or the reason why not.

use std::collections::BTreeSet;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;
use tokio::sync::Semaphore;
use wasmparser::{BinaryReaderError, Parser, Payload};
use wasmtime::component::{Component, InstancePre};

use super::component::{Code, Plugin};
use super::error::StepFailure;
use super::load_error::LoadError;
use super::runtime::Runtime;
use super::store::State;
use crate::capability::limits;
use crate::contract::bindings::exports::deployer::pipeline as exports;
use crate::contract::{self, Export, Name};

const MAGIC: &[u8] = b"\0asm";
const CORE_MODULE: &[u8] = &[1, 0, 0, 0];

/// A component whose imports and exports are in order; it has not been run.
struct Compiled {
    code: Code,
    exports: BTreeSet<Export>,
    imports: BTreeSet<String>,
}

/// What file names and `describe` may say.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|other| other.is_ascii_lowercase() || other.is_ascii_digit() || other == '-')
}

pub(super) async fn inspect(
    runtime: &Runtime,
    name: &str,
    file: &Path,
    bytes: Vec<u8>,
    digest: String,
    compiling: &Semaphore,
) -> Result<Plugin, LoadError> {
    let compiled = {
        let _one_of_few = compiling.acquire().await;
        let runtime = runtime.clone();
        let compiling = tokio::task::spawn_blocking(move || compile(&runtime, &bytes));
        compiling.await.map_err(|error| LoadError::Broken(error.to_string()))??
    };
    let described = runtime.describe(name, &compiled.code).await.map_err(|failure| match failure {
        StepFailure::Incompatible(cause) => LoadError::Incompatible(cause),
        other => LoadError::Describe(other),
    })?;
    let sizes = [
        ("name", described.name.len(), limits::NAME),
        ("version", described.version.len(), limits::NAME),
        ("summary", described.summary.len(), limits::SUMMARY),
        ("settings' schema", described.settings_schema.len(), limits::SCHEMA),
    ];
    if let Some((what, bytes, limit)) = sizes.into_iter().find(|(_, bytes, limit)| bytes > limit) {
        return Err(LoadError::TooLong { what, bytes, limit });
    }
    if described.name != name {
        return Err(LoadError::OtherName { said: described.name });
    }
    if described.version.trim().is_empty() {
        return Err(LoadError::NoVersion);
    }
    // A schema may take its time, and panic where a library has a fault.
    let schema = described.settings_schema;
    let schema = tokio::task::spawn_blocking(move || schema_of(&schema));
    let (settings_schema, validator) =
        schema.await.map_err(|error| LoadError::SchemaInvalid(error.to_string()))??;
    Ok(Plugin {
        name: described.name,
        version: described.version,
        summary: described.summary,
        settings_schema,
        exports: compiled.exports,
        imports: compiled.imports,
        digest,
        file: file.to_owned(),
        validator,
        code: compiled.code,
    })
}

fn schema_of(text: &str) -> Result<(Value, Validator), LoadError> {
    let schema: Value = serde_json::from_str(text).map_err(LoadError::SchemaNotJson)?;
    let (mut values, mut open) = (0, vec![(&schema, 1)]);
    while let Some((value, depth)) = open.pop() {
        values += 1;
        if values > limits::SCHEMA_VALUES || depth > limits::SCHEMA_DEPTH {
            return Err(LoadError::SchemaTooLarge);
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => open.extend(fields.values().map(|field| (field, depth + 1))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let validator = jsonschema::validator_for(&schema).map_err(|error| {
        let mut said = error.to_string();
        limits::cut(&mut said, limits::SUMMARY);
        LoadError::SchemaInvalid(said)
    })?;
    Ok((schema, validator))
}

fn compile(runtime: &Runtime, bytes: &[u8]) -> Result<Compiled, LoadError> {
    // A file of which only the first bytes are there may still become one.
    if !bytes.starts_with(MAGIC) && !MAGIC.starts_with(bytes) {
        return Err(LoadError::NotWasm);
    }
    if bytes.get(4..8) == Some(CORE_MODULE) {
        return Err(LoadError::CoreModule);
    }
    // Looked at before it is compiled, which may take minutes and gigabytes.
    let (imports, exports) = names(bytes)?;
    let component = Component::from_binary(runtime.engine(), bytes)
        .map_err(|error| LoadError::Broken(error.root_cause().to_string()))?;
    let pre = runtime.linker().instantiate_pre(&component);
    let pre = pre.map_err(|error| LoadError::Incompatible(format!("{error:#}")))?;
    let code = code(pre, &exports).map_err(|error| LoadError::Incompatible(format!("{error:#}")))?;
    Ok(Compiled { code, exports, imports })
}

/// What the component asks for and what it offers, where both are this host's.
fn names(bytes: &[u8]) -> Result<(BTreeSet<String>, BTreeSet<Export>), LoadError> {
    let outer = Outer::read(bytes).map_err(|error| LoadError::Broken(error.to_string()))?;
    let mut imports = BTreeSet::new();
    for name in outer.imports {
        match contract::import(name) {
            Name::Contract { interface } => {
                imports.insert(interface.to_owned());
            }
            Name::Wasi => {}
            Name::OtherVersion { interface, version } => {
                return Err(other_version("imports", interface, version));
            }
            Name::Unheard { interface, version } => {
                let (interface, version) = (interface.to_owned(), version.to_owned());
                return Err(LoadError::NewerImport { interface, version });
            }
            Name::Foreign => return Err(LoadError::ForeignImport(limits::brief(name))),
        }
    }
    let mut exports = BTreeSet::new();
    let mut describes = false;
    for name in outer.exports {
        match contract::export(name) {
            Name::Contract { interface } => match Export::named(interface) {
                Some(export) => {
                    exports.insert(export);
                }
                None => describes = true,
            },
            Name::OtherVersion { interface, version } => {
                return Err(other_version("exports", interface, version));
            }
            // An optional interface of a later version, or the plugin's own affair: nobody here calls it.
            Name::Unheard { .. } | Name::Wasi | Name::Foreign => {}
        }
    }
    if !describes {
        return Err(LoadError::NoDescribe);
    }
    if exports.is_empty() {
        return Err(LoadError::NoPhase);
    }
    Ok((imports, exports))
}

/// The names that a component has on its outside, read without compiling it.
struct Outer<'a> {
    imports: Vec<&'a str>,
    exports: Vec<&'a str>,
}

impl<'a> Outer<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, BinaryReaderError> {
        let (mut imports, mut exports) = (Vec::new(), Vec::new());
        let mut inside = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => inside += 1,
                Payload::End(_) => inside = inside.saturating_sub(1),
                Payload::ComponentImportSection(section) if inside == 0 => {
                    for import in section {
                        imports.push(import?.name.name);
                    }
                }
                Payload::ComponentExportSection(section) if inside == 0 => {
                    for export in section {
                        exports.push(export?.name.name);
                    }
                }
                // Not on its outside.
                _ => {}
            }
        }
        Ok(Self { imports, exports })
    }
}

fn other_version(way: &'static str, interface: &str, version: &str) -> LoadError {
    LoadError::OtherVersion { way, interface: interface.to_owned(), version: version.to_owned() }
}

/// Finds every function of what is exported.
fn code(pre: InstancePre<State>, exports: &BTreeSet<Export>) -> wasmtime::Result<Code> {
    let mut code =
        Code { validate: None, transfer: None, build: None, start: None, verify: None, register: None, pre };
    let pre = &code.pre;
    for export in exports {
        match export {
            Export::Validate => code.validate = Some(exports::validate::GuestIndices::new(pre)?),
            Export::Transfer => code.transfer = Some(exports::transfer::GuestIndices::new(pre)?),
            Export::Build => code.build = Some(exports::build::GuestIndices::new(pre)?),
            Export::Start => code.start = Some(exports::start::GuestIndices::new(pre)?),
            Export::Verify => code.verify = Some(exports::verify::GuestIndices::new(pre)?),
            Export::Register => code.register = Some(exports::register::GuestIndices::new(pre)?),
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_names() {
        let check = |name: &str, ok: bool| assert_eq!(is_name(name), ok, "{name:?}");
        check("docker", true);
        check("static-files2", true);
        check("", false);
        check("2fast", false);
        check("-x", false);
        check("Docker", false);
        check("a_b", false);
        check("a.b", false);
    }
}
