//! Whether the deployer can do its work now.

/// Whether the deployer can do its work now. An `Err` says what is wrong.
#[derive(Clone, Debug)]
pub struct Health {
    pub ssh: Result<(), Trouble>,
    /// None where no registry is set.
    pub registry: Option<Result<(), Trouble>>,
    pub journal: Result<(), String>,
}

/// What is wrong with something that the deployer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// For everybody: `unreachable`, `login refused`. It names no address, no file and no key.
    pub status: &'static str,
    /// For those who may deploy: the whole reason, and what to do.
    pub detail: String,
}
