//! The plugins of the stage, as a plan sees them.

use serde_json::Value;

use super::plan::Available;
use crate::contract::Export;
use crate::model::Phase;
use crate::plugin::{SettingProblem, Snapshot};

impl Available for Snapshot {
    fn names(&self) -> Vec<String> {
        self.plugins.keys().cloned().collect()
    }

    fn digest(&self, plugin: &str) -> Option<String> {
        self.plugin(plugin).map(|plugin| plugin.digest.clone())
    }

    fn serves(&self, plugin: &str, phase: Phase) -> bool {
        let export = match phase {
            Phase::Validation => Export::Validate,
            Phase::Transfer => Export::Transfer,
            Phase::Build => Export::Build,
            Phase::StartService => Export::Start,
            Phase::VerifyHealth => Export::Verify,
            Phase::Register => Export::Register,
        };
        self.plugin(plugin).is_some_and(|plugin| plugin.exports(export))
    }

    fn is_loading(&self, plugin: &str) -> bool {
        self.loading.contains(plugin)
    }

    fn check_settings(&self, plugin: &str, settings: &Value) -> Vec<SettingProblem> {
        let checked = self.plugin(plugin).map(|plugin| plugin.check_settings(settings));
        checked.and_then(Result::err).unwrap_or_default()
    }
}
