//! What a plugin must not get away with: answers and calls without measure, and other people's files.

use deployer_plugin::command::{Run, change, read};
use deployer_plugin::types::{
    Artifact, Deployment, Error, Files, Finding, Instance, Outcome, Probe, Verdict,
};
use deployer_plugin::{environment, instance, log, target};

use crate::phases::plugin::Description;

/// A schema of more properties than any settings have.
pub fn describe(name: String) -> Description {
    let properties: Vec<String> =
        (0..100_000).map(|number| format!(r#""p{number}":{{"type":"string","minLength":1}}"#)).collect();
    Description {
        name,
        version: "1.0.0".into(),
        summary: String::new(),
        settings_schema: format!(r#"{{"type":"object","properties":{{{}}}}}"#, properties.join(",")),
    }
}

fn number(word: Option<&str>) -> usize {
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn long(bytes: usize) -> String {
    "x".repeat(bytes)
}

/// Does what the words say, and answers what came of it.
pub fn validate(with: &str) -> Result<Vec<Finding>, Error> {
    let mut words = with.split(' ');
    let deed = words.next().unwrap_or_default();
    let mut next = || words.next().unwrap_or_default().to_owned();
    let said = match deed {
        "findings" => return Ok(vec![Finding::passed("a check", "done"); number(Some(&next()))]),
        "finding" => long(number(Some(&next()))),
        "error" => return Err(Error::request("do it", long(number(Some(&next()))), "")),
        "refused" => {
            let (path, times) = (long(number(Some(&next()))), number(Some(&next())));
            let mut seen = String::new();
            for _ in 0..times {
                seen = target::read_file(&path).err().map(|error| error.seen).unwrap_or_default();
            }
            seen
        }
        "refused-argv" => {
            let (word, times) = (long(number(Some(&next()))), number(Some(&next())));
            let mut seen = String::new();
            for _ in 0..times {
                seen = read(["true", &word]).output().err().map(|error| error.seen).unwrap_or_default();
            }
            seen
        }
        "calls" => loop {
            target::stat("/")?;
        },
        "lines" => {
            let (times, line) = (number(Some(&next())), long(number(Some(&next()))));
            for _ in 0..times {
                log::write(log::Level::Info, &line);
            }
            String::new()
        }
        "write" => target::write_file(&next(), b"mine", 0o644).map(|()| "written".into())?,
        "remove" => target::remove(&next()).map(|()| "removed".into())?,
        "rename" => {
            let old = next();
            target::rename(&old, &next()).map(|()| "renamed".into())?
        }
        "read" => String::from_utf8_lossy(&target::read_file(&next())?).into_owned(),
        "cat" => read(["cat", &next()]).output()?.stdout,
        "run-in" => change(["pwd"]).directory(next()).output()?.stdout,
        "variables" => change(["env"]).environment_file(next()).output()?.stdout,
        "variables-read" => read(["env"]).environment_file(next()).output()?.stdout,
        "place" => environment::place(&next(), &[], environment::Form::Quoted).map(|()| "placed".into())?,
        "link" => {
            let (destination, path) = (next(), next());
            let content = target::Content::Link(next());
            target::upload(&[target::Entry { path, content, mode: 0o777 }], &destination)?;
            "linked".into()
        }
        "shell" => {
            let script = with.split_once(' ').map_or("", |(_, script)| script);
            change(["sh", "-c", script]).output()?.stdout
        }
        _ => String::new(),
    };
    Ok(vec![Finding::passed("the deed", said)])
}

pub fn artifact(with: &str, files: &Files) -> Artifact {
    let mut words = with.split(' ');
    let reference = match words.next() {
        Some("artifact") => long(number(words.next())),
        _ => files.path.clone(),
    };
    Artifact { kind: "files".into(), reference, digest: String::new(), bytes: None }
}

/// An instance whose life is said to be told by these words.
pub fn instance(with: &str, deployment: &Deployment) -> Instance {
    let argv: Vec<String> = match with.split_once(' ') {
        Some(("alive", script)) => ["sh", "-c", script].map(String::from).to_vec(),
        _ => vec![],
    };
    Instance {
        kind: "process".into(),
        name: deployment.release.clone(),
        port: deployment.port,
        alive: argv.clone(),
        log_tail: argv,
    }
}

/// What the host says of the instance; or more probes than anybody reads.
pub fn verify(with: &str) -> Result<Verdict, Error> {
    let mut words = with.split(' ');
    let probes = match words.next() {
        Some("probes") => number(words.next()),
        _ => 0,
    };
    let probe =
        |at_ms| Probe { at_ms, took_ms: 1, asked: "GET".into(), answered: "200".into(), body: String::new() };
    Ok(Verdict {
        outcome: Outcome::Passed,
        summary: format!("{:?}; {:?}", instance::alive()?, instance::log_tail()?),
        probes: (0..probes as u64).map(probe).collect(),
    })
}
