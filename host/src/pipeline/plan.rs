//! From the files to a plan: which plugin is called in which phase, with which settings, grants and limits.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use toml::Spanned;

use super::file::{self, PipelineFile, StepEntry};
use super::problem::{PipelineError, Problem};
use crate::model::{Grant, Keep, PathGrant, Phase, Plan, PlannedStep};
use crate::plugin::SettingProblem;

const METHOD: &str = "{method}";
const JOB_TIMEOUT: Duration = Duration::from_secs(600);
const MEMORY_MIB: u32 = 128;
/// What holds where `pipelines/default.toml` is not there: the same file, from this program.
const BUILT_IN: &str = include_str!("../../../pipelines/default.toml");

/// The plugins that are there, as far as a plan has to know them.
pub trait Available {
    fn names(&self) -> Vec<String>;
    fn digest(&self, plugin: &str) -> Option<String>;
    fn serves(&self, plugin: &str, phase: Phase) -> bool;
    /// Whether its file is there, and not yet known.
    fn is_loading(&self, plugin: &str) -> bool;
    fn check_settings(&self, plugin: &str, settings: &Value) -> Vec<SettingProblem>;
}

/// Reads `default.toml` and `{service}.toml`, and plans a deployment of the service by the method.
///
/// # Errors
/// With everything that is wrong, each with its file and line.
pub async fn load(
    folder: &Path,
    service: &str,
    method: &str,
    plugins: &impl Available,
) -> Result<Plan, PipelineError> {
    let base = folder.join("default.toml");
    let base = match read(&base).await? {
        Some(file) => file,
        None => file::parse(Path::new("default.toml (built in)"), BUILT_IN.into())
            .map_err(|problem| PipelineError(vec![problem]))?,
    };
    let own = read(&folder.join(format!("{service}.toml"))).await?.unwrap_or_default();
    plan(&base, &own, method, plugins)
}

/// The plugins that a service's pipeline speaks of, as far as it can be read: what has to be known to plan by it.
pub async fn needed(folder: &Path, service: &str, method: &str) -> BTreeSet<String> {
    let base = match read(&folder.join("default.toml")).await {
        Ok(Some(file)) => file,
        Ok(None) | Err(_) => {
            file::parse(Path::new("default.toml (built in)"), BUILT_IN.into()).unwrap_or_default()
        }
    };
    let own = read(&folder.join(format!("{service}.toml"))).await.ok().flatten().unwrap_or_default();
    let steps = [&base, &own].into_iter().flat_map(|file| {
        let steps = Phase::ALL.into_iter().filter_map(|phase| file.steps(phase)).flatten();
        steps.map(|entry| entry.get_ref().plugin().to_owned())
    });
    let named = own.settings.keys().chain(own.grants.keys()).chain(own.limits.keys()).cloned();
    let names = steps.chain(named).filter(|name| name != METHOD);
    names.chain([method.to_owned()]).collect()
}

async fn read(path: &Path) -> Result<Option<PipelineFile>, PipelineError> {
    let problem = |error: std::io::Error| Problem {
        file: path.display().to_string(),
        line: 1,
        message: format!("cannot read it: {error}"),
        next: "check the file and its permissions".into(),
    };
    match tokio::fs::read_to_string(path).await {
        Ok(text) => file::parse(path, text).map(Some).map_err(|problem| PipelineError(vec![problem])),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PipelineError(vec![problem(error)])),
    }
}

/// Lays a service's own file over the default, and checks the whole.
pub(super) fn plan(
    base: &PipelineFile,
    own: &PipelineFile,
    method: &str,
    plugins: &impl Available,
) -> Result<Plan, PipelineError> {
    let mut problems = unknown_names(own, plugins);
    problems.extend([base, own].into_iter().flat_map(not_names));
    let mut steps = Vec::new();
    let job_timeout = own.timeouts.job.or(base.timeouts.job).map_or(JOB_TIMEOUT, |span| span.0);
    let mut phase_timeouts = Vec::new();
    for phase in Phase::ALL {
        let file = if own.steps(phase).is_some() { own } else { base };
        let timeout = own.timeout(phase).or(base.timeout(phase)).unwrap_or(job_timeout);
        phase_timeouts.push((phase, timeout));
        let before = steps.len();
        for entry in file.steps(phase).into_iter().flatten() {
            let layers = Layers { base, own, file, method };
            match step(&layers, phase, entry, timeout, plugins) {
                Ok(Some(step)) => steps.push(step),
                Ok(None) => {}
                Err(found) => problems.extend(found),
            }
        }
        let count = steps.len() - before;
        if problems.is_empty() {
            problems.extend(wrong_count(file, phase, count));
        }
    }
    // A method is called in several phases: what is wrong with its settings is said once.
    let mut said = BTreeSet::new();
    problems.retain(|problem| said.insert(problem.to_string()));
    if problems.is_empty() {
        Ok(Plan { job_timeout, phase_timeouts, steps, keep: keep(base, own), public: public(base, own) })
    } else {
        Err(PipelineError(problems))
    }
}

fn keep(base: &PipelineFile, own: &PipelineFile) -> Keep {
    let (base, own) = (base.retention, own.retention);
    let default = Keep::default();
    Keep {
        days: own.days.or(base.days).map_or(default.days, |days| days.0),
        storage_bytes: own.storage.or(base.storage).map_or(default.storage_bytes, |size| size.0),
    }
}

fn public(base: &PipelineFile, own: &PipelineFile) -> BTreeSet<String> {
    let names = own.environment.public.as_ref().or(base.environment.public.as_ref());
    names.into_iter().flatten().map(|name| name.get_ref().clone()).collect()
}

/// What stands among the public variables and is not a variable's name: a pattern would make others public than
/// its author has thought of.
fn not_names(file: &PipelineFile) -> Vec<Problem> {
    let is_name = |name: &str| {
        !name.is_empty() && !name.contains(['=', '*', '?', '\0']) && !name.contains(char::is_whitespace)
    };
    let names = file.environment.public.iter().flatten();
    let wrong = names.filter(|name| !is_name(name.get_ref()));
    let problem = |name: &Spanned<String>| {
        let message = format!("environment.public has `{}`, which is not a variable's name", name.get_ref());
        file.problem(Some(name.span()), message, "write each name whole, as in `[\"PORT\", \"LOG_LEVEL\"]`")
    };
    wrong.map(problem).collect()
}

/// The files that a plan is made of, and the one that a step stands in.
struct Layers<'a> {
    base: &'a PipelineFile,
    own: &'a PipelineFile,
    file: &'a PipelineFile,
    method: &'a str,
}

impl Layers<'_> {
    /// The file whose `[grants]` has a plugin's line: where another grant of it goes.
    fn granting(&self, plugin: &str) -> &PipelineFile {
        if self.own.grants.contains_key(plugin) { self.own } else { self.base }
    }
}

fn step(
    layers: &Layers<'_>,
    phase: Phase,
    entry: &Spanned<StepEntry>,
    timeout: Duration,
    plugins: &impl Available,
) -> Result<Option<PlannedStep>, Vec<Problem>> {
    let file = layers.file;
    let written = entry.get_ref().plugin();
    let by_method = written == METHOD;
    let plugin = if by_method { layers.method } else { written };
    let Some(digest) = plugins.digest(plugin) else {
        if plugins.is_loading(plugin) {
            let message =
                format!("{} has a step `{plugin}`, and this plugin is still being loaded", phase.key());
            return Err(vec![file.problem(Some(entry.span()), message, "ask again in a moment")]);
        }
        return Err(vec![file.problem(
            Some(entry.span()),
            format!("{} has a step `{plugin}`, and there is no such plugin", phase.key()),
            there_are(plugins),
        )]);
    };
    if !plugins.serves(plugin, phase) {
        // A method may leave its checks to others; everything else that is named has to be there.
        if by_method && phase == Phase::Validation {
            return Ok(None);
        }
        return Err(vec![file.problem(
            Some(entry.span()),
            format!("the plugin `{plugin}` does not export `{}`", export(phase)),
            format!("name a plugin that does, or take it out of `{}`", phase.key()),
        )]);
    }
    let mut settings = Value::Object(serde_json::Map::new());
    for layer in [layers.base, layers.own] {
        if let Some(value) = layer.settings.get(plugin) {
            overlay(&mut settings, value);
        }
    }
    let mut step_timeout = timeout;
    if let StepEntry::Table(table) = entry.get_ref() {
        if let Some(value) = &table.settings {
            overlay(&mut settings, value);
        }
        step_timeout = table.timeout.map_or(timeout, |span| span.0);
    }
    let mut problems: Vec<Problem> = plugins
        .check_settings(plugin, &settings)
        .into_iter()
        .map(|problem| setting_problem(layers, plugin, entry, &problem))
        .collect();
    let (grants, paths) = match grants(layers, plugin, by_method) {
        Ok(grants) => grants,
        Err(found) => {
            problems.extend(found);
            (BTreeSet::new(), Vec::new())
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let limit = |file: &PipelineFile| file.limits.get(plugin).and_then(|limits| limits.memory_mib);
    Ok(Some(PlannedStep {
        phase,
        plugin: plugin.into(),
        digest,
        settings,
        grants,
        paths,
        timeout: step_timeout,
        memory_mib: limit(layers.own).or_else(|| limit(layers.base)).unwrap_or(MEMORY_MIB),
        pipeline: layers.granting(plugin).name.clone(),
    }))
}

/// A plugin's grants are those under its own name, and for a method also those under `{method}`. One with a path is
/// the grant itself, and the path beside the service's folder.
fn grants(
    layers: &Layers<'_>,
    plugin: &str,
    by_method: bool,
) -> Result<(BTreeSet<Grant>, Vec<PathGrant>), Vec<Problem>> {
    let mut granted = BTreeSet::new();
    let mut paths = BTreeSet::new();
    let mut problems = Vec::new();
    let names = std::iter::once(plugin).chain(by_method.then_some(METHOD));
    for name in names {
        for file in [layers.base, layers.own] {
            for grant in file.grants.get(name).into_iter().flatten() {
                let problem = match grant.get_ref().contains(':') {
                    true => match grant.get_ref().parse::<PathGrant>() {
                        Ok(path) => {
                            granted.insert(path.grant());
                            paths.insert(path);
                            continue;
                        }
                        Err(error) => error.to_string(),
                    },
                    false => match grant.get_ref().parse::<Grant>() {
                        Ok(grant) => {
                            granted.insert(grant);
                            continue;
                        }
                        Err(error) => error.to_string(),
                    },
                };
                problems.push(file.problem(Some(grant.span()), problem, ""));
            }
        }
    }
    if problems.is_empty() { Ok((granted, paths.into_iter().collect())) } else { Err(problems) }
}

fn setting_problem(
    layers: &Layers<'_>,
    plugin: &str,
    entry: &Spanned<StepEntry>,
    problem: &SettingProblem,
) -> Problem {
    let mut keys = vec!["settings", plugin];
    keys.extend(problem.path.iter().map(String::as_str));
    // The nearest place that says it, in the file that has the last word.
    let stands_in = [layers.own, layers.base]
        .into_iter()
        .filter(|file| file.settings.contains_key(plugin))
        .max_by_key(|file| depth(file, plugin, &problem.path));
    let message = format!("{}: {}", keys.join("."), problem.message);
    let next = format!("`deployer plugin list` shows the settings of `{plugin}`");
    match stands_in {
        Some(file) => file.problem(file.place(&keys), message, next),
        None => layers.file.problem(Some(entry.span()), message, next),
    }
}

/// How much of a path a file's settings have.
fn depth(file: &PipelineFile, plugin: &str, path: &[String]) -> usize {
    let mut here = file.settings.get(plugin);
    let mut depth = 0;
    for key in path {
        here = here.and_then(|value| value.get(key));
        if here.is_some() {
            depth += 1;
        }
    }
    depth
}

/// Names in a service's own file that no plugin has: almost always a slip of the pen. The default file may
/// speak of plugins that were taken away.
fn unknown_names(own: &PipelineFile, plugins: &impl Available) -> Vec<Problem> {
    let tables = [
        ("settings", own.settings.keys().collect::<Vec<_>>()),
        ("grants", own.grants.keys().collect()),
        ("limits", own.limits.keys().collect()),
    ];
    let mut problems = Vec::new();
    for (table, names) in tables {
        for name in names {
            if name != METHOD && plugins.digest(name).is_none() && !plugins.is_loading(name) {
                problems.push(own.problem(
                    own.place(&[table, name]),
                    format!("[{table}] has `{name}`, and there is no such plugin"),
                    there_are(plugins),
                ));
            }
        }
    }
    problems
}

fn there_are(plugins: &impl Available) -> String {
    format!("the plugins are: {}", plugins.names().join(", "))
}

/// Transfer, Build and Start hand on one thing each, so they have one step; Verify must not be empty.
fn wrong_count(file: &PipelineFile, phase: Phase, count: usize) -> Option<Problem> {
    let wanted = match phase {
        Phase::Transfer | Phase::Build | Phase::StartService if count != 1 => "exactly one step",
        Phase::VerifyHealth if count == 0 => "at least one step",
        Phase::Validation
        | Phase::Transfer
        | Phase::Build
        | Phase::StartService
        | Phase::VerifyHealth
        | Phase::Register => return None,
    };
    Some(file.problem(
        file.place(&["phases", phase.key()]),
        format!("`{}` needs {wanted}, and has {count}", phase.key()),
        "",
    ))
}

fn export(phase: Phase) -> &'static str {
    match phase {
        Phase::Validation => "validate",
        Phase::Transfer | Phase::Build | Phase::StartService | Phase::VerifyHealth | Phase::Register => {
            phase.key()
        }
    }
}

/// Tables are laid over each other key by key; everything else is replaced.
fn overlay(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                overlay(below.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above.clone(),
    }
}
