//! What the tests of this crate share: a session's directory with both faces on it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipc_protocol::host::{HostDirs, HostIpc};
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
        let dirs = HostDirs::below(temp.path());
        let host = HostIpc::create(&dirs, None).unwrap();
        let runner = RunnerIpc::open(&dirs.mailbox, &dirs.record).unwrap();
        Self { temp, host, runner }
    }

    /// A path in the mailbox, or that of the journal or the heartbeat in the record.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        let is_record = below.starts_with("events") || below == "status.json";
        self.temp.path().join(if is_record { "record" } else { "ipc" }).join(below)
    }

    /// Names in a folder, sorted, without dot files.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        names(&self.path(folder))
    }

    /// Reasons of the dead letters, oldest first.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let dead = self.temp.path().join("dead-letters");
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

/// Some attacks need root to be staged. Elsewhere the test says that it was skipped, and why.
pub(crate) fn is_root_or_skipped(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: {what}: needs root to be staged");
    }
    root
}

/// Runs `work`, which must not take longer than a supervisor may be unresponsive.
pub(crate) fn promptly<T>(work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    assert!(begun.elapsed() < Duration::from_secs(2), "took {:?}", begun.elapsed());
    result
}

/// Valid bytes that no mailbox may deliver, since they are not in it.
pub(crate) const SECRET: &str = r#"{"type":"message","text":"host secret"}"#;

/// A file outside of the IPC directory, and a check that nobody has touched it.
pub(crate) struct Outside(pub(crate) PathBuf);

impl Outside {
    pub(crate) fn new(session: &Session) -> Self {
        let dir = session.temp.path().join("outside");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("secret.json"), SECRET).unwrap();
        Self(dir)
    }

    pub(crate) fn secret(&self) -> PathBuf {
        self.0.join("secret.json")
    }

    pub(crate) fn assert_untouched(&self) {
        assert_eq!(names(&self.0), ["secret.json"]);
        assert_eq!(std::fs::read_to_string(self.secret()).unwrap(), SECRET);
    }
}

/// A file system of its own, of this many bytes; removed at the end.
pub(crate) struct Tmpfs(pub(crate) PathBuf);

impl Tmpfs {
    pub(crate) fn mount(at: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let options = format!("size={size}");
        nix::mount::mount(Some("tmpfs"), &at, Some("tmpfs"), nix::mount::MsFlags::empty(), Some(options.as_str()))
            .expect("root can mount a tmpfs");
        Self(at)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
