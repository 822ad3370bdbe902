//! What a job must not show: the values of the environments that it has to do with. While it has them for its own
//! release, from the request, it knows those; all others are read from the target, for the time of the job, and stay
//! in memory.
//!
//! Plugins are given what is there, so what they answer is looked at here, once, before it is recorded: what people
//! read is redacted, what the machine uses again stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::host::Host;
use super::interrupt::{Interrupt, fail};
use super::runner::Runner;
use crate::capability::{EnvironmentSource, Registry, placed};
use crate::model::{
    Artifact, Confirmation, Failure, Fault, Files, Finding, Instance, JobRecord, Layout, Phase, PhaseUpdate,
    Plan, Probe, ReleaseRecord, Variable, Verdict,
};
use crate::secret::{Hidden, Redactor, Secret};
use crate::ssh::SshError;

/// An environment is not larger, however it is written.
const LARGEST: u64 = 16 << 20;
/// A job does not wait longer for the values of an environment. That a connection is lost is known before.
const LIMIT: Duration = Duration::from_secs(40);
/// When an attempt to register comes next, which this host reads again. It holds no text of anybody else's.
const SCHEDULE: &str = "retry";

/// What a plugin answers.
pub(super) trait Answer {
    /// With the values taken out of what people read.
    fn redacted(self, redactor: &Redactor) -> Self;
}

/// A release whose environment may be shown by what the job does, and of whose values only the target knows.
struct Unread {
    release: String,
    names: BTreeSet<String>,
    path: String,
}

impl Runner {
    /// The redactor that a job begins with.
    pub(super) async fn first_redactor(
        host: &Host,
        job: &JobRecord,
        plan: &Plan,
        environment: &EnvironmentSource,
    ) -> Redactor {
        let mut hidden = match environment {
            EnvironmentSource::Held(values) => hidden(values, |name| plan.public.contains(name)),
            EnvironmentSource::OnTarget => Vec::new(),
        };
        let secrets = host.registry.iter().flat_map(Registry::secrets);
        hidden.extend(secrets.map(|(label, secret)| Hidden::registry(label, Secret::new(secret))));
        Redactor::make(hidden, spared(host, job)).await
    }

    /// Makes sure that the redactor knows all values that could be met from now on. Where some cannot be read, that
    /// is said, and the job goes on.
    ///
    /// # Errors
    /// When the connection is lost meanwhile, and when what is said cannot be recorded.
    pub(super) async fn know_environments(&mut self) -> Result<(), Interrupt> {
        let unread = self.unread();
        if unread.is_empty() {
            return Ok(());
        }
        let before = self.host.ssh.connection_mark().await;
        let mut found = self.redactor.hidden().to_vec();
        for Unread { release, names, path } in unread {
            let (values, problem) = environment_at(&self.host, &path).await;
            if let Some(problem) = &problem
                && before.lost_by(self.host.ssh.connection_mark().await)
                && self.job.state.phase().is_some_and(|phase| phase != Phase::Register)
            {
                let attempted = format!("read the environment of release {release}");
                return Err(fail(Fault::Target, &attempted, problem, "check that the target can be reached"));
            }
            found.extend(hidden(&values, |name| !names.contains(name)));
            let missing = names.iter().filter(|name| !values.contains_key(*name));
            let missing: Vec<&str> = missing.map(String::as_str).collect();
            if !missing.is_empty() {
                let because = problem.as_deref().unwrap_or("they are missing");
                let missing = missing.join(", ");
                self.warn(&format!(
                    "could not read the values of {missing} of release {release} from {path}: {because}; they are not \
                     redacted in this job's record"
                ))
                .await?;
            }
            self.revealed.insert(release);
        }
        self.redactor = Redactor::make(found, spared(&self.host, &self.job)).await;
        Ok(())
    }

    fn unread(&self) -> Vec<Unread> {
        let own = match self.environment {
            EnvironmentSource::Held(_) => None,
            EnvironmentSource::OnTarget => Some(&self.release),
        };
        let previous = self.job.previous.as_ref().filter(|previous| previous.id != self.release.id);
        let releases = own.into_iter().chain(previous).chain(&self.touched_releases);
        let unread = releases
            .filter(|release| !release.environment.is_empty() && !self.revealed.contains(&release.id));
        let unread = unread.map(|release| {
            let plan = release.plan();
            let public = |name: &String| {
                self.plan.public.contains(name)
                    || plan.as_ref().is_some_and(|plan| plan.public.contains(name))
            };
            let names = release.environment.iter().map(|Variable { name, .. }| name.clone());
            Unread {
                release: release.id.clone(),
                names: names.filter(|name| !public(name)).collect(),
                path: release.layout(&self.host.root).environment,
            }
        });
        unread.filter(|unread| !unread.names.is_empty()).collect()
    }

    /// A failure as it is recorded, said and handed on.
    pub(super) async fn redacted_failure(&self, failure: Failure) -> Failure {
        let bytes = failure.attempted.len() + failure.seen.len() + failure.next.len();
        self.redactor.apart(bytes, move |redactor| redacted_failure(redactor, failure)).await
    }

    /// A phase's details and its error, as they are recorded and shown.
    pub(super) async fn redacted_update(&self, update: PhaseUpdate) -> PhaseUpdate {
        // How much there is in the details is not known before they are looked at.
        self.redactor
            .apart(usize::MAX, move |redactor| PhaseUpdate {
                details: update.details.map(|details| redacted_details(redactor, details)),
                error: update.error.map(|error| redacted_failure(redactor, error)),
                ..update
            })
            .await
    }
}

fn redacted_details(redactor: &Redactor, mut details: Value) -> Value {
    let schedule = details.as_object_mut().and_then(|details| details.remove(SCHEDULE));
    let mut details = redactor.redact_value(details);
    if let (Some(details), Some(schedule)) = (details.as_object_mut(), schedule) {
        details.insert(SCHEDULE.into(), schedule);
    }
    details
}

fn redacted_failure(redactor: &Redactor, failure: Failure) -> Failure {
    Failure {
        attempted: redactor.redact_string(failure.attempted),
        seen: redactor.redact_string(failure.seen),
        next: redactor.redact_string(failure.next),
        ..failure
    }
}

/// What a plugin said of a release outside any job, without the values of its environment; none when these cannot be
/// read, for then nobody knows what must not be shown.
pub(super) async fn shown(host: &Host, release: &ReleaseRecord, plan: &Plan, said: String) -> Option<String> {
    let secret = release.environment.iter().filter(|variable| !plan.public.contains(&variable.name));
    let secret: Vec<&str> = secret.map(|variable| variable.name.as_str()).collect();
    let path = release.layout(&host.root).environment;
    let (values, _) =
        if secret.is_empty() { (BTreeMap::new(), None) } else { environment_at(host, &path).await };
    if !secret.iter().all(|name| values.contains_key(*name)) {
        return None;
    }
    let redactor = Redactor::make(hidden(&values, |name| plan.public.contains(name)), vec![]).await;
    Some(redactor.apart(said.len(), move |redactor| redactor.redact_string(said)).await)
}

/// What stands in a release's environment file, and in the one beside it that has the values of several lines.
async fn environment_at(host: &Host, path: &str) -> (BTreeMap<String, Secret>, Option<String>) {
    let read = |path: String| async move {
        let reading = host.ssh.read_file(&path, LARGEST);
        match tokio::time::timeout(LIMIT, reading).await {
            Ok(Ok(content)) => Ok(placed(&String::from_utf8_lossy(&content))),
            Ok(Err(SshError::NotFound { .. })) => Ok(BTreeMap::new()),
            Ok(Err(error)) => Err(error.problem()),
            Err(_) => Err(format!("it was not read within {LIMIT:?}")),
        }
    };
    let (one_line, others) = tokio::join!(read(path.to_owned()), read(format!("{path}.multiline")));
    let mut values = BTreeMap::new();
    let mut problem = None;
    for read in [one_line, others] {
        match read {
            Ok(found) => values.extend(found),
            Err(unreadable) => problem = Some(unreadable),
        }
    }
    (values, problem)
}

fn hidden(values: &BTreeMap<String, Secret>, is_public: impl Fn(&str) -> bool) -> Vec<Hidden> {
    let secret = values.iter().filter(|(name, _)| !is_public(name));
    secret.map(|(name, value)| Hidden::variable(name, value.clone())).collect()
}

/// Texts that are not secret even where a variable has them for a value: what a release is called, where it lives,
/// and how callers reach it.
fn spared(host: &Host, job: &JobRecord) -> Vec<String> {
    let mut texts = vec![job.service.clone(), job.method.clone(), job.id.clone()];
    let previous = job.previous.as_ref();
    let releases = [Some(&job.release), previous.map(|previous| &previous.id)];
    for release in releases.into_iter().flatten() {
        let layout = Layout::new(&host.root, &job.service, release);
        texts.extend([layout.files, layout.environment]);
    }
    let ports = [Some(job.request.service_port), previous.map(|previous| previous.port)];
    texts.extend(ports.into_iter().flatten().map(|port| host.service_url(port)));
    texts
}

impl Answer for () {
    fn redacted(self, _: &Redactor) -> Self {}
}

impl<T: Answer> Answer for Option<T> {
    fn redacted(self, redactor: &Redactor) -> Self {
        self.map(|answer| answer.redacted(redactor))
    }
}

/// All of it is used again: by the steps that come after, and by the jobs that go back to the release.
impl Answer for Files {
    fn redacted(self, _: &Redactor) -> Self {
        self
    }
}

/// As with `Files`.
impl Answer for Artifact {
    fn redacted(self, _: &Redactor) -> Self {
        self
    }
}

/// As with `Files`.
impl Answer for Instance {
    fn redacted(self, _: &Redactor) -> Self {
        self
    }
}

impl Answer for Vec<Finding> {
    fn redacted(self, redactor: &Redactor) -> Self {
        let finding = |finding: Finding| Finding {
            check: redactor.redact_string(finding.check),
            message: redactor.redact_string(finding.message),
            next: redactor.redact_string(finding.next),
            ..finding
        };
        self.into_iter().map(finding).collect()
    }
}

impl Answer for Verdict {
    /// What an instance answered is kept in part, so a value in it may be cut off.
    fn redacted(self, redactor: &Redactor) -> Self {
        let cut = |text: String| redactor.redact_cut(&text).into_owned();
        let probe = |probe: Probe| Probe {
            asked: cut(probe.asked),
            answered: cut(probe.answered),
            body: cut(probe.body),
            ..probe
        };
        Verdict { summary: cut(self.summary), probes: self.probes.into_iter().map(probe).collect(), ..self }
    }
}

impl Answer for Confirmation {
    fn redacted(self, redactor: &Redactor) -> Self {
        Confirmation {
            endpoint: redactor.redact_string(self.endpoint),
            response: redactor.redact_string(self.response),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Outcome;

    fn redactor(values: &[(&str, &str)]) -> Redactor {
        let hidden = values.iter().map(|(name, value)| Hidden::variable(name, Secret::new(*value)));
        Redactor::new(hidden.collect(), vec![])
    }

    #[test]
    fn what_people_read_is_redacted_and_what_is_used_again_stays() {
        let redactor = redactor(&[("ALGORITHM", "sha256"), ("TOKEN", "0a1b2c3d4e5f6a7b")]);
        let text = |text: &str| text.to_owned();
        let artifact = Artifact {
            kind: text("image"),
            reference: text("web:0a1b2c3d4e5f6a7b"),
            digest: text("sha256:12"),
            bytes: None,
        };
        assert_eq!(Some(artifact.clone()).redacted(&redactor), Some(artifact));
        // An answer is cut off where it is long.
        let probe = |answered: &str, body: &str| Probe {
            at_ms: 0,
            took_ms: 1,
            asked: text("GET /health"),
            answered: text(answered),
            body: text(body),
        };
        let verdict = |summary: &str, probe: Probe| Verdict {
            outcome: Outcome::Passed,
            summary: text(summary),
            probes: vec![probe],
        };
        let given = verdict("0a1b2c3d4e5f6a7b is healthy", probe("sha256", r#"{"token":"0a1b2c3d4e5f"#));
        let expect = verdict("[env TOKEN] is healthy", probe("[env ALGORITHM]", r#"{"token":"[env TOKEN]"#));
        assert_eq!(given.redacted(&redactor), expect);
    }

    #[test]
    fn details_are_redacted_but_for_the_hosts_own_schedule() {
        let redactor = redactor(&[("DATE", "2026-11-25")]);
        let details = json!({ "seen": ["at 2026-11-25"], "retry": { "next_at": "2026-11-25T00:00:00Z" } });
        let expect = json!({ "seen": ["at [env DATE]"], "retry": { "next_at": "2026-11-25T00:00:00Z" } });
        assert_eq!(redacted_details(&redactor, details), expect);
        assert_eq!(redacted_details(&redactor, json!(null)), json!(null));
    }

    #[test]
    fn public_variables_are_not_hidden() {
        let values = [("LOG_LEVEL", "verbose"), ("TOKEN", "0a1b2c3d")];
        let values = values.map(|(name, value)| (name.to_owned(), Secret::new(value))).into();
        let hidden = hidden(&values, |name| name == "LOG_LEVEL");
        assert_eq!(hidden, [Hidden::variable("TOKEN", Secret::new("0a1b2c3d"))]);
    }
}
