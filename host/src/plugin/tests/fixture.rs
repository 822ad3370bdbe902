//! What the tests of this module share: the compiled plugins, a recorder that remembers, a step's context.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::capability::{
    Amount, Boundary, CallEnded, EnvironmentSource, HttpClient, Intent, Level, Limits, RecordError, Recorder,
    Source, StepContext,
};
use crate::contract::{Deployment, Layout};
use crate::model::{Grant, RemoteProcess};
use crate::plugin::{Catalog, Invocation, Plugin, Runtime};
use crate::secret::{Hidden, Redactor, Secret};
use crate::ssh::{Credentials, Ssh};

/// A plugin of this workspace, compiled.
pub fn wasm(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(build);
    let file = folder.join(format!("{name}.wasm"));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--target", "wasm32-wasip2", "-p", "naughty", "-p", "preflight"])
        .current_dir(root)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the test plugins cannot be built; if the target is missing, run `rustup target add wasm32-wasip2`:\n\
         {said}"
    );
    target_folder().join("wasm32-wasip2/release")
}

fn target_folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// The same plugin with other words in it, of the same length.
pub fn patched(mut wasm: Vec<u8>, old: &str, new: &str) -> Vec<u8> {
    let new = format!("{new:<width$}", width = old.len());
    assert_eq!(old.len(), new.len());
    let at = wasm.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
    wasm[at..at + old.len()].copy_from_slice(new.as_bytes());
    wasm
}

/// One runtime for all tests: its compiled plugins stay from one run to the next.
pub fn runtime() -> Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new(&target_folder().join("test-plugins")).unwrap()).clone()
}

/// A call of the naughty plugin.
pub async fn call(context: StepContext) -> Invocation {
    Invocation::new(&runtime(), naughty().await, context)
}

pub async fn naughty() -> Arc<Plugin> {
    plugin("naughty").await
}

pub async fn plugin(name: &str) -> Arc<Plugin> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(format!("{name}.wasm")), wasm(name)).unwrap();
    let snapshot = Catalog::new(runtime(), folder.path()).snapshot().await;
    snapshot.plugin(name).unwrap_or_else(|| panic!("{:?}", snapshot.refused)).clone()
}

pub fn deployment(deed: &str, with: &str) -> Deployment {
    Deployment {
        job: "deploy-1".into(),
        service: "one".into(),
        method: "naughty".into(),
        release: "0001".into(),
        port: 8001,
        layout: Layout {
            root: "/opt/fpai/services/one".into(),
            files: "/opt/fpai/services/one/releases/0001".into(),
            environment: "/opt/fpai/services/one/env/0001".into(),
        },
        environment: vec![],
        settings: json!({ "deed": deed, "with": with }).to_string(),
        previous: None,
    }
}

/// A step with nothing granted, ten seconds, and a target where nobody listens.
pub async fn context(recorder: &Arc<Remembered>) -> StepContext {
    StepContext {
        plugin: "naughty".into(),
        grants: Default::default(),
        pipeline_file: "pipelines/one.toml".into(),
        limits: Limits { memory_bytes: 64 << 20, timeout: Duration::from_secs(10) },
        redactor: Redactor::default(),
        boundary: Boundary::new("/opt/fpai/services", "one", ["/opt/fpai/services/one/env/0001".to_owned()]),
        started: None,
        service_dir: None,
        ssh: nobody(),
        http: HttpClient::new().unwrap(),
        registry: None,
        target_host: "127.0.0.1".into(),
        environment: held(&[]),
        only_reads: false,
        recorder: recorder.clone(),
        cancel: CancellationToken::new(),
    }
}

fn nobody() -> Ssh {
    let missing = PathBuf::from("/nonexistent");
    let credentials = Credentials { key: missing.clone(), known_hosts: missing };
    Ssh::new("root@127.0.0.1:1".parse().unwrap(), credentials)
}

pub fn held(values: &[(&str, &str)]) -> EnvironmentSource {
    let secrets = values.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value)));
    EnvironmentSource::Held(Arc::new(secrets.collect::<BTreeMap<_, _>>()))
}

/// A step that has these values, and must not show them.
pub fn hiding(context: StepContext, values: &[(&str, &str)]) -> StepContext {
    let hidden = values.iter().map(|(name, value)| Hidden::variable(name, Secret::new(*value)));
    StepContext { environment: held(values), redactor: Redactor::new(hidden.collect(), vec![]), ..context }
}

pub fn granted(context: StepContext, grants: &[Grant]) -> StepContext {
    StepContext { grants: grants.iter().copied().collect(), ..context }
}

/// Remembers what it was told, and can be made to fail.
#[derive(Default)]
pub struct Remembered {
    pub told: Mutex<Vec<Told>>,
    pub fails_at: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Log(Level, Source, String),
    Progress(Amount),
    Started(u64, Intent),
    Running(u64),
    Ended(u64, CallEnded),
}

impl Remembered {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn failing(at: &'static str) -> Arc<Self> {
        Arc::new(Self { told: Mutex::default(), fails_at: Some(at) })
    }

    pub fn all(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// `source: line`, without the deployer's own.
    pub fn lines(&self) -> Vec<String> {
        let line = |told: Told| match told {
            Told::Log(_, Source::Host, _) => None,
            Told::Log(_, source, line) => Some(format!("{}: {line}", source.as_str())),
            _ => None,
        };
        self.all().into_iter().filter_map(line).collect()
    }

    /// The calls that were begun, with their arguments, and how they ended.
    pub fn calls(&self) -> Vec<(String, Value, Option<CallEnded>)> {
        let all = self.all();
        let end = |wanted: u64| {
            all.iter().find_map(|told| match told {
                Told::Ended(id, ended) if *id == wanted => Some(ended.clone()),
                _ => None,
            })
        };
        let call = |told: &Told| match told {
            Told::Started(id, intent) => Some((intent.function.clone(), intent.arguments.clone(), end(*id))),
            _ => None,
        };
        all.iter().filter_map(call).collect()
    }

    fn tell(&self, what: &'static str, told: Told) -> Result<u64, RecordError> {
        if self.fails_at == Some(what) {
            return Err(RecordError { what: what.into(), cause: "the disk is full".into() });
        }
        let mut all = self.told.lock().unwrap();
        all.push(told);
        Ok(all.len() as u64)
    }
}

#[async_trait]
impl Recorder for Remembered {
    async fn log(&self, level: Level, source: Source, line: &str) -> Result<(), RecordError> {
        self.tell("log", Told::Log(level, source, line.into())).map(|_| ())
    }

    async fn progress(&self, amount: Amount) -> Result<(), RecordError> {
        self.tell("progress", Told::Progress(amount)).map(|_| ())
    }

    async fn call_started(&self, intent: Intent) -> Result<u64, RecordError> {
        let id = self.told.lock().unwrap().len() as u64;
        self.tell("call_started", Told::Started(id, intent)).map(|_| id)
    }

    async fn call_running(&self, call: u64, _: &RemoteProcess) -> Result<(), RecordError> {
        self.tell("call_running", Told::Running(call)).map(|_| ())
    }

    async fn call_ended(&self, call: u64, ended: CallEnded) -> Result<(), RecordError> {
        self.tell("call_ended", Told::Ended(call, ended)).map(|_| ())
    }
}
