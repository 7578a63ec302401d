//! The agent's process: how it is started and signalled.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use ipc_protocol::config::CONFIG_ENV;
use ipc_protocol::event::EventKind;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::adapter::Launch;
use crate::boot::User;

/// Where programs are looked for if the container's environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The agent's badness for the out-of-memory killer (proc_pid_oom_score_adj(5), -1000 to 1000): it goes before the runner,
/// which has to tell the story.
const AGENT_OOM_SCORE: &str = "500";

const OWN_OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// A running agent. It leads a process group of its own.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) pid: u32,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

/// Starts the agent as `user` in `workspace` with the container's environment, less the runner's configuration.
pub(crate) fn start(launch: &Launch, user: &User, workspace: &Path) -> Result<Agent, String> {
    let (program, args) = launch.argv.split_first().ok_or("the agent's command line is empty")?;
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    let mut command = Command::new(program);
    command
        .args(args)
        .env_remove(CONFIG_ENV)
        .env("PATH", &path)
        .env("HOME", &user.home)
        .env("USER", user.name)
        .env("LOGNAME", user.name)
        .env("PWD", workspace)
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .current_dir(workspace)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if user.uid != 0 {
        // The standard library also drops the supplementary groups.
        command.uid(user.uid).gid(user.gid);
    }
    let mut child = with_oom_score(|| command.spawn()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("cannot start {program}: no such program in {} (is it in the image?)", path.to_string_lossy())
        }
        _ => format!("cannot start {program} as uid {}: {error}", user.uid),
    })?;
    let pid = child.id().ok_or("the agent's process is gone before it began")?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    Ok(Agent { child, pid, stdin, stdout, stderr })
}

/// A child inherits the score; setting it here and back again leaves no moment in which the child has another.
fn with_oom_score<T>(spawn: impl FnOnce() -> T) -> T {
    // A container without a writable /proc keeps the kernel's choice.
    let own = std::fs::read_to_string(OWN_OOM_SCORE).ok();
    let _ = std::fs::write(OWN_OOM_SCORE, AGENT_OOM_SCORE);
    let spawned = spawn();
    if let Some(own) = own {
        let _ = std::fs::write(OWN_OOM_SCORE, own);
    }
    spawned
}

impl Agent {
    /// Signals the agent's process group; nobody there is fine.
    pub(crate) fn signal(&self, signal: Signal) {
        // Once it was waited for, the number may belong to others.
        if self.child.id().is_some() {
            // A process id is positive and below 2^22 (pid_max).
            let _ = killpg(Pid::from_raw(self.pid.cast_signed()), signal);
        }
    }
}

/// The event for the agent's end.
pub(crate) fn exited(status: ExitStatus) -> EventKind {
    EventKind::AgentExited { code: status.code(), signal: status.signal() }
}
