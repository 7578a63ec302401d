//! The `aigo` binary: see [`supervisor::cli`].

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};
use supervisor::cli::exit::Exit;
use supervisor::cli::{self, say};

/// One for the session's driver, one for the proxy; both rest most of the time.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    // On a terminal with `stty tostop` a background job that writes is stopped (termios(3)), and with us a session would
    // lose its limits in time. Blocked in all threads, the signal lets writes pass. It cannot fail for a signal that exists.
    let _ = SigSet::from(Signal::SIGTTOU).thread_block();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(cli::main());
            // A thread that reads from the terminal cannot be waited for.
            runtime.shutdown_background();
            exit.into()
        }
        Err(error) => {
            say::last(format!("error: cannot start: {error}"));
            Exit::Environment.into()
        }
    }
}
