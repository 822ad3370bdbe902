//! What was started, and what the plugin that started it may do to look at it.

use super::grant::{Call, Grants};
use crate::contract::{Error, Fault};
use crate::model::{Grant, Instance};

/// An instance, and what the plugin that said how to look at it may do.
#[derive(Debug, Clone)]
pub struct Started {
    pub instance: Instance,
    pub plugin: String,
    pub grants: Grants,
    /// The pipeline's file as people write it.
    pub pipeline_file: String,
}

/// What is asked of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Alive,
    LogTail,
}

impl Look {
    pub(super) fn call(self) -> Call {
        match self {
            Self::Alive => Call::Alive,
            Self::LogTail => Call::LogTail,
        }
    }
}

impl Started {
    /// The command for a look; none where there is none.
    ///
    /// # Errors
    /// When the plugin that said it may not run it.
    pub fn command(&self, look: Look) -> Result<Option<&[String]>, Error> {
        let argv = match look {
            Look::Alive => &self.instance.alive,
            Look::LogTail => &self.instance.log_tail,
        };
        if argv.is_empty() {
            return Ok(None);
        }
        if self.grants.has(Grant::TargetRead) {
            return Ok(Some(argv));
        }
        Err(missing(&self.plugin, &self.grants, &self.pipeline_file, look.call().function()))
    }
}

/// Commands were said by a plugin that may run none.
fn missing(plugin: &str, grants: &Grants, pipeline_file: &str, function: &str) -> Error {
    let line = grants.line_with(plugin, Grant::TargetRead);
    Error {
        fault: Fault::Request,
        attempted: format!("call {function}"),
        seen: format!(
            "plugin `{plugin}`, which started the instance, needs the grant `{}` for its command",
            Grant::TargetRead
        ),
        next: format!("add it to `[grants]` in {pipeline_file}: `{line}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(grants: &[Grant], alive: &[&str]) -> Started {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Started {
            instance: Instance {
                kind: "container".into(),
                name: "one-1".into(),
                port: 8001,
                alive: argv(alive),
                log_tail: argv(&["tail", "log"]),
            },
            plugin: "docker".into(),
            grants: grants.iter().copied().collect(),
            pipeline_file: "pipelines/default.toml".into(),
        }
    }

    #[test]
    fn a_command_needs_the_grant_of_who_said_it() {
        let granted = started(&[Grant::TargetRead], &["true"]);
        assert_eq!(granted.command(Look::Alive).unwrap(), Some(&["true".to_owned()][..]));
        assert_eq!(granted.command(Look::LogTail).unwrap().map(<[String]>::len), Some(2));
        assert_eq!(started(&[], &[]).command(Look::Alive).unwrap(), None);
        // What changes the target is another grant.
        for grants in [&[][..], &[Grant::TargetRun, Grant::TargetWrite]] {
            let error = started(grants, &["rm", "-rf", "/"]).command(Look::Alive).unwrap_err();
            assert!(error.seen.contains("`docker`") && error.seen.contains("`target.read`"), "{error:?}");
            assert!(error.next.contains("docker = ["), "{error:?}");
        }
    }
}
