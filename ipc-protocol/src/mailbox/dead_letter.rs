//! Where refused files go: a folder that no container sees, bounded, each file with its reason beside it.
//!
//! `<13 digits>-<6 digits>-<4>.letter` is what was refused, `….reason.json` says why. The name that the container chose is
//! only in the latter, so it cannot clash or deceive.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use serde_json::json;

use crate::dir::{DirError, Durability, Refused, SafeDir, printable, random_hex};
use crate::limits::MAX_DEAD_LETTERS;
use crate::name::{FileName, Namer};

const LETTER: &str = ".letter";
const REASON: &str = ".reason.json";

/// Entries of a refused folder removed when it is pruned; a larger one is left for the end of the session.
const PRUNE_ENTRIES: usize = 4096;

/// A session's dead letters. At most [`MAX_DEAD_LETTERS`]; beyond it the oldest are removed.
#[derive(Debug)]
pub struct DeadLetters {
    dir: SafeDir,
    namer: Namer,
    /// Stems in order, oldest first.
    kept: VecDeque<String>,
}

impl DeadLetters {
    /// Uses the folder at `path`, made by the caller (0700), on the same file system as the IPC directory.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let dir = SafeDir::open(path)?;
        let (names, _) = dir.names(2 * MAX_DEAD_LETTERS + PRUNE_ENTRIES)?;
        let mut kept: Vec<String> = names
            .iter()
            .filter_map(|name| name.to_str()?.strip_suffix(REASON))
            .filter(|stem| format!("{stem}.json").parse::<FileName>().is_ok())
            .map(str::to_owned)
            .collect();
        kept.sort();
        let mut letters = Self { dir, namer: Namer::new(crate::dir::random_u64()), kept: kept.into() };
        letters.prune();
        Ok(letters)
    }

    /// Moves `name` out of `from`. Returns the letter's name, or, if it was on another file system and had to be removed
    /// instead, that of its reason.
    pub(crate) fn bury(
        &mut self,
        from: &SafeDir,
        folder: &str,
        name: &OsStr,
        reason: &Refused,
    ) -> Result<String, DirError> {
        let at = unix_ms();
        let stem = self.namer.next(at).stem();
        let letter = format!("{stem}{LETTER}");
        let kept = match from.rename(name, &self.dir, OsStr::new(&letter)) {
            Ok(()) => true,
            Err(error) if error.errno() == Some(Errno::EXDEV) => {
                from.remove(name)?;
                false
            }
            Err(error) => return Err(error),
        };
        let note = json!({
            "folder": folder, "name": printable(name), "reason": reason.to_string(), "at": at, "kept": kept,
        });
        let reason_name = format!("{stem}{REASON}");
        // Best effort (the disk may be full): the reason also goes to the caller, who makes an event of it.
        let _ = self.dir.replace(OsStr::new(&reason_name), note.to_string().as_bytes(), Durability::Cached, None);
        self.kept.push_back(stem);
        self.prune();
        Ok(if kept { letter } else { reason_name })
    }

    fn prune(&mut self) {
        while self.kept.len() > MAX_DEAD_LETTERS {
            let Some(stem) = self.kept.pop_front() else { break };
            self.destroy(&format!("{stem}{LETTER}"));
            self.destroy(&format!("{stem}{REASON}"));
        }
    }

    /// Best effort: what cannot be removed now goes with the session.
    fn destroy(&self, name: &str) {
        let name = OsStr::new(name);
        if self.dir.remove(name).is_err() {
            if let Ok(inner) = self.dir.subdir(name) {
                let _ = inner.clear(PRUNE_ENTRIES);
            }
            if self.dir.remove(name).is_err() {
                let _ = self.dir.rename(name, &self.dir, OsStr::new(&format!(".unremovable-{}", random_hex())));
            }
        }
    }
}

/// Milliseconds since 1970-01-01 UTC.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
