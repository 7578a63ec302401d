//! Flags of the commands that look back: `aigo history`, `show`, `export`.

use std::path::PathBuf;

use clap::ValueEnum;

/// `aigo history`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  aigo history\n  aigo history --status failed --limit 5\n  aigo history --json | jq '.[].summary.tokens'"
)]
pub struct HistoryArgs {
    /// Only sessions with this status
    #[arg(short, long, value_name = "STATUS", value_parser = parse_status)]
    pub status: Option<crate::session::status::Status>,
    /// Only sessions on this agent's account
    #[arg(short, long, value_name = "NAME")]
    pub agent: Option<crate::agents::AgentName>,
    /// How many, the newest first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn parse_status(text: &str) -> Result<crate::session::status::Status, String> {
    use crate::session::status::Status;
    Status::from_word(text).ok_or_else(|| {
        let words: Vec<&str> = Status::ALL.iter().map(|status| status.word()).collect();
        format!("use one of {}", words.join(", "))
    })
}

/// `aigo show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  aigo show 3fk2\n  aigo show --json 3fk2 | jq .summary")]
pub struct ShowArgs {
    /// The session's id, or its beginning
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `aigo export`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  aigo export 3fk2 > transcript.txt\n  aigo export --format jsonl -o 3fk2.jsonl 3fk2"
)]
pub struct ExportArgs {
    /// The session's id, or its beginning
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// The form
    #[arg(short, long, value_enum, default_value_t)]
    pub format: ExportFormat,
    /// A new file, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The form of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// The transcript, as people read it
    #[default]
    Text,
    /// One JSON object per event
    Jsonl,
}
