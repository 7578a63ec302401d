//! `aigo serve` as a child process on a test's own data directory, and its API.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::engine;
use crate::home::Home;
use crate::host::{PATIENCE, wait_until};
use crate::http::{Reply, Request, StreamEvent};

/// Under which everything but health and metrics lies.
pub const API: &str = "/api/v1/container";

/// What a debug build reads to die at a point, see `supervisor::failpoint`.
const FAILPOINT: &str = "AIGO_FAILPOINT";

/// The daemon; killed with this value if it still runs.
#[derive(Debug)]
pub struct Service {
    child: Child,
    address: Option<SocketAddr>,
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts it, and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(home: &Home) -> Self {
        let service = Self::spawn(home, None, None);
        assert!(service.address.is_some(), "aigo serve: {}", service.said());
        service
    }

    /// Starts one that dies when it comes to a point (see `supervisor::failpoint`), and waits until it serves or is dead.
    pub fn failing_at(home: &Home, point: &str) -> Self {
        Self::spawn(home, Some(point), None)
    }

    /// The same with a configuration of its own.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn configured(home: &Home, config: &Path) -> Self {
        let service = Self::spawn(home, None, Some(config));
        assert!(service.address.is_some(), "aigo serve: {}", service.said());
        service
    }

    fn spawn(home: &Home, point: Option<&str>, config: Option<&Path>) -> Self {
        let socket = home.data().join("aigo.sock");
        let mut command = home.aigo_command(["serve", "--listen", "127.0.0.1:0", "--socket"]);
        command.arg(socket).arg("--data-dir").arg(home.data());
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        if let Some(point) = point {
            command.env(FAILPOINT, point);
        }
        Self::launch(command)
    }

    /// Starts a command that is, or becomes, `aigo serve`, and waits until it serves or is dead.
    ///
    /// # Panics
    /// If there is no such program.
    pub fn launch(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("aigo can be started");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe was asked for"));
        let said = Arc::new(Mutex::new(String::new()));
        let (told, address) = mpsc::channel();
        let shared = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(rest) = line.split_once("aigo serves http://").map(|(_, rest)| rest) {
                    let address = rest.split(' ').next().and_then(|address| address.parse::<SocketAddr>().ok());
                    // Nobody waits for a second one.
                    let _ = told.send(address);
                }
                let mut said = shared.lock().expect("no holder panics");
                said.push_str(&line);
                said.push('\n');
            }
        });
        // The sender goes with the reader, when the daemon has ended.
        let address = address.recv_timeout(PATIENCE).ok().flatten();
        Self { child, address, said, reader: Some(reader) }
    }

    /// What it has said on its standard error.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn said(&self) -> String {
        self.said.lock().expect("no holder panics").clone()
    }

    /// Where it serves; `None` if it died before.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("pids are positive numbers of 31 bits"))
    }

    /// Asks for something.
    ///
    /// # Panics
    /// If no answer comes.
    pub fn ask(&self, request: &Request) -> Reply {
        let address = self.address.expect("it serves");
        request.ask(address).unwrap_or_else(|error| panic!("{request:?}: {error}; it said: {}", self.said()))
    }

    /// `GET` below [`API`], or of a path that begins with `//` below the root.
    pub fn get(&self, path: &str) -> Reply {
        self.ask(&Request::new("GET", &place(path)))
    }

    /// `POST` of JSON below [`API`].
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask(&Request::new("POST", &place(path)).json(body))
    }

    /// Starts a session: its id.
    ///
    /// # Panics
    /// If it is refused.
    pub fn create(&self, session: &Value) -> String {
        let reply = self.post("/sessions", session);
        assert_eq!(reply.status, 201, "{reply:?}");
        text(&reply.json()["id"])
    }

    /// The sessions that it knows, newest first.
    ///
    /// # Panics
    /// If it tells none.
    pub fn sessions(&self) -> Vec<Value> {
        let reply = self.get("/sessions?limit=500");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["items"].as_array().cloned().unwrap_or_default()
    }

    /// The events of a session after a number, until its end, or the service's.
    ///
    /// # Panics
    /// If there is no such stream.
    pub fn events(&self, session: &str, after: u64) -> Vec<StreamEvent> {
        self.watch(session, after).collect()
    }

    /// The same as they come.
    ///
    /// # Panics
    /// If there is no such stream.
    pub fn watch(&self, session: &str, after: u64) -> crate::http::Stream {
        let request = Request::new("GET", &place(&format!("/sessions/{session}/events")));
        let request = if after == 0 { request } else { request.header("last-event-id", &after.to_string()) };
        request.stream(self.address.expect("it serves")).expect("an event stream")
    }

    /// Waits until the session has ended, and everything of it is let go: what it is then.
    pub fn wait_for_end(&self, home: &Home, session: &str) -> Value {
        let ended = wait_until("the end of the session", || {
            let session = self.get(&format!("/sessions/{session}")).json();
            session["endedAt"].is_string().then_some(session)
        });
        wait_until("the session's folder to go", || (!home.sessions().iter().any(|id| id == session)).then_some(()));
        ended
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        self.reap();
    }

    /// Waits until it has died by itself: whether SIGKILL was how.
    pub fn died(mut self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let child = &mut self.child;
        let status = wait_until("the death of the service", || child.try_wait().ok().flatten());
        self.reap();
        status.signal() == Some(Signal::SIGKILL as i32)
    }

    /// SIGTERM: how it ended.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(mut self) -> ExitStatus {
        kill(self.pid(), Signal::SIGTERM).expect("our own child");
        let child = &mut self.child;
        wait_until("the end of the service", || child.try_wait().ok().flatten())
    }

    fn reap(&mut self) {
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            // It ends with the pipe, and has nothing that panics.
            let _ = reader.join();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.reap();
        if std::thread::panicking() {
            eprintln!("aigo serve said:\n{}", self.said());
        }
    }
}

fn place(path: &str) -> String {
    match path.strip_prefix("//") {
        Some(rest) => format!("/{rest}"),
        None => format!("{API}{path}"),
    }
}

/// A JSON string.
///
/// # Panics
/// If it is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// A session of a shell script as agent, small enough that many fit on a host.
pub fn command(home: &Home, script: &str) -> Value {
    json!({
        "workspace": home.workspace(), "image": engine::image(), "limits": {"memoryBytes": 64 << 20},
        "program": {"type": "command", "argv": ["sh", "-c", script]},
    })
}

/// A session of the real Claude Code, whose model answers from a script.
pub fn claude(home: &Home, prompt: &str, script: &crate::Script) -> Value {
    let file = home.write(&crate::host::unique("script"), script.text());
    json!({
        "workspace": home.workspace(), "image": engine::image(), "prompt": prompt,
        "model": {"source": "replay", "file": file},
    })
}
