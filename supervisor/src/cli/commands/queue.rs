//! `aigo queue`: who waits for room, and out of it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::cli::args::Global;
use crate::cli::args::queue::{QueueArgs, QueueCancelArgs, QueueCommand};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::sanitize;
use crate::cli::show::style::Style;
use crate::client::{self, ClientError};
use crate::serve::api::queue::Waiting;
use crate::session::status::Status;
use crate::session::waiting;
use crate::store::{SessionFilter, SessionRow};
use crate::units::format_duration;

/// Lists those who wait, or takes one out.
pub async fn run(global: &Global, args: &QueueArgs) -> Result<Exit, CliError> {
    match &args.command {
        None => list(global, args.json).await,
        Some(QueueCommand::Cancel(cancel)) => take_out(global, cancel).await,
    }
}

async fn list(global: &Global, as_json: bool) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let Some(service) = context.service() else { return without_service(&context, as_json).await };
    let waiting = client::queue(&service.socket).await.map_err(CliError::environment)?;
    if as_json {
        say::line(sanitize::json_pretty(&waiting).map_err(CliError::environment)?)?;
        return Ok(Exit::Ok);
    }
    if waiting.is_empty() {
        say::aside("nobody waits");
        return Ok(Exit::Ok);
    }
    let style = Style::resolve(global.color);
    let head = format!("{:<13} {:>8} {:<16} {:<8} REASON", "SESSION", "POSITION", "AGENT", "WAITING");
    let lines = waiting.iter().map(|Waiting { id, position, agent, since, message, .. }| {
        let waited = Timestamp::now().duration_since(*since);
        // A clock that was set back makes it negative.
        let waited = Duration::try_from(waited).map(format_duration).unwrap_or_default();
        format!("{:<13} {position:>8} {agent:<16} {waited:<8} {message}", id.as_str())
    });
    say::line([style.bold(head)].into_iter().chain(lines).collect::<Vec<_>>().join("\n"))?;
    Ok(Exit::Ok)
}

/// Who waits for the next service: nobody knows their places before it has measured what there is.
async fn without_service(context: &Context, as_json: bool) -> Result<Exit, CliError> {
    let mut rows = context.store.sessions(SessionFilter::Live).await.map_err(CliError::environment)?;
    rows.retain(|row| row.status == Status::Queued);
    rows.reverse();
    let message = "no service runs; it waits for the next one";
    if as_json {
        let items = rows.iter().map(|row| {
            let reason = json!({"code": "service"});
            json!({"id": row.id, "agent": row.agent, "since": row.created_at, "reason": reason, "message": message})
        });
        say::line(sanitize::json_pretty(&items.collect::<Vec<_>>()).map_err(CliError::environment)?)?;
        return Ok(Exit::Ok);
    }
    if rows.is_empty() {
        say::aside("nobody waits, and no service runs");
    }
    for SessionRow { id, agent, .. } in &rows {
        say::line(format_args!("{id}  {agent}  {message}"))?;
    }
    Ok(Exit::Ok)
}

async fn take_out(global: &Global, args: &QueueCancelArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let row = context.find(&args.session, SessionFilter::Live).await?;
    if !leave(&context, &row, "aigo queue cancel").await? {
        return Err(CliError::usage(anyhow::anyhow!(
            "session {} does not wait any more; `aigo stop {}` ends it",
            row.id,
            row.id
        )));
    }
    if args.json {
        let row = context.store.session(&row.id).await.map_err(CliError::environment)?;
        say::line(sanitize::json(&row).map_err(CliError::environment)?)?;
    } else {
        say::line(format_args!("{}  {}", row.id, Status::Cancelled))?;
    }
    Ok(Exit::Ok)
}

/// Takes one who waits out of the queue; false if it does not wait.
pub(super) async fn leave(context: &Context, row: &SessionRow, by: &str) -> Result<bool, CliError> {
    if row.status != Status::Queued {
        return Ok(false);
    }
    match context.service() {
        Some(service) => match client::leave_queue(&service.socket, &row.id).await {
            Ok(()) => Ok(true),
            // Its turn has just come.
            Err(ClientError::Refused(_)) => Ok(false),
            Err(error) => Err(CliError::environment(error)),
        },
        None => waiting::leave(&context.store, &row.id, by).await.map_err(CliError::environment),
    }
}
