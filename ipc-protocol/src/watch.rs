//! Noticing that something may have changed in the IPC directory.
//!
//! ```text
//!                  a file event ──────► wake at once (again at most every MIN_GAP)
//!   ┌─ Events ──── every RESCAN ──────► wake (safety net)
//!   │     │
//!   │     │ no inotify instance or watch left (EMFILE, ENOSPC), or folders change without an event, MISSES times
//!   │     ▼
//!   └─ Polling ─── every POLL ────────► wake                 (terminal)
//! ```
//!
//! One inotify instance and two threads (notify's and ours) for all folders of a session: instances are a scarce resource
//! that all containers of one uid share (`fs.inotify.max_user_instances`, 128 by default). A wake says nothing about what
//! changed: the reader looks at everything, so that lost, merged and overflown events (`Q_OVERFLOW`) are all the same.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::limits::{POLL, RESCAN};

/// Least time between two wakes: a flood of events costs at most this many scans.
const MIN_GAP: Duration = Duration::from_millis(1);

/// Rescans in a row that found a changed folder which no event had announced, until events are no longer trusted.
const MISSES: u32 = 3;

/// How changes are noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By file events.
    Events,
    /// By looking again and again, and why.
    Polling(String),
}

/// Calls back when something may have changed; ends when dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// An event has come since the last wake.
    pending: bool,
    /// What has come since the folders were last looked at.
    heard: Heard,
    mode: Mode,
    stop: bool,
}

/// Which events have come. Removals are mostly our own: they change a folder, but do not show that the other side's
/// changes are announced.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    news: bool,
    removal: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, kind: Kind) {
        let mut state = self.lock();
        match kind {
            Kind::Noise => return,
            Kind::Removal => state.heard.removal = true,
            Kind::Hidden | Kind::News => state.heard.news = true,
        }
        if kind == Kind::News && !state.pending {
            state.pending = true;
            self.changed.notify_one();
        }
    }
}

/// Why there is no watch at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread that watches the session's files")]
pub struct WatchError(#[from] std::io::Error);

impl Watch {
    /// Watches these folders (not what is below them). `wake` is called from a thread of its own, at once at the start,
    /// and should only pass the news on: for a tokio task, `move || notify.notify_one()`.
    pub fn start(folders: Vec<PathBuf>, wake: impl Fn() + Send + 'static) -> Result<Self, WatchError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { pending: true, heard: Heard::default(), mode: Mode::Events, stop: false }),
            changed: Condvar::new(),
        });
        let watched = Watched::new(folders, &shared);
        if let Err(error) = &watched.watcher {
            shared.lock().mode = Mode::Polling(error.clone());
        }
        let thread = std::thread::Builder::new().name("ipc-watch".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, watched, wake)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How changes are noticed at the moment.
    pub fn mode(&self) -> Mode {
        self.shared.lock().mode.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // Ends within one call of `wake`. It cannot have panicked but in `wake`, which has been reported then.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Arc<Shared>, mut watched: Watched, wake: impl Fn()) {
    let mut misses = 0;
    let mut last_wake = Instant::now();
    let mut last_look = Instant::now();
    loop {
        {
            let mut state = shared.lock();
            let period = match state.mode {
                Mode::Events => RESCAN,
                Mode::Polling(_) => POLL,
            };
            while !state.pending && !state.stop {
                let left = period.saturating_sub(last_wake.elapsed());
                if left.is_zero() {
                    break;
                }
                state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.stop {
                return;
            }
            state.pending = false;
        }
        wake();
        last_wake = Instant::now();
        if last_look.elapsed() >= RESCAN && watched.watcher.is_ok() {
            last_look = Instant::now();
            let changed = watched.refresh();
            let mut state = shared.lock();
            let heard = std::mem::take(&mut state.heard);
            if heard.news {
                misses = 0;
            } else if changed && !heard.removal {
                misses += 1;
            }
            if misses == MISSES {
                watched.watcher = Err("folders change without a file event".into());
            }
            if let Err(error) = &watched.watcher {
                state.mode = Mode::Polling(error.clone());
            }
        }
        std::thread::sleep(MIN_GAP);
    }
}

/// The folders under watch.
struct Watched {
    folders: Vec<Watch1>,
    watcher: Result<RecommendedWatcher, String>,
}

struct Watch1 {
    path: PathBuf,
    /// Inode of the folder that is watched, and when something was last added to or removed from it.
    seen: Option<(u64, SystemTime)>,
}

impl Watched {
    fn new(folders: Vec<PathBuf>, shared: &Arc<Shared>) -> Self {
        let shared = Arc::clone(shared);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            shared.event(event.map_or(Kind::News, |event| kind_of(&event)));
        });
        let folders = folders.into_iter().map(|path| Watch1 { path, seen: None }).collect();
        let mut watched = Self { folders, watcher: watcher.map_err(|error| error.to_string()) };
        watched.refresh();
        watched
    }

    /// Watches folders that were made anew. Returns whether a folder has changed since the last call.
    fn refresh(&mut self) -> bool {
        let mut changed = false;
        let mut failed = None;
        let Ok(watcher) = &mut self.watcher else { return false };
        for folder in &mut self.folders {
            let now = look(&folder.path);
            if now == folder.seen {
                continue;
            }
            changed = true;
            let same = now.map(|(inode, _)| inode) == folder.seen.map(|(inode, _)| inode);
            folder.seen = now;
            if same {
                continue;
            }
            // The kernel has dropped the watch with the old folder; notify only has to forget the path.
            let _ = watcher.unwatch(&folder.path);
            if now.is_some()
                && let Err(error) = watcher.watch(&folder.path, RecursiveMode::NonRecursive)
            {
                match error.kind {
                    // Gone again; the next look finds out.
                    notify::ErrorKind::PathNotFound | notify::ErrorKind::WatchNotFound => folder.seen = None,
                    notify::ErrorKind::Generic(_)
                    | notify::ErrorKind::Io(_)
                    | notify::ErrorKind::InvalidConfig(_)
                    | notify::ErrorKind::MaxFilesWatch => failed = Some(error.to_string()),
                }
            }
        }
        if let Some(error) = failed {
            self.watcher = Err(error);
        }
        changed
    }
}

/// A real folder; a link in its place is not watched.
fn look(path: &Path) -> Option<(u64, SystemTime)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::symlink_metadata(path).ok()?;
    if !metadata.is_dir() {
        return None;
    }
    Some((metadata.ino(), metadata.modified().ok()?))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Somebody has opened or read something: mostly we ourselves.
    Noise,
    /// Something is gone.
    Removal,
    /// Something that no reader looks at: a temporary file.
    Hidden,
    /// Something to look at.
    News,
}

fn kind_of(event: &Event) -> Kind {
    if event.need_rescan() {
        return Kind::News;
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return Kind::Noise,
        EventKind::Remove(_) => return Kind::Removal,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => {}
    }
    let hidden = |path: &PathBuf| {
        path.file_name().is_some_and(|name| {
            let name = name.as_encoded_bytes();
            name.starts_with(b".") || name.ends_with(b".tmp")
        })
    };
    if !event.paths.is_empty() && event.paths.iter().all(hidden) { Kind::Hidden } else { Kind::News }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// A file system that changes without telling: the watcher is there, but sees another folder.
    #[test]
    fn folders_that_change_without_events_are_polled() {
        let temp = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State { pending: false, heard: Heard::default(), mode: Mode::Events, stop: false }),
            changed: Condvar::new(),
        });
        let mut watched = Watched::new(Vec::new(), &shared);
        let path = temp.path().to_owned();
        watched.folders.push(Watch1 { seen: look(&path), path });
        let (wake, woken) = channel();
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, watched, move || wake.send(()).unwrap_or_default())
        });
        let watch = Watch { shared, thread: Some(thread) };
        let begun = Instant::now();
        let mut n = 0;
        while watch.mode() == Mode::Events {
            assert!(begun.elapsed() < RESCAN * 20, "events are still trusted");
            std::fs::write(temp.path().join(n.to_string()), "").unwrap();
            n += 1;
            woken.recv_timeout(RESCAN * 5).expect("the safety net");
        }
        assert!(n >= MISSES, "{n}");
        // Everything that is queued, then the new pace.
        while woken.try_recv().is_ok() {}
        let begun = Instant::now();
        for _ in 0..5 {
            woken.recv_timeout(RESCAN).expect("polling");
        }
        assert!(begun.elapsed() < RESCAN, "{:?}", begun.elapsed());
    }
}
