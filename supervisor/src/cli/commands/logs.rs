//! `aigo logs`.

use std::io::Write;
use std::time::Duration;

use crate::cli::args::{Global, LogsArgs};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say::{self, Reader};
use crate::cli::show::sanitize;
use crate::cli::show::style::Style;
use crate::cli::show::transcript::Transcript;
use crate::session::event::{HostEvent, What};
use crate::store::SessionFilter;

/// Events read at once, at most.
const BATCH: usize = 500;
/// Another process writes the events: there is nothing to wait on but the clock.
const POLL: Duration = Duration::from_millis(200);

/// Shows a transcript.
pub async fn run(global: &Global, args: &LogsArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let row = context.find(&args.session, SessionFilter::All).await?;
    let mut transcript = Transcript::new(Style::resolve(global.color), false);
    let mut out = std::io::stdout().lock();
    let mut cursor = 0;
    loop {
        // Looked at before reading: what was written before its end is then read in this round.
        let over = !args.follow || !context.is_owned(&row.id);
        let events = context.store.events(&row.id, cursor, BATCH).await.map_err(CliError::environment)?;
        for event in &events {
            cursor = event.seq;
            let shown = if args.json {
                let json = sanitize::json(event).map_err(CliError::environment)?;
                writeln!(out, "{json}")
            } else {
                write!(out, "{}", transcript.render(event))
            };
            if say::outcome(shown.and_then(|()| out.flush()))? == Reader::Gone {
                return Ok(Exit::Ok);
            }
        }
        let ended = events.iter().any(|event| matches!(event.what, What::Host(HostEvent::Ended { .. })));
        if ended || (over && events.is_empty()) {
            return Ok(Exit::Ok);
        }
        if events.is_empty() {
            tokio::time::sleep(POLL).await;
        }
    }
}
