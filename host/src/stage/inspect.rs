//! From a file's bytes to a plugin that was checked, or the reason why not.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use wasmtime::component::{Component, InstancePre};

use super::bindings::exports::deployer::pipeline as exports;
use super::contract::{self, Export, Name};
use super::engine::Stage;
use super::error::StepFailure;
use super::plugin::{Code, Plugin};
use super::refusal::Refusal;
use super::store::State;

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
    stage: &Stage,
    name: &str,
    file: &Path,
    bytes: Vec<u8>,
    digest: String,
) -> Result<Plugin, Refusal> {
    let compiling = {
        let stage = stage.clone();
        tokio::task::spawn_blocking(move || compile(&stage, &bytes))
    };
    let compiled = compiling.await.map_err(|error| Refusal::Broken(error.to_string()))??;
    let described = stage.describe(name, &compiled.code).await.map_err(|failure| match failure {
        StepFailure::Incompatible(cause) => Refusal::Misfit(cause),
        other => Refusal::Describe(other),
    })?;
    if described.name != name {
        return Err(Refusal::OtherName { said: described.name });
    }
    if described.version.trim().is_empty() {
        return Err(Refusal::NoVersion);
    }
    let settings_schema: Value =
        serde_json::from_str(&described.settings_schema).map_err(Refusal::SchemaNoJson)?;
    let validator = jsonschema::validator_for(&settings_schema)
        .map_err(|error| Refusal::SchemaInvalid(error.to_string()))?;
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

fn compile(stage: &Stage, bytes: &[u8]) -> Result<Compiled, Refusal> {
    // A file of which only the first bytes are there may still become one.
    if !bytes.starts_with(MAGIC) && !MAGIC.starts_with(bytes) {
        return Err(Refusal::NoWasm);
    }
    if bytes.get(4..8) == Some(CORE_MODULE) {
        return Err(Refusal::CoreModule);
    }
    let component = Component::from_binary(stage.engine(), bytes)
        .map_err(|error| Refusal::Broken(error.root_cause().to_string()))?;
    let (imports, exports) = names(stage, &component)?;
    let pre = stage.linker().instantiate_pre(&component);
    let pre = pre.map_err(|error| Refusal::Misfit(format!("{error:#}")))?;
    let code = code(pre, &exports).map_err(|error| Refusal::Misfit(format!("{error:#}")))?;
    Ok(Compiled { code, exports, imports })
}

/// What the component asks for and what it offers, where both are this host's.
fn names(stage: &Stage, component: &Component) -> Result<(BTreeSet<String>, BTreeSet<Export>), Refusal> {
    let (engine, shape) = (stage.engine(), component.component_type());
    let mut imports = BTreeSet::new();
    for (name, _) in shape.imports(engine) {
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
                return Err(Refusal::NewerImport { interface, version });
            }
            Name::Foreign => return Err(Refusal::ForeignImport(name.to_owned())),
        }
    }
    let mut exports = BTreeSet::new();
    let mut describes = false;
    for (name, _) in shape.exports(engine) {
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
        return Err(Refusal::NoDescribe);
    }
    if exports.is_empty() {
        return Err(Refusal::NoPhase);
    }
    Ok((imports, exports))
}

fn other_version(way: &'static str, interface: &str, version: &str) -> Refusal {
    Refusal::OtherVersion { way, interface: interface.to_owned(), version: version.to_owned() }
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
