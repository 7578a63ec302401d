//! `aigo completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::args::Args;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;

/// Prints the script.
pub fn run(shell: Shell) -> Result<Exit, CliError> {
    // The generator panics if it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "aigo", &mut script);
    say::text(String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
