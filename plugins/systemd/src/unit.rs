//! The unit on the target: put in place, started, and put back.
//!
//! In whatever order calls are cut off and repeated, this holds: the installed text is only ever changed
//! while the unit is stopped. So a unit that is active runs what is installed.

use deployer_plugin::command::{Run, change, read};
use deployer_plugin::method::{folder, must_take_over, names, read_text, there};
use deployer_plugin::types::{Deployment, Error, Instance};
use deployer_plugin::{environment, target};

use crate::owner::{self, Owner, must_be_ours};
use crate::settings::Settings;
use crate::unit_text::{Plan, text, unit_name};
use crate::{account, command, venv};

/// The kind of this method's instances.
pub const KIND: &str = "unit";

/// Stops what runs and starts the release in its place.
///
/// # Errors
/// Before anything is stopped: when the environment, the user or the program cannot be had. After that: when
/// systemd cannot start it.
pub fn start(deployment: &Deployment, settings: &Settings) -> Result<Instance, Error> {
    must_take_over(deployment, KIND)?;
    environment::place(
        &deployment.layout.environment,
        &names(&deployment.environment),
        environment::Form::Quoted,
    )?;
    let text = decide(deployment, settings)?;
    let unit = unit_name(&deployment.service);
    if !(is_installed(&unit, &text)? && lives(&unit, &deployment.release)?) {
        replace(deployment, &unit, &text)?;
    }
    instance(&unit, &deployment.release, deployment.port)
}

/// Makes the unit start again after a reboot. Nothing is left of the old one: it was the same unit.
///
/// # Errors
/// Those of systemd.
pub fn promote(deployment: &Deployment, instance: &Instance) -> Result<(), Error> {
    must_be_ours(deployment, &format!("enable {}", instance.name))?;
    enable(&instance.name)
}

/// Stops the failed release, and starts the previous one's text of the unit again. Without a previous
/// release, nothing listens and nothing is left enabled. The failed text stays in the service's folder.
///
/// # Errors
/// When the previous release cannot start.
pub fn restore(deployment: &Deployment) -> Result<Option<Instance>, Error> {
    let unit = unit_name(&deployment.service);
    let Some(previous) = &deployment.previous else {
        // Nothing was put in the place of somebody else's, so nothing of it is taken away.
        match owner::owner(deployment)? {
            Owner::Us(_) => take_away(&unit)?,
            Owner::Nobody | Owner::Somebody { .. } => {}
        }
        return Ok(None);
    };
    must_take_over(deployment, KIND)?;
    let path = kept_path(&previous.layout.root, &previous.id);
    let text = read_text(&path)?.ok_or_else(|| {
        Error::target(
            format!("start the previous release {} again", previous.id),
            format!("the file with its unit is gone: {path}"),
            "deploy that version again",
        )
    })?;
    if !(is_installed(&unit, &text)? && is_active(&unit)?) {
        replace(deployment, &unit, &text)?;
    }
    enable(&unit)?;
    instance(&unit, &previous.id, previous.instance.port).map(Some)
}

/// Where a release's text of the unit is kept.
pub fn kept_path(root: &str, release: &str) -> String {
    format!("{root}/units/{release}.service")
}

/// The release's text: the kept one, else one by the settings, which is kept from now on.
fn decide(deployment: &Deployment, settings: &Settings) -> Result<String, Error> {
    let root = &deployment.layout.root;
    let files = &deployment.layout.files;
    let path = kept_path(root, &deployment.release);
    if let Some(text) = read_text(&path)? {
        return Ok(text);
    }
    let argv = command::find(deployment, settings)?;
    let user = account::make(&deployment.service, settings, installed_user(deployment)?.as_deref())?;
    account::let_in(&user, files)?;
    let link = venv::link(files);
    let plan = Plan {
        service: &deployment.service,
        release: &deployment.release,
        user: &user,
        root,
        files,
        environment_file: &deployment.layout.environment,
        virtual_environment: there(&link)?.then_some(link.as_str()),
        port: deployment.port,
        argv: &argv,
    };
    let text = text(&plan, settings);
    folder(&format!("{root}/units"))?;
    target::write_file(&path, text.as_bytes(), 0o644)?;
    Ok(text)
}

/// The user of the unit that this tool has installed.
fn installed_user(deployment: &Deployment) -> Result<Option<String>, Error> {
    Ok(match owner::owner(deployment)? {
        Owner::Us(user) => Some(user),
        Owner::Nobody | Owner::Somebody { .. } => None,
    })
}

fn is_installed(unit: &str, text: &str) -> Result<bool, Error> {
    read_text(&owner::path(unit)).map(|installed| installed.as_deref() == Some(text))
}

fn is_active(unit: &str) -> Result<bool, Error> {
    read(["systemctl", "is-active", "--quiet", unit]).output().map(|output| output.succeeded())
}

fn lives(unit: &str, release: &str) -> Result<bool, Error> {
    read(alive(unit, release)).output().map(|output| output.succeeded())
}

fn replace(deployment: &Deployment, unit: &str, text: &str) -> Result<(), Error> {
    must_be_ours(deployment, &format!("replace {unit}"))?;
    stop(unit)?;
    target::write_file(&owner::path(unit), text.as_bytes(), 0o644)?;
    reload(unit)?;
    let output = change(["systemctl", "start", unit]).output()?;
    if output.succeeded() {
        return Ok(());
    }
    Err(explain(unit, &output.ending()))
}

/// Stops the unit with the settings it was started with.
fn stop(unit: &str) -> Result<(), Error> {
    let output = change(["systemctl", "stop", unit]).output()?;
    if output.succeeded() || output.stderr.contains("not loaded") || output.stderr.contains("not found") {
        return Ok(());
    }
    Err(Error::target(
        format!("stop {unit}"),
        output.ending(),
        format!("find out why it does not stop: systemctl status {unit}"),
    ))
}

fn reload(unit: &str) -> Result<(), Error> {
    change(["systemctl", "daemon-reload"])
        .checked("reload systemd's units", "see systemd's own log: journalctl -b _PID=1 -n 50")?;
    // It counts restarts from zero again. A unit that never failed has nothing to reset.
    change(["systemctl", "reset-failed", unit]).output().map(drop)
}

fn enable(unit: &str) -> Result<(), Error> {
    change(["systemctl", "enable", "--quiet", unit])
        .checked(
            &format!("enable {unit}, so that it starts after a reboot"),
            &format!("try it by hand: systemctl enable {unit}"),
        )
        .map(drop)
}

fn take_away(unit: &str) -> Result<(), Error> {
    stop(unit)?;
    if there(&owner::path(unit))? {
        change(["systemctl", "disable", "--quiet", unit])
            .checked(&format!("disable {unit}"), &format!("try it by hand: systemctl disable {unit}"))?;
        target::remove(&owner::path(unit))?;
    }
    reload(unit)
}

/// The instance, as its text was last put in place.
fn instance(unit: &str, release: &str, port: u16) -> Result<Instance, Error> {
    Ok(Instance {
        kind: KIND.into(),
        name: unit.into(),
        port,
        alive: alive(unit, release),
        log_tail: log(unit, &put_in_place(unit)?),
    })
}

/// When the unit's text was put in place, in seconds since 1970 with a fraction: after the previous release had
/// stopped, and right before this was started. So the log of this release begins there.
fn put_in_place(unit: &str) -> Result<String, Error> {
    read(["stat", "-c", "%.6Y", &owner::path(unit)])
        .checked("read when the unit was installed", "check that the SSH user can read /etc/systemd/system")
        .map(|output| output.text().to_string())
}

fn log(unit: &str, since: &str) -> Vec<String> {
    let since = format!("@{since}");
    ["journalctl", "--unit", unit, "--since", &since, "--lines", "100", "--no-pager", "--output", "cat"]
        .map(String::from)
        .to_vec()
}

/// Exits 0 only while the unit runs this release, and never had to be started again. All releases have the same
/// unit, so what it runs is told by its description.
const ALIVE: &str = r#"
case "$(systemctl show --property=Description --value "$1")" in
  *", release $2") ;;
  *) printf '%s does not run release %s now\n' "$1" "$2"; exit 1 ;;
esac
state=$(systemctl show --property=ActiveState,SubState,Result,ExecMainStatus,NRestarts "$1") || exit 1
case "$state" in
  *ActiveState=active*|*ActiveState=reloading*|*SubState=start*)
    case "$state" in *NRestarts=0*) exit 0 ;; esac ;;
esac
printf '%s:' "$1"
printf ' %s' $state
printf '\n'
exit 1
"#;

fn alive(unit: &str, release: &str) -> Vec<String> {
    ["sh", "-c", ALIVE, "sh", unit, release].map(String::from).to_vec()
}

/// What systemd says of a unit that did not start, and what to do by its exit status.
fn explain(unit: &str, ending: &str) -> Error {
    let status = read(["systemctl", "show", "--property=ExecMainStatus", "--value", unit]).output();
    let status = status.map(|output| output.text().to_string()).unwrap_or_default();
    let log = put_in_place(unit).and_then(|since| read(log(unit, &since)).output());
    let log = log.map(|output| output.text().to_string()).unwrap_or_default();
    Error::target(format!("start {unit}"), format!("{ending}\n{log}"), advice(&status))
}

/// What to do by the exit status that systemd itself gives.
fn advice(status: &str) -> String {
    let text = match status {
        "200" => {
            "the release's folder cannot be entered (status 200/CHDIR): check that it exists, and that the service's user may enter it"
        }
        "203" => {
            "the program cannot be run (status 203/EXEC): fix the start command, the file's execute bit, or \
             its first line (`#!`)"
        }
        "216" | "217" => {
            "the user does not exist (status 217/USER): set `user` in [settings.systemd] to one that the target has"
        }
        "218" | "219" | "224" | "225" | "226" | "227" | "228" | "233" => {
            return format!(
                "the target does not support this hardening (status {status}; 226 is NAMESPACE), as in some \
                 containers: set `hardening = false` in [settings.systemd], or undo single lines with `service_lines`"
            );
        }
        "238" => {
            "the state folder cannot be created (status 238/STATE_DIRECTORY): check /var/lib/deployer and the disk"
        }
        _ => "fix what the log reports; it also names lines of `service_lines` that systemd does not know",
    };
    text.into()
}

#[cfg(test)]
mod tests {
    use super::{advice, alive, kept_path};

    #[test]
    fn what_systemd_gave_up_on_has_a_next_move() {
        assert!(advice("226").contains("hardening = false"));
        assert!(advice("203").contains("start command"));
        assert!(advice("1").contains("log"));
    }

    #[test]
    fn names_are_arguments_and_not_part_of_a_script() {
        let argv = alive("deployer-web.service", "r2");
        assert_eq!(argv.get(4..), Some(["deployer-web.service", "r2"].map(String::from).as_slice()));
        assert!(argv.get(2).is_some_and(|script| !script.contains("web")));
        assert_eq!(kept_path("/opt/web", "r2"), "/opt/web/units/r2.service");
    }
}
