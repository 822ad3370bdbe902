//! Which calls a plugin may make. Only decisions: the effects are elsewhere.

use std::collections::BTreeSet;

use crate::contract::{Error, Fault};
use crate::model::{Grant, PathGrant};

/// What a plugin was granted in a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    calls: BTreeSet<Grant>,
    /// Outside of the service's folder.
    paths: BTreeSet<PathGrant>,
}

/// A call, as far as grants are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    RunReads,
    RunChanges,
    ReadFile,
    Stat,
    FreeBytes,
    Permissions,
    Unlisted,
    WriteFile,
    Rename,
    Remove,
    Upload,
    Place,
    Alive,
    LogTail,
    HttpLoopback,
    HttpNetwork,
    HttpRegistry,
    HttpUrl,
}

impl Call {
    /// As the contract names it.
    pub fn function(self) -> &'static str {
        match self {
            Self::RunReads | Self::RunChanges => "target.run",
            Self::ReadFile => "target.read-file",
            Self::Stat => "target.stat",
            Self::FreeBytes => "target.free-bytes",
            Self::Permissions => "service.permissions",
            Self::Unlisted => "service.unlisted",
            Self::WriteFile => "target.write-file",
            Self::Rename => "target.rename",
            Self::Remove => "target.remove",
            Self::Upload => "target.upload",
            Self::Place => "environment.place",
            Self::Alive => "instance.alive",
            Self::LogTail => "instance.log-tail",
            Self::HttpLoopback | Self::HttpNetwork | Self::HttpRegistry | Self::HttpUrl => "http.send",
        }
    }

    /// The one grant that allows it. None where the call has the grants of another plugin: of the one that started
    /// the instance.
    pub fn needs(self) -> Option<Grant> {
        Some(match self {
            Self::Permissions | Self::Unlisted => Grant::ServiceRead,
            Self::RunReads | Self::ReadFile | Self::Stat | Self::FreeBytes => Grant::TargetRead,
            Self::RunChanges => Grant::TargetRun,
            Self::WriteFile | Self::Rename | Self::Remove => Grant::TargetWrite,
            Self::Upload => Grant::TargetUpload,
            Self::Place => Grant::Environment,
            Self::Alive | Self::LogTail => return None,
            Self::HttpLoopback => Grant::HttpLoopback,
            Self::HttpNetwork => Grant::HttpNetwork,
            Self::HttpRegistry => Grant::HttpRegistry,
            Self::HttpUrl => Grant::HttpAny,
        })
    }
}

impl Grants {
    /// With these paths outside of the service's folder.
    pub fn with_paths(mut self, paths: impl IntoIterator<Item = PathGrant>) -> Self {
        self.paths.extend(paths);
        self
    }

    pub fn allow(&self, call: Call) -> Result<(), Grant> {
        match call.needs() {
            Some(needed) if !self.has(needed) => Err(needed),
            Some(_) | None => Ok(()),
        }
    }

    pub fn has(&self, grant: Grant) -> bool {
        self.calls.contains(&grant)
    }

    /// The paths for which a grant holds beside the service's folder.
    pub fn paths(&self, grant: Grant) -> impl Iterator<Item = &PathGrant> + '_ {
        self.paths.iter().filter(move |path| path.grant() == grant)
    }

    pub fn iter(&self) -> impl Iterator<Item = Grant> + '_ {
        self.calls.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The whole line of a pipeline's `[grants]` that has one grant more.
    pub fn line_with(&self, plugin: &str, more: Grant) -> String {
        let mut all = self.clone();
        all.calls.insert(more);
        all.line(plugin)
    }

    /// The whole line of a pipeline's `[grants]` that has one path more.
    pub fn line_with_path(&self, plugin: &str, more: PathGrant) -> String {
        self.clone().with_paths([more]).line(plugin)
    }

    fn line(&self, plugin: &str) -> String {
        let calls = self.calls.iter().map(|grant| format!("\"{grant}\""));
        let names: Vec<String> = calls.chain(self.paths.iter().map(|path| format!("\"{path}\""))).collect();
        format!("{plugin} = [{}]", names.join(", "))
    }
}

/// What a plugin is told that called without the grant.
pub fn refusal(plugin: &str, grants: &Grants, pipeline_file: &str, call: Call, missing: Grant) -> Error {
    Error {
        // The pipeline is part of what was asked for.
        fault: Fault::Request,
        attempted: format!("call {}", call.function()),
        seen: format!("plugin `{plugin}` needs the grant `{missing}` for {}", call.function()),
        next: format!("add it to `[grants]` in {pipeline_file}: `{}`", grants.line_with(plugin, missing)),
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self { calls: grants.into_iter().collect(), paths: BTreeSet::new() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn each_call_needs_its_one_grant() {
        let table = [
            (Call::RunReads, "target.read"),
            (Call::RunChanges, "target.run"),
            (Call::ReadFile, "target.read"),
            (Call::Stat, "target.read"),
            (Call::FreeBytes, "target.read"),
            (Call::Permissions, "service.read"),
            (Call::Unlisted, "service.read"),
            (Call::WriteFile, "target.write"),
            (Call::Rename, "target.write"),
            (Call::Remove, "target.write"),
            (Call::Upload, "target.upload"),
            (Call::Place, "environment"),
            (Call::HttpLoopback, "http.loopback"),
            (Call::HttpNetwork, "http.network"),
            (Call::HttpRegistry, "http.registry"),
            (Call::HttpUrl, "http.any"),
        ];
        for (call, needed) in table {
            let needed: Grant = needed.parse().unwrap();
            for given in Grant::ALL {
                let expect = if given == needed { Ok(()) } else { Err(needed) };
                assert_eq!(Grants::from_iter([given]).allow(call), expect, "{call:?} with {given}");
            }
            let others = Grants::from_iter(Grant::ALL.into_iter().filter(|grant| *grant != needed));
            assert_eq!(others.allow(call), Err(needed), "{call:?} with all others");
            assert_eq!(Grants::default().allow(call), Err(needed), "{call:?} with none");
        }
    }

    #[test]
    fn what_the_starting_plugins_grants_allow_needs_none_of_the_callers() {
        for call in [Call::Alive, Call::LogTail] {
            assert_eq!(Grants::default().allow(call), Ok(()));
        }
    }

    #[test]
    fn a_grant_is_read_as_it_is_written() {
        for grant in Grant::ALL {
            assert_eq!(grant.to_string().parse(), Ok(grant));
        }
        let error = "http.internet".parse::<Grant>().unwrap_err().to_string();
        assert!(error.contains("http.internet") && error.contains("http.network"), "{error}");
    }

    #[test]
    fn a_refusal_has_the_line_to_write() {
        let grants = Grants::from_iter([Grant::TargetRead]);
        let error =
            refusal("smoke", &grants, "pipelines/default.toml", Call::HttpNetwork, Grant::HttpNetwork);
        assert_eq!(error.seen, "plugin `smoke` needs the grant `http.network` for http.send");
        assert_eq!(
            error.next,
            "add it to `[grants]` in pipelines/default.toml: `smoke = [\"target.read\", \"http.network\"]`"
        );
        let more = "target.write:/etc/motd".parse().unwrap();
        assert_eq!(
            grants.line_with_path("smoke", more),
            "smoke = [\"target.read\", \"target.write:/etc/motd\"]"
        );
    }
}
