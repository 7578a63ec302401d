//! Walks a folder by its descriptor and keeps what it sees.
//!
//! Breadth first: where a bound ends the walk, what is near the top was seen, and what is left out is deep below. Each
//! folder is opened from the one descriptor of the user's folder, by openat2(2) with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`: an agent that swaps a folder for a link meanwhile gets that folder left out, and nothing else.

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipc_protocol::dir::{DirError, SafeDir};
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{SFlag, fstat};

use super::look::{Look, Stamp, State};

/// What one look may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) time: Duration,
    pub(super) bytes: usize,
}

impl Default for Bounds {
    /// 200,000 files take about a second and 10 MB. The session waits for the look, so a slow disk must not keep it longer
    /// than a person would wait; 32 MiB are some 600,000 files.
    fn default() -> Self {
        Self { time: Duration::from_secs(10), bytes: 32 << 20 }
    }
}

/// Looks at everything under `root` but the paths `left_out`, which are relative to it.
///
/// # Errors
/// If the folder itself cannot be looked at.
pub(super) fn walk(root: &SafeDir, left_out: &[PathBuf], bounds: Bounds) -> Result<Look, Errno> {
    let stat = fstat(root.as_fd())?;
    #[allow(clippy::useless_conversion, reason = "the widths of st_dev and st_ino differ between targets")]
    let id = (u64::from(stat.st_dev), u64::from(stat.st_ino));
    let look = Look::new(id, Stamp::of(&stat, None), left_out.to_vec());
    let mut walk = Walk { root, bounds, started: Instant::now(), look, names: Vec::new(), found: Vec::new() };
    let mut folder = 0;
    let mut over = None;
    while folder < walk.look.folders() {
        // Also where a folder has no entries, and where it cannot be opened.
        let state = match over.or_else(|| walk.bound()) {
            Some(state) => state,
            None => walk.list(folder),
        };
        match state {
            State::Listed | State::Partly(_) => walk.keep(folder, state),
            State::Unread(_) => walk.look.push(folder, state, [].into_iter()),
            State::OutOfTime | State::OutOfRoom => {
                over = Some(state);
                walk.look.push(folder, state, [].into_iter());
            }
        }
        folder += 1;
    }
    Ok(walk.look)
}

struct Walk<'a> {
    root: &'a SafeDir,
    bounds: Bounds,
    started: Instant,
    look: Look,
    /// The names of the folder that is being listed, one after the other.
    names: Vec<u8>,
    /// Where its entries' names are, and what is known of them.
    found: Vec<(usize, usize, Stamp)>,
}

impl Walk<'_> {
    /// The bound that has been reached, if one has.
    fn bound(&self) -> Option<State> {
        if self.started.elapsed() > self.bounds.time {
            Some(State::OutOfTime)
        } else if self.look.len() > self.bounds.bytes {
            Some(State::OutOfRoom)
        } else {
            None
        }
    }

    /// Gathers the entries of a folder.
    fn list(&mut self, folder: u32) -> State {
        self.names.clear();
        self.found.clear();
        let path = self.look.path(folder);
        let path = Path::new(OsStr::from_bytes(&path));
        if folder == 0 {
            return self.list_open(path, self.root);
        }
        match self.root.descend(path) {
            Ok(dir) => self.list_open(path, &dir),
            Err(error) => State::Unread(number(&error)),
        }
    }

    fn list_open(&mut self, path: &Path, dir: &SafeDir) -> State {
        let mine = |point: &&PathBuf| point.parent() == Some(path);
        let skipped: Vec<PathBuf> = self.look.left_out.iter().filter(mine).cloned().collect();
        let (mut over, mut unknown) = (None, None);
        let room = self.bounds.bytes.saturating_sub(self.look.len());
        let listed = dir.each(usize::MAX, |name, _| {
            if self.started.elapsed() > self.bounds.time {
                over = Some(State::OutOfTime);
            } else if self.names.len() + self.found.len() * ENTRY > room {
                over = Some(State::OutOfRoom);
            }
            if over.is_some() {
                return ControlFlow::Break(());
            }
            if skipped.iter().any(|point| point.file_name() == Some(name)) {
                return ControlFlow::Continue(());
            }
            let stamp = match stamp(dir, name) {
                Ok(Some(stamp)) => stamp,
                // It vanished since it was listed.
                Ok(None) => return ControlFlow::Continue(()),
                Err(errno) => {
                    unknown = Some(errno);
                    Stamp::default()
                }
            };
            let from = self.names.len();
            self.names.extend(name.as_bytes());
            self.found.push((from, self.names.len(), stamp));
            ControlFlow::Continue(())
        });
        match (listed, over, unknown) {
            (Err(error), _, _) => State::Unread(number(&error)),
            (Ok(_), Some(over), _) => over,
            (Ok(_), None, Some(errno)) => State::Partly(errno),
            (Ok(_), None, None) => State::Listed,
        }
    }

    fn keep(&mut self, folder: u32, state: State) {
        let names = &self.names;
        self.found.sort_unstable_by(|one, other| names[one.0..one.1].cmp(&names[other.0..other.1]));
        let entries = self.found.iter().map(|(from, to, stamp)| (&names[*from..*to], *stamp));
        self.look.push(folder, state, entries);
    }
}

/// Bytes of an entry beside its name.
const ENTRY: usize = 36;

/// What is known of an entry; `None` if it is gone.
fn stamp(dir: &SafeDir, name: &OsStr) -> Result<Option<Stamp>, i32> {
    let Some(stat) = dir.stat(name).map_err(|error| number(&error))? else { return Ok(None) };
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFLNK {
        return Ok(Some(Stamp::of(&stat, None)));
    }
    match readlinkat(dir.as_fd(), name) {
        Ok(target) => Ok(Some(Stamp::of(&stat, Some(&target)))),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno as i32),
    }
}

fn number(error: &DirError) -> i32 {
    error.errno().unwrap_or(Errno::EINVAL) as i32
}
