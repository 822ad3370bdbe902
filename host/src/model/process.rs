//! What of a command on the target outlives the connection.

/// A process group on the target, named so that no later one is taken for it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RemoteProcess {
    /// The group's id, which is its first process's id.
    pub group: u32,
    /// The target's boot and the moment in it that the first process started.
    pub started: String,
}
