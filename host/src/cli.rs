//! The command line: what can be asked for, and who does it. Commands about deployments talk to a server.

mod audit;
mod client;
mod demo;
mod deploy;
mod display;
mod environment;
mod follow;
mod jobs;
mod output;
mod plugins;
mod releases;
mod serve;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use crate::journal::Observer;
use crate::settings::{Layer, Settings};
use client::Client;
use output::report;

/// Where a server listens unless it was told otherwise.
const SERVER: &str = "http://127.0.0.1:8007";

/// Takes a service's directory to a Linux server over SSH and never leaves it broken.
#[derive(Debug, Parser)]
#[command(name = "deployer", version, propagate_version = true)]
pub struct Cli {
    /// Print JSON: one value, or one event per line
    #[arg(long, global = true)]
    pub json: bool,
    /// The settings file [env: DEPLOYER_CONFIG] [default: deployer.toml, if there is one]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server that deploys
    Serve(Layer),
    /// Deploy a service, and follow the job to its end
    Deploy(deploy::DeployArgs),
    /// Show a job, or a service's latest one
    Status(jobs::StatusArgs),
    /// Print a job's log
    Logs(jobs::LogsArgs),
    /// List a service's jobs, newest first
    History(jobs::HistoryArgs),
    /// Roll back to the previous release, or to a named one
    Rollback(releases::RollbackArgs),
    /// Cancel a job; the previous release is restored
    Cancel(jobs::CancelArgs),
    /// List a service's releases on the server, newest first
    Releases(releases::ReleasesArgs),
    /// List who did what, newest first, or verify that no record was changed or removed
    Audit(audit::AuditArgs),
    /// See and build plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Deploy an example service to a target inside this program
    Demo,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// List the plugins in the plugins folder
    List(plugins::ListArgs),
    /// Build plugins from their sources, and put them into the plugins' folder
    Build(plugins::BuildArgs),
}

/// How a command finds its server.
#[derive(Args, Debug)]
pub struct ServerFlags {
    /// The deployer's address
    #[arg(long, value_name = "URL", env = "DEPLOYER_SERVER", hide_env_values = true, default_value = SERVER)]
    server: String,
    /// A file of tokens, of which the first is sent [env: DEPLOYER_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
}

/// The whole program. A server's journal tells the observer of its records, if there is one.
pub fn main(observer: Option<Arc<dyn Observer>>) -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return report(&anyhow::Error::new(error).context("cannot start threads"), json),
    };
    let result = runtime.block_on(run(cli, observer));
    // A blocked read of a terminal or a child's pipe must not keep the program from ending.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| report(&error, json))
}

/// Runs a command.
///
/// # Errors
/// When it cannot be done. A job that fails is not an error here, but an exit code.
async fn run(cli: Cli, observer: Option<Arc<dyn Observer>>) -> anyhow::Result<ExitCode> {
    let Cli { json, config, command } = cli;
    let settings = |flags| Settings::read(config.as_deref(), flags, &variable);
    let client = |flags: &ServerFlags| {
        let tokens = Settings::read_token_file(config.as_deref(), flags.token_file.clone(), &variable)?;
        let server = if flags.server.is_empty() { SERVER } else { &flags.server };
        Ok::<_, anyhow::Error>(Client::new(server, tokens.as_deref())?)
    };
    match command {
        Command::Serve(flags) => serve::run(settings(flags)?, observer).await,
        Command::Deploy(args) => deploy::run(&client(&args.server)?, args, json).await,
        Command::Status(args) => jobs::status(&client(&args.server)?, args, json).await,
        Command::Logs(args) => jobs::logs(&client(&args.server)?, args, json).await,
        Command::History(args) => jobs::history(&client(&args.server)?, args, json).await,
        Command::Rollback(args) => releases::rollback(&client(&args.server)?, args, json).await,
        Command::Cancel(args) => jobs::cancel(&client(&args.server)?, args, json).await,
        Command::Releases(args) => releases::releases(&client(&args.server)?, args, json).await,
        Command::Audit(args) => audit::run(&client(args.server())?, args, json).await,
        Command::Plugin(PluginCommand::List(args)) => {
            let layer = Layer { plugins: args.plugins, ..Layer::default() };
            plugins::list(&settings(layer)?, json).await
        }
        Command::Plugin(PluginCommand::Build(args)) => {
            let layer = Layer { plugins: args.plugins.clone(), ..Layer::default() };
            plugins::build(&settings(layer)?.plugins, &args, json)
        }
        Command::Demo => demo::run(json).await,
    }
}

/// An environment variable. One that is no UTF-8 comes damaged, so that it is missed rather than ignored.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
