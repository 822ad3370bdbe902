//! `deployer demo`: a whole deployment on this machine, with nothing installed: the target and the registry
//! are in this program, on loopback.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use super::client::{Client, typed};
use super::output::line;
use super::{follow, plugins, serve};
use crate::demo::registry::{Dialect, Registry};
use crate::demo::sshd::Sshd;
use crate::http::types::Accepted;
use crate::server::Server;
use crate::settings::Settings;

const SERVICE: &str = "hello";
/// The account that the embedded SSH server knows. Its commands run as this process's user.
const USER: &str = "demo";
/// Where the API listens, if nothing else does.
const API_PORT: u16 = 8007;
/// Where the service listens, if nothing else does.
const SERVICE_PORT: u16 = 8017;

/// Deploys the example service, and keeps it up until told to stop. Nothing is left running then.
pub async fn run(json: bool) -> anyhow::Result<ExitCode> {
    serve::log_to_stderr("warn");
    let told = serve::told_to_stop()?;
    let sources = sources()?;
    let say = |text: &str| {
        if !json {
            line(text);
        }
    };
    say("Building the plugins");
    let folder = sources.join("plugins");
    let built = tokio::task::spawn_blocking({
        let (sources, folder) = (sources.clone(), folder.clone());
        move || plugins::build_from(&sources, &folder)
    });
    built.await??;
    let state = state()?;
    let sshd = Sshd::start(&state, USER).await?;
    let registry = Registry::start(Dialect::Droplets).await?;
    say(&format!("The target is ssh://{USER}@{}, the registry {}", sshd.address(), registry.url()));
    let settings = settings(&sources, &state, &sshd, &registry);
    let end = async {
        let server = Server::start(&settings, None).await?;
        let url = format!("http://{}", server.address);
        say(&format!("The deployer is {url}\n"));
        tokio::pin!(told);
        let outcome = tokio::select! {
            outcome = deploy(&url, json) => outcome,
            () = &mut told => Ok((ExitCode::FAILURE, String::new())),
        };
        if let Ok((code, job)) = &outcome
            && *code == ExitCode::SUCCESS
        {
            say(&hints(&url, &registry.url(), job));
            told.await;
        }
        server.stop().await?;
        outcome.map(|(code, _)| code)
    }
    .await;
    say("\nStopping; nothing is left running");
    sshd.stop().await;
    registry.stop().await;
    end
}

async fn deploy(url: &str, json: bool) -> anyhow::Result<(ExitCode, String)> {
    let client = Client::new(url, None)?;
    let body = json!({
        "service_path": SERVICE,
        "service_name": SERVICE,
        "service_port": free_port(SERVICE_PORT)?,
        "deployment_method": "process",
        "environment_vars": { "GREETING": "hello from the demo" },
    });
    let answer = client.post(&["deploy"], &body, None, None).await?;
    let accepted: Accepted = typed(&client, &answer)?;
    let code = follow::to_the_end(&client, &accepted.deploy_job_id, json, false).await?;
    Ok((code, accepted.deploy_job_id))
}

fn hints(api: &str, registry: &str, job: &str) -> String {
    format!(
        "\nIt runs. Look at it from another terminal:\n\
         \x20 curl {api}/deploy/{job}            the job, phase by phase\n\
         \x20 curl {api}/deploy/{job}/calls      every remote command\n\
         \x20 curl {api}/capabilities            the plugins, and the methods that they provide\n\
         \x20 curl {registry}/droplets/name/{SERVICE}     what the registry has\n\
         Ctrl-C stops everything."
    )
}

/// Where this program was built: the plugins' sources and the example are there.
fn sources() -> anyhow::Result<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf();
    if built.join("plugins/kit").is_dir() {
        return Ok(built);
    }
    let here = std::env::current_dir().context("cannot read the current folder")?;
    anyhow::ensure!(
        here.join("plugins/kit").is_dir(),
        "the demo builds its plugins from their sources, and they are neither in {} nor here; run it in a \
         checkout: cargo run --release -- demo",
        built.display()
    );
    Ok(here)
}

/// The demo's own folder. What an earlier run left is taken away; compiled plugins stay, and what the SSH
/// server needs to end what a killed run left.
fn state() -> anyhow::Result<PathBuf> {
    let settings = Settings::read(None, Default::default(), &|name| std::env::var(name).ok())?;
    let state = settings.data.join("demo");
    for stale in ["data/journal.db", "data/journal.db-wal", "data/journal.db-shm", "data/seal.key"] {
        remove(&state.join(stale))?;
    }
    remove(&state.join("target"))?;
    std::fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
    Ok(state)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn settings(sources: &Path, state: &Path, sshd: &Sshd, registry: &Registry) -> Settings {
    let port = free_port(API_PORT).unwrap_or(0);
    Settings {
        listen: format!("127.0.0.1:{port}"),
        target: Some(format!("{USER}@{}", sshd.address())),
        key: sshd.key_file().to_path_buf(),
        known_hosts: sshd.known_hosts().to_path_buf(),
        registry: Some(registry.url()),
        registry_login: None,
        registry_token_file: None,
        services: sources.join("tests/services"),
        plugins: sources.join("plugins"),
        pipelines: sources.join("pipelines"),
        data: state.join("data"),
        root: state.join("target").display().to_string(),
        token_file: None,
    }
}

/// This port, or another one where it is taken.
fn free_port(wanted: u16) -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("0.0.0.0", wanted))
        .or_else(|_| TcpListener::bind(("0.0.0.0", 0)))
        .context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}
