//! Noticing that something may have changed in the IPC directory.
//!
//! ```text
//!                  a file event ──────► wake at once (again at most every MIN_GAP)
//!   ┌─ Events ──── every RESCAN ──────► wake (safety net)
//!   │     │        every CALM_RESCAN, once events have proved to come and nothing happens
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

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::limits::{CALM_RESCAN, POLL, RESCAN};

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

/// A folder that watched ones are in. It is watched for that they are removed or made anew.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Where it is.
    pub path: PathBuf,
    /// A file in it that only the other side writes: nothing to read, but a sign that its changes are announced.
    pub sign: Option<&'static str>,
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

/// Which events have come.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// Of what only the other side does.
    theirs: bool,
    /// Of what may be our own doing: it changes a folder, but does not show that the other side's changes are announced.
    ours: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, kind: Kind, place: Place) {
        let mut state = self.lock();
        match kind {
            Kind::Noise => return,
            Kind::Hidden | Kind::News if matches!(place, Place::In | Place::Sign) => state.heard.theirs = true,
            Kind::Removal | Kind::Loss | Kind::Hidden | Kind::News => state.heard.ours = true,
        }
        let wakes = match kind {
            Kind::News => matches!(place, Place::In | Place::Itself),
            // A folder in the mailbox has to be made again.
            Kind::Loss => matches!(place, Place::Itself | Place::Beside),
            Kind::Removal | Kind::Hidden | Kind::Noise => false,
        };
        if wakes && !state.pending {
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
    /// Watches these folders, in which only the other side makes files (not what is below them). `wake` is called from a
    /// thread of its own, at once at the start, and should only pass the news on: for a tokio task,
    /// `move || notify.notify_one()`.
    pub fn start(
        folders: Vec<PathBuf>,
        parents: Vec<Parent>,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Self, WatchError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { pending: true, heard: Heard::default(), mode: Mode::Events, stop: false }),
            changed: Condvar::new(),
        });
        let watched = Watched::new(folders, parents, &shared);
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

/// How far events are trusted, which is how often everything is looked at without one. Silent sessions should cost nothing:
/// a service has many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// No event has come yet, or something has changed without one.
    Doubtful {
        /// How many looks have found that since the last event of theirs.
        misses: u32,
    },
    /// Events come. A folder that was made anew is not watched before the next look.
    Busy,
    /// Events have come, and the look after them has found nothing that they had not told.
    Calm,
}

impl Pace {
    fn period(self) -> Duration {
        match self {
            Self::Doubtful { .. } | Self::Busy => RESCAN,
            Self::Calm => CALM_RESCAN,
        }
    }

    /// After a look at the folders.
    fn after(self, changed: bool, heard: Heard) -> Self {
        let (misses, trusted) = match self {
            Self::Doubtful { misses } => (misses, false),
            Self::Busy | Self::Calm => (0, true),
        };
        if heard.theirs || (trusted && heard.ours) {
            Self::Busy
        } else if changed && !heard.ours {
            Self::Doubtful { misses: misses + 1 }
        } else if trusted {
            Self::Calm
        } else {
            self
        }
    }
}

fn run(shared: &Arc<Shared>, mut watched: Watched, wake: impl Fn()) {
    let mut pace = Pace::Doubtful { misses: 0 };
    let mut last_turn = Instant::now();
    let mut last_look = Instant::now();
    loop {
        let told = {
            let mut state = shared.lock();
            let period = match state.mode {
                Mode::Events => pace.period(),
                Mode::Polling(_) => POLL,
            };
            while !state.pending && !state.stop {
                let left = period.saturating_sub(last_turn.elapsed());
                if left.is_zero() {
                    break;
                }
                state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.stop {
                return;
            }
            std::mem::take(&mut state.pending)
        };
        // The reader has seen what events told. The first look after them is for what they may not have told.
        let only_look = pace == Pace::Busy && !told && watched.watcher.is_ok();
        if !only_look {
            wake();
        }
        last_turn = Instant::now();
        if told && pace == Pace::Calm {
            pace = Pace::Busy;
        }
        if last_look.elapsed() >= RESCAN && watched.watcher.is_ok() {
            last_look = last_turn;
            let changed = watched.refresh();
            let mut state = shared.lock();
            let heard = std::mem::take(&mut state.heard);
            pace = pace.after(changed, heard);
            if pace == (Pace::Doubtful { misses: MISSES }) {
                watched.watcher = Err("folders change without a file event".into());
            }
            if let Err(error) = &watched.watcher {
                state.mode = Mode::Polling(error.clone());
            }
            drop(state);
            if only_look && changed {
                wake();
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
    fn new(folders: Vec<PathBuf>, parents: Vec<Parent>, shared: &Arc<Shared>) -> Self {
        let signs: Vec<PathBuf> =
            parents.iter().filter_map(|parent| parent.sign.map(|sign| parent.path.join(sign))).collect();
        let parents = parents.into_iter().map(|parent| parent.path);
        let watched = folders.iter().cloned().chain(parents).map(|path| Watch1 { path, seen: None }).collect();
        let shared = Arc::clone(shared);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) => shared.event(kind_of(&event), Place::of(&event, &folders, &signs)),
            // Something may be lost.
            Err(_) => shared.event(Kind::News, Place::Itself),
        });
        let mut watched = Self { folders: watched, watcher: watcher.map_err(|error| error.to_string()) };
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
    /// Something is gone: mostly taken by us.
    Removal,
    /// A folder is gone, or something was moved away.
    Loss,
    /// Something that no reader looks at: a temporary file.
    Hidden,
    /// Something to look at.
    News,
}

/// Where something has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// To a file of a folder.
    In,
    /// To a folder, or nobody knows where.
    Itself,
    /// To the [sign](Parent::sign).
    Sign,
    /// To something else in the folders' parent, perhaps of ours.
    Beside,
}

impl Place {
    fn of(event: &Event, folders: &[PathBuf], signs: &[PathBuf]) -> Self {
        let is = |path: &Path| folders.iter().any(|folder| folder == path);
        if event.paths.is_empty() || event.paths.iter().any(|path| is(path)) {
            Self::Itself
        } else if event.paths.iter().any(|path| path.parent().is_some_and(is)) {
            Self::In
        } else if event.paths.iter().any(|path| signs.contains(path)) {
            Self::Sign
        } else {
            Self::Beside
        }
    }
}

fn kind_of(event: &Event) -> Kind {
    if event.need_rescan() {
        return Kind::News;
    }
    let hidden = |path: &PathBuf| {
        path.file_name().is_some_and(|name| {
            let name = name.as_encoded_bytes();
            name.starts_with(b".") || name.ends_with(b".tmp")
        })
    };
    let hidden = !event.paths.is_empty() && event.paths.iter().all(hidden);
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return Kind::Noise,
        EventKind::Remove(RemoveKind::Folder) => return Kind::Loss,
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) if !hidden => return Kind::Loss,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => return Kind::Removal,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => {}
    }
    if hidden { Kind::Hidden } else { Kind::News }
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
        let mut watched = Watched::new(Vec::new(), Vec::new(), &shared);
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
