//! A release of a service on a target.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::handover::{Artifact, Files, Instance};
use super::layout::Layout;
use super::plan::Plan;
use super::release_status::{IllegalReleaseEvent, ReleaseEvent, ReleaseStatus};
use super::stored::Stored;
use super::variable::Variable;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    pub service: String,
    pub target: String,
    pub id: String,
    pub job: String,
    #[serde(alias = "standing")]
    pub status: ReleaseStatus,
    pub method: String,
    pub port: u16,
    pub environment: Vec<Variable>,
    /// Keyed with this host's own key, so that values cannot be guessed from it.
    pub environment_digest: String,
    pub files: Option<Stored<Files>>,
    pub artifact: Option<Stored<Artifact>>,
    pub instance: Option<Stored<Instance>>,
    /// The plugins' digests, by name.
    pub plugins: BTreeMap<String, String>,
    /// The pipeline with its settings. None where an older version made the release.
    #[serde(default)]
    pub plan: Option<Stored<Plan>>,
    pub created_at: Timestamp,
    /// When it last became the live one.
    #[serde(default)]
    pub promoted_at: Option<Timestamp>,
    /// The job that made it the live one then.
    #[serde(default)]
    pub promoted_by: Option<String>,
    /// None where an older version made the release.
    #[serde(default)]
    pub origin: Option<Origin>,
}

/// Who deployed a release, and what was asked for then: so that a deployer whose journal does not have the job
/// can go back to the release as the one that made it would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The deployer, for people.
    pub deployer: String,
    /// As the caller wrote it.
    pub service_path: String,
    pub droplet_id: Option<u64>,
    pub auto_register: bool,
    pub verification_job_id: Option<String>,
}

impl ReleaseRecord {
    pub fn files(&self) -> Option<&Files> {
        self.files.as_ref()?.read().ok()
    }

    pub fn artifact(&self) -> Option<&Artifact> {
        self.artifact.as_ref()?.read().ok()
    }

    pub fn instance(&self) -> Option<&Instance> {
        self.instance.as_ref()?.read().ok()
    }

    /// The pipeline that it was deployed by, as far as this version can read it.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()?.read().ok()
    }

    /// Where it lives under the target's services root.
    pub fn layout(&self, services_root: &str) -> Layout {
        Layout::new(services_root, &self.service, &self.id)
    }
}

impl ReleaseRecord {
    /// # Errors
    /// When the event cannot happen to it. Then it stays as it is.
    pub fn apply(&mut self, event: ReleaseEvent) -> Result<(), IllegalReleaseEvent> {
        self.status = self.status.after(event)?;
        Ok(())
    }

    /// A copy of it, as it is after the event.
    ///
    /// # Errors
    /// When the event cannot happen to it.
    pub fn after(&self, event: ReleaseEvent) -> Result<ReleaseRecord, IllegalReleaseEvent> {
        Ok(ReleaseRecord { status: self.status.after(event)?, ..self.clone() })
    }

    /// The releases that change when this one becomes live: it, and of its service's those that were live before.
    ///
    /// # Errors
    /// When it cannot become live.
    pub fn promoted(&self, service: &[ReleaseRecord]) -> Result<Vec<ReleaseRecord>, IllegalReleaseEvent> {
        let mut changed = vec![self.after(ReleaseEvent::Promoted)?];
        for other in service.iter().filter(|other| other.id != self.id) {
            if other.status == ReleaseStatus::Live {
                changed.push(other.after(ReleaseEvent::Superseded)?);
            }
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::samples::release;
    use ReleaseStatus::{Candidate, Live};

    /// All that three releases of a service can come to by what jobs do, from nothing: every sequence of events, of
    /// any length, since each pair of a state and an event is tried.
    #[test]
    fn a_service_never_has_two_live_releases() {
        type State = [ReleaseStatus; 3];
        let jobs_events: Vec<ReleaseEvent> = ReleaseEvent::all()
            .into_iter()
            .filter(|event| !matches!(event, ReleaseEvent::FoundLive | ReleaseEvent::Corrected(_)))
            // What serves is not restored beside another one: its job ends with the one before it live.
            .filter(|event| *event != ReleaseEvent::Restored)
            .collect();
        let mut seen: BTreeSet<State> = BTreeSet::from([[Candidate; 3]]);
        let mut open: Vec<State> = seen.iter().copied().collect();
        while let Some(state) = open.pop() {
            let ids = ["a", "b", "c"];
            let releases: Vec<ReleaseRecord> =
                ids.iter().zip(state).map(|(id, status)| release(id, status)).collect();
            for (index, changing) in releases.iter().enumerate() {
                for event in &jobs_events {
                    let changed = match event {
                        ReleaseEvent::Promoted => changing.promoted(&releases),
                        event => changing.after(*event).map(|changed| vec![changed]),
                    };
                    let Ok(changed) = changed else { continue };
                    let mut after = state;
                    for (id, status) in ids.iter().zip(&mut after) {
                        if let Some(changed) = changed.iter().find(|changed| changed.id == **id) {
                            *status = changed.status;
                        }
                    }
                    let live = after.iter().filter(|status| **status == Live).count();
                    assert!(live <= 1, "{state:?}: {event:?} of {index} makes {after:?}");
                    if seen.insert(after) {
                        open.push(after);
                    }
                }
            }
        }
        // Each of the six statuses with each, but for those with two that are live.
        assert_eq!(seen.len(), 5 * 5 * 5 + 3 * 5 * 5);
    }
}
