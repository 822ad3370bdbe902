//! Where the values of a service's environment are.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::secret::Secret;

/// Where the environment's values are.
#[derive(Debug, Clone)]
pub enum EnvironmentSource {
    /// Here, by name: they are written.
    Held(Arc<BTreeMap<String, Secret>>),
    /// Only in the release's file on the target, from an earlier job: that file is checked.
    OnTarget,
}
