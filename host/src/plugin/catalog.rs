//! The plugins that are there: what lies in the folder now, what of it is loaded, and what is refused and
//! why. It runs no step.
//!
//! Each file is read, compiled and described by a task of its own, so that nobody waits for a file that he does not
//! need: not for one that is slow to compile, and not for one whose `describe` does not end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::component::Plugin;
use super::folder::{Content, Stamp, blocking, list, read};
use super::inspect::{inspect, is_name};
use super::load_error::LoadError;
use super::runtime::Runtime;
use crate::contract::Export;

/// When a refusal that may pass is looked at again: first after this time, then after twice as long each time.
const AGAIN: Duration = Duration::from_secs(30);
const AT_LAST: Duration = Duration::from_secs(3600);
/// How many files are compiled at a time. The compiler itself works on all cores.
const AT_ONCE: usize = 2;
/// How long a request waits for the plugins that it needs.
const PATIENCE: Duration = Duration::from_secs(240);

/// The plugins folder. Looked at anew each time that somebody asks; only what changed is read and compiled.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Runtime,
    folder: PathBuf,
    known: Mutex<BTreeMap<String, KnownFile>>,
    compiling: Semaphore,
}

/// The plugins at one moment. Whoever holds it, or one of its plugins, is not disturbed by what comes later.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub plugins: BTreeMap<String, Arc<Plugin>>,
    pub refused: Vec<Refused>,
    /// The names of the files that are still being looked at.
    pub loading: BTreeSet<String>,
}

/// A file that is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refused {
    /// The file's name in the folder, or the folder itself.
    pub file: String,
    /// Why, and what to do about it.
    pub reason: String,
}

/// A file, as far as it is known.
#[derive(Default)]
struct KnownFile {
    /// As it was when it was last read.
    read: Option<Version>,
    /// Closed when the task that looks at it has ended.
    loading: Option<watch::Receiver<()>>,
}

#[derive(Clone)]
struct Version {
    stamp: Stamp,
    settled: bool,
    /// None where it could not be read.
    digest: Option<String>,
    outcome: Outcome,
}

#[derive(Clone)]
enum Outcome {
    Loaded(Arc<Plugin>),
    Refused(String),
    /// Refused, but the same file may be fine later: from then on it is looked at again.
    Passing {
        reason: String,
        until: Instant,
        tries: u32,
    },
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
    pub fn new(runtime: Runtime, folder: impl Into<PathBuf>) -> Self {
        let (folder, known, compiling) = (folder.into(), Mutex::default(), Semaphore::new(AT_ONCE));
        Self { inner: Arc::new(Inner { runtime, folder, known, compiling }) }
    }

    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// What is there now, all of it looked at. What cannot be loaded is refused by name; the rest is there all the
    /// same.
    pub async fn snapshot(&self) -> Arc<Snapshot> {
        self.waited(|_| true, None).await
    }

    /// As `snapshot`, and what takes longer than this is named as still loading.
    pub async fn snapshot_within(&self, limit: Duration) -> Arc<Snapshot> {
        self.waited(|_| true, Some(limit)).await
    }

    /// What is there now, with these plugins looked at. Nobody waits for others.
    pub async fn with(&self, needed: &BTreeSet<String>) -> Arc<Snapshot> {
        self.waited(|name| needed.contains(name), Some(PATIENCE)).await
    }

    async fn waited(&self, needed: impl Fn(&str) -> bool, limit: Option<Duration>) -> Arc<Snapshot> {
        let folder = self.inner.folder.clone();
        let found = match blocking(move || list(&folder)).await {
            Ok(found) => found,
            Err(error) => {
                let reason = format!("the folder cannot be read: {error}; give another with --plugins");
                let file = self.inner.folder.display().to_string();
                return Arc::new(Snapshot { refused: vec![Refused { file, reason }], ..Snapshot::default() });
            }
        };
        let mut waiting = self.inner.look_at(found);
        waiting.retain(|(name, _)| needed(name));
        let all = async {
            for (_, mut loading) in waiting {
                // It sends nothing: it ends.
                while loading.changed().await.is_ok() {}
            }
        };
        match limit {
            None => all.await,
            Some(limit) => {
                let _ = tokio::time::timeout(limit, all).await;
            }
        }
        Arc::new(self.inner.collect())
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, KnownFile>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to load what is new or changed, the small ones first. Answers what is being loaded, by plugins' names.
    fn look_at(self: &Arc<Self>, found: BTreeMap<String, Stamp>) -> Vec<(String, watch::Receiver<()>)> {
        let mut known = self.known();
        known.retain(|file, _| found.contains_key(file));
        let mut files: Vec<(String, Stamp)> = found.into_iter().collect();
        files.sort_by_key(|(_, stamp)| stamp.size());
        let mut waiting = Vec::new();
        for (file, stamp) in files {
            let one = known.entry(file.clone()).or_default();
            let name = file.strip_suffix(".wasm").unwrap_or(&file).to_owned();
            let loading = one.loading.clone().filter(|loading| loading.has_changed().is_ok());
            let loading = match loading {
                Some(loading) => loading,
                None if one.read.as_ref().is_some_and(|read| read.holds(stamp)) => continue,
                None if !is_name(&name) => {
                    one.read = Some(Version::refused(stamp, &LoadError::FileName));
                    continue;
                }
                None => {
                    let (done, loading) = watch::channel(());
                    one.loading = Some(loading.clone());
                    let (inner, earlier) = (self.clone(), one.read.clone());
                    tokio::spawn(async move {
                        let version = inner.load(&file, stamp, earlier).await;
                        // Taken away meanwhile: nobody asks for it.
                        if let Some(one) = inner.known().get_mut(&file) {
                            one.read = Some(version);
                            one.loading = None;
                        }
                        drop(done);
                    });
                    loading
                }
            };
            waiting.push((name, loading));
        }
        waiting
    }

    /// One file: as it is known, or read again.
    async fn load(&self, file: &str, stamp: Stamp, earlier: Option<Version>) -> Version {
        let path = self.folder.join(file);
        let name = file.strip_suffix(".wasm").unwrap_or(file);
        let tries = earlier.as_ref().map_or(0, Version::tries);
        let content = match blocking({
            let path = path.clone();
            move || read(&path)
        })
        .await
        {
            Ok(content) => content,
            Err(error) => return refuse(file, &error, Version::refused(stamp, &error)),
        };
        let Content { stamp, settled, bytes, digest } = content;
        let same = earlier.filter(|one| one.digest.as_ref() == Some(&digest) && one.outcome.holds());
        if let Some(same) = same {
            return Version { stamp, settled, ..same };
        }
        let looked = inspect(&self.runtime, name, &path, bytes, digest.clone(), &self.compiling).await;
        let outcome = match looked {
            Ok(plugin) => {
                tracing::info!(plugin = name, version = plugin.version, digest, "loaded a plugin");
                Outcome::Loaded(Arc::new(plugin))
            }
            Err(error) => {
                let version = Version::refused(stamp, &error).tried(tries + 1);
                let version = Version { settled, digest: Some(digest), ..version };
                return refuse(file, &error, version);
            }
        };
        Version { stamp, settled, digest: Some(digest), outcome }
    }

    fn collect(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (file, one) in self.known().iter() {
            if one.loading.as_ref().is_some_and(|loading| loading.has_changed().is_ok()) {
                snapshot.loading.insert(file.strip_suffix(".wasm").unwrap_or(file).to_owned());
                continue;
            }
            match one.read.as_ref().map(|read| &read.outcome) {
                Some(Outcome::Loaded(plugin)) => {
                    snapshot.plugins.insert(plugin.name.clone(), plugin.clone());
                }
                Some(Outcome::Refused(reason) | Outcome::Passing { reason, .. }) => {
                    snapshot.refused.push(Refused { file: file.clone(), reason: reason.clone() });
                }
                None => {}
            }
        }
        snapshot
    }
}

fn refuse(file: &str, error: &LoadError, version: Version) -> Version {
    tracing::warn!(file, reason = error.to_string(), "refused a plugin");
    version
}

impl Version {
    /// A file with this stamp that is not loaded.
    fn refused(stamp: Stamp, error: &LoadError) -> Self {
        let reason = error.to_string();
        let outcome = match error.passing() {
            true => Outcome::Passing { reason, until: Instant::now(), tries: 0 },
            false => Outcome::Refused(reason),
        };
        Self { stamp, settled: stamp.is_settled(), digest: None, outcome }
    }

    /// When it is looked at again depends on how often that was in vain.
    fn tried(mut self, times: u32) -> Self {
        if let Outcome::Passing { until, tries, .. } = &mut self.outcome {
            *tries = times;
            *until = Instant::now() + pause(times);
        }
        self
    }

    fn tries(&self) -> u32 {
        match self.outcome {
            Outcome::Passing { tries, .. } => tries,
            Outcome::Loaded(_) | Outcome::Refused(_) => 0,
        }
    }

    /// Whether nothing has changed since it was read.
    fn holds(&self, stamp: Stamp) -> bool {
        self.settled && self.stamp == stamp && self.outcome.holds()
    }
}

fn pause(tries: u32) -> Duration {
    AGAIN.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(AT_LAST)
}

impl Outcome {
    fn holds(&self) -> bool {
        match self {
            Self::Loaded(_) | Self::Refused(_) => true,
            Self::Passing { until, .. } => Instant::now() < *until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_is_asked_less_and_less() {
        let check =
            |tries: u32, seconds: u64| assert_eq!(pause(tries), Duration::from_secs(seconds), "{tries}");
        check(1, 30);
        check(2, 60);
        check(3, 120);
        check(8, 3600);
        check(100, 3600);
    }
}
