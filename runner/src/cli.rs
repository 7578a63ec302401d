//! The command line, by hand: a parser crate would double the binary.

use std::io;
use std::process::ExitCode;

use ipc_protocol::exit::RunnerExit;

use crate::boot::access::{self, ACCESS_ARG};
use crate::boot::explain;
use crate::http::{GetError, get};
use crate::init::{self, WORKER_ARG};
use crate::log::say;
use crate::recorded::translate_claude;
use crate::worker;

const HELP: &str = "\
aigo-runner: PID 1 of an aigo agent container

Usage: aigo-runner                    run the session that AIGO_RUNNER_CONFIG describes (set by aigo)
       aigo-runner translate claude   read a recorded Claude Code stream (stream-json) on stdin, print events
       aigo-runner probe URL          tell whether a GET of http://host[:port][/path] answers 200
       aigo-runner --version
       aigo-runner --help
";

/// Runs the program.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => match init::run() {
            Ok(exit) => ExitCode::from(exit.code()),
            Err(error) => {
                say(&error);
                ExitCode::from(error.exit().code())
            }
        },
        [WORKER_ARG] => worker::main(),
        [ACCESS_ARG, path] => access::answer(path),
        ["probe", url] => probe(url),
        ["translate", "claude"] => match translate_claude(io::stdin().lock(), io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(format_args!("cannot translate the stream: {error}"));
                ExitCode::from(RunnerExit::IpcFailed.code())
            }
        },
        ["--version" | "-V"] => {
            println!("aigo-runner {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => {
            say(format_args!("unknown arguments {args:?}\n\n{HELP}"));
            ExitCode::from(RunnerExit::BadConfig.code())
        }
    }
}

/// For `aigo doctor`: is something reachable from inside a container?
fn probe(url: &str) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("cannot start the runtime: {error}"));
            return ExitCode::from(RunnerExit::Internal.code());
        }
    };
    let answer = match url.parse() {
        Ok(parsed) => runtime.block_on(get(&parsed)),
        Err(error) => Err::<u16, GetError>(error),
    };
    if matches!(answer, Ok(200)) {
        println!("{url} answered 200");
        return ExitCode::SUCCESS;
    }
    println!("{}", explain(url, &answer));
    ExitCode::FAILURE
}
