//! Flags of `aigo queue`.

use clap::Subcommand;

/// `aigo queue`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  aigo queue\n  aigo queue --json | jq '.[0].message'\n  aigo queue cancel 3fk2"
)]
pub struct QueueArgs {
    #[command(subcommand)]
    pub command: Option<QueueCommand>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do with the queue.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Take a session out: it ends as cancelled, and never runs
    Cancel(QueueCancelArgs),
}

/// `aigo queue cancel`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  aigo queue cancel 3fk2")]
pub struct QueueCancelArgs {
    /// The session's id, or its beginning
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
