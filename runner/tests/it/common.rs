//! Runs the real binary against an IPC directory in a temporary folder, as the host would.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipc_protocol::PROTOCOL_VERSION;
use ipc_protocol::config::{AgentSpec, CONFIG_ENV, CommandOutput, Identity, Layout, RunnerConfig};
use ipc_protocol::event::{Event, EventKind};
use ipc_protocol::exit::RunnerExit;
use ipc_protocol::host::{HostDirs, HostIpc};
use ipc_protocol::input::{Input, Message};
use ipc_protocol::journal::{Cursor, Reader};
use ipc_protocol::mailbox::Outbox;

/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A temporary "container".
pub(crate) struct Place {
    pub(crate) folder: Rc<tempfile::TempDir>,
    pub(crate) config: RunnerConfig,
    pub(crate) env: BTreeMap<String, String>,
    host: HostIpc,
}

/// A started runner.
pub(crate) struct Runner {
    pub(crate) child: Child,
    pub(crate) events: Vec<Event>,
    pub(crate) outbox: Outbox,
    reader: Reader,
    /// Keeps the place, which may be a temporary of the test's.
    folder: Rc<tempfile::TempDir>,
    /// Remove segments that were read, as the host does.
    pub(crate) prune: bool,
}

impl Place {
    /// For an agent that is a shell command.
    pub(crate) fn sh(script: &str) -> Self {
        Self::command(&["/bin/sh", "-c", script], CommandOutput::Lines)
    }

    pub(crate) fn command(argv: &[&str], output: CommandOutput) -> Self {
        Self::new(AgentSpec::Command { argv: argv.iter().map(|&arg| arg.to_owned()).collect(), output })
    }

    pub(crate) fn new(agent: AgentSpec) -> Self {
        let folder = Rc::new(tempfile::tempdir().unwrap());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        for name in ["workspace", "etc"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let layout = Layout {
            workspace: path("workspace"),
            ipc: path("ipc"),
            record: path("record"),
            home: path("home"),
            etc: path("etc"),
        };
        let host = HostIpc::create(&HostDirs::below(folder.path()), None).unwrap();
        let config = RunnerConfig {
            version: PROTOCOL_VERSION,
            session: "s1".into(),
            agent,
            identity: Identity { uid: 0, gid: 0 },
            preflight_url: None,
            term_grace_ms: 300,
            mounts: Vec::new(),
            layout,
        };
        Self { folder, config, env: BTreeMap::new(), host }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the runner; `cursor` is where the host reads on.
    pub(crate) fn start_at(&self, cursor: Cursor) -> Runner {
        let child = Command::new(env!("CARGO_BIN_EXE_aigo-runner"))
            .env(CONFIG_ENV, serde_json::to_string(&self.config).unwrap())
            .envs(&self.env)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (outbox, reader) = (self.host.input().unwrap(), self.host.journal(cursor));
        Runner { child, events: Vec::new(), outbox, reader, folder: Rc::clone(&self.folder), prune: true }
    }

    pub(crate) fn start(&self) -> Runner {
        self.start_at(Cursor::START)
    }

    pub(crate) fn host(&self) -> &HostIpc {
        &self.host
    }
}

impl Runner {
    pub(crate) fn send(&mut self, id: &str, text: &str) {
        let message = Message { text: text.into(), ..Message::default() };
        self.outbox.send(Some(id.parse().unwrap()), Input::Message(message)).unwrap();
    }

    /// Removes all inputs that wait, as a command of the agent may.
    pub(crate) fn lose_inputs(&self) {
        for entry in fs::read_dir(self.folder.path().join("ipc/input")).unwrap().flatten() {
            // The runner may have removed it meanwhile.
            let _ = fs::remove_file(entry.path());
        }
    }

    pub(crate) fn interrupt(&mut self, id: &str) {
        self.outbox.send(Some(id.parse().unwrap()), Input::Interrupt {}).unwrap();
    }

    /// Reads what is in the journal.
    pub(crate) fn read(&mut self) {
        loop {
            let batch = self.reader.read();
            assert!(batch.fault.is_none(), "{:?}", batch.fault);
            let more = batch.again_in == Some(Duration::ZERO);
            self.events.extend(batch.events);
            if self.prune {
                self.reader.prune(batch.cursor).unwrap();
            }
            if !more {
                return;
            }
        }
    }

    pub(crate) fn cursor(&mut self) -> Cursor {
        self.reader.read().cursor
    }

    /// Reads until an event fits; panics with the journal at the deadline.
    pub(crate) fn until(&mut self, what: &str, fits: impl Fn(&EventKind) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.read();
            if self.events.iter().any(|event| fits(&event.kind)) {
                return;
            }
            assert!(Instant::now() < deadline, "no {what} in {:#?}", self.events);
            sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn until_ready(&mut self) {
        self.until("ready", |kind| matches!(kind, EventKind::Ready {}));
    }

    pub(crate) fn until_accepted(&mut self, id: &str) {
        self.until(id, |kind| matches!(kind, EventKind::InputAccepted { id: accepted } if accepted == id));
    }

    pub(crate) fn until_text(&mut self, text: &str) {
        self.until(text, |kind| matches!(kind, EventKind::Text { body, .. } if body.text == text));
    }

    /// Waits for the runner's end, and reads the rest.
    pub(crate) fn end(&mut self) -> RunnerExit {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            self.read();
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the runner does not end: {:#?}", self.events);
            sleep(Duration::from_millis(5));
        };
        self.read();
        RunnerExit::from_code(status.code().unwrap().into()).unwrap()
    }

    pub(crate) fn texts(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::Text { body, .. } => Some(body.text.as_str()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn accepted(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::InputAccepted { id } => Some(id.as_str()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn dropped(&self) -> Vec<(&str, &str)> {
        self.events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::InputDropped { id, reason } => Some((id.as_str(), reason.as_str())),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn has(&self, fits: impl Fn(&EventKind) -> bool) -> bool {
        self.events.iter().any(|event| fits(&event.kind))
    }

    /// Sends a signal to the runner itself.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub(crate) fn until_gone(pid: u32) {
    let deadline = Instant::now() + DEADLINE;
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        sleep(Duration::from_millis(5));
    }
}
