//! Whether a call may use a path on the target, links followed. What is decided by paths alone is `boundary`'s; here
//! the target is asked where a path really leads, and a refusal gets its words.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::boundary::{Boundary, OutOfReach, Use, folder_of, join, straight};
use super::checks::checked_path;
use super::grant::Grants;
use super::limits;
use super::ssh_error::ssh_error;
use crate::contract::{Error, Fault};
use crate::model::PathGrant;
use crate::ssh::{Kind, RemoteCommand, Ssh, Stat};

/// Only the owner reads it: how environments are placed, and hard links to them have the same mode.
const PRIVATE: u32 = 0o600;

/// The target, and how far a plugin's calls reach there.
pub struct Reach {
    plugin: String,
    grants: Grants,
    /// The pipeline's file as people write it.
    pipeline_file: String,
    boundary: Boundary,
    ssh: Ssh,
    /// Where folders really are, as far as this step asked. Cheap to throw away, which each change on the target does.
    resolved: Mutex<HashMap<String, String>>,
}

impl Reach {
    pub(super) fn new(
        plugin: String,
        grants: Grants,
        pipeline_file: String,
        boundary: Boundary,
        ssh: Ssh,
    ) -> Self {
        Self { plugin, grants, pipeline_file, boundary, ssh, resolved: Mutex::default() }
    }

    /// The way to the target, for a path that was looked at.
    pub(super) fn ssh(&self) -> &Ssh {
        &self.ssh
    }

    /// Whether a call may use a path.
    ///
    /// # Errors
    /// With the plugin, the call, the path, and the line to write; or when the target cannot be asked.
    pub(super) async fn path(&self, function: &str, purpose: Use, path: &str) -> Result<(), Error> {
        checked_path(path)?;
        let (boundary, grants) = (&self.boundary, &self.grants);
        let refused = |why, real: Option<&str>| self.out_of_reach(function, purpose, path, real, why);
        boundary.judge(grants, purpose, path).map_err(|why| refused(why, None))?;

        let (real, found) = match purpose {
            Use::Read => {
                let (real, found) = tokio::join!(self.really(purpose, path), self.ssh.stat(path));
                (real?, found.ok().flatten())
            }
            Use::Write | Use::Upload | Use::Place | Use::ReadIn | Use::RunIn | Use::Environment => {
                (self.really(purpose, path).await?, None)
            }
        };
        let services = self.real_folder(&boundary.services).await?;
        let moved = boundary.at(&services);
        match moved.judge(grants, purpose, &real) {
            Ok(()) => {}
            // It was granted by its name. What the host keeps is nobody's all the same.
            Err(OutOfReach::Outside(_)) if boundary.covered(grants, purpose, path) => {}
            Err(why) => return Err(refused(why, Some(&real))),
        }
        if let Some(found) = found
            && self.is_linked_environment(&services, &real, found).await?
        {
            return Err(refused(OutOfReach::Secret, Some(&real)));
        }
        Ok(())
    }

    /// Whether a command may have these words, this folder and these variables.
    ///
    /// # Errors
    /// As `path`.
    pub(super) async fn command(
        &self,
        argv: &[String],
        directory: Option<&str>,
        environment_file: Option<&str>,
        reads: bool,
    ) -> Result<(), Error> {
        const RUN: &str = "target.run";
        if let Some(directory) = directory {
            self.path(RUN, if reads { Use::ReadIn } else { Use::RunIn }, directory).await?;
        }
        if let Some(file) = environment_file {
            if reads {
                // Its variables would be one `env` away from the plugin.
                return Err(self.out_of_reach(RUN, Use::Environment, file, None, OutOfReach::Secret));
            }
            self.path(RUN, Use::Environment, file).await?;
        }
        let boundary = &self.boundary;
        for word in argv {
            if boundary.exposes(word, directory, reads) {
                let purpose = if reads { Use::Read } else { Use::Environment };
                let why = if reads { OutOfReach::Secret } else { OutOfReach::NotItsOwn };
                return Err(self.out_of_reach(RUN, purpose, word, None, why));
            }
        }
        if !reads {
            self.forget_folders();
            return Ok(());
        }
        // A command that only reads is asked for what its paths lead to: a link to an environment is one.
        let known = |word: &&String| word.len() <= limits::PATH && boundary.is_in_services(word);
        let paths: Vec<&String> = argv.iter().filter(known).collect();
        if paths.is_empty() {
            return Ok(());
        }
        let services = self.real_folder(&boundary.services).await?;
        let moved = boundary.at(&services);
        let asked = paths.into_iter().map(|path| async move { (path, self.ssh.real_path(path).await) });
        for (path, real) in futures::future::join_all(asked).await {
            // What cannot be looked at cannot be read by the same user either.
            if let Ok(real) = real
                && moved.exposes(&real, None, true)
            {
                return Err(self.out_of_reach(RUN, Use::Read, path, Some(&real), OutOfReach::Secret));
            }
        }
        Ok(())
    }

    /// The target's folders may be others from now on.
    pub(super) fn forget_folders(&self) {
        self.resolved().clear();
    }

    fn resolved(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a path leads. What is replaced or removed is the name itself, whatever it leads to.
    async fn really(&self, purpose: Use, path: &str) -> Result<String, Error> {
        let path = straight(path);
        match purpose {
            Use::Read | Use::Upload | Use::ReadIn | Use::RunIn | Use::Environment => self.ask(&path).await,
            Use::Write | Use::Place => {
                let folder = self.real_folder(folder_of(&path)).await?;
                Ok(join(&folder, path.rsplit('/').next().unwrap_or_default()))
            }
        }
    }

    /// Where a folder really is, asked once as long as the step changes nothing that could move it.
    async fn real_folder(&self, folder: &str) -> Result<String, Error> {
        let folder = straight(folder);
        if let Some(known) = self.resolved().get(&folder) {
            return Ok(known.clone());
        }
        let real = self.ask(&folder).await?;
        self.resolved().insert(folder, real.clone());
        Ok(real)
    }

    async fn ask(&self, path: &str) -> Result<String, Error> {
        let real = self.ssh.real_path(path).await;
        real.map_err(|error| ssh_error(&format!("resolve the path {}", limits::brief(path)), &error))
    }

    /// Whether a file is an environment by another name, which has no trace in its path.
    async fn is_linked_environment(&self, services: &str, real: &str, found: Stat) -> Result<bool, Error> {
        let ssh = &self.ssh;
        let failed = |error| ssh_error(&format!("look at {}", limits::brief(real)), &error);
        let found = match found.kind {
            Kind::Link => ssh.stat(real).await.map_err(failed)?,
            Kind::File | Kind::Directory | Kind::Other => Some(found),
        };
        if !found.is_some_and(|found| found.kind == Kind::File && found.mode & 0o777 == PRIVATE) {
            return Ok(false);
        }
        let script =
            r#"for folder in "$1"/*/env; do [ ! -d "$folder" ] || find "$folder" -samefile "$2"; done"#;
        let output = ssh.run(&RemoteCommand::new(["sh", "-c", script, "sh", services, real]), &mut ()).await;
        output.map(|output| !output.stdout.trim().is_empty()).map_err(failed)
    }

    fn out_of_reach(
        &self,
        function: &str,
        purpose: Use,
        path: &str,
        real: Option<&str>,
        why: OutOfReach,
    ) -> Error {
        let plugin = &self.plugin;
        let shown = match real {
            Some(real) if real != straight(path) => {
                format!("{} (which leads to {})", limits::brief(path), limits::brief(real))
            }
            Some(_) | None => limits::brief(path),
        };
        let does = does(purpose);
        let root = self.boundary.root();
        let (seen, next) = match why {
            OutOfReach::Outside(grant) => {
                let path =
                    if matches!(purpose, Use::Upload) { join(path, "") + "/" } else { path.to_owned() };
                let line = self.grants.line_with_path(plugin, PathGrant::covering(grant, &path));
                let next = if path.len() <= limits::PATH {
                    format!("if it should, add to `[grants]` in {}: `{line}`", self.pipeline_file)
                } else {
                    "check the plugin's settings: the path is longer than a path can be".into()
                };
                (format!("plugin `{plugin}` may not {does} {shown}: it is outside of {root}"), next)
            }
            OutOfReach::HostsOwn => (
                format!("plugin `{plugin}` may not {does} {shown}: only the deployer itself writes there"),
                format!("the plugin should keep its files elsewhere in {root}"),
            ),
            OutOfReach::Secret => (
                format!("plugin `{plugin}` may not {does} {shown}: a service's environment is there"),
                "plugins never get the values; pass a command its variables with `environment-file`".into(),
            ),
            OutOfReach::NotItsOwn => (
                format!("plugin `{plugin}` may not {does} {shown}: it is not this release's environment"),
                "the plugin should use `deployment.layout.environment`".into(),
            ),
        };
        Error { fault: Fault::Request, attempted: format!("call {function}"), seen, next }
    }
}

fn does(purpose: Use) -> &'static str {
    match purpose {
        Use::Read => "read",
        Use::Write => "write or remove",
        Use::Upload => "send files to",
        Use::Place => "place the environment at",
        Use::ReadIn | Use::RunIn => "run a command in",
        Use::Environment => "give a command the variables in",
    }
}
