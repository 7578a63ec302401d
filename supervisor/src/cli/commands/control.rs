//! `aigo stop`, `aigo send`, `aigo interrupt`: words to the process that owns a session.

use std::time::{Duration, Instant};

use serde_json::json;

use super::queue;
use crate::cli::args::{Global, SendArgs, SessionArg, StopArgs};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::sanitize;
use crate::session::control::{Answer, Request, ask};
use crate::session::recover;
use crate::store::{NewAudit, SessionFilter, SessionRow};

/// How long the owner may take beyond the graces to clear everything away.
const CLEAR_AWAY: Duration = Duration::from_secs(60);
/// The pace of looking at the session's row: its owner may be busy, and is not to be kept from its work.
const POLL: Duration = Duration::from_millis(250);

/// Ends sessions and waits until they have ended. One that has ended already is as wanted.
pub async fn stop(global: &Global, args: &StopArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let rows = match &args.session {
        Some(session) => match context.find(session, SessionFilter::Live).await {
            Ok(row) => vec![row],
            // It may just have ended.
            Err(_) => vec![context.find(session, SessionFilter::All).await?],
        },
        None => context.store.sessions(SessionFilter::Live).await.map_err(CliError::environment)?,
    };
    let mut failed = false;
    for row in rows {
        let outcome = stop_one(&context, args, &row).await;
        failed |= outcome.is_err();
        match (&outcome, args.json) {
            (Ok(row), true) => say::line(sanitize::json(row).map_err(CliError::environment)?)?,
            (Ok(row), false) => {
                let reason = row.ending.as_ref().map(|ending| format!(" ({})", ending.reason)).unwrap_or_default();
                say::line(format_args!("{}  {}{reason}", row.id, row.status))?;
            }
            (Err(error), true) => say::line(json!({"id": row.id, "error": error.to_string()}))?,
            (Err(error), false) => say::aside(format_args!("{}: {error}", row.id)),
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

async fn stop_one(context: &Context, args: &StopArgs, row: &SessionRow) -> Result<SessionRow, CliError> {
    // One whose turn has come meanwhile is ended as one that runs.
    let _left = queue::leave(context, row, "aigo stop").await?;
    let deadline = Instant::now() + args.grace + CLEAR_AWAY;
    let mut refused = None;
    let mut taken = false;
    loop {
        // Before the row: an owner lets go of its lock only when the end is stored.
        let owned = context.is_owned(&row.id);
        if let Some(row) = ended(context, row).await? {
            return Ok(row);
        }
        if !owned {
            return clear_away(context, row).await;
        }
        if Instant::now() >= deadline {
            let by_force = || format!("the session has not ended; `aigo stop --kill {}` ends it by force", row.id);
            return Err(CliError::environment(anyhow::anyhow!(refused.unwrap_or_else(by_force))));
        }
        if !taken {
            // An owner that is just ending does not answer any more, and one that is busy may answer later.
            refused = match tell(context, row, &wish(args)).await {
                Ok(answer) => answer.error,
                Err(error) => Some(error.to_string()),
            };
            taken = refused.is_none();
        }
        tokio::time::sleep(POLL).await;
    }
}

fn wish(args: &StopArgs) -> Request {
    let by = "aigo stop".to_owned();
    let grace_ms = u64::try_from(args.grace.as_millis()).unwrap_or(u64::MAX);
    if args.kill { Request::Cancel { by } } else { Request::Close { grace_ms, interrupt: false, by } }
}

async fn ended(context: &Context, row: &SessionRow) -> Result<Option<SessionRow>, CliError> {
    let now = context.store.session(&row.id).await.map_err(CliError::environment)?;
    Ok(now.filter(|row| row.ended_at.is_some()))
}

/// Ends a session that nobody owns any more: what is left of it is cleared away here.
async fn clear_away(context: &Context, row: &SessionRow) -> Result<SessionRow, CliError> {
    let (engine, info) = context.engine().await?;
    let launcher = context.launcher(engine, &info);
    if let Some(where_it_is) = recover::elsewhere(row, &launcher.identity) {
        return Err(CliError::environment(anyhow::anyhow!(where_it_is)));
    }
    let of_a_service = row.request.is_some();
    let swept = recover::end(&launcher, row.clone()).await;
    match ended(context, row).await? {
        Some(row) => {
            // No service is there to write it down.
            if of_a_service {
                let line = NewAudit::by_cli("session.close", &row.id, "aigo stop");
                context.store.audit(line).await.map_err(CliError::environment)?;
            }
            Ok(row)
        }
        None => Err(CliError::environment(anyhow::anyhow!(
            "what the session has left cannot be cleared away: {}",
            swept.problems.join("; ")
        ))),
    }
}

/// Sends a message.
pub async fn send(global: &Global, args: &SendArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let row = context.find(&args.session, SessionFilter::Live).await?;
    let answer = tell(&context, &row, &Request::Message { text: args.text.clone() }).await?;
    report(&answer, args.json)
}

/// Interrupts the turn.
pub async fn interrupt(global: &Global, args: &SessionArg) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let row = context.find(&args.session, SessionFilter::Live).await?;
    let answer = tell(&context, &row, &Request::Interrupt {}).await?;
    report(&answer, args.json)
}

async fn tell(context: &Context, row: &SessionRow, request: &Request) -> Result<Answer, CliError> {
    ask(&context.dirs.session(&row.id).control_socket(), request).await.map_err(CliError::environment)
}

fn report(answer: &Answer, as_json: bool) -> Result<Exit, CliError> {
    if as_json {
        say::line(sanitize::json(answer).map_err(CliError::environment)?)?;
    }
    match &answer.error {
        Some(_) if as_json => Ok(Exit::Failed),
        Some(error) => Err(CliError::refused(anyhow::anyhow!("{error}"))),
        None => {
            if let (Some(id), false) = (&answer.id, as_json) {
                say::line(id)?;
            }
            Ok(Exit::Ok)
        }
    }
}
