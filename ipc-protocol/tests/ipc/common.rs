//! What the tests of this crate share: a session's directory with both faces on it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ipc_protocol::host::HostIpc;
use ipc_protocol::input::{Input, Message};
use ipc_protocol::runner::RunnerIpc;
use tempfile::TempDir;

pub(crate) struct Session {
    pub(crate) temp: TempDir,
    pub(crate) host: HostIpc,
    pub(crate) runner: RunnerIpc,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    pub(crate) fn at(temp: TempDir) -> Self {
        let host = HostIpc::create(&temp.path().join("ipc"), &temp.path().join("dead"), None).unwrap();
        let runner = RunnerIpc::open(&temp.path().join("ipc")).unwrap();
        Self { temp, host, runner }
    }

    /// A path as an agent would write to it.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.temp.path().join("ipc").join(below)
    }

    /// Names in a folder, sorted, without dot files.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        names(&self.path(folder))
    }

    /// Reasons of the dead letters, oldest first.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let dead = self.temp.path().join("dead");
        let notes = names(&dead).into_iter().filter(|name| name.ends_with(".reason.json"));
        notes
            .map(|name| {
                let note: serde_json::Value = serde_json::from_slice(&std::fs::read(dead.join(name)).unwrap()).unwrap();
                note["reason"].as_str().unwrap().to_owned()
            })
            .collect()
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

pub(crate) fn text(text: &str) -> Input {
    Input::Message(Message { text: text.to_owned(), ..Message::default() })
}

pub(crate) fn os(name: &str) -> &OsStr {
    OsStr::new(name)
}

pub(crate) const MESSAGE: &str = r#"{"type":"message","text":"hello"}"#;

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
