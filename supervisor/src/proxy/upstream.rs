//! Where answers come from: a real API, a real API with a recording, or a script.

use std::path::PathBuf;

use super::access::ModelAccess;
use super::connector::TlsRoots;
use super::limits::Limits;
use super::live::Live;
use super::record::Recorder;
use super::replay::{Replay, ReplaySpeed, Script};

/// What a proxy is started with.
#[derive(Debug)]
pub enum Upstream {
    /// The model API.
    Live(LiveUpstream),
    /// The model API, with every exchange kept in a file.
    Record(LiveUpstream, Recorder),
    /// Answers from a script, in the order of the requests; no credential and no network.
    Replay(Script, ReplaySpeed),
}

impl Upstream {
    /// Keeps the place in a script in a file, see [`Script::kept_in`]; nothing else has one.
    #[must_use]
    pub fn kept_in(self, file: PathBuf) -> Self {
        match self {
            Self::Replay(script, speed) => Self::Replay(script.kept_in(file), speed),
            other @ (Self::Live(_) | Self::Record(..)) => other,
        }
    }
}

/// A real upstream.
#[derive(Clone, Debug)]
pub struct LiveUpstream {
    /// Address and credential.
    pub access: ModelAccess,
    /// Whom to trust to be that address.
    pub roots: TlsRoots,
}

/// The same, ready to answer.
#[derive(Debug)]
pub(super) enum Handler {
    Live(Live),
    Record(Live, Recorder),
    Replay(Replay),
}

impl Handler {
    pub(super) fn new(upstream: Upstream, limits: &Limits) -> Self {
        let live = |upstream: LiveUpstream| Live::new(upstream.access, upstream.roots, limits);
        match upstream {
            Upstream::Live(upstream) => Self::Live(live(upstream)),
            Upstream::Record(upstream, recorder) => Self::Record(live(upstream), recorder),
            Upstream::Replay(script, speed) => Self::Replay(Replay::new(script, speed)),
        }
    }

    /// The real upstream, if there is one.
    pub(super) fn live(&self) -> Option<&Live> {
        match self {
            Self::Live(live) | Self::Record(live, _) => Some(live),
            Self::Replay(_) => None,
        }
    }
}
