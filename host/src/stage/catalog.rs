//! The plugins that are there: what lies in the folder now, what of it is loaded, and what is refused and
//! why. It runs no step.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::contract::Export;
use super::engine::Stage;
use super::inspect::{inspect, is_name};
use super::plugin::Plugin;
use super::refusal::Refusal;

/// Components of interpreted languages have tens of MiB.
const LARGEST: u64 = 256 << 20;
/// A file that was written a moment ago may be written again with the same time.
const SETTLED: Duration = Duration::from_secs(1);
/// When a refusal that may pass is looked at again.
const AGAIN: Duration = Duration::from_secs(30);

/// The plugins folder. Looked at anew each time that somebody asks; only what changed is read and compiled.
pub struct Catalog {
    stage: Stage,
    folder: PathBuf,
    known: Mutex<BTreeMap<String, Known>>,
}

/// The plugins at one moment. Whoever holds it, or one of its plugins, is not disturbed by what comes later.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub plugins: BTreeMap<String, Arc<Plugin>>,
    pub refused: Vec<Refused>,
}

/// A file that is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refused {
    /// The file's name in the folder, or the folder itself.
    pub file: String,
    /// Why, and what to do about it.
    pub reason: String,
}

/// A file as it was when it was last read.
struct Known {
    stamp: Stamp,
    settled: bool,
    digest: String,
    outcome: Outcome,
}

#[derive(Clone)]
enum Outcome {
    Loaded(Arc<Plugin>),
    Refused(String),
    /// Refused, but the same file may be fine later.
    Passing(String, Instant),
}

/// What tells one version of a file from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file's content, and when it was what it is.
struct Content {
    stamp: Stamp,
    settled: bool,
    bytes: Vec<u8>,
    digest: String,
}

impl Snapshot {
    pub fn plugin(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.plugins.get(name)
    }

    /// The names of the plugins that build and start services.
    pub fn methods(&self) -> Vec<String> {
        let methods = self.plugins.values().filter(|plugin| plugin.is_method());
        methods.map(|plugin| plugin.name.clone()).collect()
    }

    /// The names of the plugins that have a part in a phase.
    pub fn with(&self, export: Export) -> Vec<String> {
        let with = self.plugins.values().filter(|plugin| plugin.exports(export));
        with.map(|plugin| plugin.name.clone()).collect()
    }
}

impl Catalog {
    pub fn new(stage: Stage, folder: impl Into<PathBuf>) -> Self {
        Self { stage, folder: folder.into(), known: Mutex::default() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is there now. What cannot be loaded is refused by name; the rest is there all the same.
    pub async fn snapshot(&self) -> Arc<Snapshot> {
        let mut known = self.known.lock().await;
        let folder = self.folder.clone();
        let found = match blocking(move || list(&folder)).await {
            Ok(found) => found,
            Err(error) => {
                let reason = format!("the folder cannot be read: {error}; give another with --plugins");
                let file = self.folder.display().to_string();
                return Arc::new(Snapshot {
                    plugins: BTreeMap::new(),
                    refused: vec![Refused { file, reason }],
                });
            }
        };
        known.retain(|file, _| found.contains_key(file));
        let mut snapshot = Snapshot::default();
        for (file, stamp) in found {
            let outcome = self.look(&mut known, &file, stamp).await;
            match outcome {
                Outcome::Loaded(plugin) => {
                    snapshot.plugins.insert(plugin.name.clone(), plugin);
                }
                Outcome::Refused(reason) | Outcome::Passing(reason, _) => {
                    snapshot.refused.push(Refused { file, reason });
                }
            }
        }
        Arc::new(snapshot)
    }

    /// One file: as it is known, or read again.
    async fn look(&self, known: &mut BTreeMap<String, Known>, file: &str, stamp: Stamp) -> Outcome {
        if let Some(one) = known.get(file)
            && one.settled
            && one.stamp == stamp
            && one.outcome.holds()
        {
            return one.outcome.clone();
        }
        let path = self.folder.join(file);
        let name = file.strip_suffix(".wasm").unwrap_or(file);
        if !is_name(name) {
            return Outcome::Refused(Refusal::FileName.to_string());
        }
        let content = match blocking(move || read(&path)).await {
            Ok(content) => content,
            Err(refusal) => return self.refuse(file, &refusal),
        };
        let Content { stamp, settled, bytes, digest } = content;
        let same = known.get(file).filter(|one| one.digest == digest && one.outcome.holds());
        let outcome = match same {
            Some(one) => one.outcome.clone(),
            None => {
                let path = self.folder.join(file);
                match inspect(&self.stage, name, &path, bytes, digest.clone()).await {
                    Ok(plugin) => {
                        tracing::info!(plugin = name, version = plugin.version, digest, "loaded a plugin");
                        Outcome::Loaded(Arc::new(plugin))
                    }
                    Err(refusal) => self.refuse(file, &refusal),
                }
            }
        };
        let outcome_now = outcome.clone();
        known.insert(file.to_owned(), Known { stamp, settled, digest, outcome });
        outcome_now
    }

    fn refuse(&self, file: &str, refusal: &Refusal) -> Outcome {
        let reason = refusal.to_string();
        tracing::warn!(file, reason, "refused a plugin");
        if refusal.passing() {
            Outcome::Passing(reason, Instant::now() + AGAIN)
        } else {
            Outcome::Refused(reason)
        }
    }
}

impl Outcome {
    fn holds(&self) -> bool {
        match self {
            Self::Loaded(_) | Self::Refused(_) => true,
            Self::Passing(_, until) => Instant::now() < *until,
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a later write would be seen.
    fn is_settled(&self) -> bool {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > SETTLED)
    }
}

/// The files that may be plugins, by name. Hidden ones are those that copying tools are still writing.
fn list(folder: &Path) -> std::io::Result<BTreeMap<String, Stamp>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if name.starts_with('.') || !name.ends_with(".wasm") {
            continue;
        }
        // Gone since, or a link to nothing: not there.
        let Ok(metadata) = fs::metadata(folder.join(&name)) else { continue };
        if metadata.is_file() {
            found.insert(name, Stamp::of(&metadata));
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Content, Refusal> {
    let mut file = File::open(path).map_err(Refusal::Unreadable)?;
    let stamp = Stamp::of(&file.metadata().map_err(Refusal::Unreadable)?);
    if stamp.size > LARGEST {
        return Err(Refusal::TooLarge { size: stamp.size, limit: LARGEST });
    }
    let settled = stamp.is_settled();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Refusal::Unreadable)?;
    let after = Stamp::of(&file.metadata().map_err(Refusal::Unreadable)?);
    if after != stamp {
        return Err(Refusal::Changing);
    }
    let digest = hex::encode(Sha256::digest(&bytes));
    Ok(Content { stamp, settled, bytes, digest })
}

async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // Reading a file does not panic, and nobody aborts it.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
