//! The host calls that a pipeline may grant to a plugin.

use std::fmt;
use std::str::FromStr;

/// A host call that a plugin may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    ServiceRead,
    TargetRead,
    TargetRun,
    TargetWrite,
    TargetUpload,
    Environment,
    HttpLoopback,
    HttpNetwork,
    HttpRegistry,
    HttpAny,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no grant {given:?}; the grants are {}", Grant::names())]
pub struct UnknownGrant {
    pub given: String,
}

impl Grant {
    pub const ALL: [Self; 10] = [
        Self::ServiceRead,
        Self::TargetRead,
        Self::TargetRun,
        Self::TargetWrite,
        Self::TargetUpload,
        Self::Environment,
        Self::HttpLoopback,
        Self::HttpNetwork,
        Self::HttpRegistry,
        Self::HttpAny,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceRead => "service.read",
            Self::TargetRead => "target.read",
            Self::TargetRun => "target.run",
            Self::TargetWrite => "target.write",
            Self::TargetUpload => "target.upload",
            Self::Environment => "environment",
            Self::HttpLoopback => "http.loopback",
            Self::HttpNetwork => "http.network",
            Self::HttpRegistry => "http.registry",
            Self::HttpAny => "http.any",
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Grant {
    type Err = UnknownGrant;

    fn from_str(given: &str) -> Result<Self, UnknownGrant> {
        let found = Self::ALL.into_iter().find(|grant| grant.as_str() == given);
        found.ok_or_else(|| UnknownGrant { given: given.to_owned() })
    }
}

impl serde::Serialize for Grant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Grant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = String::deserialize(deserializer)?;
        given.parse().map_err(serde::de::Error::custom)
    }
}
