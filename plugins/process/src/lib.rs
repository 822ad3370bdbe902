//! Deployment method: given commands, run as a background process with a PID file. For servers with neither
//! Docker nor systemd; it needs a POSIX shell, coreutils, util-linux and /proc.
//!
//! What it cannot do: start the service again when it dies, or after a reboot.

mod inspect;
mod scripts;
mod settings;

use deployer_plugin::command::{Run, change, read};
use deployer_plugin::method::{
    Finished, Start, Values, Workplace, build, folder, from_service, from_target, kept_by_shell,
    must_take_over, names, read_json, release_of, takes_over, write_json, written,
};
use deployer_plugin::settings::{schema, settings};
use deployer_plugin::types::{Artifact, Deployment, Error, Files, Finding, Instance, Layout};
use deployer_plugin::{environment, target};
use scripts::Script;
use serde::{Deserialize, Serialize};
use settings::Settings;

deployer_plugin::world!("method");

struct Process;

/// The kind of this method's instances.
const KIND: &str = "process";

/// How a release is run, in `{root}/run/{release}.json`, so that it can be restored exactly as it was.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Launch {
    argv: Vec<String>,
    port: u16,
    /// In seconds.
    stop_timeout: u32,
}

/// One release's files of this method.
struct Paths {
    /// The process's id, start time and boot.
    pid: String,
    log: String,
    launch: String,
}

impl phases::plugin::Guest for Process {
    fn describe() -> phases::plugin::Description {
        phases::plugin::Description {
            name: "process".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: env!("CARGO_PKG_DESCRIPTION").into(),
            settings_schema: schema::<Settings>(),
        }
    }
}

impl phases::validate::Guest for Process {
    fn validate(deployment: Deployment) -> Result<Vec<Finding>, Error> {
        let settings = settings(&deployment)?;
        let mut findings = vec![start_command(&deployment, &settings), tools()?];
        findings.extend(kept_by_shell(&names(&deployment.environment))?);
        findings.extend(takes_over(&deployment, KIND));
        findings.push(Finding::warning(
            "restart after a crash or a reboot",
            "a background process is not restarted when it dies, nor after a reboot",
            "choose the method `systemd` or `docker` if the target has one of them",
        ));
        Ok(findings)
    }
}

impl phases::build::Guest for Process {
    fn build(deployment: Deployment, files: Files) -> Result<Artifact, Error> {
        if let Some(artifact) = Finished::artifact(&deployment, &files)? {
            return Ok(artifact);
        }
        place(&deployment)?;
        let workplace = Workplace {
            directory: &files.path,
            virtual_environment: None,
            environment_file: &deployment.layout.environment,
            values: values(&deployment),
        };
        build(&settings::<Settings>(&deployment)?.build, &workplace)?;
        let artifact = Artifact {
            kind: "files".into(),
            reference: files.path.clone(),
            digest: files.digest.clone(),
            bytes: None,
        };
        Finished::mark(&deployment, &files, artifact)
    }

    fn inspect(deployment: Deployment, artifact: Artifact) -> Result<Option<Artifact>, Error> {
        inspect::inspect(&deployment, artifact)
    }

    fn discard(deployment: Deployment, artifact: Artifact) -> Result<(), Error> {
        let root = &deployment.layout.root;
        let release = release_of(root, &artifact.reference).ok_or_else(|| {
            Error::target(
                format!("discard {}", artifact.reference),
                format!("it is not in a release of {}", deployment.service),
                "check that nothing uses it, and remove it by hand",
            )
        })?;
        let paths = Paths::of(root, &release);
        for path in [&paths.pid, &paths.log, &paths.launch, &Finished::path(&deployment, &release)] {
            target::remove(path)?;
        }
        Ok(())
    }
}

impl phases::start::Guest for Process {
    fn start(deployment: Deployment, _artifact: Artifact) -> Result<Instance, Error> {
        must_take_over(&deployment, KIND)?;
        place(&deployment)?;
        let paths = Paths::of(&deployment.layout.root, &deployment.release);
        let launch = decide(&deployment, &paths)?;
        if !lives(&paths)? {
            stop_previous(&deployment)?;
            run(&launch, &paths, &deployment.layout, &deployment.release)?;
        }
        Ok(instance(&deployment, &paths, launch.port))
    }

    fn promote(deployment: Deployment, _instance: Instance) -> Result<(), Error> {
        stop_previous(&deployment)
    }

    fn restore(deployment: Deployment) -> Result<Option<Instance>, Error> {
        let failed = Paths::of(&deployment.layout.root, &deployment.release);
        stop(&failed, launch(&failed)?.as_ref())?;
        let Some(previous) = &deployment.previous else { return Ok(None) };
        must_take_over(&deployment, KIND)?;
        let paths = Paths::of(&previous.layout.root, &previous.id);
        if !lives(&paths)? {
            let launch = launch(&paths)?.ok_or_else(|| {
                Error::target(
                    format!("start the previous release {} again", previous.id),
                    format!("the file that says how to start it is gone: {}", paths.launch),
                    "deploy that version again",
                )
            })?;
            run(&launch, &paths, &previous.layout, &previous.id)?;
        }
        Ok(Some(previous.instance.clone()))
    }
}

bindings::export!(Process with_types_in bindings);

impl Paths {
    fn of(root: &str, release: &str) -> Paths {
        Paths {
            pid: format!("{root}/run/{release}.pid"),
            log: format!("{root}/log/{release}.log"),
            launch: format!("{root}/run/{release}.json"),
        }
    }
}

fn values(deployment: &Deployment) -> Values<'_> {
    Values { port: deployment.port, release: &deployment.release }
}

fn place(deployment: &Deployment) -> Result<(), Error> {
    let names = names(&deployment.environment);
    environment::place(&deployment.layout.environment, &names, environment::Form::Quoted)
}

fn start_command(deployment: &Deployment, settings: &Settings) -> Finding {
    let check = "there is a start command";
    match written(settings.start.as_ref(), values(deployment), &from_service).and_then(needed) {
        Ok(start) => Finding::passed(check, start.describe()),
        Err(error) => Finding::failed(check, error.seen, error.next),
    }
}

fn needed(start: Option<Start>) -> Result<Start, Error> {
    start.ok_or_else(|| {
        Error::request(
            "find the start command",
            "the setting `start` is not set, and the service has no Procfile with a `web:` line",
            "set `start = \"./PROGRAM --port {port}\"` in [settings.process], or write a Procfile",
        )
    })
}

fn tools() -> Result<Finding, Error> {
    let check = "the target can run background processes";
    let output = read(Script::Tools.argv([])).output()?;
    Ok(if output.succeeded() {
        Finding::passed(check, "")
    } else {
        Finding::failed(
            check,
            output.ending(),
            "install util-linux and coreutils on the target, and mount /proc",
        )
    })
}

/// The release's launch: the kept one, else one by the settings, which is kept from now on.
fn decide(deployment: &Deployment, paths: &Paths) -> Result<Launch, Error> {
    if let Some(launch) = launch(paths)? {
        return Ok(launch);
    }
    let settings: Settings = settings(deployment)?;
    let files = &deployment.layout.files;
    let start = needed(written(settings.start.as_ref(), values(deployment), &from_target(files))?)?;
    let launch = Launch { argv: start.argv, port: deployment.port, stop_timeout: settings.stop_timeout };
    write_json(&paths.launch, &launch)?;
    Ok(launch)
}

fn launch(paths: &Paths) -> Result<Option<Launch>, Error> {
    read_json(&paths.launch)
}

fn lives(paths: &Paths) -> Result<bool, Error> {
    read(Script::Alive.argv([paths.pid.as_str()])).output().map(|output| output.succeeded())
}

fn stop_previous(deployment: &Deployment) -> Result<(), Error> {
    let Some(previous) = deployment.previous.as_ref().filter(|previous| previous.id != deployment.release)
    else {
        return Ok(());
    };
    let paths = Paths::of(&previous.layout.root, &previous.id);
    stop(&paths, launch(&paths)?.as_ref())
}

fn stop(paths: &Paths, launch: Option<&Launch>) -> Result<(), Error> {
    let grace = launch.map_or(settings::STOP_TIMEOUT, |launch| launch.stop_timeout).to_string();
    change(Script::Stop.argv([paths.pid.as_str(), &grace]))
        .checked(
            &format!("stop the process of {}", paths.pid),
            "find out what it waits for, and kill it by hand: that file has its id",
        )
        .map(drop)
}

fn run(launch: &Launch, paths: &Paths, layout: &Layout, release: &str) -> Result<(), Error> {
    for path in [&paths.pid, &paths.log] {
        if let Some((parent, _)) = path.rsplit_once('/') {
            folder(parent)?;
        }
    }
    let port = launch.port.to_string();
    let first = [paths.pid.as_str(), &paths.log, &layout.environment, &port, release];
    change(Script::Start.argv(first.into_iter().chain(launch.argv.iter().map(String::as_str))))
        .directory(&layout.files)
        .checked(
            &format!("start {}", launch.argv.join(" ")),
            "fix the start command, or what its log reports",
        )
        .map(drop)
}

fn instance(deployment: &Deployment, paths: &Paths, port: u16) -> Instance {
    Instance {
        kind: KIND.into(),
        name: format!("{}-{}", deployment.service, deployment.release),
        port,
        alive: Script::Alive.argv([paths.pid.as_str()]),
        log_tail: ["tail", "-n", "100", &paths.log].map(String::from).to_vec(),
    }
}
