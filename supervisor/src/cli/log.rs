//! What aigo says about itself: on standard error, warnings only unless asked for more; as a service, as configured.

mod service;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

pub use service::{LogError, ServiceLog};

/// The variable that overrides `--verbose`, in the syntax of `tracing_subscriber::EnvFilter`.
const VARIABLE: &str = "AIGO_LOG";

/// Starts logging for the process.
pub(super) fn start(verbose: u8) {
    // HTTP and TLS libraries log headers at their finest levels: they stay at warnings whatever is asked for.
    let level = match verbose {
        0 => "warn",
        1 => "warn,supervisor=info",
        _ => "warn,supervisor=debug",
    };
    let filter = std::env::var(VARIABLE).ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(level));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    if let Err(error) = started {
        eprintln!("warning: no logging: {error}");
    }
}
