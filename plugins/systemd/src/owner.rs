//! Whose the unit `deployer-{service}.service` is: ours only by the mark that this tool writes into it.
//!
//! A person may have made one of that name: by hand, as a link, by a package, with `systemd-run`. It is never
//! replaced, stopped, disabled or removed. Settings that somebody laid over our unit (`systemctl edit`) stay.

use deployer_plugin::command::{Run, read};
use deployer_plugin::method::read_text;
use deployer_plugin::types::{Deployment, Error, Finding};

use crate::unit_text::{marked, unit_name};

/// Whose a unit is.
#[derive(Debug, PartialEq)]
pub enum Owner {
    Nobody,
    /// With the user that it runs as.
    Us(String),
    Somebody {
        seen: String,
        next: String,
    },
}

/// Where this tool writes a unit.
pub fn path(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}")
}

/// Whose the service's unit is now.
///
/// # Errors
/// When the target cannot say.
pub fn owner(deployment: &Deployment) -> Result<Owner, Error> {
    let unit = unit_name(&deployment.service);
    let facts = facts(&unit)?;
    let text = if facts.is_file(&path(&unit)) { read_text(&path(&unit))? } else { None };
    Ok(decide(&facts, text.as_deref(), &unit, &deployment.service, &deployment.layout.root))
}

/// Refuses to go on with a unit that is somebody else's. Answers whether there is one.
///
/// # Errors
/// When there is one that is not this tool's.
pub fn must_be_ours(deployment: &Deployment, attempted: &str) -> Result<bool, Error> {
    match owner(deployment)? {
        Owner::Nobody => Ok(false),
        Owner::Us(_) => Ok(true),
        Owner::Somebody { seen, next } => Err(Error::target(attempted, seen, next)),
    }
}

/// What Validation says of the unit, and of what is laid over it.
///
/// # Errors
/// When the target cannot say.
pub fn findings(deployment: &Deployment, owner: &Owner) -> Result<Vec<Finding>, Error> {
    let unit = unit_name(&deployment.service);
    let check = format!("the unit {unit} belongs to this tool");
    let mut findings = vec![match owner {
        Owner::Nobody => Finding::passed(check, "it does not exist yet"),
        Owner::Us(_) => Finding::passed(check, "its file has this tool's mark"),
        Owner::Somebody { seen, next } => Finding::failed(check, seen, next),
    }];
    let laid = facts(&unit)?.drop_ins;
    if matches!(owner, Owner::Us(_)) && !laid.is_empty() {
        findings.push(Finding::warning(
            format!("the unit {unit} has no drop-ins"),
            format!("these files change its settings, and are kept: {}", laid.join(", ")),
            "remove them if you do not want them; the setting `service_lines` adds lines to the unit itself",
        ));
    }
    Ok(findings)
}

/// What is on the target under a unit's name.
#[derive(Debug, Default)]
struct Facts {
    files: Vec<String>,
    /// With where they lead.
    links: Vec<(String, String)>,
    /// Files with settings that are laid over the unit.
    drop_ins: Vec<String>,
    /// The file that systemd has loaded.
    loaded: String,
    active: String,
    directory: String,
}

impl Facts {
    fn parse(text: &str) -> Self {
        let mut facts = Facts::default();
        for (word, fact) in text.lines().filter_map(|line| line.split_once('\t')) {
            let first = || fact.split('\t').next().unwrap_or_default().to_string();
            let second = || fact.split('\t').nth(1).unwrap_or_default().to_string();
            match word {
                "file" => facts.files.push(first()),
                "link" => facts.links.push((first(), second())),
                "laid" => facts.drop_ins.push(first()),
                "FragmentPath" => facts.loaded = first(),
                "ActiveState" => facts.active = first(),
                "WorkingDirectory" => facts.directory = first(),
                _ => {}
            }
        }
        facts
    }

    fn is_file(&self, path: &str) -> bool {
        self.files.iter().any(|file| file == path)
    }
}

fn facts(unit: &str) -> Result<Facts, Error> {
    let output = read(["sh", "-c", FACTS, "sh", unit]).checked(
        &format!("find out who wrote the unit {unit}"),
        "check that systemctl works on the target",
    )?;
    Ok(Facts::parse(&output.stdout))
}

/// A line for each fact: a word, TAB, the fact. All folders that systemd reads units from, the strongest first.
const FACTS: &str = r#"
unit=$1 seen=
for folder in /etc/systemd/system.control /run/systemd/system.control /run/systemd/transient \
  /run/systemd/generator.early /etc/systemd/system /run/systemd/system /run/systemd/generator \
  /usr/local/lib/systemd/system /usr/lib/systemd/system /lib/systemd/system /run/systemd/generator.late; do
  [ ! "$folder" -ef "$seen" ] || continue
  seen=$folder
  path=$folder/$unit
  if [ -L "$path" ]; then printf 'link\t%s\t%s\n' "$path" "$(readlink -f "$path")"
  elif [ -e "$path" ]; then printf 'file\t%s\n' "$path"; fi
  for laid in "$path.d"/*.conf; do
    [ ! -e "$laid" ] || printf 'laid\t%s\n' "$laid"
  done
done
systemctl show --property=FragmentPath,ActiveState,WorkingDirectory "$unit" | sed 's/=/\t/'
"#;

fn decide(facts: &Facts, text: Option<&str>, unit: &str, service: &str, root: &str) -> Owner {
    let own = path(unit);
    let somebody = |seen: String, next: String| Owner::Somebody { seen, next };
    let give_way = format!(
        "if nobody needs it: systemctl disable --now {unit}, and remove or rename its file; otherwise give the \
         service another name"
    );
    if let Some((path, to)) = facts.links.iter().find(|(path, _)| *path == own) {
        if to == "/dev/null" {
            let next = format!("unmask it (systemctl unmask {unit}), or give the service another name");
            return somebody(format!("{path} is masked, so systemd cannot start it"), next);
        }
        return somebody(format!("{path} is a link to {to}, and this tool did not create it"), give_way);
    }
    if let Some(text) = text {
        let Some(user) = marked(text, service, root) else {
            return somebody(
                format!("{own} was not written by this tool for the service in {root}"),
                give_way,
            );
        };
        if !facts.loaded.is_empty() && facts.loaded != own {
            let next =
                format!("remove that file if nobody needs it, and run systemctl daemon-reload; {give_way}");
            return somebody(
                format!("systemd has loaded {unit} from {} instead of {own}", facts.loaded),
                next,
            );
        }
        return Owner::Us(user);
    }
    let others = facts.files.iter().chain(facts.links.iter().map(|(path, _)| path));
    if let Some(path) = others.into_iter().next() {
        return somebody(
            format!("a unit of that name exists at {path}, and this tool did not create it"),
            give_way,
        );
    }
    let runs = !matches!(facts.active.as_str(), "" | "inactive" | "failed");
    if runs && !facts.directory.starts_with(&format!("{root}/releases/")) {
        let seen = format!(
            "{unit} is {} although its file is gone, and it does not belong to this tool",
            facts.active
        );
        return somebody(seen, format!("stop it (systemctl stop {unit}), or give the service another name"));
    }
    match facts.drop_ins.as_slice() {
        [] => Owner::Nobody,
        laid => somebody(
            format!(
                "drop-ins for a unit of that name exist, and this tool did not create them: {}",
                laid.join(", ")
            ),
            "remove or rename them, or give the service another name".into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Facts, Owner, decide};

    const UNIT: &str = "deployer-web.service";
    const OURS: &str =
        "[Unit]\nX-Deployer-Service=web\n[Service]\nUser=svc-web\nWorkingDirectory=/opt/web/releases/r1\n";
    const FILE: &str = "file\t/etc/systemd/system/deployer-web.service\n";
    const LOADED: &str = "FragmentPath\t/etc/systemd/system/deployer-web.service\n";

    fn check(facts: &str, text: Option<&str>, expect: Result<&str, (&str, &str)>) {
        let found = decide(&Facts::parse(facts), text, UNIT, "web", "/opt/web");
        match (&found, expect) {
            (Owner::Nobody, Ok("")) => {}
            (Owner::Us(user), Ok(expect)) => assert_eq!(user, expect, "{facts}"),
            (Owner::Somebody { seen, next }, Err(parts)) => {
                assert!(seen.contains(parts.0) && next.contains(parts.1), "{facts}: {found:?}");
            }
            (Owner::Nobody | Owner::Somebody { .. }, _) | (Owner::Us(_), Err(_)) => {
                panic!("{facts}: {found:?}")
            }
        }
    }

    #[test]
    fn only_a_unit_with_the_mark_is_ours() {
        check("FragmentPath\t\nActiveState\tinactive\nWorkingDirectory\t\n", None, Ok(""));
        check(&format!("{FILE}{LOADED}ActiveState\tactive\n"), Some(OURS), Ok("svc-web"));
        // Written, and not loaded yet.
        check(&format!("{FILE}FragmentPath\t\n"), Some(OURS), Ok("svc-web"));
        let by_hand = "[Service]\nExecStart=/bin/sleep 1\n";
        check(
            FILE,
            Some(by_hand),
            Err(("system/deployer-web.service was not written by", "systemctl disable")),
        );
        check(FILE, Some(&OURS.replace("=web", "=shop")), Err(("not written by", "another name")));
        check(FILE, Some(&OURS.replace("/opt/web", "/srv/web")), Err(("in /opt/web", "another name")));
    }

    #[test]
    fn what_is_not_a_file_of_ours_is_somebodys() {
        let link = |to: &str| format!("link\t/etc/systemd/system/deployer-web.service\t{to}\n");
        check(&link("/srv/web.service"), None, Err(("is a link to /srv/web.service", "disable --now")));
        check(&link("/dev/null"), None, Err(("is masked", "systemctl unmask deployer-web.service")));
        let packaged = "file\t/usr/lib/systemd/system/deployer-web.service\n";
        check(packaged, None, Err(("at /usr/lib/systemd/system/deployer-web.service", "another name")));
        let transient = "file\t/run/systemd/transient/deployer-web.service\nActiveState\tactive\n";
        check(transient, None, Err(("at /run/systemd/transient/", "disable")));
        let over = format!("{FILE}FragmentPath\t/run/systemd/transient/deployer-web.service\n");
        check(&over, Some(OURS), Err(("from /run/systemd/transient", "daemon-reload")));
    }

    #[test]
    fn what_runs_without_a_file_is_ours_by_where_it_runs() {
        let of = |directory: &str| format!("{LOADED}ActiveState\tactive\nWorkingDirectory\t{directory}\n");
        check(&of("/opt/web/releases/r1"), None, Ok(""));
        check(&of("/srv"), None, Err(("although its file is gone", "systemctl stop deployer-web.service")));
    }

    #[test]
    fn settings_without_our_unit_are_somebodys() {
        let laid = "laid\t/etc/systemd/system/deployer-web.service.d/override.conf\n";
        check(laid, None, Err(("deployer-web.service.d/override.conf", "remove or rename")));
        check(&format!("{FILE}{LOADED}{laid}"), Some(OURS), Ok("svc-web"));
    }
}
