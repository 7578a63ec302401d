//! `aigo completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::args::Args;
use crate::cli::exit::Exit;

/// Prints the script.
pub fn run(shell: Shell) -> Exit {
    clap_complete::generate(shell, &mut Args::command(), "aigo", &mut std::io::stdout());
    Exit::Ok
}
