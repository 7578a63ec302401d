//! A running container as its script sees it.

use std::path::PathBuf;
use std::sync::Weak;

use tokio::sync::mpsc;

use super::state::Shared;
use crate::engine::{ContainerId, ContainerSpec, EventKind, MountSource, Signal};

/// The inside of one run. Kept by the script for as long as it works.
#[derive(Debug)]
pub struct FakeRun {
    pub id: ContainerId,
    /// What the container was created with.
    pub spec: ContainerSpec,
    /// Signals but SIGKILL, in order; what is not taken, or comes too fast, is ignored.
    pub signals: mpsc::Receiver<Signal>,
    pub(super) shared: Weak<Shared>,
}

impl FakeRun {
    /// The host's path of what is mounted at `target`, if it is a folder or file of the host.
    #[must_use]
    pub fn host_path(&self, target: &str) -> Option<PathBuf> {
        self.spec.mounts.iter().find(|mount| mount.target == target).and_then(|mount| match &mount.source {
            MountSource::Bind(path) => Some(path.clone()),
            MountSource::Volume { .. } | MountSource::Tmpfs { .. } => None,
        })
    }

    /// The command line: entry point and command of the spec.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        self.spec.entrypoint.iter().chain(&self.spec.command).flatten().cloned().collect()
    }

    /// Writes to the container's standard output.
    pub fn print(&self, text: &str) {
        self.with(|container| container.stdout.extend_from_slice(text.as_bytes()));
    }

    /// Writes to the container's standard error.
    pub fn eprint(&self, text: &str) {
        self.with(|container| container.stderr.extend_from_slice(text.as_bytes()));
    }

    /// Has the kernel kill a process of the container for memory. The script goes on; one whose first process was the
    /// victim returns 137.
    pub fn oom(&self) {
        self.with(|container| container.oom_killed = true);
        if let Some(shared) = self.shared.upgrade() {
            shared.lock().emit(&self.id, EventKind::Oom);
        }
    }

    /// Waits for one of `wanted`; others that come meanwhile are dropped, as by a process that ignores them.
    pub async fn signalled(&mut self, wanted: &[Signal]) -> Signal {
        loop {
            match self.signals.recv().await {
                Some(signal) if wanted.contains(&signal) => return signal,
                Some(_) => {}
                // The container is gone; so is this task, any moment.
                None => std::future::pending::<()>().await,
            }
        }
    }

    fn with(&self, act: impl FnOnce(&mut super::container::FakeContainer)) {
        if let Some(shared) = self.shared.upgrade()
            && let Ok(container) = shared.lock().find_mut(&self.id.0)
        {
            act(container);
        }
    }
}
