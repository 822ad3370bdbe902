//! The user that a service runs as, what it may read, and its state folder.
//!
//! A user of this tool's making has the service's state folder as its home: by that it is known. Another one of
//! that name is somebody else's, and is used only when the setting `user` says so.

use deployer_plugin::command::{Run, change, read};
use deployer_plugin::types::{Error, Finding};
use sha2::{Digest, Sha256};

use crate::settings::Settings;
use crate::unit_text::state_directory;

/// The longest name that Linux takes.
const LONGEST: usize = 32;

/// The service's user.
pub fn user(service: &str, settings: &Settings) -> String {
    settings.user.clone().unwrap_or_else(|| own_user(service))
}

/// What speaks against running as the user, or against giving it the state folder. `installed` is the user of the
/// unit that this tool wrote before, if it did.
///
/// # Errors
/// When the target cannot say.
pub fn findings(service: &str, settings: &Settings, installed: Option<&str>) -> Result<Vec<Finding>, Error> {
    let facts = facts(service, &user(service, settings))?;
    Ok([facts.account(service, settings), facts.state(service, settings, installed)]
        .into_iter()
        .flatten()
        .collect())
}

/// Makes the user when it is missing: a system user that cannot log in.
///
/// # Errors
/// When it cannot be made, or when one of that name, or the state folder, is somebody else's.
pub fn make(service: &str, settings: &Settings, installed: Option<&str>) -> Result<String, Error> {
    let user = user(service, settings);
    if let Some(finding) = findings(service, settings, installed)?.into_iter().next() {
        return Err(Error::target(format!("run the service as {user}"), finding.message, finding.next));
    }
    if read(["id", "-u", "--", &user]).output()?.succeeded() {
        return Ok(user);
    }
    let argv = ["sh", "-c", MAKE, "sh", &user, &home(service)];
    change(argv)
        .checked(
            &format!("create the user {user}"),
            "create it by hand, or set `user` in [settings.systemd] to one that exists",
        )
        .map(|_| user)
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
        .checked(&format!("let the user {user} read {files}"), "connect as root: --target root@HOST")?;
    let output = read(["sh", "-c", CAN_READ, "sh", user, files]).output()?;
    if output.succeeded() {
        return Ok(());
    }
    Err(Error::target(
        format!("let the user {user} read {files}"),
        "a folder above it does not let other users in",
        format!("run `namei -l {files}`, and `chmod o+x` each folder that lacks it"),
    ))
}

/// Another call may have made it meanwhile; a group of that name is another matter.
const MAKE: &str = r#"
PATH=$PATH:/usr/sbin:/sbin
useradd --system --user-group --no-create-home --home-dir "$2" --shell /usr/sbin/nologin -- "$1"
code=$?
[ "$code" = 0 ] || id -u -- "$1" >/dev/null 2>&1 || exit "$code"
"#;

const LET_IN: &str = r#"group=$(id -gn -- "$1") && chgrp -R -- "$group" "$2" && chmod -R g+rX -- "$2""#;

const CAN_READ: &str = r#"PATH=$PATH:/usr/sbin:/sbin; runuser -u "$1" -- test -r "$2" -a -x "$2""#;

/// The service's state folder, which also is its user's home.
fn home(service: &str) -> String {
    format!("/var/lib/{}", state_directory(service))
}

/// What the target has under the names that a service needs.
#[derive(Debug, Default)]
struct Facts {
    /// The home of the user of that name.
    home: Option<String>,
    /// Whether there is a group of that name.
    group: bool,
    /// The home of the service's own user, where another one is set.
    own_home: Option<String>,
    state: State,
}

/// What is at the state folder's path.
#[derive(Debug, Default)]
enum State {
    #[default]
    Absent,
    /// With its owner's name, or number where it has none.
    Folder(String),
    Other,
}

const FACTS: &str = r#"
home() { line=$(getent passwd "$1") && printf '%s\t%s\n' "$2" "$(printf '%s\n' "$line" | cut -d : -f 6)"; }
home "$1" home
home "$2" own
[ -z "$(getent group "$1")" ] || printf 'group\t\n'
if [ -d "$3" ]; then
  owner=$(stat -L -c %U "$3")
  [ "$owner" != UNKNOWN ] || owner=$(stat -L -c %u "$3")
  printf 'state\t%s\n' "$owner"
elif [ -e "$3" ] || [ -L "$3" ]; then printf 'other\t\n'; fi
"#;

fn facts(service: &str, user: &str) -> Result<Facts, Error> {
    let output = read(["sh", "-c", FACTS, "sh", user, &own_user(service), &home(service)]).output()?;
    Ok(parse(&output.stdout))
}

fn parse(text: &str) -> Facts {
    let mut facts = Facts::default();
    for (word, fact) in text.lines().filter_map(|line| line.split_once('\t')) {
        match word {
            "home" => facts.home = Some(fact.into()),
            "own" => facts.own_home = Some(fact.into()),
            "group" => facts.group = true,
            "state" => facts.state = State::Folder(fact.into()),
            "other" => facts.state = State::Other,
            _ => {}
        }
    }
    facts
}

impl Facts {
    fn account(&self, service: &str, settings: &Settings) -> Option<Finding> {
        let user = user(service, settings);
        let check = format!("the user {user} belongs to this service");
        let next = format!(
            "set `user = \"{user}\"` in [settings.systemd] to run the service as that user, or give the service another name"
        );
        match &self.home {
            _ if settings.user.is_some() && self.home.is_some() => None,
            Some(found) if *found == home(service) => None,
            Some(found) => Some(Finding::failed(
                check,
                format!("a user {user} exists (home {found}), and this tool did not create it"),
                next,
            )),
            None if self.group => Some(Finding::failed(
                check,
                format!("a group {user} exists without a user, so the user cannot be created"),
                format!(
                    "remove the group (groupdel {user}), or set `user` in [settings.systemd] to an existing user"
                ),
            )),
            None => None,
        }
    }

    /// systemd gives the folder and all that is in it to the unit's user.
    fn state(&self, service: &str, settings: &Settings, installed: Option<&str>) -> Option<Finding> {
        let (user, path) = (user(service, settings), home(service));
        let check = format!("the state folder {path} belongs to this service");
        match &self.state {
            State::Absent => None,
            State::Folder(owner) => {
                let own = *owner == own_user(service) && self.own_home.as_ref() == Some(&path);
                let known = *owner == user || own || installed == Some(owner.as_str());
                (!known).then(|| {
                    Finding::failed(
                        check,
                        format!("it belongs to {owner}, and systemd would change the owner of all that is in it to {user}"),
                        format!(
                            "if it is this service's: chown -R {user} {path} (if that user does not exist, create \
                             it first: useradd --system --home-dir {path} {user}); otherwise move it away, \
                             or give the service another name"
                        ),
                    )
                })
            }
            State::Other => Some(Finding::failed(
                check,
                "it is not a folder",
                format!("move it away: mv {path} OTHER-PLACE"),
            )),
        }
    }
}

/// `svc-` and the service's name, with a digest where that is not a valid user name, or is too long.
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
    use super::{LONGEST, own_user, parse};
    use crate::settings::Settings;

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

    #[test]
    fn a_user_of_somebody_else_is_used_only_when_it_is_named() {
        let check = |facts: &str, settings: &str, expect: Option<&str>| {
            let settings: Settings = serde_json::from_str(settings).expect("settings");
            let found = parse(facts).account("web", &settings);
            assert_eq!(found.is_some(), expect.is_some(), "{facts}: {found:?}");
            let text = found.map(|found| format!("{} {}", found.message, found.next)).unwrap_or_default();
            assert!(text.contains(expect.unwrap_or_default()), "{text}");
        };
        check("", "{}", None);
        check("home\t/var/lib/deployer/web\ngroup\t\n", "{}", None);
        check("home\t/home/svc-web\ngroup\t\n", "{}", Some("set `user = \"svc-web\"`"));
        check("home\t/home/svc-web\n", r#"{"user": "svc-web"}"#, None);
        check("home\t/var/www\n", r#"{"user": "www-data"}"#, None);
        check("group\t\n", "{}", Some("groupdel svc-web"));
        check("", r#"{"user": "app"}"#, None);
    }

    #[test]
    fn a_state_folder_is_not_taken_from_anybody() {
        let check = |facts: &str, settings: &str, installed: Option<&str>, expect: Option<&str>| {
            let settings: Settings = serde_json::from_str(settings).expect("settings");
            let found = parse(facts).state("web", &settings, installed);
            assert_eq!(found.is_some(), expect.is_some(), "{facts}: {found:?}");
            let text = found.map(|found| format!("{} {}", found.message, found.next)).unwrap_or_default();
            assert!(text.contains(expect.unwrap_or_default()), "{text}");
        };
        let of_root = "state\troot\n";
        check("", "{}", None, None);
        check("state\tsvc-web\n", "{}", None, None);
        check(of_root, "{}", None, Some("belongs to root"));
        check(of_root, "{}", None, Some("chown -R svc-web /var/lib/deployer/web"));
        check("state\t1007\n", "{}", None, Some("belongs to 1007"));
        check("other\t\n", "{}", None, Some("not a folder"));
        // The setting `user` was changed, there and back.
        check(of_root, r#"{"user": "root"}"#, None, None);
        check(of_root, "{}", Some("root"), None);
        let own = "own\t/var/lib/deployer/web\nstate\tsvc-web\n";
        check(own, r#"{"user": "www-data"}"#, None, None);
        let foreign = "own\t/home/svc-web\nstate\tsvc-web\n";
        check(
            foreign,
            r#"{"user": "www-data"}"#,
            None,
            Some("would change the owner of all that is in it to www-data"),
        );
    }
}
