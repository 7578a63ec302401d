//! The boot phases, in the order of [`SetupStep`]; each is told to the journal as `setup_step`.
//!
//! ```text
//! 1 config ─► 2 ipc ─► 3 identity ─► 4 home ─► 5 workspace ─► 6 preflight ─► 7 agent
//! └── before the journal is there ──┘ └──────────── here ───────────────────┘ └ session
//! ```
//! A phase is done (perhaps with something to know), skipped, or failed with a sentence that names the remedy; the first
//! failure ends the session.

pub(crate) mod access;
mod accounts;
mod git;
mod home;
mod identity;
mod mounts;
mod preflight;
pub(crate) mod private;
mod workspace;

use std::path::PathBuf;

use ipc_protocol::clip::ClippedText;
use ipc_protocol::config::RunnerConfig;
use ipc_protocol::event::{EventKind, SetupStep, StepState};
use ipc_protocol::limits::MAX_SHORT_BYTES;

use crate::record::{Record, RecordError};

pub(crate) use preflight::explain;

/// Whom the agent runs as, and where it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// Its name for `USER` and `LOGNAME`.
    pub(crate) name: &'static str,
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Its home folder.
    pub(crate) home: PathBuf,
}

/// How a phase ended that did not fail.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Done,
    /// Done, with something to know.
    Noted(String),
    Skipped(&'static str),
}

impl Phase {
    /// The phase with more to know about it.
    fn with_notes(self, notes: impl Iterator<Item = String>) -> Self {
        let own = match self {
            Self::Done => None,
            Self::Noted(note) => Some(note),
            Self::Skipped(_) => return self,
        };
        let notes: Vec<String> = own.into_iter().chain(notes).collect();
        if notes.is_empty() { Self::Done } else { Self::Noted(notes.join("; ")) }
    }
}

/// Why the session does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// A phase failed; the journal has it.
    #[error("{0}")]
    Failed(String),
    /// The journal cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Phases 3 to 6.
pub(crate) async fn prepare(config: &RunnerConfig, record: &mut Record) -> Result<User, BootError> {
    let (identity, layout) = (config.identity, &config.layout);
    // Before anything else looks into a mounted folder.
    let compared = match mounts::compare(&config.mounts, &layout.record) {
        Ok(note) => note,
        Err(mismatch) => {
            record.add(mismatch.event())?;
            tell(record, SetupStep::Workspace, Err(mismatch.sentence))?;
            None
        }
    };
    tell(record, SetupStep::Identity, identity::make(identity, layout))?;
    let (user, phase) = home::make(identity, layout);
    tell(record, SetupStep::Home, phase)?;
    let hidden = git::hide(&config.mounts, layout);
    let checked = workspace::check(&user, &layout.workspace);
    tell(record, SetupStep::Workspace, checked.map(|phase| phase.with_notes(compared.into_iter().chain(hidden))))?;
    let answers = match &config.preflight_url {
        None => Ok(Phase::Skipped("no credential proxy is configured")),
        Some(url) => preflight::check(url).await,
    };
    tell(record, SetupStep::Preflight, answers)?;
    Ok(user)
}

/// Reports a phase; a failed one is an error.
fn tell(record: &mut Record, step: SetupStep, result: Result<Phase, String>) -> Result<(), BootError> {
    let (state, detail) = match &result {
        Ok(Phase::Done) => (StepState::Done, None),
        Ok(Phase::Noted(note)) => (StepState::Done, Some(note.clone())),
        Ok(Phase::Skipped(why)) => (StepState::Skipped, Some((*why).to_owned())),
        Err(error) => (StepState::Failed, Some(error.clone())),
    };
    record.add(step_event(step, state, detail))?;
    result.map(|_| ()).map_err(BootError::Failed)
}

/// The event of a boot phase.
pub(crate) fn step_event(step: SetupStep, state: StepState, detail: Option<String>) -> EventKind {
    EventKind::SetupStep { step, state, detail: detail.map(|text| ClippedText::new(text, MAX_SHORT_BYTES).text) }
}
