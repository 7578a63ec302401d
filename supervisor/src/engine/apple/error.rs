//! From the command's words to our closed set of errors.
//!
//! It prints `Error: code: "message" (cause: …)`, with codes such as `notFound` and `exists`, and ends with 1, or with 64
//! for a command line that it does not understand. The texts vary with the version; only what is told here is read.

use std::io;
use std::path::Path;

use super::cli::Answer;
use crate::engine::error::clip;
use crate::engine::{Backend, EngineError};

const START: &str = "start it: container system start";
const INSTALL: &str =
    "install Apple Container 0.2 or newer (macOS 15 or newer on Apple silicon), then: container system start";
/// What a command says whose service is not there; the second is what `system status` prints.
const AWAY: [&str; 3] = ["XPC connection error", "apiserver is not running", "container system start"];

/// What the engine cannot do at all.
pub(super) fn unsupported(what: impl Into<String>, remedy: &'static str) -> EngineError {
    EngineError::Unsupported { backend: Backend::AppleContainer, what: what.into(), remedy }
}

/// The program could not be run.
pub(super) fn cannot_run(program: &Path, error: &io::Error) -> EngineError {
    EngineError::Unreachable { endpoint: program.display().to_string(), reason: error.to_string(), remedy: INSTALL }
}

/// Where Apple Container cannot be.
pub(super) fn absent(endpoint: &str, reason: &str) -> EngineError {
    EngineError::Unreachable { endpoint: endpoint.to_owned(), reason: reason.to_owned(), remedy: INSTALL }
}

/// The service behind the command does not answer.
pub(super) fn service_away(program: &Path, answer: &Answer) -> Option<EngineError> {
    let words = answer.complaint();
    AWAY.iter().any(|away| words.contains(away)).then(|| EngineError::Unreachable {
        endpoint: program.display().to_string(),
        reason: "its service is not running".to_owned(),
        remedy: START,
    })
}

/// A failure that nothing more is known of.
pub(super) fn refused(what: &'static str, answer: &Answer) -> EngineError {
    let words = answer.complaint();
    let words = words.strip_prefix("Error: ").unwrap_or(&words);
    if words.to_lowercase().contains("no space left on device") {
        return EngineError::NoSpace { what, message: clip(words) };
    }
    let message = match (words.is_empty(), answer.code) {
        (false, _) => clip(words),
        (true, Some(code)) => format!("`container` ended with {code} and said nothing; see: container system logs"),
        (true, None) => "`container` was killed; see: container system logs".to_owned(),
    };
    EngineError::Refused { what, message }
}

/// Whether the command says that what it was asked for is there already.
pub(super) fn is_conflict(answer: &Answer) -> bool {
    let words = answer.complaint();
    words.contains("exists: \"") || words.contains("already exists")
}

/// Whether the command says that something does not exist.
pub(super) fn is_missing(answer: &Answer) -> bool {
    let words = answer.complaint().to_lowercase();
    words.contains("notfound:") || words.contains("not found")
}

/// An answer that is not of the documented form.
pub(super) fn malformed(what: &'static str, error: &serde_json::Error) -> EngineError {
    EngineError::Malformed { what, message: format!("`container` printed no JSON of a known form: {error}") }
}
