//! One build at a time per tag: a file in the data directory, locked with flock(2) for as long as the builder lives and
//! released by the kernel however it ends.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// What the holder wrote is cut here.
const MAX_HOLDER: u64 = 200;

/// Held as long as it lives.
#[derive(Debug)]
pub struct BuildLock {
    _file: Flock<fs::File>,
}

/// Why a lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("image {tag} is being built already, by {holder}; wait for it, or give this build another tag with --tag")]
    Held { tag: String, holder: String },
    #[error("cannot use the lock file {path}")]
    Unusable { path: PathBuf, source: io::Error },
}

impl BuildLock {
    /// Takes the lock of `tag`, without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] says who has it.
    pub fn take(data: &Path, tag: &str) -> Result<Self, LockError> {
        let folder = data.join("locks");
        let path = folder.join(format!("image-{}.lock", word(tag)));
        let unusable = |source| LockError::Unusable { path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(unusable)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let text = format!("process {} since {:.0}", std::process::id(), Timestamp::now());
                file.set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| file.write_all(text.as_bytes()))
                    .map_err(unusable)?;
                Ok(Self { _file: file })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                // An unreadable name is no reason for another error.
                let _ = file.take(MAX_HOLDER).read_to_string(&mut holder);
                let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
                Err(LockError::Held { tag: tag.to_owned(), holder })
            }
            Err((_, error)) => Err(unusable(error.into())),
        }
    }
}

/// A tag as part of a file name or of another tag.
pub(super) fn word(tag: &str) -> String {
    const MAX: usize = 100;
    tag.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' }).take(MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = BuildLock::take(folder.path(), "a/b:latest").unwrap();
        let text = BuildLock::take(folder.path(), "a/b:latest").unwrap_err().to_string();
        assert!(text.contains(&format!("process {}", std::process::id())) && text.contains("a/b:latest"), "{text}");
        BuildLock::take(folder.path(), "other:latest").unwrap();
        drop(first);
        BuildLock::take(folder.path(), "a/b:latest").unwrap();
    }
}
