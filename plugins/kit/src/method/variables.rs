//! The names of the service's variables, by what kind of file can hold their values.

use crate::command::{Run, read};
use crate::types::{Error, Finding, Variable};

/// All names.
pub fn names(environment: &[Variable]) -> Vec<String> {
    environment.iter().map(|variable| variable.name.clone()).collect()
}

/// The names whose values fit on one line.
pub fn one_line(environment: &[Variable]) -> Vec<String> {
    environment.iter().filter(|variable| variable.one_line).map(|variable| variable.name.clone()).collect()
}

/// The names whose values do not.
pub fn multi_line(environment: &[Variable]) -> Vec<String> {
    environment.iter().filter(|variable| !variable.one_line).map(|variable| variable.name.clone()).collect()
}

pub fn has(environment: &[Variable], name: &str) -> bool {
    environment.iter().any(|variable| variable.name == name)
}

/// Asks the server's shell which of these names it keeps to itself: it reads the service's variables and becomes
/// the program, and some names are its own. None where it passes all of them on as they are.
///
/// # Errors
/// Those of the call.
pub fn kept_by_shell(names: &[String]) -> Result<Option<Finding>, Error> {
    if names.is_empty() {
        return Ok(None);
    }
    let argv = ["sh", "-c", KEPT, "sh"].into_iter().chain(names.iter().map(String::as_str));
    let kept = read(argv).checked(
        "ask the target's shell which variables it passes on",
        "check that the SSH user has a POSIX shell, env and grep on the target",
    )?;
    Ok(kept_finding(&kept.text().lines().collect::<Vec<_>>().join(", ")))
}

/// Each in a shell of its own, which may refuse the name and end.
const KEPT: &str = r#"
env=$(command -v env) || { echo "the target has no env" >&2; exit 1; }
for name; do
  sh -c 'set -a; eval "$1=\"  no number \""; set +a; exec "$2"' sh "$name" "$env" 2>/dev/null |
    grep -qFx "$name=  no number " || printf '%s\n' "$name"
done
"#;

fn kept_finding(names: &str) -> Option<Finding> {
    (!names.is_empty()).then(|| {
        Finding::failed(
            "the service's variables reach it unchanged",
            format!("the target's shell reserves these names: {names}"),
            "rename the variables, or choose a method that sets them without a shell",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{KEPT, kept_finding};

    /// With this machine's shell.
    fn kept(names: &[&str]) -> String {
        let output = std::process::Command::new("sh").args(["-c", KEPT, "sh"]).args(names).output();
        String::from_utf8_lossy(&output.expect("a shell").stdout).lines().collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn only_what_a_shell_keeps_is_refused() {
        assert_eq!(kept(&["TOKEN", "IFS", "PS1", "PATH", "ENV", "BASH_ENV", "LD_PRELOAD", "log"]), "");
        // A value that is not a number would end a POSIX shell.
        assert_eq!(kept(&["TOKEN", "OPTIND", "IFS"]), "OPTIND");
        assert!(kept_finding("OPTIND").is_some_and(|finding| finding.message.ends_with(": OPTIND")));
        assert!(kept_finding("").is_none());
    }
}
