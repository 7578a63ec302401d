//! Words for the container's log (stderr), for when the journal is not there to take them.

use std::fmt::Display;
use std::io::{Write as _, stderr};

/// Writes one line. A log that nobody reads any more must not end the session, as `eprintln!` would.
pub(crate) fn say(what: impl Display) {
    let _ = writeln!(stderr(), "aigo-runner: {what}");
}
