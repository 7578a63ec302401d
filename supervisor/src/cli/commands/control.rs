//! `aigo stop`, `aigo send`, `aigo interrupt`: words to the process that owns a session.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::args::{Global, SendArgs, SessionArg, StopArgs};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::session::control::{Answer, Request, ask};
use crate::session::recover;
use crate::store::{SessionFilter, SessionRow};

/// How long the owner may take beyond the graces to clear everything away.
const CLEAR_AWAY: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Ends sessions and waits until they have ended.
pub async fn stop(global: &Global, args: &StopArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let rows = match &args.session {
        Some(session) => vec![context.find(session, SessionFilter::Live).await?],
        None => context.store.sessions(SessionFilter::Live).await.map_err(CliError::environment)?,
    };
    let mut failed = false;
    for row in rows {
        let outcome = stop_one(&context, args, &row).await;
        failed |= outcome.is_err();
        match (&outcome, args.json) {
            (Ok(row), true) => println!("{}", serde_json::to_string(row).map_err(CliError::environment)?),
            (Ok(row), false) => {
                let reason = row.ending.as_ref().map(|ending| format!(" ({})", ending.reason)).unwrap_or_default();
                println!("{}  {}{reason}", row.id, row.status);
            }
            (Err(error), true) => println!("{}", json!({"id": row.id, "error": error.to_string()})),
            (Err(error), false) => eprintln!("{}: {error}", row.id),
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

async fn stop_one(context: &Context, args: &StopArgs, row: &SessionRow) -> Result<SessionRow, CliError> {
    if context.is_owned(&row.id) {
        let by = "aigo stop".to_owned();
        let grace_ms = u64::try_from(args.grace.as_millis()).unwrap_or(u64::MAX);
        let request = if args.kill { Request::Cancel { by } } else { Request::Close { grace_ms, by } };
        let answer = tell(context, row, &request).await?;
        if let Some(error) = answer.error {
            return Err(CliError::environment(anyhow::anyhow!(error)));
        }
    } else {
        // Nobody owns it any more: what is left of it is cleared away here.
        let (engine, info) = context.engine().await?;
        let launcher = context.launcher(engine, &info);
        if let Some(where_it_is) = recover::elsewhere(row, &launcher.identity) {
            return Err(CliError::environment(anyhow::anyhow!(where_it_is)));
        }
        recover::sweep(&launcher).await;
    }
    let deadline = Instant::now() + args.grace + CLEAR_AWAY;
    loop {
        let now = context.store.session(&row.id).await.map_err(CliError::environment)?;
        match now {
            Some(row) if row.ended_at.is_some() => return Ok(row),
            Some(_) | None if Instant::now() >= deadline => {
                let error =
                    anyhow::anyhow!("the session has not ended; `aigo stop --kill {}` ends it by force", row.id);
                return Err(CliError::environment(error));
            }
            Some(_) | None => tokio::time::sleep(POLL).await,
        }
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
        println!("{}", serde_json::to_string(answer).map_err(CliError::environment)?);
    }
    match &answer.error {
        Some(_) if as_json => Ok(Exit::Failed),
        Some(error) => Err(CliError::environment(anyhow::anyhow!("{error}"))),
        None => {
            if let (Some(id), false) = (&answer.id, as_json) {
                println!("{id}");
            }
            Ok(Exit::Ok)
        }
    }
}
