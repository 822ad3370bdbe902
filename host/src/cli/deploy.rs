//! `deployer deploy`: a request from arguments, and the job that it becomes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, ClientError, typed};
use super::output::{Usage, line, print};
use super::{ServerFlags, environment, follow};
use crate::http::types::Accepted;
use crate::model::service_name_problem;

#[derive(Args, Debug)]
pub struct DeployArgs {
    /// The service's folder, on the deployer's machine
    service_path: String,
    /// The name to deploy under [default: the folder's name]
    #[arg(long)]
    name: Option<String>,
    /// The port that callers reach the service at
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The deployment method: how it is built and started, as the name of a plugin
    #[arg(long, default_value = "docker")]
    method: String,
    /// Set a variable of the service's environment. Others on this machine can see it in the list of
    /// processes: for secrets, use --env-file or --env-from
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Read variables from a file of NAME=value lines; values in quotes may go over several lines
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Take a variable from this command's own environment
    #[arg(long, value_name = "NAME")]
    env_from: Vec<String>,
    /// The service's id in the registry [default: the registry gives one]
    #[arg(long, value_name = "ID")]
    droplet_id: Option<u64>,
    /// Do not register the service
    #[arg(long)]
    no_register: bool,
    /// An idempotency key: a request that is sent again with it gives the same job
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print the job's id and exit
    #[arg(long)]
    detach: bool,
    /// Print the steps' log, too
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    pub server: ServerFlags,
}

pub async fn run(client: &Client, args: DeployArgs, json: bool) -> anyhow::Result<ExitCode> {
    let body = request(&args, client.is_local())?;
    // With a key, a request whose answer was lost can be sent again.
    let key = args.idempotency_key.clone().unwrap_or_else(|| format!("cli-{}", uuid::Uuid::now_v7()));
    let patience = Some(Duration::from_secs(60));
    let send = async || client.post(&["deploy"], &body, Some(&key), patience).await;
    let answer = match send().await {
        Err(ClientError::Broken { .. }) => send().await?,
        result => result?,
    };
    let accepted: Accepted = typed(client, &answer)?;
    if args.detach {
        print(json, &answer, || accepted.deploy_job_id.clone());
        return Ok(ExitCode::SUCCESS);
    }
    if json {
        line(&json!({ "event": "accepted", "data": answer }).to_string());
    } else {
        line(&format!("{}: {}", accepted.service_name, accepted.deploy_job_id));
    }
    follow::to_the_end(client, &accepted.deploy_job_id, json, args.verbose).await
}

fn request(args: &DeployArgs, is_local: bool) -> anyhow::Result<Value> {
    let path = service_path(&args.service_path, is_local);
    let name = match &args.name {
        Some(name) => name.clone(),
        None => folder_name(&path)?,
    };
    let variables = environment::collect(&args.env_file, &args.env_from, &args.env)
        .map_err(|error| Usage(error.to_string()))?;
    let mut body = json!({
        "service_path": path,
        "service_name": name,
        "service_port": args.port,
        "deployment_method": args.method,
        "environment_vars": variables,
        "auto_register": !args.no_register,
    });
    if let (Some(id), Some(object)) = (args.droplet_id, body.as_object_mut()) {
        object.insert("droplet_id".to_owned(), id.into());
    }
    Ok(body)
}

/// A folder of this machine as an absolute path, when the server is on this machine. Anything else is for the
/// server to understand: a relative path starts at its folder of services.
fn service_path(given: &str, is_local: bool) -> String {
    let here = Path::new(given);
    match here.canonicalize() {
        Ok(absolute) if is_local && here.is_dir() => absolute.to_string_lossy().into_owned(),
        _ => given.to_owned(),
    }
}

fn folder_name(path: &str) -> Result<String, Usage> {
    let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name
        .ok_or_else(|| Usage(format!("{path:?} has no folder's name to give to the service; give --name")))?;
    match service_name_problem(&name) {
        None => Ok(name),
        Some(problem) => Err(Usage(format!(
            "the folder's name {name:?} cannot be the service's: a name {problem}; give --name"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DeployArgs,
    }

    fn args(line: &str) -> DeployArgs {
        Line::try_parse_from(std::iter::once("deploy").chain(line.split(' '))).unwrap().args
    }

    #[test]
    fn arguments_become_a_request() {
        let body = request(&args("/srv/no-such/hello --port 8001 --env A=b=c --droplet-id 7"), true).unwrap();
        assert_eq!(
            body,
            json!({
                "service_path": "/srv/no-such/hello", "service_name": "hello", "service_port": 8001,
                "deployment_method": "docker", "environment_vars": { "A": "b=c" }, "auto_register": true,
                "droplet_id": 7,
            })
        );
        let body = request(&args("hello --name h --port 1 --method systemd --no-register"), false).unwrap();
        assert_eq!(body.get("service_path"), Some(&json!("hello")));
        assert_eq!(body.get("service_name"), Some(&json!("h")));
        assert_eq!(body.get("auto_register"), Some(&json!(false)));
        assert_eq!(body.get("droplet_id"), None);
    }

    #[test]
    fn a_folder_here_is_named_in_full_to_a_server_here() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("hello");
        std::fs::create_dir(&inside).unwrap();
        let dotted = format!("{}/./hello/../hello", folder.path().display());
        let absolute = inside.canonicalize().unwrap().to_string_lossy().into_owned();
        assert_eq!(service_path(&dotted, true), absolute);
        assert_eq!(service_path(&dotted, false), dotted);
    }

    #[test]
    fn a_folder_that_is_no_name_needs_one() {
        let check = |path: &str, part: &str| {
            let error = folder_name(path).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("give --name"), "{error}");
        };
        check("/", "no folder's name");
        check("..", "no folder's name");
        check("/srv/Hello World", "`hello-world` would do");
    }
}
