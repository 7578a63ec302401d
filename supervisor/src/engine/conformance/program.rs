//! What a container of a check does: as a shell script for real engines, as a closure for the fake.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::engine::fake::{FakeEngine, FakeRun};
use crate::engine::{ContainerSpec, ExecOutput, ExecSpec, Output, SharedEngine, Signal};

/// The child processes that [`Program::Fork`] wants at once.
const CHILDREN: u32 = 20;

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    Exit(u8),
    /// Says `ready` and sleeps, deaf to every signal but SIGKILL (as a first process is by default).
    Deaf,
    /// Says `ready` and ends with code 7 on SIGTERM.
    Obedient,
    /// Prints so many numbered lines, and one on standard error.
    Print(u32),
    /// Takes memory without end.
    EatMemory,
    /// Starts twenty children that stay.
    Fork,
    /// Connects, for up to ten seconds, and prints what it is told.
    Ask(Ipv4Addr, u16),
    /// Prints its environment.
    Environment,
    /// Copies `/data/in` to `/data/out`; then tries to write to `/fixed`, which ends with code 9 if it cannot.
    Copy,
}

/// The words of [`Program::argv`] before the script.
const SHELL: [&str; 2] = ["sh", "-c"];

impl Program {
    /// The command line.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        let script = match self {
            Program::Exit(code) => format!("exit {code}"),
            Program::Deaf => "echo ready; while :; do sleep 1; done".to_owned(),
            Program::Obedient => "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done".to_owned(),
            Program::Print(lines) => {
                format!("i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); done; echo oops >&2")
            }
            Program::EatMemory => "exec tail /dev/zero".to_owned(),
            Program::Fork => {
                format!("i=0; while [ $i -lt {CHILDREN} ]; do sleep 60 & i=$((i+1)); done; exit 0")
            }
            Program::Ask(address, port) => format!(
                "bash -c 'i=0; until {{ read -r line </dev/tcp/{address}/{port}; }} 2>/dev/null; do i=$((i+1)); \
                 [ $i -lt 100 ] || exit 1; sleep 0.1; done; echo \"$line\"'"
            ),
            Program::Environment => "env".to_owned(),
            Program::Copy => {
                "cat /data/in >/data/out || exit 8; (echo x >/fixed/file) 2>/dev/null || exit 9".to_owned()
            }
        };
        SHELL.into_iter().map(str::to_owned).chain([script]).collect()
    }

    /// Finds the program behind a command line.
    fn of(argv: &[String]) -> Option<Self> {
        let script = argv.last()?;
        let number = |text: &str| text.split_whitespace().next()?.parse::<u32>().ok();
        if let Some(code) = script.strip_prefix("exit ").and_then(number) {
            return Some(Program::Exit(u8::try_from(code).ok()?));
        }
        if let Some((_, lines)) = script.split_once("$i -lt ")
            && script.contains("echo line")
        {
            return Some(Program::Print(number(&lines.replace(']', " "))?));
        }
        if let Some((_, target)) = script.split_once("/dev/tcp/") {
            let (address, rest) = target.split_once('/')?;
            let port = rest.split(';').next()?;
            return Some(Program::Ask(address.parse().ok()?, port.parse().ok()?));
        }
        [Program::Deaf, Program::Obedient, Program::EatMemory, Program::Fork, Program::Environment, Program::Copy]
            .into_iter()
            .find(|program| program.argv() == argv)
    }

    /// Does in the fake what the script does in a real container.
    async fn play(self, mut run: FakeRun) -> i32 {
        match self {
            Program::Exit(code) => i32::from(code),
            Program::Deaf => {
                run.print("ready\n");
                std::future::pending().await
            }
            Program::Obedient => {
                run.print("ready\n");
                run.signalled(&[Signal::SIGTERM]).await;
                7
            }
            Program::Print(lines) => {
                for index in 0..lines {
                    run.print(&format!("line {index}\n"));
                }
                run.eprint("oops\n");
                0
            }
            Program::EatMemory => {
                run.oom();
                128 + Signal::SIGKILL as i32
            }
            Program::Fork => {
                // The shell is one of them; one that cannot fork gives up with code 2.
                if run.spec.limits.pids.is_some_and(|limit| limit <= CHILDREN) { 2 } else { 0 }
            }
            Program::Ask(_, port) => ask(&run, port).await,
            Program::Environment => {
                for (name, value) in &run.spec.env {
                    run.print(&format!("{name}={value}\n"));
                }
                0
            }
            Program::Copy => copy(&run),
        }
    }
}

async fn ask(run: &FakeRun, port: u16) -> i32 {
    let mut text = String::new();
    let answer = async {
        let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        stream.read_to_string(&mut text).await
    };
    match answer.await {
        Ok(_count) => {
            run.print(&text);
            0
        }
        Err(_refused) => 1,
    }
}

fn copy(run: &FakeRun) -> i32 {
    let copied = run.host_path("/data").and_then(|data| std::fs::copy(data.join("in"), data.join("out")).ok());
    if copied.is_none() {
        return 8;
    }
    let fixed = run.spec.mounts.iter().find(|mount| mount.target == "/fixed");
    if fixed.is_some_and(|mount| mount.read_only) { 9 } else { 0 }
}

/// The command that [`exec`](crate::engine::Engine::exec) is checked with.
pub(super) const COMMAND: &str = "echo out; echo err >&2; id -u; exit 3";

fn exec(_container: &ContainerSpec, spec: &ExecSpec) -> ExecOutput {
    if spec.argv.last().is_none_or(|script| script != COMMAND) {
        return ExecOutput { code: 127, output: Output::default() };
    }
    let user = spec.user.as_deref().unwrap_or("0");
    let stdout = format!("out\n{user}\n").into_bytes();
    ExecOutput { code: 3, output: Output { stdout, stderr: b"err\n".to_vec(), truncated: false } }
}

/// A fake whose one image, `image`, runs the programs of the suite.
#[must_use]
pub fn fake_engine(image: &str) -> SharedEngine {
    let engine = FakeEngine::with(image, |run| async move {
        match Program::of(&run.argv()) {
            Some(program) => program.play(run).await,
            None => 127,
        }
    });
    engine.exec_script(exec);
    Arc::new(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_again() {
        for program in [
            Program::Exit(7),
            Program::Deaf,
            Program::Obedient,
            Program::Print(12),
            Program::EatMemory,
            Program::Fork,
            Program::Ask(Ipv4Addr::new(10, 1, 2, 3), 4567),
            Program::Environment,
            Program::Copy,
        ] {
            assert_eq!(Program::of(&program.argv()), Some(program));
        }
        assert_eq!(Program::of(&["true".to_owned()]), None);
    }
}
