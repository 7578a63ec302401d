//! Flags of `aigo serve`.

use std::path::PathBuf;

use super::config::ConfigFile;

/// `aigo serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aigo serve\n  \
    aigo serve --listen 127.0.0.1:8000\n  \
    aigo serve --listen 0.0.0.0:55765 --token-file /etc/aigo/token\n\n\
    The credential comes from the environment, as for `aigo run`; everything else from the configuration, see\n\
    `aigo config show --default`. SIGTERM and Ctrl-C stop the service, and the sessions run on; SIGHUP reads the\n\
    configuration again.")]
pub struct ServeArgs {
    /// The configuration
    #[command(flatten)]
    pub config: ConfigFile,
    /// Where the API listens; off loopback it needs a token
    #[arg(short, long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// A file with the token that callers by TCP must send
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The unix socket for the CLI
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}
