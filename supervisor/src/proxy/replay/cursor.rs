//! The place that was reached in a script, kept in a file where the session outlives the process that answers.
//!
//! A request whose answer was cut by the end of that process is asked again, with the same body; any other next request
//! has seen the answer. So the last body is kept, as a number, and decides which answer comes next.

use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The next answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct At {
    pub(super) entry: usize,
    /// How often this entry has answered already.
    pub(super) repeated: u32,
    pub(super) served: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    pub(super) at: At,
    file: Option<PathBuf>,
    /// What another process has answered last, until the first request here.
    before: Option<Answered>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Answered {
    /// The request's body, as a number.
    body: u64,
    /// Where its answer was.
    was: At,
    /// What came next.
    next: At,
}

impl Cursor {
    /// At the beginning, or where the file says.
    pub(super) fn open(file: Option<PathBuf>) -> Self {
        let read = |file: &Path| serde_json::from_slice::<Answered>(&std::fs::read(file).ok()?).ok();
        let before = file.as_deref().and_then(read);
        Self { at: before.map(|answered| answered.next).unwrap_or_default(), file, before }
    }

    /// Goes back by one if `body` is the request that another process has answered last.
    pub(super) fn arrive(&mut self, body: &[u8]) {
        if let Some(answered) = self.before.take()
            && answered.body == number(body)
        {
            self.at = answered.was;
        }
    }

    /// The answer at `was` is about to be given.
    pub(super) fn keep(&self, body: &[u8], was: At) {
        let Some(file) = &self.file else { return };
        if let Err(error) = write(file, &Answered { body: number(body), was, next: self.at }) {
            tracing::warn!("the place in the script cannot be kept in {}: {error}", file.display());
        }
    }
}

fn write(file: &Path, answered: &Answered) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(&serde_json::to_vec(answered)?)?;
    new.persist(file)?;
    Ok(())
}

/// Only compared with what the same program has written; a collision would repeat an answer of a test script.
fn number(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_was_cut_is_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("replay");
        let open = || Cursor::open(Some(file.clone()));
        let mut first = open();
        first.arrive(b"one");
        let was = first.at;
        first.at = At { entry: 1, repeated: 0, served: 1 };
        first.keep(b"one", was);
        // The same process goes on, whatever is asked.
        first.arrive(b"one");
        assert_eq!(first.at.entry, 1);
        let mut again = open();
        again.arrive(b"one");
        assert_eq!(again.at, was);
        let mut next = open();
        next.arrive(b"two");
        assert_eq!(next.at.entry, 1);
        assert_eq!(Cursor::open(None).at, At::default());
    }
}
