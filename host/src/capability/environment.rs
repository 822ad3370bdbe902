//! Places the service's environment on the target. The values' only way is from the host's memory into a
//! file at mode 0600; where they are kept until then is the journal's business.

pub(super) mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use self::source::EnvironmentSource;
use super::boundary::{Use, folder_of};
use super::call::{Made, View};
use super::checks::checked_path;
use super::grant::Call;
use super::reach::Reach;
use super::record::Effect;
use super::ssh_error::ssh_error;
use crate::contract::bindings::deployer::pipeline::environment::{self, Form};
use crate::contract::{Error, Fault};
use crate::secret::Secret;
use crate::ssh::{Kind, environment_text};

/// The mode of an environment's file.
const MODE: u32 = 0o600;
/// The mode of the folder that is made for it.
const FOLDER_MODE: u32 = 0o700;

/// What placing an environment takes.
pub struct Placing {
    pub(super) reach: Arc<Reach>,
    pub(super) source: EnvironmentSource,
}

impl environment::Host for View<'_, Placing> {
    async fn place(
        &mut self,
        path: String,
        names: Vec<String>,
        form: Form,
    ) -> wasmtime::Result<Result<(), Error>> {
        let arguments = json!({ "path": path, "names": names, "form": form_name(form) });
        let checked = checked_path(&path);
        self.make_checked(Call::Place, Effect::Changes, arguments, checked, |placing, _| {
            Box::pin(place(placing, path, names, form))
        })
        .await
    }
}

async fn place(placing: &Placing, path: String, names: Vec<String>, form: Form) -> Result<Made<()>, Error> {
    placing.reach.path("environment.place", Use::Place, &path).await?;
    let ssh = placing.reach.ssh();
    match &placing.source {
        EnvironmentSource::Held(values) => {
            let content = encode(values, &names, form)?;
            let made = ssh.make_directory(folder_of(&path), FOLDER_MODE).await;
            made.map_err(|error| ssh_error("create the environment's folder", &error))?;
            let written = ssh.write_file(&path, content.as_bytes(), MODE).await;
            written.map_err(|error| ssh_error("place the environment", &error))?;
        }
        EnvironmentSource::OnTarget => {
            let found = ssh.stat(&path).await;
            let found = found.map_err(|error| ssh_error("look for the environment", &error))?;
            // No value is needed to make a file without variables again.
            if names.is_empty() && found.is_none() {
                let written = ssh.write_file(&path, b"", MODE).await;
                written.map_err(|error| ssh_error("place the environment", &error))?;
                return Ok(Made::plain(()));
            }
            still_there(&path, found.map(|stat| (stat.kind, stat.mode)))?;
        }
    }
    Ok(Made::plain(()))
}

fn form_name(form: Form) -> &'static str {
    match form {
        Form::Quoted => "quoted",
        Form::Plain => "plain",
    }
}

/// A file with these variables.
fn encode(values: &BTreeMap<String, Secret>, names: &[String], form: Form) -> Result<String, Error> {
    let mut variables = Vec::new();
    for name in names {
        let value = values.get(name).ok_or_else(|| Error {
            fault: Fault::Plugin,
            attempted: "place the environment".into(),
            seen: format!("the deployment has no variable {name:?}"),
            next: "the plugin should place the names in `deployment.environment`".into(),
        })?;
        variables.push((name.as_str(), value.expose()));
    }
    let quoted = environment_text(variables.iter().copied())
        .map_err(|error| ssh_error("place the environment", &error))?;
    match form {
        Form::Quoted => Ok(quoted),
        Form::Plain => variables.into_iter().map(|(name, value)| plain_line(name, value)).collect(),
    }
}

fn plain_line(name: &str, value: &str) -> Result<String, Error> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(Error {
            fault: Fault::Request,
            attempted: format!("place the variable {name}"),
            seen: "its value has a line break, which this file's form cannot hold".into(),
            next: "give it without line breaks (base64, for instance), or use a method that can".into(),
        });
    }
    Ok(format!("{name}={value}\n"))
}

/// Whether an earlier release's file can be used again.
fn still_there(path: &str, found: Option<(Kind, u32)>) -> Result<(), Error> {
    let seen = match found {
        Some((Kind::File, MODE)) => return Ok(()),
        Some((Kind::File, mode)) => format!("{path} has the mode {mode:04o} and not 0600"),
        Some(_) => format!("{path} is not a file any more"),
        None => format!("{path} is gone"),
    };
    Err(Error {
        fault: Fault::Target,
        attempted: "use the earlier release's environment again".into(),
        seen,
        next: "the deployer does not have the values any more: deploy again, with the environment in the request".into(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::process::Command;

    use super::*;

    fn held(values: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        values.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect()
    }

    #[test]
    fn both_forms() {
        let check = |value: &str, quoted: &str, plain: Option<&str>| {
            let values = held(&[("A", value)]);
            let names = ["A".to_owned()];
            assert_eq!(encode(&values, &names, Form::Quoted).unwrap(), quoted);
            assert_eq!(encode(&values, &names, Form::Plain).ok().as_deref(), plain, "{value:?}");
        };
        check("", "A=\"\"\n", Some("A=\n"));
        check("a b", "A=\"a b\"\n", Some("A=a b\n"));
        check("'", "A=\"'\"\n", Some("A='\n"));
        check("\"", "A=\"\\\"\"\n", Some("A=\"\n"));
        check("$(x)`y`\\", "A=\"\\$(x)\\`y\\`\\\\\"\n", Some("A=$(x)`y`\\\n"));
        check("a\nb", "A=\"a\nb\"\n", None);
        check("a\rb", "A=\"a\rb\"\n", None);
        check("größe", "A=\"größe\"\n", Some("A=größe\n"));
    }

    /// What a real shell makes of it.
    #[test]
    fn a_shell_reads_the_same_values() {
        let long = "x".repeat(8192);
        let awkward = [
            "",
            " leading and trailing ",
            "both ' and \"",
            "$(touch /tmp/x) ${HOME} $HOME `id`",
            "ends with a backslash\\",
            "a backslash at a line's end\\\nand on",
            "two\\\\\nlines\n",
            "\ntrailing newlines\n\n",
            "größe – ✓",
            "!history * ? [a] ~ # & ; | > <",
            "a\tb\rc",
            long.as_str(),
        ];
        for value in awkward {
            let file = tempfile::NamedTempFile::new().unwrap();
            let values = held(&[("VALUE", value), ("AFTER", "there")]);
            let names = ["VALUE".to_owned(), "AFTER".to_owned()];
            std::fs::write(file.path(), encode(&values, &names, Form::Quoted).unwrap()).unwrap();
            let output = Command::new("/bin/sh")
                .args(["-c", r#"set -a; . "$1"; printf '%s|%s' "$VALUE" "$AFTER""#, "sh"])
                .arg(file.path())
                .env_clear()
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{value}|there"), "{value:?}");
        }
    }

    #[test]
    fn a_variable_that_is_not_there_is_the_plugins_fault() {
        let error = encode(&held(&[]), &["A".into()], Form::Quoted).unwrap_err();
        assert_eq!(error.fault, Fault::Plugin);
        let error = encode(&held(&[("A-B", "x")]), &["A-B".into()], Form::Quoted).unwrap_err();
        assert_eq!(error.fault, Fault::Request);
    }

    #[test]
    fn an_earlier_file_must_be_as_it_was() {
        let check = |found, part: Option<&str>| match (still_there("/e", found), part) {
            (Ok(()), None) => {}
            (Err(error), Some(part)) => assert!(error.seen.contains(part), "{}", error.seen),
            (result, part) => panic!("{result:?} where {part:?} was expected"),
        };
        check(Some((Kind::File, 0o600)), None);
        check(Some((Kind::File, 0o644)), Some("0644"));
        check(Some((Kind::Link, 0o600)), Some("not a file"));
        check(None, Some("gone"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("s3cr3t")), "[secret]");
    }
}
