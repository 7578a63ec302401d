//! `aigo history`, `aigo show`, `aigo export`: what has been.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::cli::args::Global;
use crate::cli::args::records::{ExportArgs, ExportFormat, HistoryArgs, ShowArgs};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::sanitize::{self, one_line};
use crate::cli::show::stored::Stored;
use crate::cli::show::style::Style;
use crate::cli::show::{second, summary};
use crate::store::{SessionFilter, SessionPage, SessionRow};
use crate::units::format_duration;

/// Characters of a folder's path that are shown.
const PATH_CHARS: usize = 40;
/// Events read at once, at most.
const BATCH: usize = 500;

/// Lists what ran, the newest first.
pub async fn history(global: &Global, args: &HistoryArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let page = SessionPage {
        status: args.status,
        agent: args.agent.as_ref().map(ToString::to_string),
        after: None,
        limit: args.limit as usize,
    };
    let rows = context.store.session_page(page).await.map_err(CliError::environment)?;
    if args.json {
        say::line(sanitize::json_pretty(&rows).map_err(CliError::environment)?)?;
        return Ok(Exit::Ok);
    }
    if rows.is_empty() {
        say::aside("no sessions");
        return Ok(Exit::Ok);
    }
    let style = Style::resolve(global.color);
    let head = format!(
        "{:<13} {:<20} {:<10} {:<22} {:>9} {:>10}  WORKSPACE",
        "SESSION", "STARTED", "STATUS", "REASON", "TOOK", "TOKENS"
    );
    let lines = rows.iter().map(|row| line(style, row));
    say::line([style.bold(head)].into_iter().chain(lines).collect::<Vec<_>>().join("\n"))?;
    Ok(Exit::Ok)
}

fn line(style: Style, row: &SessionRow) -> String {
    let started = second(row.created_at);
    let status = style.status(row.status, format!("{:<10}", row.status.word()));
    let reason = row.ending.as_ref().map(|ending| ending.reason.to_string()).unwrap_or_default();
    let took = row.summary.as_ref().map(|summary| format_duration(Duration::from_millis(summary.duration_ms)));
    let tokens = row.summary.as_ref().map(|summary| {
        let tokens = summary.tokens;
        tokens.input + tokens.cache_read + tokens.cache_write + tokens.output
    });
    let folder = one_line(&row.workspace.to_string_lossy(), PATH_CHARS);
    format!(
        "{:<13} {started:<20} {status} {reason:<22} {:>9} {:>10}  {folder}",
        row.id.as_str(),
        took.unwrap_or_default(),
        tokens.map(|tokens| tokens.to_string()).unwrap_or_default(),
    )
}

/// Shows all that is known of one session but its transcript.
pub async fn show(global: &Global, args: &ShowArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let row = context.find(&args.session, SessionFilter::All).await?;
    if args.json {
        say::line(sanitize::json_pretty(&row).map_err(CliError::environment)?)?;
        return Ok(Exit::Ok);
    }
    let style = Style::resolve(global.color);
    let mut text = String::new();
    let ended = row.ended_at.map(second);
    let (stored, last) = context.store.event_count(&row.id).await.map_err(CliError::environment)?;
    let missing = last.saturating_sub(stored);
    let events =
        if missing == 0 { stored.to_string() } else { format!("{stored}, {missing} more are no longer stored") };
    let engine = row.engine.as_ref().map(|engine| engine.endpoint.clone());
    for (name, value) in [
        ("session", Some(row.id.to_string())),
        ("status", Some(style.status(row.status, row.status.word()))),
        ("agent", Some(row.agent.clone())),
        ("program", Some(row.program.clone())),
        ("image", Some(row.image.clone())),
        ("workspace", Some(one_line(&row.workspace.to_string_lossy(), 4096))),
        ("started", Some(second(row.created_at))),
        ("ended", ended),
        ("events", Some(events)),
        ("container", row.container.clone()),
        ("engine", engine),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("{} {value}\n", style.dim(format!("{name:<10}"))));
        }
    }
    if let (Some(ending), Some(figures)) = (&row.ending, &row.summary) {
        text.push_str(&summary::lines(style, row.status, ending, figures));
        if let Some(result) = &figures.result {
            text.push_str(&format!("\n{}\n", sanitize::words(result)));
        }
    }
    say::text(text)?;
    Ok(Exit::Ok)
}

/// Writes a transcript into a file of its own, or to standard output.
pub async fn export(global: &Global, args: &ExportArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let row = context.find(&args.session, SessionFilter::All).await?;
    match &args.output {
        None => write_all(&context, &row, args.format, std::io::stdout().lock()).await?,
        Some(file) => {
            let fail = |error: std::io::Error| CliError::usage(anyhow::anyhow!("--output {}: {error}", file.display()));
            let new = create(file).map_err(fail)?;
            write_all(&context, &row, args.format, BufWriter::new(new)).await?;
        }
    }
    Ok(Exit::Ok)
}

/// A new file, for its owner only: transcripts hold what the agent has read.
fn create(file: &Path) -> std::io::Result<std::fs::File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)
}

async fn write_all(
    context: &Context,
    row: &SessionRow,
    format: ExportFormat,
    mut out: impl Write,
) -> Result<(), CliError> {
    let mut lines = match format {
        ExportFormat::Text => Stored::text(Style::PLAIN),
        ExportFormat::Jsonl => Stored::json(),
    };
    loop {
        let events = context.store.events(&row.id, lines.cursor(), BATCH).await.map_err(CliError::environment)?;
        if events.is_empty() {
            break;
        }
        for event in &events {
            let text = lines.next(event).map_err(CliError::environment)?;
            if say::outcome(out.write_all(text.as_bytes()))? == say::Reader::Gone {
                return Ok(());
            }
        }
    }
    let last = if row.ended_at.is_some() { lines.last() } else { String::new() };
    say::outcome(out.write_all(last.as_bytes()).and_then(|()| out.flush())).map(drop)
}
