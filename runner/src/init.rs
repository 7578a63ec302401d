//! PID 1: no async code, no allocation to speak of, one job.
//!
//! ```text
//! block signals ─► start the worker ─► sigwait ─┬─ SIGCHLD: waitpid(-1) until nobody is left to reap
//!                  (re-exec of itself)     ▲    │             └─ the worker? ─► end what is left ─► its exit code
//!                                          └────┴─ TERM, INT, HUP, QUIT: forward to the worker
//! ```
//!
//! A process that waits for its own children with tokio *and* reaps orphans loses exit codes (a `waitpid(-1)` takes
//! them away), so the two are split. The worker's children are never PID 1's until the worker is gone.
//!
//! Outside a container (tests) it is not PID 1: it then becomes a sub-reaper, and only its own descendants are ended.

mod leftovers;

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use ipc_protocol::config::CONFIG_ENV;
use ipc_protocol::dir::SafeDir;
use ipc_protocol::exit::RunnerExit;
use ipc_protocol::paths::{CONTAINER_IPC_DIR, CONTAINER_RECORD_DIR};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use crate::log::say;
use leftovers::Territory;

/// The runner itself, also where nothing else is mounted; `/proc` is there in every container.
pub(crate) const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// The internal argument that makes a process the worker.
pub(crate) const WORKER_ARG: &str = "__worker";

/// What is forwarded to the worker.
const FORWARDED: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// Entries of each of the session's folders that get another owner at the end: more than an agent leaves there by mistake, in
/// some hundred milliseconds at most.
const HANDED_OVER: usize = 20_000;

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// The environment lacks the configuration.
    #[error("{CONFIG_ENV} is not set: aigo starts this program in a container; see --help for what else it does")]
    NoConfig,
    /// The system refused.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was attempted.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl InitError {
    /// The exit code for it.
    pub(crate) fn exit(&self) -> RunnerExit {
        match self {
            Self::NoConfig => RunnerExit::BadConfig,
            Self::System { .. } => RunnerExit::Internal,
        }
    }
}

/// Runs a session from start to end.
pub(crate) fn run() -> Result<RunnerExit, InitError> {
    if std::env::var_os(CONFIG_ENV).is_none() {
        return Err(InitError::NoConfig);
    }
    let mut signals: SigSet = FORWARDED.into_iter().collect();
    signals.add(Signal::SIGCHLD);
    signals.thread_block().map_err(system("block signals"))?;
    let territory = if getpid() == Pid::from_raw(1) {
        Territory::Namespace
    } else {
        prctl::set_child_subreaper(true).map_err(system("become a sub-reaper"))?;
        Territory::Descendants
    };
    // The standard library gives a child an empty signal mask.
    let worker = Command::new(OWN_EXECUTABLE)
        .arg0("aigo-runner")
        .arg(WORKER_ARG)
        .spawn()
        .map_err(|source| InitError::System { doing: "start the worker from /proc/self/exe", source })?;
    // A process id is positive and below 2^22 (pid_max).
    let worker = Pid::from_raw(worker.id().cast_signed());
    let exit = watch_over(worker, &signals)?;
    if exit == RunnerExit::Internal {
        leftovers::kill_all(territory);
    } else {
        leftovers::end_all(territory);
    }
    if territory == Territory::Namespace {
        hand_over();
    }
    Ok(exit)
}

/// Gives what root has made in the session's folders to the supervisor's user, who has to remove it. Nobody is left who could make
/// more.
fn hand_over() {
    // Nobody but the supervisor has made it, and no command on the workspace reaches it.
    let Ok(owner) = SafeDir::open(Path::new(CONTAINER_RECORD_DIR)).and_then(|record| record.owner()) else { return };
    for path in [CONTAINER_IPC_DIR, CONTAINER_RECORD_DIR] {
        // What keeps its owner is told by the supervisor, which cannot remove it then.
        let _ = SafeDir::open(Path::new(path)).and_then(|folder| folder.hand_over(owner, HANDED_OVER));
    }
}

/// Reaps and forwards until the worker is gone; how it ended.
fn watch_over(worker: Pid, signals: &SigSet) -> Result<RunnerExit, InitError> {
    let mut forwarded = false;
    loop {
        let signal = signals.wait().map_err(system("wait for a signal"))?;
        if signal != Signal::SIGCHLD {
            // It may have ended this very moment, which SIGCHLD tells next.
            let _ = kill(worker, signal);
            forwarded = true;
            continue;
        }
        while let Some(status) = reap() {
            if status.pid() == Some(worker)
                && let Some(exit) = worker_exit(status, forwarded)
            {
                return Ok(exit);
            }
        }
    }
}

/// Reaps one child that has ended; `None` if there is none at the moment or none at all.
fn reap() -> Option<WaitStatus> {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(status) => return Some(status),
        }
    }
}

/// The runner's exit for the worker's; anything that the worker does not say on purpose is a bug or an attack.
fn worker_exit(status: WaitStatus, forwarded: bool) -> Option<RunnerExit> {
    match status {
        WaitStatus::Exited(_, code) => Some(RunnerExit::from_code(code.into()).unwrap_or_else(|| {
            say(format_args!("the worker ended with code {code}, which has no meaning"));
            RunnerExit::Internal
        })),
        // So early that it had not learned to catch them.
        WaitStatus::Signaled(_, signal, _) if forwarded && FORWARDED.contains(&signal) => Some(RunnerExit::Terminated),
        WaitStatus::Signaled(_, signal, _) => {
            say(format_args!("the worker was ended by {signal}"));
            Some(RunnerExit::Internal)
        }
        _ => None,
    }
}

fn system(doing: &'static str) -> impl FnOnce(Errno) -> InitError {
    move |errno| InitError::System { doing, source: errno.into() }
}
