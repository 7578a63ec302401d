//! Engine calls that make something, and whose outcome nobody knows.
//!
//! Such a call may run out of time, be given up, lose its answer, or lose its caller: the engine may still do what it was
//! asked, after somebody has looked for it in vain. So a mark in the session's folder says so from before the call until
//! its answer. As long as it is there the folder stays, and with it the reason for the next start to look again:
//!
//! ```text
//! begin ─► asked ──── the call's answer: end ────► (no mark)
//!            │ a sweep that the engine answers         ▲
//!            ▼                                         │
//!         answered ── another one, SETTLED later ──────┘
//! ```

use std::fs;
use std::io;
use std::time::Duration;

use crate::dirs::SessionDir;
use crate::engine::deadline;

/// An engine that has answered for so long does nothing any more that it was asked before: twice of what the slowest of
/// these calls may take.
pub const SETTLED: Duration = deadline::CREATE.saturating_mul(2);

const ASKED: &str = "asked\n";
const ANSWERED: &str = "answered\n";

/// A call is about to be made.
pub fn begin(folder: &SessionDir) -> io::Result<()> {
    fs::write(folder.in_doubt(), ASKED)
}

/// The engine has said what became of it. A mark that cannot be removed only costs the next start a look.
pub fn end(folder: &SessionDir) {
    let _ = fs::remove_file(folder.in_doubt());
}

/// Whether something may still appear on the engine.
pub fn is_open(folder: &SessionDir) -> bool {
    folder.in_doubt().symlink_metadata().is_ok()
}

/// The engine has answered, and nothing of the session's is on it now. Ends the doubt if it had answered [`SETTLED`] ago,
/// too.
pub fn settle(folder: &SessionDir) -> io::Result<()> {
    let mark = folder.in_doubt();
    match fs::read_to_string(&mark) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(said) => {
            let since = fs::metadata(&mark)?.modified()?.elapsed();
            match since {
                Ok(since) if said == ANSWERED && since >= SETTLED => fs::remove_file(&mark),
                Ok(_) if said == ANSWERED => Ok(()),
                // The first answer, or the clock was set back: the time begins now.
                Ok(_) | Err(_) => fs::write(&mark, ANSWERED),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn doubt_ends_with_the_answer_or_long_after_the_engine_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let data = crate::dirs::DataDir::open(Some(dir.path()), |_| None).unwrap();
        let folder = data.session(&crate::session::SessionId::random());
        fs::create_dir(folder.root()).unwrap();
        settle(&folder).unwrap();
        begin(&folder).unwrap();
        assert!(is_open(&folder));
        end(&folder);
        assert!(!is_open(&folder));

        let age = |age: Duration| {
            let file = fs::File::options().write(true).open(folder.in_doubt()).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        };
        begin(&folder).unwrap();
        // The engine was away for a day: what counts is how long it has been answering.
        age(Duration::from_secs(86_400));
        settle(&folder).unwrap();
        age(SETTLED - Duration::from_secs(9));
        settle(&folder).unwrap();
        assert!(is_open(&folder));
        age(SETTLED);
        settle(&folder).unwrap();
        assert!(!is_open(&folder));
    }
}
