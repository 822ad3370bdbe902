//! `deployer plugin`: what is in the plugins' folder, and how it comes there from sources.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;

use super::output::{Usage, print};
use crate::plugin::{Catalog, Runtime};
use crate::settings::Settings;

const TARGET: &str = "wasm32-wasip2";

#[derive(Args, Debug)]
pub struct ListArgs {
    /// The plugins' folder [env: DEPLOYER_PLUGINS] [default: plugins]
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<String>,
}

#[derive(Args, Debug)]
pub struct BuildArgs {
    /// Which plugins [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The sources: a folder with plugins/*/Cargo.toml, or one plugin's crate [default: this folder, or where
    /// this program was built]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// The folder to put them into [env: DEPLOYER_PLUGINS] [default: plugins]
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<String>,
}

#[derive(Debug, Error)]
pub enum BuildError {
    #[error("cannot run {program}: {source}; install Rust with rustup: https://rustup.rs")]
    Missing { program: String, source: std::io::Error },
    #[error(
        "Rust here cannot build for {TARGET}, and rustup, which would add that, cannot be run: {source}; \
         install {TARGET}'s standard library the way you installed Rust, or rustup: https://rustup.rs"
    )]
    NoRustup { source: std::io::Error },
    #[error("{program} failed ({status}): {seen}; {next}")]
    Failed { program: String, status: String, seen: String, next: &'static str },
    #[error("cannot put {file} into place: {source}; check the folder's permissions and space")]
    Install { file: PathBuf, source: std::io::Error },
    #[error("cargo describes the sources in a way that this version does not know: {0}")]
    Metadata(serde_json::Error),
}

/// A crate whose build is a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    name: String,
    /// The file that cargo makes: it has `_` where a name has `-`.
    artifact: String,
}

/// What became of a plugin's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Installed {
    New,
    Replaced,
    Unchanged,
}

/// Shows the plugins of the folder, and the files that are not plugins, with the reason.
pub async fn list(settings: &Settings, json: bool) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new(&settings.data.join("cache"))?;
    let plugins = Catalog::new(runtime, &settings.plugins).snapshot().await;
    let listed: Vec<_> = plugins
        .plugins
        .values()
        .map(|plugin| {
            json!({
                "name": plugin.name, "version": plugin.version, "summary": plugin.summary,
                "phases": plugin.exports.iter().map(|export| export.as_str()).collect::<Vec<_>>(),
                "imports": plugin.imports, "digest": plugin.digest,
                "settings_schema": plugin.settings_schema,
            })
        })
        .collect();
    let refused: Vec<_> = plugins
        .refused
        .iter()
        .map(|refused| json!({ "file": refused.file, "reason": refused.reason }))
        .collect();
    print(json, &json!({ "folder": settings.plugins, "plugins": listed, "refused": refused }), || {
        let mut lines: Vec<String> = Vec::new();
        for plugin in plugins.plugins.values() {
            let phases: Vec<&str> = plugin.exports.iter().map(|export| export.as_str()).collect();
            lines.push(format!(
                "{} {} ({}): {}",
                plugin.name,
                plugin.version,
                phases.join(", "),
                plugin.summary
            ));
        }
        for refused in &plugins.refused {
            lines.push(format!("{}: refused: {}", refused.file, refused.reason));
        }
        if lines.is_empty() {
            lines.push(format!(
                "no plugins in {}; build the shipped ones with `deployer plugin build`",
                settings.plugins.display()
            ));
        }
        lines.join("\n")
    });
    Ok(ExitCode::SUCCESS)
}

/// Builds all plugins of a checkout, and installs those that changed.
///
/// # Errors
/// When a tool is missing, or the build fails.
pub fn build_from(sources: &Path, folder: &Path) -> anyhow::Result<()> {
    build_all(sources, &[], folder, std::env::var_os("CARGO_TARGET_DIR"))?;
    Ok(())
}

/// Builds plugins, and installs those that changed.
///
/// # Errors
/// When there are no sources, a tool is missing, or the build fails.
pub fn build(folder: &Path, args: &BuildArgs, json: bool) -> anyhow::Result<ExitCode> {
    let here = std::env::current_dir().unwrap_or_default();
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let workspace = workspace(args.source.as_deref(), &here, compiled)?;
    let built = build_all(&workspace, &args.names, folder, std::env::var_os("CARGO_TARGET_DIR"))?;
    let value: Vec<_> = built
        .iter()
        .map(|(name, installed, bytes)| json!({ "plugin": name, "result": installed.name(), "bytes": bytes }))
        .collect();
    print(json, &json!({ "folder": folder, "plugins": value }), || {
        let lines = built.iter().map(|(name, installed, bytes)| {
            let size = indicatif::HumanBytes(*bytes);
            format!("{}: {} ({size})", folder.join(name).with_extension("wasm").display(), installed.name())
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    Ok(ExitCode::SUCCESS)
}

fn build_all(
    workspace: &Path,
    names: &[String],
    folder: &Path,
    target_folder: Option<OsString>,
) -> anyhow::Result<Vec<(String, Installed, u64)>> {
    let cargo = Cargo { workspace: workspace.to_owned(), target_folder };
    let (sources, target_folder) = cargo.sources()?;
    let chosen = choose(sources, names)?;
    ensure_target(workspace)?;
    cargo.build(&chosen)?;
    std::fs::create_dir_all(folder)
        .map_err(|source| BuildError::Install { file: folder.to_owned(), source })?;
    let mut installed = Vec::new();
    for source in chosen {
        let from = target_folder.join(TARGET).join("release").join(&source.artifact);
        let content = std::fs::read(&from)
            .map_err(|error| BuildError::Install { file: from.clone(), source: error })?;
        let to = folder.join(format!("{}.wasm", source.name));
        let result = install(&content, &to)
            .map_err(|error| BuildError::Install { file: to.clone(), source: error })?;
        installed.push((source.name, result, content.len() as u64));
    }
    Ok(installed)
}

/// The folder with the plugins' sources.
fn workspace(named: Option<&Path>, here: &Path, compiled: Option<&Path>) -> Result<PathBuf, Usage> {
    if let Some(named) = named {
        return if has_plugins(named) || named.join("Cargo.toml").is_file() {
            Ok(named.to_owned())
        } else {
            Err(Usage(format!(
                "--source {} has neither plugins/*/Cargo.toml nor a Cargo.toml; name a plugin's crate or the \
                 folder above plugins/",
                named.display()
            )))
        };
    }
    let found = [Some(here), compiled].into_iter().flatten().find(|folder| has_plugins(folder));
    found.map(Path::to_owned).ok_or_else(|| {
        Usage(format!(
            "there are no plugins' sources in {}: no plugins/*/Cargo.toml; go to the sources, or give --source DIR",
            here.display()
        ))
    })
}

fn has_plugins(folder: &Path) -> bool {
    std::fs::read_dir(folder.join("plugins"))
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join("Cargo.toml").is_file()))
}

fn choose(sources: Vec<Source>, names: &[String]) -> Result<Vec<Source>, Usage> {
    let known = || sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
    if sources.is_empty() {
        return Err(Usage(
            "none of the crates is a plugin: a plugin has `crate-type = [\"cdylib\"]` in its Cargo.toml"
                .into(),
        ));
    }
    if let Some(name) = names.iter().find(|name| !sources.iter().any(|source| &source.name == *name)) {
        return Err(Usage(format!("there are no sources of a plugin {name:?}; the plugins are {}", known())));
    }
    Ok(sources.into_iter().filter(|source| names.is_empty() || names.contains(&source.name)).collect())
}

/// Adds the compilation target when it is missing. Its standard library's folder tells.
fn ensure_target(workspace: &Path) -> Result<(), BuildError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut ask = Command::new(&rustc);
    ask.args(["--print", "target-libdir", "--target", TARGET]).current_dir(workspace);
    let program = rustc.to_string_lossy().into_owned();
    let output = ask.output().map_err(|source| BuildError::Missing { program, source })?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && Path::new(&folder).is_dir() {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    // Its output belongs to people; standard output is the command's own.
    add.args(["target", "add", TARGET]).current_dir(workspace).stdout(Stdio::null());
    let status = add.status().map_err(|source| BuildError::NoRustup { source })?;
    check("rustup target add wasm32-wasip2", status, "", "see its output above; check the network")
}

struct Cargo {
    workspace: PathBuf,
    /// Where it builds, if not where it does by itself.
    target_folder: Option<OsString>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Product>,
}

#[derive(Deserialize)]
struct Product {
    name: String,
    crate_types: Vec<String>,
}

impl Cargo {
    /// The plugins among the crates, and the folder that they are built into.
    fn sources(&self) -> Result<(Vec<Source>, PathBuf), BuildError> {
        let mut command = self.command();
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        let output = command.output().map_err(|source| self.missing(source))?;
        let seen = String::from_utf8_lossy(&output.stderr);
        check("cargo metadata", output.status, seen.trim(), "correct the Cargo.toml that it names")?;
        let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(BuildError::Metadata)?;
        let own = self.workspace.canonicalize().unwrap_or_else(|_| self.workspace.clone());
        Ok((plugins_of(&own, metadata.packages), metadata.target_directory))
    }

    fn build(&self, sources: &[Source]) -> Result<(), BuildError> {
        let mut command = self.command();
        command.args(["build", "--release", "--locked", "--target", TARGET]);
        for source in sources {
            command.args(["-p", &source.name]);
        }
        let status = command.stdout(Stdio::null()).status().map_err(|source| self.missing(source))?;
        check("cargo build", status, "", "see its output above")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.current_dir(&self.workspace);
        if let Some(folder) = &self.target_folder {
            command.env("CARGO_TARGET_DIR", folder);
        }
        command
    }

    fn missing(&self, source: std::io::Error) -> BuildError {
        BuildError::Missing { program: program().to_string_lossy().into_owned(), source }
    }
}

fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A plugin is a crate that makes a C library, in a folder of `plugins`, or the named folder itself.
fn plugins_of(workspace: &Path, packages: Vec<Package>) -> Vec<Source> {
    let plugins = workspace.join("plugins");
    let mut sources: Vec<Source> = packages
        .into_iter()
        .filter_map(|package| {
            let folder = package.manifest_path.parent()?;
            if folder != workspace && folder.parent()? != plugins {
                return None;
            }
            let is_component = |product: &&Product| product.crate_types.iter().any(|kind| kind == "cdylib");
            let product = package.targets.iter().find(is_component)?;
            let artifact = format!("{}.wasm", product.name.replace('-', "_"));
            Some(Source { name: package.name, artifact })
        })
        .collect();
    sources.sort_by(|one, other| one.name.cmp(&other.name));
    sources
}

fn check(
    program: &str,
    status: std::process::ExitStatus,
    seen: &str,
    next: &'static str,
) -> Result<(), BuildError> {
    if status.success() {
        return Ok(());
    }
    let seen = if seen.is_empty() { "it said why".to_owned() } else { seen.to_owned() };
    Err(BuildError::Failed { program: program.to_owned(), status: status.to_string(), seen, next })
}

/// Writes a file if its content differs: a reader finds the old one or the new one.
fn install(content: &[u8], to: &Path) -> std::io::Result<Installed> {
    let result = match std::fs::read(to) {
        Ok(present) if present == content => return Ok(Installed::Unchanged),
        Ok(_) => Installed::Replaced,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Installed::New,
        Err(error) => return Err(error),
    };
    let folder = to.parent().unwrap_or(Path::new("."));
    // Not `.wasm`, so that nobody takes the half-written file for a plugin.
    let mut file = tempfile::Builder::new().prefix(".building-").suffix(".part").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(to).map_err(|error| error.error)?;
    Ok(result)
}

impl Installed {
    fn name(self) -> &'static str {
        match self {
            Installed::New => "new",
            Installed::Replaced => "replaced",
            Installed::Unchanged => "unchanged",
        }
    }
}

#[cfg(test)]
mod tests;
