//! A plugin for tests: it does what its settings say, and none of it is good.

// What is exported by hand is what the generated code exports; the canonical ABI checks its pointers.
#![allow(unsafe_code, reason = "generated code")]

mod web;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use deployer_plugin::command::{Run, change, read};
use deployer_plugin::http::{self, Destination, Request};
use deployer_plugin::types::{
    Artifact, Deployment, Error, Files, Finding, Instance, Outcome, Publication, Registration, Verdict,
};
use deployer_plugin::{control, environment, log, progress, settings, target};

mod hostile;

// The kit's `world!` expects the contract two folders up.
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "generated code")]
mod bindings {
    deployer_plugin::wit_bindgen::generate!({
        world: "everything",
        path: "../../../wit",
        runtime_path: "deployer_plugin::wit_bindgen::rt",
        pub_export_macro: true,
        with: {
            "deployer:pipeline/types@0.9.0": deployer_plugin::types,
            "deployer:pipeline/target@0.9.0": deployer_plugin::target,
            "deployer:pipeline/environment@0.9.0": deployer_plugin::environment,
            "deployer:pipeline/instance@0.9.0": deployer_plugin::instance,
            "deployer:pipeline/http@0.9.0": deployer_plugin::http,
            "deployer:pipeline/log@0.9.0": deployer_plugin::log,
            "deployer:pipeline/progress@0.9.0": deployer_plugin::progress,
            "deployer:pipeline/control@0.9.0": deployer_plugin::control,
        },
    });
}
use bindings::exports::deployer::pipeline as phases;

/// Tests change these bytes in the compiled file: what `describe` does, and what it says.
static DESCRIBE: [u8; 16] = *b"describe:answers";
static NAME: [u8; 12] = *b"name:naughty";
static VERSION: [u8; 13] = *b"version:1.0.0";
static SCHEMA: [u8; 13] = *b"schema:proper";

#[derive(schemars::JsonSchema, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
struct Settings {
    /// What to do.
    deed: Deed,
    /// What to do it with.
    #[serde(default)]
    with: String,
}

#[derive(schemars::JsonSchema, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Deed {
    Nothing,
    Loop,
    Panic,
    Exit,
    Eat,
    Sleep,
    WaitForCancel,
    Write,
    Read,
    Connect,
    Http,
    Ask,
    Run,
    RunChanges,
    Place,
    Cat,
    Files,
    Upload,
    Say,
    Flood,
    Count,
    Ambient,
    Progress,
    Fail,
    Lie,
    /// What `hostile` has: more than a plugin may say or ask for.
    Hostile,
}

struct Naughty;

/// A text in the compiled file that the compiler may not know.
fn text(bytes: &'static [u8], label: &str) -> String {
    let bytes = std::hint::black_box(bytes);
    let text = String::from_utf8_lossy(bytes);
    text.trim_start_matches(label).trim_end().to_owned()
}

impl phases::plugin::Guest for Naughty {
    fn describe() -> phases::plugin::Description {
        match text(&DESCRIBE, "describe:").as_str() {
            "loops" => spin(),
            "schemas" => return hostile::describe(text(&NAME, "name:")),
            "panics" => panic!("describe has its reasons"),
            "eats" => eat(),
            "calls" => {
                let refused = target::stat("/").map(|_| ()).map_err(|error| error.seen);
                panic!("{refused:?}");
            }
            _ => {}
        }
        phases::plugin::Description {
            name: text(&NAME, "name:"),
            version: text(&VERSION, "version:"),
            summary: env!("CARGO_PKG_DESCRIPTION").into(),
            settings_schema: match text(&SCHEMA, "schema:").as_str() {
                "nojson" => "{".into(),
                "broken" => r#"{"type": 7}"#.into(),
                _ => settings::schema::<Settings>(),
            },
        }
    }
}

impl phases::validate::Guest for Naughty {
    fn validate(deployment: Deployment) -> Result<Vec<Finding>, Error> {
        let Settings { deed, with } = settings::settings(&deployment)?;
        if matches!(deed, Deed::Hostile) {
            return hostile::validate(&with);
        }
        let message = act(&deed, &with)?;
        Ok(vec![Finding::passed("the deed", message)])
    }
}

impl phases::transfer::Guest for Naughty {
    fn transfer(deployment: Deployment) -> Result<Files, Error> {
        let Settings { deed, .. } = settings::settings(&deployment)?;
        let path = if matches!(deed, Deed::Lie) { "/etc".into() } else { deployment.layout.files };
        let digest = "0".repeat(64);
        Ok(Files { path, count: 2, bytes: 20, sent_count: 1, sent_bytes: 10, digest })
    }
}

impl phases::build::Guest for Naughty {
    fn build(deployment: Deployment, files: Files) -> Result<Artifact, Error> {
        let Settings { deed, with } = settings::settings(&deployment)?;
        if matches!(deed, Deed::Hostile) {
            return Ok(hostile::artifact(&with, &files));
        }
        Ok(Artifact { kind: "files".into(), reference: files.path, digest: files.digest, bytes: None })
    }

    /// Does the deed, too: nothing of it may change anything.
    fn inspect(deployment: Deployment, artifact: Artifact) -> Result<Option<Artifact>, Error> {
        let Settings { deed, with } = settings::settings(&deployment)?;
        act(&deed, &with)?;
        Ok(Some(artifact))
    }

    fn discard(_: Deployment, artifact: Artifact) -> Result<(), Error> {
        println!("discard {}", artifact.reference);
        Ok(())
    }
}

impl phases::start::Guest for Naughty {
    fn start(deployment: Deployment, artifact: Artifact) -> Result<Instance, Error> {
        let Settings { deed, with } = settings::settings(&deployment)?;
        if matches!(deed, Deed::Hostile) {
            return Ok(hostile::instance(&with, &deployment));
        }
        let lie = matches!(deed, Deed::Lie);
        Ok(Instance {
            kind: artifact.kind,
            name: deployment.release,
            port: if lie { 0 } else { deployment.port },
            alive: vec!["true".into()],
            log_tail: vec!["true".into()],
        })
    }

    fn promote(_: Deployment, instance: Instance) -> Result<(), Error> {
        println!("promote {}", instance.name);
        Ok(())
    }

    fn restore(deployment: Deployment) -> Result<Option<Instance>, Error> {
        Ok(deployment.previous.map(|previous| previous.instance))
    }
}

impl phases::verify::Guest for Naughty {
    fn verify(deployment: Deployment, instance: Instance) -> Result<Verdict, Error> {
        let Settings { deed, with } = settings::settings(&deployment)?;
        if matches!(deed, Deed::Hostile) {
            return hostile::verify(&with);
        }
        Ok(Verdict {
            outcome: Outcome::Passed,
            summary: format!("{} is fine", instance.name),
            probes: vec![],
        })
    }
}

impl phases::register::Guest for Naughty {
    fn register(_: Deployment, publication: Publication) -> Result<Registration, Error> {
        Ok(Registration {
            droplet_id: publication.droplet_id,
            endpoint: publication.endpoint,
            response: "{}".into(),
        })
    }
}

static CALLS: AtomicU32 = AtomicU32::new(0);

fn act(deed: &Deed, with: &str) -> Result<String, Error> {
    let io = |error: std::io::Error| Error::request(format!("use {with}"), error, "let it be");
    Ok(match deed {
        Deed::Nothing | Deed::Lie | Deed::Hostile => String::new(),
        Deed::Loop => spin(),
        Deed::Panic => panic!("{with}"),
        Deed::Exit => std::process::exit(3),
        Deed::Eat => eat(),
        Deed::Sleep => {
            std::thread::sleep(Duration::from_secs(3600));
            String::new()
        }
        Deed::WaitForCancel => {
            while !control::cancelled() {
                std::thread::sleep(Duration::from_millis(5));
            }
            return Err(Error::request("wait", "cancelled", "nothing"));
        }
        Deed::Write => std::fs::write(with, "mine").map(|()| "written".into()).map_err(io)?,
        Deed::Read => std::fs::read_to_string(with).map_err(io)?,
        Deed::Connect => std::net::TcpStream::connect(with).map(|_| "connected".into()).map_err(io)?,
        Deed::Http => {
            let answer = http::send(&Request {
                method: "GET".into(),
                destination: match with.split_once(' ') {
                    Some(("network", port)) => Destination::Network(port.parse().unwrap_or(0)),
                    Some(("loopback", port)) => Destination::Loopback(port.parse().unwrap_or(0)),
                    _ if with == "registry" => Destination::Registry,
                    _ => Destination::Url(with.into()),
                },
                path: "/health".into(),
                headers: vec![],
                body: vec![],
                timeout_ms: 5000,
            });
            match answer {
                Ok(response) => format!("{} {}", response.status, String::from_utf8_lossy(&response.body)),
                Err(http::Failure::Unavailable(error)) => return Err(error),
                Err(failure) => format!("{failure:?}"),
            }
        }
        Deed::Ask => web::ask(with)?,
        Deed::Run => {
            let output = read(with.split(' ')).echo().output()?;
            format!("{:?} {}{}", output.exit, output.stdout, output.stderr)
        }
        Deed::RunChanges => change(with.split(' ')).output()?.stdout,
        Deed::Place => {
            environment::place(with, &["SECRET".into()], environment::Form::Quoted)?;
            "placed".into()
        }
        Deed::Cat => String::from_utf8_lossy(&target::read_file(with)?).into_owned(),
        Deed::Files => {
            let (old, new) = (format!("{with}/old"), format!("{with}/new"));
            target::write_file(&old, b"content", 0o640)?;
            target::rename(&old, &new)?;
            let (gone, there) = (target::stat(&old)?, target::stat(&new)?);
            let content = target::read_file(&new)?;
            target::remove(&new)?;
            target::remove(&new)?;
            let free = target::free_bytes(with)? > 0;
            format!("{gone:?} {there:?} {} {free} {:?}", content.len(), target::stat(&new)?)
        }
        Deed::Upload => {
            let mut words = with.split(' ');
            let (Some(destination), Some(sha256)) = (words.next(), words.next()) else {
                return Ok(with.into());
            };
            let version = target::Content::File(target::File { size: 1, sha256: sha256.into() });
            progress::report(progress::Amount {
                files_done: 0,
                files_total: 1,
                bytes_done: 0,
                bytes_total: 1,
            });
            target::upload(
                &[
                    target::Entry { path: "folder".into(), content: target::Content::Directory, mode: 0o755 },
                    target::Entry { path: "VERSION".into(), content: version, mode: 0o600 },
                ],
                destination,
            )?;
            "sent".into()
        }
        Deed::Say => {
            println!("out: {with}");
            eprint!("err: {with}");
            log::write(log::Level::Warn, &format!("log: {with}\nsecond line"));
            String::new()
        }
        Deed::Flood => {
            for number in 0..with.parse().unwrap_or(0) {
                println!("line {number}");
            }
            String::new()
        }
        Deed::Count => (CALLS.fetch_add(1, Ordering::Relaxed) + 1).to_string(),
        Deed::Ambient => format!("{:?} {:?}", std::env::vars().count(), std::env::args().count()),
        Deed::Progress => {
            for files_done in 0..=100 {
                progress::report(progress::Amount {
                    files_done,
                    files_total: 100,
                    bytes_done: 0,
                    bytes_total: 7,
                });
            }
            String::new()
        }
        Deed::Fail => return Err(Error::target("do it", with, "try again")),
    })
}

fn spin() -> ! {
    let mut number = 0_u64;
    loop {
        number = std::hint::black_box(number.wrapping_add(1));
    }
}

fn eat() -> ! {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&eaten);
    }
}

bindings::export!(Naughty with_types_in bindings);
