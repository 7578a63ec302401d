//! The `aigo` binary: see [`supervisor::cli`].

use std::process::ExitCode;

use supervisor::cli;
use supervisor::cli::exit::Exit;

/// One for the session's driver, one for the proxy; both rest most of the time.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(cli::main());
            // A thread that reads from the terminal cannot be waited for.
            runtime.shutdown_background();
            exit.into()
        }
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            Exit::Environment.into()
        }
    }
}
