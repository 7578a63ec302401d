//! What this process alone knows of containers: which it has created, which it has started, and how those ended. The command
//! tells an exit code to nobody but the run that started the container.
//!
//! ```text
//! created ──► Life::Created ──start──► Life::Started ──the run ends──► its exit code is the container's
//!                                          │
//!                                          └── aigo ends: the run and the container go on, the code is lost
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::process::Child;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::ContainerId;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// `None` if the run itself was killed, so that nothing is known of the container.
    pub(super) code: Option<i32>,
    pub(super) at: Timestamp,
}

#[derive(Debug)]
enum Life {
    Created,
    Started {
        end: watch::Receiver<Option<End>>,
        /// The list has shown it running.
        seen: bool,
        /// Waits for the run; dropping it leaves the run alone.
        _attendant: AbortOnDropHandle<()>,
    },
}

/// What is known of a container.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// Nothing: it was not started by this process.
    Nothing,
    /// It was created by this process, which has not started it.
    Created,
    /// It was started by this process; the end comes here.
    Started { end: watch::Receiver<Option<End>>, seen: bool },
}

impl Known {
    /// How it ended, if that is known by now.
    pub(super) fn end(&self) -> Option<End> {
        match self {
            Known::Nothing | Known::Created => None,
            Known::Started { end, .. } => *end.borrow(),
        }
    }
}

/// The containers of this process. One entry a container, until it is removed.
#[derive(Debug, Default)]
pub(super) struct Lives {
    all: Mutex<HashMap<ContainerId, Life>>,
}

impl Lives {
    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, Life>> {
        // Nothing is half done where a holder can panic.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn created(&self, id: &ContainerId) {
        self.lock().insert(id.clone(), Life::Created);
    }

    /// Keeps the run that starts a container; what it ends with can be waited for.
    pub(super) fn started(&self, id: &ContainerId, mut run: Child) -> watch::Receiver<Option<End>> {
        let (told, end) = watch::channel(None);
        let attendant = AbortOnDropHandle::new(tokio::spawn(async move {
            let code = run.wait().await.ok().and_then(|status| status.code());
            // Nobody may be left to hear it.
            let _ = told.send(Some(End { code, at: Timestamp::now() }));
        }));
        self.lock().insert(id.clone(), Life::Started { end: end.clone(), seen: false, _attendant: attendant });
        end
    }

    /// The list shows it running.
    pub(super) fn seen(&self, id: &ContainerId) {
        if let Some(Life::Started { seen, .. }) = self.lock().get_mut(id) {
            *seen = true;
        }
    }

    /// A start that did not come about.
    pub(super) fn not_started(&self, id: &ContainerId) {
        if let Some(life) = self.lock().get_mut(id) {
            *life = Life::Created;
        }
    }

    pub(super) fn removed(&self, id: &ContainerId) {
        self.lock().remove(id);
    }

    pub(super) fn of(&self, id: &ContainerId) -> Known {
        match self.lock().get(id) {
            None => Known::Nothing,
            Some(Life::Created) => Known::Created,
            Some(Life::Started { end, seen, .. }) => Known::Started { end: end.clone(), seen: *seen },
        }
    }
}
