//! Where a release of a service lives on the target.

/// Absolute paths on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The service's folder.
    pub root: String,
    /// The release's files.
    pub files: String,
    /// The release's environment.
    pub environment: String,
}

impl Layout {
    /// Under the target's services root.
    pub fn new(services_root: &str, service: &str, release: &str) -> Self {
        let root = format!("{}/{service}", services_root.trim_end_matches('/'));
        Layout {
            files: format!("{root}/releases/{release}"),
            environment: format!("{root}/env/{release}"),
            root,
        }
    }
}
