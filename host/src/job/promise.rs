//! Whether a release can be gone back to, by what is known of it, and how it is said when it cannot. Pure:
//! `looking` asks the target.

use std::fmt;

use crate::model::{Artifact, Layout, Plan, ReleaseRecord, ReleaseStatus};
use crate::pipeline::Available;
use crate::plugin::Refused;
use crate::ssh::{Kind, Stat};

use crate::model::Phase;

/// The mode of an environment's file; another one may have been read or written by others.
const ENVIRONMENT_MODE: u32 = 0o600;

/// Whether a rollback can take a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    Available,
    Unavailable(Because),
    /// Nothing known speaks against it, and the target could not be asked. With the reason.
    Unchecked(String),
}

/// Why a release cannot be gone back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    ReleaseStatus(ReleaseStatus),
    /// It was never built or started to the end.
    Unfinished,
    /// How it was deployed is not on record, or was written by another version.
    NoPlan,
    NoPlugin {
        plugin: String,
        phase: Phase,
    },
    PluginRefused {
        plugin: String,
        reason: String,
    },
    NoExport {
        plugin: String,
        phase: Phase,
    },
    /// The plugin of today does not know its settings.
    Settings {
        plugin: String,
        problem: String,
    },
    NoFiles {
        path: String,
    },
    NoEnvironment {
        path: String,
    },
    EnvironmentMode {
        path: String,
        mode: u32,
    },
    /// Gone, or another than it was made.
    NoArtifact {
        kind: String,
        reference: String,
    },
    /// What its plugin says that it lacks.
    Lacks(String),
}

/// What was seen of a release on the target.
#[derive(Clone, Debug)]
pub struct OnTarget {
    pub files: Option<Stat>,
    pub environment: Option<Stat>,
    /// What its plugin found; an error in the plugin's words.
    pub artifact: Result<Option<Artifact>, String>,
}

/// What speaks against going back to a release before the target is asked.
pub fn lacks_here(
    release: &ReleaseRecord,
    plan: Option<&Plan>,
    plugins: &impl Available,
    refused: &[Refused],
) -> Option<Because> {
    if release.status != ReleaseStatus::Retired {
        return Some(Because::ReleaseStatus(release.status));
    }
    if release.artifact.is_none() || release.instance.is_none() {
        return Some(Because::Unfinished);
    }
    match plan {
        None => Some(Because::NoPlan),
        Some(plan) => lacks_plugin(plan, plugins, refused),
    }
}

/// Which plugin that a release needs to start and to be verified is not there, or does not fit. That it cannot be
/// registered does not keep a release from serving.
pub fn lacks_plugin(plan: &Plan, plugins: &impl Available, refused: &[Refused]) -> Option<Because> {
    let phases = [Phase::Build, Phase::StartService, Phase::VerifyHealth];
    phases.into_iter().flat_map(|phase| plan.steps(phase)).find_map(|step| {
        let (plugin, phase) = (step.plugin.clone(), step.phase);
        if plugins.digest(&plugin).is_none() {
            let file = format!("{plugin}.wasm");
            let reason = refused.iter().find(|one| one.file == file).map(|one| one.reason.clone());
            return Some(match reason {
                Some(reason) => Because::PluginRefused { plugin, reason },
                None => Because::NoPlugin { plugin, phase },
            });
        }
        if !plugins.serves(&plugin, phase) {
            return Some(Because::NoExport { plugin, phase });
        }
        let problem = plugins.check_settings(&plugin, &step.settings).into_iter().next()?;
        let problem = format!("{}: {}", problem.path.join("."), problem.message);
        Some(Because::Settings { plugin, problem })
    })
}

/// What speaks against it by what was seen on the target.
pub fn lacks_there(release: &ReleaseRecord, layout: &Layout, seen: &OnTarget) -> Option<Because> {
    if seen.files.is_none_or(|files| files.kind != Kind::Directory) {
        return Some(Because::NoFiles { path: layout.files.clone() });
    }
    // Without variables, an empty file is made where it is needed.
    if !release.environment.is_empty() {
        let path = layout.environment.clone();
        match seen.environment {
            Some(Stat { kind: Kind::File, mode: ENVIRONMENT_MODE, .. }) => {}
            Some(Stat { kind: Kind::File, mode, .. }) => {
                return Some(Because::EnvironmentMode { path, mode });
            }
            Some(_) | None => return Some(Because::NoEnvironment { path }),
        }
    }
    lacks_artifact(release.artifact(), &seen.artifact)
}

/// What an artifact's plugin found, beside what was made.
pub fn lacks_artifact(made: Option<&Artifact>, found: &Result<Option<Artifact>, String>) -> Option<Because> {
    let Some(made) = made else { return Some(Because::Unfinished) };
    match found {
        Err(lacks) => Some(Because::Lacks(lacks.clone())),
        Ok(Some(found)) if made.digest.is_empty() || found.digest == made.digest => None,
        Ok(Some(_) | None) => {
            Some(Because::NoArtifact { kind: made.kind.clone(), reference: made.reference.clone() })
        }
    }
}

/// A release as a rollback sees it.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    pub id: &'a str,
    pub status: ReleaseStatus,
    /// It is what a rollback takes that names no release: the one that ran before the live one.
    pub is_predecessor: bool,
    /// Why a rollback cannot take it.
    pub unavailable: Option<&'a str>,
}

/// Why a rollback is not made, and what can be done instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRollback {
    /// Stable, for programs.
    pub code: &'static str,
    pub detail: String,
    pub hint: String,
}

/// What speaks against a rollback. One that names no release takes the one that ran before the live one, or none:
/// who asks for the release before must not get an older one without a word.
pub fn refusal(service: &str, wanted: Option<&str>, releases: &[Candidate<'_>]) -> Option<NoRollback> {
    const NONE: &str = "no-previous-release";
    let refused = |code, detail| Some(NoRollback { code, detail, hint: instead(releases) });
    let Some(live) = releases.iter().find(|release| release.status == ReleaseStatus::Live) else {
        return refused(NONE, format!("{service} has no live release to roll back from"));
    };
    let live = live.id;
    let chosen = releases.iter().find(|release| match wanted {
        Some(wanted) => release.id == wanted,
        None => release.is_predecessor,
    });
    match (wanted, chosen.map(|chosen| (chosen, chosen.unavailable))) {
        (_, Some((_, None))) => None,
        (Some(wanted), None) => refused(
            NONE,
            format!(
                "{service} cannot roll back to release {wanted}: the target has no such release; it was \
                 removed, or never was there"
            ),
        ),
        (None, None) => {
            refused(NONE, format!("{service} runs release {live}, and no other release was live before it"))
        }
        (Some(wanted), Some((chosen, Some(because)))) => refused(
            if chosen.status == ReleaseStatus::Retired { "release-unavailable" } else { NONE },
            format!("{service} cannot roll back to release {wanted}: {because}"),
        ),
        (None, Some((chosen, Some(because)))) => refused(
            "release-unavailable",
            format!(
                "{service} runs release {live}, and cannot roll back to {}, the one before it: {because}",
                chosen.id
            ),
        ),
    }
}

/// As a refusal: nothing to go back to is known.
pub fn nothing_before(service: &str) -> NoRollback {
    NoRollback {
        code: "no-previous-release",
        detail: format!("there is no release of {service} to roll back to"),
        hint: "deploy the version that you want".into(),
    }
}

fn instead(releases: &[Candidate<'_>]) -> String {
    let can: Vec<&str> =
        releases.iter().filter(|release| release.unavailable.is_none()).map(|release| release.id).collect();
    match (can.as_slice(), releases) {
        ([], []) => "deploy it first".into(),
        ([], _) => "it cannot roll back to any of its releases: deploy the version that you want".into(),
        ([one], _) => format!("you can roll back to release {one} if you name it"),
        (more, _) => format!("you can roll back to these releases: {}; name one of them", more.join(", ")),
    }
}

impl Availability {
    pub fn unavailable(&self) -> Option<String> {
        match self {
            Availability::Unavailable(because) => Some(because.to_string()),
            Availability::Available | Availability::Unchecked(_) => None,
        }
    }

    pub fn unchecked(&self) -> Option<String> {
        match self {
            Availability::Unchecked(reason) => Some(reason.clone()),
            Availability::Available | Availability::Unavailable(_) => None,
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let does = |phase: &Phase| match phase {
            Phase::Build => "which knows its artifact",
            Phase::StartService => "which starts it",
            Phase::VerifyHealth => "which verifies it",
            Phase::Validation | Phase::Transfer | Phase::Register => "which it needs",
        };
        match self {
            Because::ReleaseStatus(status) => f.write_str(match status {
                ReleaseStatus::Candidate => "it was never verified",
                ReleaseStatus::Live => "it is the one that runs",
                ReleaseStatus::Retired => "it ran before",
                ReleaseStatus::Bad => "its deployment failed",
                ReleaseStatus::Removing => "it is being removed from the target",
                ReleaseStatus::Removed => "it was removed from the target",
            }),
            Because::Unfinished => f.write_str("it was never completely built and started"),
            Because::NoPlan => {
                f.write_str("how it was deployed is not on record, or is from another deployer version")
            }
            Because::NoPlugin { plugin, phase } => {
                write!(f, "the plugin `{plugin}`, {}, is not in the plugins folder", does(phase))
            }
            Because::PluginRefused { plugin, reason } => {
                write!(f, "the plugin `{plugin}` cannot be loaded: {reason}")
            }
            Because::NoExport { plugin, phase } => {
                write!(f, "the installed plugin `{plugin}` does not serve {phase}")
            }
            Because::Settings { plugin, problem } => {
                write!(f, "the installed plugin `{plugin}` rejects its settings: {problem}")
            }
            Because::NoFiles { path } => {
                write!(f, "its files are gone: {path} is not a folder on the target")
            }
            Because::NoEnvironment { path } => {
                write!(f, "its environment is gone: {path} is not a file on the target")
            }
            Because::EnvironmentMode { path, mode } => {
                write!(f, "its environment {path} has the mode {mode:04o} and not 0600")
            }
            Because::NoArtifact { kind, reference } => {
                write!(f, "its artifact ({kind} {reference}) is gone from the target, or was changed there")
            }
            Because::Lacks(lacks) => f.write_str(lacks.trim_end()),
        }
    }
}

#[cfg(test)]
mod tests;
