//! Running the command: no shell, a deadline on each run, nothing of our environment, and bounded output.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::error;
use crate::engine::output::Tail;
use crate::engine::{EngineError, deadline};

/// The longest answer that is read: a list of some thousand containers.
const MAX_ANSWER: usize = 16 << 20;
/// Bytes of what the command complains that are kept, the last ones.
const MAX_COMPLAINT: usize = 16 << 10;
/// What is read at a time.
const PIECE: usize = 16 << 10;

/// What the command needs of our environment. Anything else stays away: a variable without a value would be filled from
/// its own environment and handed to the container.
const PASSED_ON: [&str; 5] = ["HOME", "USER", "LOGNAME", "PATH", "TMPDIR"];

/// The command.
#[derive(Debug, Clone)]
pub(super) struct Cli {
    program: PathBuf,
}

/// What a run ended with.
#[derive(Debug)]
pub(super) struct Answer {
    /// `None` after a signal.
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    /// Whether something was left out.
    pub(super) truncated: bool,
    pub(super) stderr: Vec<u8>,
}

impl Answer {
    pub(super) fn is_good(&self) -> bool {
        self.code == Some(0)
    }

    /// What it said of a failure: mostly on standard error, but of its service on standard output.
    pub(super) fn complaint(&self) -> String {
        let words = String::from_utf8_lossy(&self.stderr);
        let words = words.trim();
        if words.is_empty() { String::from_utf8_lossy(&self.stdout).trim().to_owned() } else { words.to_owned() }
    }
}

/// How much of standard output is wanted.
#[derive(Debug, Clone, Copy)]
enum Keep {
    /// All of it, or a failure.
    Whole,
    /// The last so many bytes.
    Last(usize),
}

impl Cli {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Runs it to its end, whatever that is. `what` completes "when asked to …".
    pub(super) async fn run<S: AsRef<str>>(
        &self,
        what: &'static str,
        limit: Duration,
        args: &[S],
    ) -> Result<Answer, EngineError> {
        deadline::within(what, limit, self.collect(what, args, Keep::Whole)).await
    }

    /// As [`Cli::run`], with the end of an output of any length.
    pub(super) async fn run_tail<S: AsRef<str>>(
        &self,
        what: &'static str,
        limit: Duration,
        args: &[S],
        max: usize,
    ) -> Result<Answer, EngineError> {
        deadline::within(what, limit, self.collect(what, args, Keep::Last(max))).await
    }

    /// Runs it, and any end but a good one is an error.
    pub(super) async fn ask<S: AsRef<str>>(
        &self,
        what: &'static str,
        limit: Duration,
        args: &[S],
    ) -> Result<Answer, EngineError> {
        let answer = self.run(what, limit, args).await?;
        if answer.is_good() { Ok(answer) } else { Err(error::refused(what, &answer)) }
    }

    async fn collect<S: AsRef<str>>(&self, what: &'static str, args: &[S], keep: Keep) -> Result<Answer, EngineError> {
        let mut command = self.command(args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A caller that leaves, or a deadline, ends it.
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error::cannot_run(&self.program, &error))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let broken = |error: io::Error| EngineError::Lost { what, reason: error.to_string() };
        let keep_of_stderr = match keep {
            Keep::Whole => Keep::Last(MAX_COMPLAINT),
            Keep::Last(max) => Keep::Last(max),
        };
        let (stdout, stderr) =
            tokio::try_join!(drain(out, keep), drain(err, keep_of_stderr)).map_err(|error| match error {
                Broken::TooLong => EngineError::Malformed {
                    what,
                    message: format!("`container` printed more than {} MiB", MAX_ANSWER >> 20),
                },
                Broken::Read(error) => broken(error),
            })?;
        let status = child.wait().await.map_err(broken)?;
        let ((stdout, cut), (stderr, cut_too)) = (stdout, stderr);
        let answer = Answer { code: status.code(), stdout, truncated: cut || cut_too, stderr };
        match keep {
            Keep::Whole if !answer.is_good() => match error::service_away(&self.program, &answer) {
                Some(away) => Err(away),
                None => Ok(answer),
            },
            // What a container printed says nothing of the service.
            Keep::Whole | Keep::Last(_) => Ok(answer),
        }
    }

    /// Starts a run that outlives us, in a process group of its own, so that neither our end nor a key on the terminal ends
    /// it. It prints to nowhere: a pipe that broke with us could end what it attends.
    pub(super) fn spawn_lasting(&self, args: &[&str]) -> Result<Child, EngineError> {
        self.command(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| error::cannot_run(&self.program, &error))
    }

    /// Starts a run whose standard error is read as it comes.
    pub(super) fn spawn_told<S: AsRef<str>>(&self, args: &[S]) -> Result<Child, EngineError> {
        self.command(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error::cannot_run(&self.program, &error))
    }

    fn command<S: AsRef<str>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args.iter().map(AsRef::as_ref)).env_clear().stdin(Stdio::null());
        command.envs(PASSED_ON.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command
    }
}

#[derive(Debug)]
enum Broken {
    TooLong,
    Read(io::Error),
}

/// Reads to the end, within bounds.
async fn drain<R: AsyncRead + Unpin>(from: Option<R>, keep: Keep) -> Result<(Vec<u8>, bool), Broken> {
    let Some(mut from) = from else { return Ok((Vec::new(), false)) };
    let max = match keep {
        Keep::Whole => MAX_ANSWER,
        Keep::Last(max) => max,
    };
    let mut kept = Tail::new(max);
    let mut total = 0;
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).await.map_err(Broken::Read)?;
        if count == 0 {
            return Ok(kept.finish());
        }
        total += count;
        match keep {
            Keep::Whole if total > MAX_ANSWER => return Err(Broken::TooLong),
            Keep::Whole | Keep::Last(_) => kept.push(&piece[..count]),
        }
    }
}
