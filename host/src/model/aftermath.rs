//! What runs on the target after a job that did not complete, and how that is said. Pure.

use serde::{Deserialize, Serialize};

/// What runs on the target after a job that did not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "aftermath", content = "release")]
pub enum Aftermath {
    /// The job had not touched what runs.
    Untouched,
    /// The job failed in Start before it touched what runs: this release was looked at, and still lives.
    StillRuns(String),
    /// This release runs again, and was verified.
    Restored(String),
    /// There was no release before; nothing is left running.
    NothingBefore,
    /// This release should run, and was not brought back. Nobody could see whether it runs.
    NotRestored(String),
    /// This release was looked at: it runs, and its checks fail.
    Unverified { release: String, because: String },
    /// This release was looked at: it does not run.
    Down { release: String, because: String },
    /// There was no release before, and what failed could not be taken away.
    LeftBehind { because: String },
    /// This deployer was stopped for so long that another one took the service over. What runs is that
    /// one's to say.
    TakenOver(String),
}

impl Aftermath {
    /// The name that callers see.
    pub fn name(&self) -> &'static str {
        match self {
            Aftermath::Untouched | Aftermath::StillRuns(_) => "untouched",
            Aftermath::Restored(_) => "restored",
            Aftermath::NothingBefore => "nothing_before",
            Aftermath::NotRestored(_) | Aftermath::Down { .. } | Aftermath::LeftBehind { .. } => {
                "not_restored"
            }
            Aftermath::Unverified { .. } => "unverified",
            Aftermath::TakenOver(_) => "taken_over",
        }
    }

    /// Whether the job left alone what runs.
    pub fn is_untouched(&self) -> bool {
        match self {
            Aftermath::Untouched | Aftermath::StillRuns(_) => true,
            Aftermath::Restored(_)
            | Aftermath::NothingBefore
            | Aftermath::NotRestored(_)
            | Aftermath::Unverified { .. }
            | Aftermath::Down { .. }
            | Aftermath::LeftBehind { .. }
            | Aftermath::TakenOver(_) => false,
        }
    }

    /// What whoever reads of the job has to do at once, because of what runs now.
    pub fn next_move(&self) -> Option<String> {
        match self {
            Aftermath::Untouched
            | Aftermath::StillRuns(_)
            | Aftermath::Restored(_)
            | Aftermath::NothingBefore
            | Aftermath::TakenOver(_) => None,
            Aftermath::NotRestored(_) => Some("check what runs on the target".into()),
            Aftermath::Unverified { release, .. } => Some(format!(
                "see why the checks of release {release} fail, and whether it answers its callers"
            )),
            Aftermath::Down { release, .. } => {
                Some(format!("start release {release} again on the target, or deploy a version that works"))
            }
            Aftermath::LeftBehind { .. } => Some("check what the failed release left on the target".into()),
        }
    }
}

impl std::fmt::Display for Aftermath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Aftermath::Untouched => f.write_str("what runs was not touched"),
            Aftermath::Restored(release) => write!(f, "release {release} restored and healthy"),
            Aftermath::NothingBefore => f.write_str("there was no release before; nothing is left running"),
            Aftermath::TakenOver(holder) => {
                write!(f, "another deployer took the service over ({holder}), and decides what runs now")
            }
            Aftermath::StillRuns(release) => write!(f, "release {release} still runs and was not touched"),
            Aftermath::NotRestored(release) => write!(
                f,
                "release {release} was not restored, and it is not known whether it runs: check the target"
            ),
            Aftermath::Unverified { release, because } => {
                write!(f, "release {release} is running, but its checks fail: {because}")
            }
            Aftermath::Down { release, because } => {
                write!(f, "release {release} is not running: {because}")
            }
            Aftermath::LeftBehind { because } => {
                write!(f, "there was no release before, and what failed may still be there: {because}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_said_plainly_and_older_journals_are_read() {
        let check = |written: &str, name: &str, said: &str| {
            let aftermath: Aftermath = serde_json::from_str(written).unwrap();
            assert_eq!((aftermath.name(), aftermath.to_string().as_str()), (name, said), "{written}");
            let again = serde_json::to_string(&aftermath).unwrap();
            assert_eq!(serde_json::from_str::<Aftermath>(&again).unwrap(), aftermath);
            assert_eq!(said, said.to_lowercase(), "nobody is shouted at");
        };
        check(r#"{"aftermath":"untouched"}"#, "untouched", "what runs was not touched");
        check(r#"{"aftermath":"restored","release":"r1"}"#, "restored", "release r1 restored and healthy");
        check(
            r#"{"aftermath":"not_restored","release":"r1"}"#,
            "not_restored",
            "release r1 was not restored, and it is not known whether it runs: check the target",
        );
        check(
            r#"{"aftermath":"still_runs","release":"r1"}"#,
            "untouched",
            "release r1 still runs and was not touched",
        );
        check(
            r#"{"aftermath":"unverified","release":{"release":"r1","because":"500 instead of 200"}}"#,
            "unverified",
            "release r1 is running, but its checks fail: 500 instead of 200",
        );
        check(
            r#"{"aftermath":"down","release":{"release":"r1","because":"its image is gone"}}"#,
            "not_restored",
            "release r1 is not running: its image is gone",
        );
        check(
            r#"{"aftermath":"left_behind","release":{"because":"docker does not answer"}}"#,
            "not_restored",
            "there was no release before, and what failed may still be there: docker does not answer",
        );
    }
}
