//! The full log of a build, kept in the data directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Zoned;

/// Logs of so many builds are kept: each has some hundred kB.
const KEPT: usize = 20;
const PREFIX: &str = "image-build-";

/// A log that is written.
#[derive(Debug)]
pub struct BuildLog {
    file: BufWriter<File>,
    path: PathBuf,
}

impl BuildLog {
    /// Starts `image-build-<time>.log` in `folder` and removes the oldest of too many.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(folder: &Path, now: &Zoned) -> io::Result<Self> {
        prune(folder);
        // Two builds of different tags may begin in one millisecond.
        let stem = format!("{PREFIX}{}", now.strftime("%Y%m%d-%H%M%S-%3f"));
        let mut tries = 0..100;
        loop {
            let suffix = tries.next().filter(|n| *n > 0).map_or(String::new(), |n| format!("-{n}"));
            let path = folder.join(format!("{stem}{suffix}.log"));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Self { file: BufWriter::new(file), path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !tries.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a line. A full disk must not end the build, whose own error says more.
    pub fn line(&mut self, line: &str) {
        let _ = writeln!(self.file, "{line}");
    }
}

/// Leaves room for one more.
fn prune(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut logs: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(PREFIX) && name.ends_with(".log")
        })
        .collect();
    // The names sort by time.
    logs.sort();
    let surplus = (logs.len() + 1).saturating_sub(KEPT);
    for path in &logs[..surplus.min(logs.len())] {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("other.log"), "").unwrap();
        let time = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
        for second in 0..30 {
            let now = &time + jiff::SignedDuration::from_secs(second);
            BuildLog::create(folder.path(), &now).unwrap().line("x");
        }
        let again = BuildLog::create(folder.path(), &(&time + jiff::SignedDuration::from_secs(29))).unwrap();
        assert!(again.path().ends_with("image-build-19700101-000029-000-1.log"), "{:?}", again.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), KEPT + 1);
    }
}
