//! Image builds in the background: one at a time for each tag, with its log kept for whoever asks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::engine::EngineSlot;
use crate::dirs::DataDir;
use crate::error_chain::chain;
use crate::image::{self, BuildRequest, DEFAULT_BASE, HostSettings, Progress};

/// Builds that are remembered; the oldest that have ended go first.
const KEPT: usize = 32;
/// Reports that are kept of one build; a build of ours has a few thousand lines.
const MAX_LINES: usize = 20_000;
/// Builds at once, whatever their tags.
const AT_ONCE: usize = 4;

/// How a build stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Building,
    /// It has ended well: the image's id.
    Done(String),
    /// It has not.
    Failed(String),
}

/// A build.
#[derive(Clone, Debug)]
pub struct Build {
    /// Its id.
    pub id: String,
    /// What the image is to be called.
    pub tag: String,
    /// How it stands.
    pub state: State,
    /// Since when.
    pub started_at: Timestamp,
    /// Until when.
    pub finished_at: Option<Timestamp>,
}

/// All of them.
#[derive(Debug)]
pub struct Builds {
    engine: EngineSlot,
    dirs: DataDir,
    stopping: CancellationToken,
    tasks: TaskTracker,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    order: VecDeque<String>,
    builds: HashMap<String, Kept>,
}

#[derive(Debug)]
struct Kept {
    build: Build,
    lines: Vec<Progress>,
    news: watch::Sender<usize>,
}

/// Why a build does not begin.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StartError {
    /// This tag is being built.
    #[error("{tag} is being built already, see build {id}")]
    Running {
        /// The tag.
        tag: String,
        /// The build.
        id: String,
    },
    /// Others are.
    #[error("{AT_ONCE} builds run already; wait for one to end")]
    Busy,
}

impl Builds {
    /// None yet.
    pub fn new(engine: EngineSlot, dirs: DataDir, stopping: CancellationToken) -> Self {
        Self { engine, dirs, stopping, tasks: TaskTracker::new(), inner: Mutex::default() }
    }

    /// Starts one.
    ///
    /// # Errors
    /// When the tag is being built, or too many others are.
    pub fn start(self: &Arc<Self>, tag: String) -> Result<Build, StartError> {
        let mut inner = self.lock();
        let running = || inner.builds.values().filter(|kept| kept.build.state == State::Building);
        if let Some(kept) = running().find(|kept| kept.build.tag == tag) {
            return Err(StartError::Running { tag, id: kept.build.id.clone() });
        }
        if running().count() >= AT_ONCE {
            return Err(StartError::Busy);
        }
        let id = crate::session::SessionId::random().to_string();
        let build =
            Build { id: id.clone(), tag, state: State::Building, started_at: Timestamp::now(), finished_at: None };
        inner.builds.insert(id.clone(), Kept { build: build.clone(), lines: Vec::new(), news: watch::channel(0).0 });
        inner.order.push_back(id);
        if inner.order.len() > KEPT {
            let ended = |id: &String| inner.builds.get(id).is_none_or(|kept| kept.build.state != State::Building);
            if let Some(place) = inner.order.iter().position(ended)
                && let Some(old) = inner.order.remove(place)
            {
                inner.builds.remove(&old);
            }
        }
        drop(inner);
        let builds = Arc::clone(self);
        let request = build.clone();
        self.tasks.spawn(async move { builds.run(request).await });
        Ok(build)
    }

    async fn run(self: Arc<Self>, build: Build) {
        let request = BuildRequest {
            tag: build.tag.clone(),
            base: DEFAULT_BASE.to_owned(),
            no_cache: false,
            certificates: Vec::new(),
            runner: None,
            host: HostSettings::of_process(),
        };
        let outcome = match self.engine.get().await {
            Ok((engine, _)) => {
                let report = |progress| self.note(&build.id, progress);
                let built = image::build(&*engine, &self.dirs, &request, &self.stopping, report).await;
                built
                    .map(|built| built.id)
                    .map_err(|error| error.tail().iter().fold(chain(&error), |text, line| format!("{text}\n{line}")))
            }
            Err(error) => Err(chain(&error)),
        };
        let mut inner = self.lock();
        if let Some(kept) = inner.builds.get_mut(&build.id) {
            kept.build.finished_at = Some(Timestamp::now());
            kept.build.state = outcome.map_or_else(State::Failed, State::Done);
            kept.news.send_modify(|count| *count += 1);
        }
    }

    fn note(&self, id: &str, progress: Progress) {
        if let Some(kept) = self.lock().builds.get_mut(id)
            && kept.lines.len() < MAX_LINES
        {
            kept.lines.push(progress);
            kept.news.send_modify(|count| *count += 1);
        }
    }

    /// How a build stands.
    pub fn find(&self, id: &str) -> Option<Build> {
        self.lock().builds.get(id).map(|kept| kept.build.clone())
    }

    /// The builds that run.
    pub fn running(&self) -> Vec<Build> {
        let inner = self.lock();
        inner.builds.values().map(|kept| &kept.build).filter(|build| build.state == State::Building).cloned().collect()
    }

    /// What a build has said from its line `from` on, how it stands, and a way to wait for more.
    pub fn log(&self, id: &str, from: usize) -> Option<(Vec<Progress>, Build, watch::Receiver<usize>)> {
        let inner = self.lock();
        let kept = inner.builds.get(id)?;
        let lines = kept.lines.get(from..).unwrap_or_default().to_vec();
        Some((lines, kept.build.clone(), kept.news.subscribe()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing is half done under it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
