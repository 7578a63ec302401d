//! The command line, by hand: a parser crate would double the binary.

use std::io;
use std::process::ExitCode;

use ipc_protocol::exit::RunnerExit;

use crate::recorded::translate_claude;

const HELP: &str = "\
aigo-runner: PID 1 of an aigo agent container

Usage: aigo-runner                    run the session that AIGO_RUNNER_CONFIG describes (set by aigo)
       aigo-runner translate claude   read a recorded Claude Code stream (stream-json) on stdin, print events
       aigo-runner --version
       aigo-runner --help
";

/// Runs the program.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["translate", "claude"] => match translate_claude(io::stdin().lock(), io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("aigo-runner: cannot translate the stream: {error}");
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
            eprint!("aigo-runner: unknown arguments {args:?}\n\n{HELP}");
            ExitCode::from(RunnerExit::BadConfig.code())
        }
    }
}
