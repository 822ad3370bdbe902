//! What deployment methods share: how a start command is written and found, how build commands run, and
//! the small files that a method keeps in the service's folder.

mod build;
mod command_line;
mod start;
mod store;
mod variables;

pub use build::{Finished, Workplace, build};
pub use command_line::{CommandLine, Values};
pub use start::{Origin, Start, fast_api, lists_requirement, written};
pub use store::{Reader, folder, from_service, from_target, read_json, read_text, there, write_json};
pub use variables::{has, kept_by_shell, multi_line, names, one_line};

use crate::types::{Deployment, Error, Finding};

/// A path in the service's folder on the target.
pub fn under(deployment: &Deployment, path: &str) -> String {
    format!("{}/{path}", deployment.layout.root)
}

/// The release that an artifact's reference in `{root}/releases/{release}` belongs to.
pub fn release_of(root: &str, reference: &str) -> Option<String> {
    let inside = reference.strip_prefix(root)?.strip_prefix("/releases/")?;
    let release = inside.split('/').next().filter(|release| !release.is_empty())?;
    (release != "." && release != "..").then(|| release.to_string())
}

/// Speaks against a deployment when the release that runs now is another method's, which this one could
/// neither stop nor bring back.
pub fn takes_over(deployment: &Deployment, kind: &str) -> Option<Finding> {
    let running = deployment.previous.as_ref().filter(|release| release.instance.kind != kind)?;
    Some(Finding::failed(
        "the running release was started by this method",
        format!(
            "release {} runs as a {} ({}), which the method `{}` can neither stop nor restore",
            running.id, running.instance.kind, running.instance.name, deployment.method
        ),
        "deploy with the method of the running release, or deploy under another service name and port and then stop the old service",
    ))
}

/// The same, as an error: for a start that no Validation went before.
///
/// # Errors
/// When the running release is another method's.
pub fn must_take_over(deployment: &Deployment, kind: &str) -> Result<(), Error> {
    match takes_over(deployment, kind) {
        None => Ok(()),
        Some(finding) => Err(Error::request("replace the running release", finding.message, finding.next)),
    }
}

#[cfg(test)]
mod tests {
    use super::release_of;

    #[test]
    fn a_reference_names_its_release() {
        let check = |reference: &str, expect: Option<&str>| {
            assert_eq!(release_of("/opt/s", reference).as_deref(), expect, "{reference}");
        };
        check("/opt/s/releases/20261124-031500-3f9a", Some("20261124-031500-3f9a"));
        check("/opt/s/releases/20261124-031500-3f9a/.venv", Some("20261124-031500-3f9a"));
        check("/opt/s/releases/", None);
        check("/opt/s/releases/..", None);
        check("/opt/other/releases/1", None);
    }
}
