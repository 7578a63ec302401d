//! `aigo doctor`.

use crate::cli::args::{DoctorArgs, Global};
use crate::cli::exit::{CliError, Exit};

/// Checks everything.
pub async fn run(_global: &Global, _args: &DoctorArgs) -> Result<Exit, CliError> {
    Err(CliError::usage(anyhow::anyhow!("not in this build")))
}
