//! What can be wrong with a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::list::Origin;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A person without a home.
    #[error("no place for the configuration: neither HOME nor the XDG directories are set; name a file with --config")]
    NoHome,
    /// The file cannot be read.
    #[error(
        "cannot read the configuration {path}; name another one with --config, or make it with `aigo config show --default`"
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else could decide what the service does.
    #[error("everybody may write the configuration {path}: chmod o-w {path}")]
    Writable {
        /// Which.
        path: PathBuf,
    },
    /// Keys or values are wrong.
    #[error("{}", lines(.0))]
    Bad(Vec<Problem>),
}

/// One thing that is wrong, with its place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where: told as `FILE:LINE`, the variable or the flag.
    #[serde(serialize_with = "as_text")]
    pub place: Origin,
    /// What is wrong, and what is allowed.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// In the order in which people look for them: the file by its lines, the environment, the flags.
pub(super) fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| match &problem.place {
        Origin::File { line, .. } => (0, *line),
        Origin::Environment { .. } => (1, 0),
        Origin::Flag { .. } => (2, 0),
        Origin::Default => (3, 0),
    });
    problems
}

fn as_text<S: serde::Serializer>(place: &Origin, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(place)
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
