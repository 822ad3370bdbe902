use std::process::ExitCode;

use clap::Parser;
use deployer::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return cli::report(&anyhow::Error::new(error).context("cannot start threads"), json),
    };
    let result = runtime.block_on(cli::run(cli));
    // A blocked read of a terminal or a child's pipe must not keep the program from ending.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| cli::report(&error, json))
}
