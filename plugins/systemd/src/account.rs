//! The user that a service runs as, and what it may read.

use deployer_plugin::command::{Run, change, read};
use deployer_plugin::types::Error;
use sha2::{Digest, Sha256};

use crate::settings::Settings;
use crate::unit_text::state_directory;

/// The longest name that Linux takes.
const LONGEST: usize = 32;

/// The service's user.
pub fn user(service: &str, settings: &Settings) -> String {
    settings.user.clone().unwrap_or_else(|| own_user(service))
}

/// Makes the user when it is missing: a system user that cannot log in.
///
/// # Errors
/// When it cannot be made.
pub fn make(user: &str, service: &str) -> Result<(), Error> {
    if read(["id", "-u", "--", user]).output()?.succeeded() {
        return Ok(());
    }
    let home = format!("/var/lib/{}", state_directory(service));
    let argv = ["sh", "-c", MAKE, "sh", user, &home];
    change(argv)
        .checked(&format!("make the user {user}"), "make it by hand, or set `user` to one that exists")
        .map(drop)
}

/// Lets the user read the release's files, whatever modes they had where they came from.
///
/// # Errors
/// When it still cannot read them, as when a folder above is closed.
pub fn let_in(user: &str, files: &str) -> Result<(), Error> {
    if user == "root" {
        return Ok(());
    }
    change(["sh", "-c", LET_IN, "sh", user, files])
        .checked(&format!("let the user {user} read {files}"), "connect as root")?;
    let output = read(["sh", "-c", CAN_READ, "sh", user, files]).output()?;
    if output.succeeded() {
        return Ok(());
    }
    Err(Error::target(
        format!("let the user {user} read {files}"),
        "a folder above it is closed to other users",
        format!("open the way: chmod o+x each folder in `namei -l {files}` that lacks it"),
    ))
}

const MAKE: &str = r#"
PATH=$PATH:/usr/sbin:/sbin
useradd --system --user-group --no-create-home --home-dir "$2" --shell /usr/sbin/nologin -- "$1"
code=$?
[ "$code" = 9 ] || exit "$code"
"#;

const LET_IN: &str = r#"group=$(id -gn -- "$1") && chgrp -R -- "$group" "$2" && chmod -R g+rX -- "$2""#;

const CAN_READ: &str = r#"PATH=$PATH:/usr/sbin:/sbin; runuser -u "$1" -- test -r "$2" -a -x "$2""#;

/// `svc-` and the service's name, with a digest where that is no name for a user, or too long.
fn own_user(service: &str) -> String {
    let plain: String = service
        .to_ascii_lowercase()
        .chars()
        .map(|next| if next.is_ascii_alphanumeric() || next == '-' || next == '_' { next } else { '-' })
        .collect();
    let name = format!("svc-{plain}");
    if plain == service && name.len() <= LONGEST {
        return name;
    }
    let digest: String = Sha256::digest(service).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let start: String = name.chars().take(LONGEST - digest.len() - 1).collect();
    format!("{start}-{digest}")
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, own_user};

    #[test]
    fn every_service_has_a_user_of_its_own() {
        assert_eq!(own_user("web"), "svc-web");
        assert_eq!(own_user("orchestrator_2"), "svc-orchestrator_2");
        let names = ["Web", "web.api", "web-api", &"a".repeat(40), &"a".repeat(41)].map(own_user);
        for (at, name) in names.iter().enumerate() {
            assert!(name.len() <= LONGEST && name.starts_with("svc-"), "{name}");
            assert!(names.iter().skip(at + 1).all(|other| other != name), "{name}");
        }
    }
}
