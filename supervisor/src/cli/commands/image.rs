//! `aigo image build`, `aigo image status`.

use crate::cli::args::{Global, ImageBuildArgs, ImageStatusArgs};
use crate::cli::exit::{CliError, Exit};

/// Builds the image.
pub async fn build(_global: &Global, _args: &ImageBuildArgs) -> Result<Exit, CliError> {
    Err(CliError::usage(anyhow::anyhow!("not in this build")))
}

/// Tells what is there.
pub async fn status(_global: &Global, _args: &ImageStatusArgs) -> Result<Exit, CliError> {
    Err(CliError::usage(anyhow::anyhow!("not in this build")))
}
