//! Where on the target a step's calls may reach, by the paths alone. Only decisions: links are resolved elsewhere, and
//! what they lead to is asked about again.

use super::grant::Grants;
use super::limits;
use crate::model::Grant;

#[cfg(test)]
mod tests;

/// What the host itself keeps in a service's folder. Nobody else writes there.
const HOSTS_OWN: [&str; 7] = ["lock", "generation", "records", "intent.json", "live.json", "current", "env"];
/// The environments' folder in a service's folder.
const ENVIRONMENTS: &str = "env";
/// The link to the live release: what comes after it is in a release's files.
const CURRENT: &str = "current";

/// What a step works on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Boundary {
    /// The folder of all services.
    pub services: String,
    pub service: String,
    /// The environments of the releases that the step works with.
    pub environments: Vec<String>,
}

/// What a call does with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Gets its content.
    Read,
    /// Writes, renames or removes it.
    Write,
    /// Sends files into it.
    Upload,
    /// Writes the environment to it.
    Place,
    /// Runs a command in it that only reads.
    ReadIn,
    /// Runs a command in it.
    RunIn,
    /// Gives a command the variables that are in it.
    Environment,
}

/// Why a path is not for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfReach {
    /// It is outside of the service's folder, and this grant has no such path.
    Outside(Grant),
    /// The host keeps it.
    HostsOwn,
    /// An environment, which nobody reads.
    Secret,
    /// Not one of the step's own environments.
    NotItsOwn,
}

impl Use {
    /// The grant that may have a path for it.
    fn grant(self) -> Option<Grant> {
        match self {
            Self::Read | Self::Environment => None,
            Self::Write => Some(Grant::TargetWrite),
            Self::Upload => Some(Grant::TargetUpload),
            Self::Place => Some(Grant::Environment),
            Self::ReadIn => Some(Grant::TargetRead),
            Self::RunIn => Some(Grant::TargetRun),
        }
    }
}

impl Boundary {
    /// For a step of a service that has these releases' environments to do with.
    pub fn new(services: &str, service: &str, environments: impl IntoIterator<Item = String>) -> Self {
        Self {
            services: services.to_owned(),
            service: service.to_owned(),
            environments: environments.into_iter().collect(),
        }
    }

    /// The service's own folder.
    pub fn root(&self) -> String {
        format!("{}/{}", straight(&self.services).trim_end_matches('/'), self.service)
    }

    /// The same boundary where the services' folder really is at another place.
    pub fn at(&self, services: &str) -> Self {
        let moved = |path: &String| match below(path, &straight(&self.services)) {
            Some(rest) => join(services, &rest),
            None => path.clone(),
        };
        Self {
            services: services.to_owned(),
            service: self.service.clone(),
            environments: self.environments.iter().map(moved).collect(),
        }
    }

    /// Whether a call may use an absolute path.
    ///
    /// # Errors
    /// With the reason why it may not.
    pub fn judge(&self, grants: &Grants, purpose: Use, path: &str) -> Result<(), OutOfReach> {
        let path = straight(path);
        let place = self.place(&path);
        match purpose {
            Use::Read => match place {
                Place::Environment => Err(OutOfReach::Secret),
                Place::HostsOwn | Place::Own | Place::Elsewhere => Ok(()),
            },
            Use::Place | Use::Environment => {
                let own = self.environments.iter().any(|own| {
                    let suffix = path.strip_prefix(straight(own).as_str());
                    suffix.is_some_and(|suffix| {
                        suffix.is_empty() || (suffix.starts_with('.') && !suffix.contains('/'))
                    })
                });
                match (own, place) {
                    (true, _) => Ok(()),
                    (false, Place::Environment) => Err(OutOfReach::NotItsOwn),
                    (false, Place::HostsOwn) => Err(OutOfReach::HostsOwn),
                    (false, Place::Own | Place::Elsewhere) if self.covered(grants, purpose, &path) => Ok(()),
                    (false, Place::Own | Place::Elsewhere) if purpose == Use::Place => {
                        Err(OutOfReach::Outside(Grant::Environment))
                    }
                    // A command's variables may be in any file that the plugin may write; it is not secret then.
                    (false, Place::Own) => Ok(()),
                    (false, Place::Elsewhere) => Err(OutOfReach::NotItsOwn),
                }
            }
            Use::Write | Use::Upload => match place {
                Place::Environment | Place::HostsOwn => Err(OutOfReach::HostsOwn),
                Place::Own => Ok(()),
                Place::Elsewhere => self.elsewhere(grants, purpose, &path),
            },
            Use::ReadIn | Use::RunIn => match place {
                Place::Environment => Err(OutOfReach::Secret),
                Place::HostsOwn | Place::Own => Ok(()),
                Place::Elsewhere if path == self.root() => Ok(()),
                Place::Elsewhere => self.elsewhere(grants, purpose, &path),
            },
        }
    }

    /// Whether a word of a command names a file of an environment that the command must not see: any for one that only
    /// reads, and any but the step's own for one that changes.
    pub fn exposes(&self, word: &str, directory: Option<&str>, reads: bool) -> bool {
        word.split(|next: char| next.is_whitespace() || "=:,;'\"()<>|&`@".contains(next)).any(|part| {
            let whole = match (part.starts_with('/'), directory) {
                (true, _) => part.to_owned(),
                (false, Some(directory)) if part.contains('/') || part == ENVIRONMENTS => {
                    format!("{directory}/{part}")
                }
                (false, _) => return false,
            };
            // Nothing longer is a path.
            if whole.len() > limits::PATH {
                return false;
            }
            self.ways_into_services(&self.without_steps_up(&through_proc(&whole, directory))).any(|path| {
                self.place(path) == Place::Environment
                    && (reads || self.judge(&Grants::default(), Use::Environment, path).is_err())
            })
        })
    }

    /// A path, from each place on at which it may lead into the services' folder: `/proc/1/root`, a mount and a chroot
    /// have the whole tree below them.
    fn ways_into_services<'a>(&self, path: &'a str) -> impl Iterator<Item = &'a str> {
        let services = straight(&self.services);
        let places: Vec<usize> = path.match_indices(services.as_str()).map(|(at, _)| at).collect();
        places.into_iter().filter_map(|at| path.get(at..))
    }

    /// Whether a word of a command is a path of a service.
    pub fn is_in_services(&self, word: &str) -> bool {
        let plain = word.starts_with('/') && !word.contains(['\n', '\0']);
        plain && below(&straight(word), straight(&self.services).trim_end_matches('/')).is_some()
    }

    fn elsewhere(&self, grants: &Grants, purpose: Use, path: &str) -> Result<(), OutOfReach> {
        match purpose.grant() {
            Some(_) if self.covered(grants, purpose, path) => Ok(()),
            Some(grant) => Err(OutOfReach::Outside(grant)),
            None => Ok(()),
        }
    }

    /// Whether a grant has this path.
    pub fn covered(&self, grants: &Grants, purpose: Use, path: &str) -> bool {
        let path = straight(path);
        purpose.grant().is_some_and(|grant| {
            grants.paths(grant).map(|granted| granted.path(&self.service)).any(|granted| {
                if granted.ends_with('/') {
                    below(&path, granted.trim_end_matches('/')).is_some()
                } else {
                    path == granted
                }
            })
        })
    }

    fn place(&self, path: &str) -> Place {
        let Some(rest) = below(path, straight(&self.services).trim_end_matches('/')) else {
            return Place::Elsewhere;
        };
        let mut names = rest.split('/');
        let (service, first) = (names.next().unwrap_or_default(), names.next());
        match first {
            Some(ENVIRONMENTS) => Place::Environment,
            // `lock` has neighbours: `lock.running`, and temporary files.
            Some(first) if HOSTS_OWN.iter().any(|own| is_or_begins(first, own)) => Place::HostsOwn,
            Some(_) if service == self.service => Place::Own,
            Some(_) | None => Place::Elsewhere,
        }
    }

    /// A path with `..` in it, as the target reads it: `current` leads to a folder two below the service's.
    fn without_steps_up(&self, path: &str) -> String {
        let services = straight(&self.services);
        let depth = services.split('/').filter(|name| !name.is_empty()).count();
        let mut names: Vec<&str> = Vec::new();
        for name in path.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                name => names.push(name),
            }
            if names.len() == depth + 2
                && names.last() == Some(&CURRENT)
                && below(&format!("/{}", names.join("/")), services.trim_end_matches('/')).is_some()
                && !path.ends_with(CURRENT)
            {
                names.pop();
                names.extend(["releases", CURRENT]);
            }
        }
        format!("/{}", names.join("/"))
    }
}

/// Where a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the environments' folder of a service.
    Environment,
    /// Something else that the host keeps for a service.
    HostsOwn,
    /// In the service's folder.
    Own,
    Elsewhere,
}

/// A path that leads through a process's own folder, as the target reads it: `/proc/self/cwd/x` is `x` where the command
/// runs.
fn through_proc(path: &str, directory: Option<&str>) -> String {
    let path = straight(path);
    let rest = path.strip_prefix("/proc/").and_then(|rest| rest.split_once("/cwd/"));
    match (rest, directory) {
        (Some((process, rest)), Some(directory)) if process.split('/').count() <= 3 => {
            format!("{directory}/{rest}")
        }
        (Some(_) | None, _) => path,
    }
}

fn is_or_begins(name: &str, own: &str) -> bool {
    name == own || name.strip_prefix(own).is_some_and(|rest| rest.starts_with('.'))
}

/// An absolute path without empty names and `.`.
pub fn straight(path: &str) -> String {
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    format!("/{}", names.join("/"))
}

/// What comes after a folder in a path that is in it; both are straight.
fn below(path: &str, folder: &str) -> Option<String> {
    let rest = path.strip_prefix(folder.trim_end_matches('/'))?.strip_prefix('/')?;
    (!rest.is_empty()).then(|| rest.to_owned())
}

/// The folder that a path is in.
pub fn folder_of(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((folder, _)) => folder,
    }
}

pub fn join(folder: &str, rest: &str) -> String {
    match (folder.trim_end_matches('/'), rest.trim_start_matches('/')) {
        ("", "") => "/".into(),
        (folder, "") => folder.into(),
        (folder, rest) => format!("{folder}/{rest}"),
    }
}
