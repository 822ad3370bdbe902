//! A grant for a path outside of the service's folder, as pipelines write it: `target.write:/etc/motd`.

use std::fmt;
use std::str::FromStr;

use super::grant::{Grant, UnknownGrant};

/// Stands for the service's name in a path.
const SERVICE: &str = "{service}";
/// The grants that may have a path.
const WITH_PATHS: [Grant; 5] =
    [Grant::TargetRead, Grant::TargetRun, Grant::TargetWrite, Grant::TargetUpload, Grant::Environment];

/// A grant, and a path outside of the service's folder for which it holds too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathGrant {
    grant: Grant,
    /// Ends with `/` where it is a folder, with all that is in it.
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPathGrant {
    #[error(transparent)]
    Unknown(#[from] UnknownGrant),
    #[error(
        "{given:?}: `{grant}` takes no path; these do: {}",
        WITH_PATHS.map(Grant::as_str).join(", ")
    )]
    NoPath { given: String, grant: Grant },
    #[error(
        "{given:?}: the path has to begin with `/`, without `.` and `..` in it; write it like \
         `{grant}:/etc/motd`, or with `/` at its end for all that is in a folder"
    )]
    BadPath { given: String, grant: Grant },
    #[error("{given:?}: `{{service}}` is the only placeholder in a path")]
    BadPlaceholder { given: String },
}

impl PathGrant {
    /// The grant that covers one path, to be written into a pipeline.
    pub fn covering(grant: Grant, path: &str) -> Self {
        Self { grant, path: path.to_owned() }
    }

    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// The path for a service; with `/` at its end where it is a folder.
    pub fn path(&self, service: &str) -> String {
        self.path.replace(SERVICE, service)
    }

    /// What plans that are older than these grants were made with: what the shipped plugins need.
    pub fn of_older_plans() -> Vec<Self> {
        vec![Self::covering(Grant::TargetWrite, "/etc/systemd/system/deployer-{service}.service")]
    }
}

impl fmt::Display for PathGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.grant, self.path)
    }
}

impl FromStr for PathGrant {
    type Err = BadPathGrant;

    fn from_str(given: &str) -> Result<Self, BadPathGrant> {
        let (grant, path) = given.split_once(':').unwrap_or((given, ""));
        let grant: Grant = grant.parse()?;
        let given = given.to_owned();
        if !WITH_PATHS.contains(&grant) {
            return Err(BadPathGrant::NoPath { given, grant });
        }
        let straight = path.split('/').all(|name| !matches!(name, "." | ".."));
        if !path.starts_with('/') || !straight || path.contains('\0') || path.contains("//") {
            return Err(BadPathGrant::BadPath { given, grant });
        }
        if path.replace(SERVICE, "").contains(['{', '}', '*']) {
            return Err(BadPathGrant::BadPlaceholder { given });
        }
        Ok(Self { grant, path: path.to_owned() })
    }
}

impl serde::Serialize for PathGrant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PathGrant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_it_is_written() {
        for given in ["target.write:/etc/motd", "target.run:/srv/", "environment:/etc/{service}/env"] {
            let grant: PathGrant = given.parse().unwrap();
            assert_eq!(grant.to_string(), given);
        }
        let grant: PathGrant = "target.write:/etc/systemd/system/{service}.service".parse().unwrap();
        assert_eq!(grant.path("shop"), "/etc/systemd/system/shop.service");
        let check = |given: &str, part: &str| {
            let error = given.parse::<PathGrant>().unwrap_err().to_string();
            assert!(error.contains(part), "{given}: {error}");
        };
        check("target.wrote:/etc", "there is no grant \"target.wrote\"");
        check("http.any:/etc", "`http.any` takes no path; these do: target.read, target.run");
        check("target.write:etc", "begin with `/`");
        check("target.write:", "begin with `/`");
        check("target.write:/a/../b", "without `.` and `..`");
        check("target.write:/a/*", "`{service}` is the only placeholder");
        check("target.write:/a/{release}", "`{service}` is the only placeholder");
    }
}
