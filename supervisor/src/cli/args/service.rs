//! Flags of `aigo service …`.

use clap::Subcommand;

use super::config::ConfigFile;

/// `aigo service …`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Let systemd or launchd start `aigo serve`, now and from now on
    Install(ServiceInstallArgs),
    /// Stop the service and take it away; data and configuration stay
    Uninstall(ServiceArgs),
    /// Say whether the service is installed and runs
    #[command(after_help = "Examples:\n  aigo service status\n  aigo service status --json\n\n\
                            Exit codes: 0 it runs, 1 it does not.")]
    Status(ServiceStatusArgs),
}

/// Whose service.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ScopeArgs {
    /// The machine's service [default for root]
    #[arg(long, conflicts_with = "user")]
    pub system: bool,
    /// A service of your own [default for others]
    #[arg(long)]
    pub user: bool,
}

/// `aigo service install`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sudo aigo service install\n  aigo service install --user\n  \
                        aigo service install --dry-run\n\n\
                        The model's credential goes into the file `environment` beside the configuration, as\n\
                        ANTHROPIC_API_KEY=… on a line, readable by its owner only (chmod 600).")]
pub struct ServiceInstallArgs {
    #[command(flatten)]
    pub config: ConfigFile,
    #[command(flatten)]
    pub common: ServiceArgs,
}

/// `aigo service uninstall`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sudo aigo service uninstall\n  aigo service uninstall --user --dry-run")]
pub struct ServiceArgs {
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `aigo service status`.
#[derive(Debug, clap::Args)]
pub struct ServiceStatusArgs {
    #[command(flatten)]
    pub config: ConfigFile,
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
