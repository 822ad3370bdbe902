//! What this host speaks: the contract's version, its interfaces, and how a component's names compare.

use std::fmt;

/// The contract's version.
pub const CONTRACT: &str = "0.9.0";

const PACKAGE: &str = "deployer:pipeline/";
const IMPORTS: [&str; 9] =
    ["types", "service", "target", "environment", "instance", "http", "log", "progress", "control"];
const WASI: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];

/// A phase's interface that a plugin exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Export {
    Validate,
    Transfer,
    Build,
    Start,
    Verify,
    Register,
}

/// What a component's import or export is to this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name<'a> {
    /// An interface of the contract, in a version that fits.
    Contract {
        interface: &'a str,
    },
    /// An interface of the contract, in another version.
    OtherVersion {
        interface: &'a str,
        version: &'a str,
    },
    /// An interface that this version of the contract does not have.
    Unheard {
        interface: &'a str,
        version: &'a str,
    },
    /// A WASI interface that this host offers.
    Wasi,
    Foreign,
}

impl Export {
    pub const ALL: [Self; 6] =
        [Self::Validate, Self::Transfer, Self::Build, Self::Start, Self::Verify, Self::Register];

    /// The interface's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Transfer => "transfer",
            Self::Build => "build",
            Self::Start => "start",
            Self::Verify => "verify",
            Self::Register => "register",
        }
    }

    pub fn named(interface: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|export| export.as_str() == interface)
    }
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Export {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

pub fn import(name: &str) -> Name<'_> {
    if let Some(wasi) = name.strip_prefix("wasi:") {
        let (package, version) = wasi.split_once('@').unwrap_or((wasi, ""));
        let package = package.split('/').next().unwrap_or_default();
        return if WASI.contains(&package) && version.starts_with("0.2.") {
            Name::Wasi
        } else {
            Name::Foreign
        };
    }
    ours(name, |interface| IMPORTS.contains(&interface))
}

pub fn export(name: &str) -> Name<'_> {
    ours(name, |interface| interface == "plugin" || Export::named(interface).is_some())
}

fn ours(name: &str, known: impl Fn(&str) -> bool) -> Name<'_> {
    let Some(rest) = name.strip_prefix(PACKAGE) else { return Name::Foreign };
    let (interface, version) = rest.split_once('@').unwrap_or((rest, "without a version"));
    if !fits(version) {
        Name::OtherVersion { interface, version }
    } else if known(interface) {
        Name::Contract { interface }
    } else {
        Name::Unheard { interface, version }
    }
}

/// Within one major version, what was there stays there; before the first release, within one minor version.
fn fits(version: &str) -> bool {
    fn track(version: &str) -> Option<(u32, u32)> {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
        match (parts.next()??, parts.next()??) {
            (0, minor) => Some((0, minor)),
            (major, _) => Some((major, 0)),
        }
    }
    track(version).is_some() && track(version) == track(CONTRACT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_contracts_own() {
        let wit = include_str!("../../../wit/types.wit");
        assert!(wit.starts_with(&format!("package deployer:pipeline@{CONTRACT};")), "{CONTRACT}");
    }

    #[test]
    fn imports() {
        let check = |name: &str, expect: Name| assert_eq!(import(name), expect, "{name}");
        check("deployer:pipeline/target@0.9.0", Name::Contract { interface: "target" });
        check("deployer:pipeline/target@0.9.7", Name::Contract { interface: "target" });
        let other = |version| Name::OtherVersion { interface: "target", version };
        check("deployer:pipeline/target@2.0.0", other("2.0.0"));
        check("deployer:pipeline/target@1.0.0", other("1.0.0"));
        check("deployer:pipeline/target@0.8.0", other("0.8.0"));
        check("deployer:pipeline/target", other("without a version"));
        check("deployer:pipeline/queue@0.9.1", Name::Unheard { interface: "queue", version: "0.9.1" });
        check("wasi:filesystem/types@0.2.6", Name::Wasi);
        check("wasi:cli/stdout@0.2.0", Name::Wasi);
        check("wasi:cli/stdout@0.3.0", Name::Foreign);
        check("wasi:http/outgoing-handler@0.2.0", Name::Foreign);
        check("acme:tools/x@1.0.0", Name::Foreign);
    }

    #[test]
    fn exports() {
        let check = |name: &str, expect: Name| assert_eq!(export(name), expect, "{name}");
        check("deployer:pipeline/plugin@0.9.0", Name::Contract { interface: "plugin" });
        for phase in Export::ALL {
            check(&format!("deployer:pipeline/{phase}@0.9.0"), Name::Contract { interface: phase.as_str() });
        }
        check("deployer:pipeline/start@2.0.0", Name::OtherVersion { interface: "start", version: "2.0.0" });
        check("deployer:pipeline/drain@0.9.2", Name::Unheard { interface: "drain", version: "0.9.2" });
        check("wasi:cli/run@0.2.0", Name::Foreign);
    }
}
