//! Flags of `aigo config …`, and the one that names a configuration.

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::CONFIG_VARIABLE;

/// Which configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigFile {
    /// The configuration file [default: /etc/aigo/config.toml as root, else $XDG_CONFIG_HOME/aigo/config.toml]
    #[arg(long = "config", value_name = "FILE", env = CONFIG_VARIABLE)]
    pub file: Option<PathBuf>,
}

/// `aigo config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether a configuration is right, and all that is wrong with it
    Check(ConfigCheckArgs),
    /// Show what holds, and where each value comes from
    Show(ConfigShowArgs),
}

/// `aigo config check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  aigo config check\n  aigo config check ./new.toml\n\n\
                        Exit codes: 0 it is right, 2 it is not.")]
pub struct ConfigCheckArgs {
    /// The file; without it, the one that the service would read
    #[arg(value_name = "FILE", env = CONFIG_VARIABLE)]
    pub file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `aigo config show`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  aigo config show\n  aigo config show --json | jq '.values[] | select(.origin.from != \"default\")'\n  \
                        aigo config show --default > /etc/aigo/config.toml"
)]
pub struct ConfigShowArgs {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Show the defaults only: as a commented file to start from
    #[arg(long, conflicts_with = "file")]
    pub default: bool,
}
