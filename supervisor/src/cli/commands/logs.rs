//! `aigo logs`.

use std::io::Write;
use std::time::Duration;

use crate::cli::args::{Global, LogsArgs};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say::{self, Reader};
use crate::cli::show::stored::Stored;
use crate::cli::show::style::Style;
use crate::session::SessionId;
use crate::store::SessionFilter;

/// Events read at once, at most.
const BATCH: usize = 500;
/// Another process writes the events: there is nothing to wait on but the clock.
const POLL: Duration = Duration::from_millis(200);

/// What more there is to come of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    /// Its owner works on it, or a service that runs is about to.
    Soon,
    /// Its service is away; the next one goes on with it.
    WithTheService,
    /// Its `aigo run` has died, and nobody goes on with it.
    Never,
    /// It has ended.
    Ended,
}

/// Shows a transcript.
pub async fn run(global: &Global, args: &LogsArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let row = context.find(&args.session, SessionFilter::All).await?;
    let mut lines = if args.json { Stored::json() } else { Stored::text(Style::resolve(global.color)) };
    let mut out = std::io::stdout().lock();
    let mut said = More::Soon;
    loop {
        // Looked at before reading: what was written before its end is then read in this round.
        let more = more(&context, &row.id).await?;
        let events = context.store.events(&row.id, lines.cursor(), BATCH).await.map_err(CliError::environment)?;
        for event in &events {
            let shown = lines.next(event).map_err(CliError::environment)?;
            if say::outcome(write!(out, "{shown}").and_then(|()| out.flush()))? == Reader::Gone {
                return Ok(Exit::Ok);
            }
        }
        if lines.has_ended() {
            return Ok(Exit::Ok);
        }
        if !events.is_empty() {
            continue;
        }
        match more {
            More::Ended => {
                say::outcome(write!(out, "{}", lines.last()).and_then(|()| out.flush()))?;
                return Ok(Exit::Ok);
            }
            More::Soon | More::WithTheService | More::Never if !args.follow => return Ok(Exit::Ok),
            More::Never => {
                let id = &row.id;
                say::aside(format_args!(
                    "the aigo that owned the session has died; `aigo stop {id}` clears up after it"
                ));
                return Ok(Exit::Ok);
            }
            More::WithTheService if said != more => {
                say::aside("the service is away; its next start goes on with the session, and this waits for it");
            }
            More::Soon | More::WithTheService => {}
        }
        said = more;
        tokio::time::sleep(POLL).await;
    }
}

async fn more(context: &Context, id: &SessionId) -> Result<More, CliError> {
    // Before the row: an owner lets go of its lock only when the end is stored.
    let owned = context.is_owned(id);
    let row = context.store.session(id).await.map_err(CliError::environment)?;
    // Only ended sessions are forgotten.
    let Some(row) = row.filter(|row| row.ended_at.is_none()) else { return Ok(More::Ended) };
    Ok(match (owned, row.request.is_some()) {
        (true, _) => More::Soon,
        (false, true) if context.service().is_some() => More::Soon,
        (false, true) => More::WithTheService,
        (false, false) => More::Never,
    })
}
