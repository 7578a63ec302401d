//! `aigo run` as a child process.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use supervisor::session::event::{HostEvent, SessionEvent, Summary};
use supervisor::session::status::{Ending, Status};

use crate::engine;
use crate::expect::Expect;
use crate::home::Home;
use crate::host::{PATIENCE, wait_until};
use crate::look::{self, Look};

/// Longest life of a session in a test: beyond it something hangs.
const LONGEST: Duration = Duration::from_secs(120);

/// `aigo run`, not started yet.
#[derive(Debug)]
pub struct Builder<'a> {
    home: &'a Home,
    wrapper: Vec<OsString>,
    flags: Vec<OsString>,
    prompt: Option<OsString>,
    dashes: Vec<OsString>,
    env: Vec<(String, OsString)>,
    workspace: PathBuf,
    output: &'static str,
    stdin: bool,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(home: &'a Home) -> Self {
        Self {
            home,
            wrapper: Vec::new(),
            flags: Vec::new(),
            prompt: None,
            dashes: Vec::new(),
            env: Vec::new(),
            workspace: home.workspace(),
            output: "stream-json",
            stdin: false,
        }
    }

    /// More flags.
    #[must_use]
    pub fn flags(mut self, flags: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.flags.extend(flags.into_iter().map(|flag| flag.as_ref().to_owned()));
        self
    }

    /// The prompt as argument.
    #[must_use]
    pub fn prompt(mut self, prompt: impl AsRef<OsStr>) -> Self {
        self.prompt = Some(prompt.as_ref().to_owned());
        self
    }

    /// No prompt as argument.
    #[must_use]
    pub fn without_prompt(mut self) -> Self {
        self.prompt = None;
        self
    }

    /// What comes after `--`.
    #[must_use]
    pub fn after_dashes(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.dashes = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        self
    }

    /// Another folder than [`Home::workspace`].
    #[must_use]
    pub fn workspace(mut self, workspace: impl Into<PathBuf>) -> Self {
        self.workspace = workspace.into();
        self
    }

    /// Another form than `stream-json`; its output is then in [`Finished::stdout`] only.
    #[must_use]
    pub fn output(mut self, output: &'static str) -> Self {
        self.output = output;
        self
    }

    /// A variable of aigo's own environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Its standard input is a pipe that [`Run::type_line`] writes to; else it is empty.
    #[must_use]
    pub fn with_stdin(mut self) -> Self {
        self.stdin = true;
        self
    }

    /// Lines of standard input are messages, and the session stays open.
    #[must_use]
    pub fn steered(self) -> Self {
        self.with_stdin().flags(["--steer"])
    }

    /// Started by another program that ends in `exec "$@"`, such as `sh -c 'umask 077; exec "$@"' sh`.
    #[must_use]
    pub fn through(mut self, wrapper: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.wrapper = wrapper.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// The command line as it will be run.
    pub fn as_command(&self) -> Command {
        let mut arguments: Vec<OsString> = ["run", "--output", self.output, "--workspace"].map(Into::into).into();
        arguments.push(self.workspace.clone().into());
        if let Some(image) =
            std::env::var_os(engine::IMAGE_VARIABLE).filter(|_| !self.flags.iter().any(|flag| flag == "--image"))
        {
            arguments.extend(["--image".into(), image]);
        }
        arguments.extend(self.flags.iter().cloned());
        arguments.extend(self.prompt.iter().cloned());
        if !self.dashes.is_empty() {
            arguments.push("--".into());
            arguments.extend(self.dashes.iter().cloned());
        }
        let mut command = self.home.aigo_command(arguments);
        if let Some((program, rest)) = self.wrapper.split_first() {
            let mut wrapped = Command::new(program);
            wrapped.args(rest).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
            if let Some(folder) = command.get_current_dir() {
                wrapped.current_dir(folder);
            }
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => wrapped.env(name, value),
                    None => wrapped.env_remove(name),
                };
            }
            command = wrapped;
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn start(self) -> Run<'a> {
        let mut command = self.as_command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.stdin {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().expect("aigo can be started");
        let heard = Arc::new(Heard::default());
        let stdout = child.stdout.take().expect("it is a pipe");
        let mut stderr = child.stderr.take().expect("it is a pipe");
        let listener = Arc::clone(&heard);
        let are_events = self.output == "stream-json";
        let out = std::thread::spawn(move || listener.listen(stdout, are_events));
        let err = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Run { home: self.home, child, heard, readers: Some((out, err)) }
    }

    /// Starts it and stays until its end.
    pub fn finish(self) -> Finished {
        self.start().finish()
    }
}

/// What came from standard output so far.
#[derive(Debug, Default)]
struct Heard {
    state: Mutex<HeardState>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct HeardState {
    events: Vec<SessionEvent>,
    raw: Vec<u8>,
    over: bool,
}

impl Heard {
    fn listen(&self, stdout: impl Read, are_events: bool) {
        for line in BufReader::new(stdout).split(b'\n') {
            let Ok(line) = line else { break };
            let event = are_events.then(|| serde_json::from_slice(&line));
            let mut state = self.state.lock().expect("no holder panics");
            match event {
                Some(Ok(event)) => state.events.push(event),
                // In stream-json whatever is no event is kept for the end, which complains.
                Some(Err(_)) | None => {
                    state.raw.extend(line);
                    state.raw.push(b'\n');
                }
            }
            self.news.notify_all();
        }
        self.state.lock().expect("no holder panics").over = true;
        self.news.notify_all();
    }
}

/// `aigo run`, running.
#[derive(Debug)]
pub struct Run<'a> {
    home: &'a Home,
    child: Child,
    heard: Arc<Heard>,
    readers: Option<(JoinHandle<()>, JoinHandle<String>)>,
}

impl Run<'_> {
    /// Waits until `look` finds something in the events so far.
    ///
    /// # Panics
    /// After [`PATIENCE`] without an event, or when aigo ends without it; with the events so far.
    pub fn wait<T>(&self, what: &str, look: impl Fn(&Vec<SessionEvent>) -> Option<T>) -> T {
        let mut deadline = Instant::now() + PATIENCE;
        let mut known = 0;
        let mut state = self.heard.state.lock().expect("no holder panics");
        loop {
            if let Some(found) = look(&state.events) {
                return found;
            }
            if state.events.len() > known {
                known = state.events.len();
                deadline = Instant::now() + PATIENCE;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.over || left.is_zero() {
                let why = if state.over { "aigo ended without" } else { "waited in vain for" };
                let told = look::tell(&state.events);
                drop(state);
                panic!("{why} {what}; events:\n{told}");
            }
            state = self.heard.news.wait_timeout(state, left).expect("no holder panics").0;
        }
    }

    /// Waits for an event.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&SessionEvent) -> bool) -> SessionEvent {
        // Events are only added: each is looked at once.
        let seen = std::cell::Cell::new(0);
        self.wait(what, |events| {
            let from = seen.replace(events.len());
            events[from..].iter().find(|event| wanted(event)).cloned()
        })
    }

    /// Waits until the agent has said a text that contains `part`.
    pub fn wait_for_text(&self, part: &str) -> SessionEvent {
        self.wait_for(&format!("the text `{part}`"), |event| look::text(event).is_some_and(|text| text.contains(part)))
    }

    /// Waits until the session has this status.
    pub fn wait_for_status(&self, wanted: Status) {
        self.wait_for(
            &format!("the status {wanted}"),
            |event| matches!(look::host(event), Some(HostEvent::Status { status }) if *status == wanted),
        );
    }

    /// Waits until a tool runs.
    pub fn wait_for_tool(&self) {
        self.wait_for("a tool call", |event| {
            matches!(look::runner(event), Some(ipc_protocol::event::EventKind::ToolCall { .. }))
        });
    }

    /// Waits until so many turns have ended.
    pub fn wait_for_turns(&self, count: usize) {
        self.wait(&format!("{count} finished turns"), |events| (events.turns().len() >= count).then_some(()));
    }

    /// The session's id; there must be only one in this home.
    pub fn session(&self) -> String {
        wait_until("the session's folder", || self.home.sessions().pop())
    }

    /// Writes a line to its standard input.
    ///
    /// # Panics
    /// If that is no pipe ([`Builder::with_stdin`]) or closed.
    pub fn type_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it was started with_stdin");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("aigo reads");
    }

    /// Writes bytes to its standard input from a thread of its own, and closes it.
    ///
    /// # Panics
    /// If that is no pipe ([`Builder::with_stdin`]).
    pub fn pour(&mut self, bytes: Vec<u8>) {
        let mut stdin = self.child.stdin.take().expect("it was started with_stdin");
        std::thread::spawn(move || stdin.write_all(&bytes));
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// aigo's process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends aigo a signal.
    ///
    /// # Panics
    /// If it is not there any more.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("aigo runs");
    }

    /// Waits for the end of aigo.
    ///
    /// # Panics
    /// If it takes longer than any session in a test.
    pub fn finish(mut self) -> Finished {
        let deadline = Instant::now() + LONGEST;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            if Instant::now() >= deadline {
                let told = look::tell(&self.heard.state.lock().expect("no holder panics").events);
                panic!("aigo has not ended within {LONGEST:?}; events:\n{told}");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let (out, err) = self.readers.take().expect("taken once");
        out.join().expect("the reader does not panic");
        let stderr = err.join().expect("the reader does not panic");
        let mut state = self.heard.state.lock().expect("no holder panics");
        let (events, stdout) = (std::mem::take(&mut state.events), std::mem::take(&mut state.raw));
        Finished { status, events, stdout, stderr }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // After `finish` this does nothing; in a test that fails it leaves no process behind.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// `aigo run`, ended. Its `Debug` is for people who read why a test failed: one line for each event.
pub struct Finished {
    /// How the process ended.
    pub status: ExitStatus,
    /// All events, if they were printed as `stream-json`.
    pub events: Vec<SessionEvent>,
    /// What else was on standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, events, stdout, stderr } = self;
        let stdout = String::from_utf8_lossy(stdout);
        write!(f, "{status}\n{}standard output: {stdout}\nstandard error: {stderr}", look::tell(events))
    }
}

impl Look for Finished {
    fn events(&self) -> &[SessionEvent] {
        &self.events
    }
}

impl Finished {
    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The end as the last event tells it.
    ///
    /// # Panics
    /// If the last event is something else.
    pub fn ended(&self) -> (Status, &Ending, &Summary) {
        match self.events.last().and_then(look::host) {
            Some(HostEvent::Ended { status, ending, summary }) => (*status, ending, summary),
            _ => panic!("the last event is no end: {self:?}"),
        }
    }

    /// The sentence that goes with the end.
    pub fn detail(&self) -> &str {
        self.ended().1.detail.as_deref().unwrap_or_default()
    }

    /// Checks status, reason and exit code, and that events are numbered without a gap.
    ///
    /// # Panics
    /// If something differs; with everything that is known.
    pub fn expect(self, wanted: Expect) -> Self {
        let (status, ending, _) = self.ended();
        if let Some(difference) = wanted.differs(status, &ending.reason, self.code()) {
            panic!("{difference}: {self:?}");
        }
        let numbered = self.events.iter().zip(1..).all(|(event, number)| event.seq == number);
        assert!(numbered, "the events are not numbered without a gap: {self:?}");
        assert!(self.stdout.is_empty(), "not only events on standard output: {}", self.text());
        self
    }

    /// Checks that nothing was started: the exit code, and what is said about it.
    ///
    /// # Panics
    /// If something differs.
    pub fn expect_refusal(&self, code: i32, says: &str) {
        assert_eq!(self.code(), Some(code), "{self:?}");
        assert!(self.stderr.contains(says), "it does not say `{says}`: {}", self.stderr);
        assert!(self.events.is_empty(), "something was started: {self:?}");
    }
}
