//! Puts the parts together into a running deployer: the data folder, the journal, the plugins, the jobs and
//! the API. It owns their order at start and at stop.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::capability::{HttpClient, HttpClientError, Registry};
use crate::descriptors;
use crate::http::auth::{self, Tokens};
use crate::http::{self, App, ServeError};
use crate::job::{Conditions, Host, Jobs, ReleaseIds, Supervisor};
use crate::journal::{JournalError, Observer, Sqlite};
use crate::plugin::{Catalog, Runtime, RuntimeError};
use crate::secret::{Cipher, CipherError, Secret};
use crate::settings::{Settings, SettingsError};
use crate::ssh::{Credentials, Ssh, Target};

#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("{0}")]
    Target(String),
    #[error("the data folder {path} cannot be used: {source}; give another one with --data")]
    Data { path: PathBuf, source: std::io::Error },
    #[error(
        "another deployer uses the data folder {path}; stop it, or give this one another folder with \
         --data"
    )]
    InUse { path: PathBuf },
    #[error("cannot listen on {address}: {source}; is another program there? --listen takes another address")]
    Listen { address: String, source: std::io::Error },
    #[error(transparent)]
    Tokens(#[from] auth::TokenFileError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Cipher(#[from] CipherError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Http(#[from] HttpClientError),
}

/// A deployer that answers.
pub struct Server {
    pub address: SocketAddr,
    supervisor: Arc<Supervisor>,
    stop: CancellationToken,
    /// None once its end was waited for.
    answering: Option<JoinHandle<Result<(), ServeError>>>,
    /// Held for as long as this process works with the data folder.
    _lock: File,
}

impl Server {
    /// Starts everything, and takes up the jobs that an earlier process left. `observer` is told of each record
    /// of the journal, if there is one.
    ///
    /// # Errors
    /// When a part cannot be had; then nothing is left running.
    pub async fn start(settings: &Settings, observer: Option<Arc<dyn Observer>>) -> Result<Self, StartError> {
        descriptors::raise();
        let target: Target = settings
            .required_target()?
            .parse()
            .map_err(|error: crate::ssh::SshError| StartError::Target(error.to_string()))?;
        let tokens = settings.token_file.as_deref().map(Tokens::load).transpose()?;
        let listener = TcpListener::bind(&settings.listen)
            .await
            .map_err(|source| StartError::Listen { address: settings.listen.clone(), source })?;
        let address = listener.local_addr().map_err(ServeError::Socket)?;
        http::may_listen(address, tokens.is_some())?;
        let lock = own(&settings.data)?;
        let runtime = Runtime::new(&settings.data.join("cache"))?;
        let journal = Sqlite::open(&settings.data.join("journal.db")).await?.observed_by(observer);
        let host = Host {
            journal: Arc::new(journal),
            cipher: Cipher::open(&settings.data.join("seal.key"))?,
            catalog: Catalog::new(runtime.clone(), &settings.plugins),
            runtime,
            ssh: Ssh::new(
                target,
                Credentials { key: settings.key.clone(), known_hosts: settings.known_hosts.clone() },
            ),
            http: HttpClient::beside(address)?,
            registry: registry(settings)?,
            services: settings.services.clone(),
            pipelines: settings.pipelines.clone(),
            root: settings.root.clone(),
            owner: owner(&settings.data)?,
            release_ids: ReleaseIds::default(),
            reconciling: tokio::sync::Mutex::default(),
            conditions: Conditions::default(),
        };
        // Before somebody needs them, and nobody waits for it.
        let catalog = host.catalog.clone();
        tokio::spawn(async move { catalog.snapshot().await });
        let supervisor = Supervisor::start(host).await?;
        let app = Arc::new(App::new(Arc::new(Jobs(supervisor.clone())), tokens));
        let stop = CancellationToken::new();
        let answering = tokio::spawn(http::serve(listener, app, stop.clone().cancelled_owned()));
        tracing::info!("listening on http://{address}");
        Ok(Server { address, supervisor, stop, answering: Some(answering), _lock: lock })
    }

    /// Stops answering, and leaves the jobs that run for the next start.
    ///
    /// # Errors
    /// When answering had failed.
    pub async fn stop(mut self) -> Result<(), StartError> {
        self.supervisor.refuse();
        self.stop.cancel();
        let answered = self.ended().await;
        self.supervisor.stop().await;
        Ok(answered?)
    }

    /// Waits for the end of answering, which comes by itself only when it fails.
    ///
    /// # Errors
    /// With the reason.
    pub async fn ended(&mut self) -> Result<(), ServeError> {
        let Some(answering) = &mut self.answering else { return Ok(()) };
        let end = answering.await;
        self.answering = None;
        end.unwrap_or_else(|error| Err(ServeError::Socket(std::io::Error::other(error))))
    }
}

/// Makes the data folder at mode 0700, and takes it for this process.
fn own(data: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::Data { path: data.to_path_buf(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(failed)?;
    let lock = File::create(data.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::InUse { path: data.to_path_buf() }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The data folder's own id, made when it is not there yet.
fn owner(data: &Path) -> Result<String, StartError> {
    let path = data.join("owner");
    let failed = |source| StartError::Data { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let id = uuid::Uuid::now_v7().to_string();
    let mut file = tempfile::NamedTempFile::new_in(data).map_err(failed)?;
    std::io::Write::write_all(&mut file, id.as_bytes()).map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(id)
}

fn registry(settings: &Settings) -> Result<Option<Registry>, StartError> {
    let Some(url) = &settings.registry else { return Ok(None) };
    let token = settings.registry_token_file.as_deref().map(auth::first_token).transpose()?;
    Ok(Some(Registry {
        url: url.clone(),
        token: token.map(Secret::new),
        login: settings.registry_login.clone(),
    }))
}
