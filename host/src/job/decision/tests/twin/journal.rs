//! What the twin's journal has, and what is known by it.

use serde_json::json;

use super::case::{BEFORE, Case, OLD, OWN, job};
use crate::model::samples::release;
use crate::model::{
    JobEvent, JobKind, JobRecord, PhaseStatus, PhaseUpdate, ReleaseEvent, ReleaseRecord, ReleaseStatus,
    StepRecord,
};
use jiff::Timestamp;

/// What a journal has of it.
#[derive(Clone, Debug)]
pub enum Record {
    State(JobEvent),
    Phase(PhaseUpdate),
    StepStarted(String, &'static str),
    StepEnded(String, bool),
    CancelledBy,
    /// The job has the lease on its service.
    Generation,
    Release(&'static str, ReleaseEvent),
    Promoted,
}

/// What is known by the records.
#[derive(Clone)]
pub struct Known {
    pub job: JobRecord,
    pub steps: Vec<StepRecord>,
    pub releases: Vec<ReleaseRecord>,
}

impl Known {
    pub fn new(case: Case) -> Self {
        let mut job = job(case.kind);
        let mut releases = Vec::new();
        if case.runs {
            releases = vec![release(OLD, ReleaseStatus::Retired), release(BEFORE, ReleaseStatus::Live)];
            job.previous = releases.last().cloned();
        }
        match case.kind {
            JobKind::Deploy => releases.push(release(OWN, ReleaseStatus::Candidate)),
            JobKind::Rollback => {
                releases.push(release(OWN, ReleaseStatus::Retired));
                for record in job.phases.iter_mut().take(3) {
                    record.status = PhaseStatus::Skipped;
                }
            }
        }
        Known { job, steps: Vec::new(), releases }
    }

    /// By the functions that change a job's and a release's state in earnest: what they refuse ends the test.
    pub fn take(&mut self, record: &Record) {
        match record {
            Record::State(event) => self.job.apply(event).unwrap(),
            Record::Phase(update) => {
                let record = self.job.phases.iter_mut().find(|record| record.phase == update.phase).unwrap();
                record.status = update.status;
                if let Some(details) = &update.details {
                    record.details = details.clone();
                }
            }
            Record::StepStarted(key, function) => {
                let done = self.steps.iter().any(|step| step.step == *key && step.result.is_some());
                assert!(!done, "{key} is called again, though its answer is on record");
                self.steps.push(StepRecord {
                    id: 0,
                    step: key.clone(),
                    plugin: "docker".into(),
                    function: (*function).into(),
                    digest: String::new(),
                    started_at: Timestamp::UNIX_EPOCH,
                    completed_at: None,
                    result: None,
                    error: None,
                });
            }
            Record::StepEnded(key, well) => {
                let step = self.steps.iter_mut().rev().find(|step| step.step == *key).unwrap();
                step.result = well.then(|| json!(true));
            }
            Record::CancelledBy => self.job.cancelled_by = Some("ci".into()),
            Record::Generation => self.job.generation = Some(7),
            Record::Release(id, event) => {
                let release = self.releases.iter_mut().find(|release| release.id == *id).unwrap();
                release.apply(*event).unwrap();
            }
            Record::Promoted => {
                let own = self.releases.iter().find(|release| release.id == OWN).unwrap();
                for changed in own.promoted(&self.releases).unwrap() {
                    let at = self.releases.iter().position(|release| release.id == changed.id).unwrap();
                    self.releases[at] = changed;
                }
            }
        }
        let live = self.releases.iter().filter(|release| release.status == ReleaseStatus::Live);
        assert!(live.count() <= 1, "two releases are live after {record:?}");
    }
}
