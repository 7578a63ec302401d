//! What a session keeps to tell at its end what changed: the descriptor of the user's folder, and how it was.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_protocol::dir::SafeDir;
use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::Changes;
use super::compare::compare;
use super::look::Look;
use super::walk::{Bounds, walk};
use crate::error_chain::chain;

/// The outcome of a comparison: what changed, or why that is not known.
pub type Compared = Result<Changes, String>;

/// The user's folder before the agent, kept until the session's end. Nothing of it but a descriptor is in memory.
#[derive(Debug)]
pub struct Before(Result<Kept, String>);

#[derive(Debug)]
struct Kept {
    /// The folder itself: also if somebody gives it another name, or its name to another folder.
    root: SafeDir,
    look: Place,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    /// The file could not be written.
    Memory(Box<Look>),
}

impl Before {
    /// Looks at the folder at `path` but for the mount points `left_out` in it, and keeps what it sees in `file`, unless that is
    /// `too_late` by then: the agent may have started. Blocks.
    pub fn take(path: &Path, left_out: &[PathBuf], file: &Path, too_late: &AtomicBool) -> Self {
        let kept = SafeDir::open(path).map_err(|error| chain(&error)).and_then(|root| {
            let look = walk(&root, left_out, Bounds::default()).map_err(|errno| errno.desc().to_owned())?;
            if too_late.load(Ordering::SeqCst) {
                return Err("it took too long".to_owned());
            }
            let look = match save(&look, file) {
                Ok(()) => Place::File(file.to_owned()),
                Err(error) => {
                    tracing::debug!("{}: no later process can tell what changed: {error}", file.display());
                    Place::Memory(Box::new(look))
                }
            };
            Ok(Kept { root, look })
        });
        Self(kept.map_err(|why| format!("the folder could not be looked at before the agent started: {why}")))
    }

    /// The same of a session whose owner has ended: the folder is opened by its path, and what its owner saw is in `file`.
    pub fn reopen(path: &Path, file: &Path) -> Self {
        let root = SafeDir::open(path).map_err(|error| match error.errno() {
            Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => moved(path),
            Some(_) | None => format!("the folder could not be opened again: {}", chain(&error)),
        });
        Self(root.map(|root| Kept { root, look: Place::File(file.to_owned()) }))
    }

    /// Nothing is known, for this reason.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self(Err(why.into()))
    }

    /// Looks again and compares. Blocks.
    ///
    /// # Errors
    /// Why nothing is known of what changed, as a sentence.
    pub fn compare(self) -> Compared {
        let Kept { root, look } = self.0?;
        let before = match look {
            Place::Memory(look) => *look,
            Place::File(file) => load(&file)?,
        };
        let again = |errno: Errno| format!("the folder could not be looked at again: {}", errno.desc());
        let stat = fstat(root.as_fd()).map_err(again)?;
        #[allow(clippy::useless_conversion, reason = "the widths of st_dev and st_ino differ between targets")]
        if before.id != (u64::from(stat.st_dev), u64::from(stat.st_ino)) {
            return Err(moved(root.path()));
        }
        let after = walk(&root, &before.left_out, Bounds::default()).map_err(again)?;
        Ok(compare(&before, &after))
    }
}

/// Only an owner that finds the folder by its path can say this.
fn moved(path: &Path) -> String {
    format!("{} is not the folder that the session worked on any more; it was moved or replaced", path.display())
}

/// Writes the look as a whole or not at all.
fn save(look: &Look, file: &Path) -> io::Result<()> {
    let torn = file.with_extension("new");
    let saved = fs::write(&torn, look.encode()).and_then(|()| fs::rename(&torn, file));
    if saved.is_err() {
        // A part of it would take room on a disk that may be full.
        let _ = fs::remove_file(&torn);
    }
    saved
}

fn load(file: &Path) -> Result<Look, String> {
    let bytes = fs::read(file);
    let bytes = bytes.map_err(|error| format!("how the folder was before the agent started is not known: {error}"))?;
    Look::decode(&bytes).ok_or_else(|| {
        "how the folder was before the agent started is not known: another version of aigo has written it down, or the \
         record is damaged"
            .to_owned()
    })
}
