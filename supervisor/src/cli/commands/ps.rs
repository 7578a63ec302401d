//! `aigo ps`.

use std::time::Duration;

use crate::cli::args::{Global, PsArgs};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::sanitize::{self, one_line};
use crate::cli::show::style::Style;
use crate::session::status::Status;
use crate::store::{SessionFilter, SessionRow};
use crate::units::format_duration;

/// Characters of a folder's path that are shown.
const PATH_CHARS: usize = 48;

/// Lists sessions.
pub async fn run(global: &Global, args: &PsArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let filter = if args.all { SessionFilter::All } else { SessionFilter::Live };
    let rows = context.store.sessions(filter).await.map_err(CliError::environment)?;
    // A session whose owner died without a word is not running; the next `aigo run` clears it away. One of a service that is
    // stopped runs on.
    let runs = |row: &SessionRow| row.request.is_some() || context.is_owned(&row.id);
    let rows: Vec<SessionRow> = rows.into_iter().filter(|row| args.all || runs(row)).collect();
    if args.json {
        let json = sanitize::json_pretty(&rows).map_err(CliError::environment)?;
        say::line(json)?;
        return Ok(Exit::Ok);
    }
    let style = Style::resolve(global.color);
    if rows.is_empty() {
        let hint = if args.all { "" } else { "; `aigo ps --all` shows those that ended" };
        say::aside(format_args!("no sessions{hint}"));
        return Ok(Exit::Ok);
    }
    let head = format!("{:<13} {:<13} {:<22} {:<8} {:<8} WORKSPACE", "SESSION", "STATUS", "REASON", "AGENT", "AGE");
    let lines = rows.iter().map(|row| line(&context, style, row));
    say::line([style.bold(head)].into_iter().chain(lines).collect::<Vec<_>>().join("\n"))?;
    Ok(Exit::Ok)
}

fn line(context: &Context, style: Style, row: &SessionRow) -> String {
    let age = jiff::Timestamp::now().duration_since(row.created_at);
    let age = Duration::try_from(age).map(format_duration).unwrap_or_default();
    let left = row.ended_at.is_none() && !context.is_owned(&row.id);
    let dead = left && row.request.is_none();
    let status = match left {
        true if dead => "dead".to_owned(),
        // Until the next service.
        true if row.status != Status::Queued => "alone".to_owned(),
        true | false => row.status.to_string(),
    };
    let padded = format!("{status:<13}");
    let status = if dead { style.bad(padded) } else { style.status(row.status, padded) };
    let reason = row.ending.as_ref().map(|ending| ending.reason.to_string()).unwrap_or_default();
    let folder = one_line(&row.workspace.to_string_lossy(), PATH_CHARS);
    format!("{:<13} {status} {reason:<22} {:<8} {age:<8} {folder}", row.id.as_str(), row.agent)
}
