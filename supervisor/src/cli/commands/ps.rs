//! `aigo ps`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::args::{Global, PsArgs};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::sanitize::{self, one_line};
use crate::cli::show::style::Style;
use crate::client::{self, ClientError};
use crate::serve::api::queue::Waiting;
use crate::serve::meter::{Reading, Usage};
use crate::session::SessionId;
use crate::session::status::Status;
use crate::store::{SessionFilter, SessionRow};
use crate::units::{format_duration, format_size};

/// Characters of a folder's path that are shown.
const PATH_CHARS: usize = 48;
/// What is not known.
const UNKNOWN: &str = "-";

/// Lists sessions.
pub async fn run(global: &Global, args: &PsArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let filter = if args.all { SessionFilter::All } else { SessionFilter::Live };
    let rows = context.store.sessions(filter).await.map_err(CliError::environment)?;
    // A session whose owner died without a word is not running; the next `aigo run` clears it away. One of a service that is
    // stopped runs on.
    let runs = |row: &SessionRow| row.request.is_some() || context.is_owned(&row.id);
    let rows: Vec<SessionRow> = rows.into_iter().filter(|row| args.all || runs(row)).collect();
    let now = Now::of(&context, &rows).await;
    if args.json {
        let rows: Result<Vec<Value>, _> = rows.iter().map(|row| now.json(row)).collect();
        say::line(rows.and_then(|rows| sanitize::json_pretty(&rows)).map_err(CliError::environment)?)?;
        return Ok(Exit::Ok);
    }
    let style = Style::resolve(global.color);
    if rows.is_empty() {
        let hint = if args.all { "" } else { "; `aigo ps --all` shows those that ended" };
        say::aside(format_args!("no sessions{hint}"));
        return Ok(Exit::Ok);
    }
    let head = format!(
        "{:<13} {:<13} {:<22} {:<10} {:<8} {:>7} {:>9}  {:<8} WORKSPACE",
        "SESSION", "STATUS", "REASON", "AGENT", "PROGRAM", "CPU", "MEM", "AGE"
    );
    let lines = rows.iter().map(|row| line(&context, style, row, &now));
    say::line([style.bold(head)].into_iter().chain(lines).collect::<Vec<_>>().join("\n"))?;
    for problem in &now.problems {
        say::aside(problem);
    }
    Ok(Exit::Ok)
}

/// What only the service knows.
#[derive(Debug, Default)]
struct Now {
    usage: Reading,
    queue: BTreeMap<SessionId, Waiting>,
    problems: BTreeSet<String>,
}

impl Now {
    /// Asks the service, if one runs and has anything to tell of these sessions.
    async fn of(context: &Context, rows: &[SessionRow]) -> Self {
        let live = |wanted: fn(Status) -> bool| rows.iter().any(|row| row.ended_at.is_none() && wanted(row.status));
        let Some(service) = context.service() else { return Self::default() };
        let mut now = Self::default();
        if live(|status| status != Status::Queued) {
            match client::usage(&service.socket).await {
                Ok(usage) => now.usage = usage,
                Err(error) => now.failed("what sessions use", &error),
            }
        }
        if live(|status| status == Status::Queued) {
            match client::queue(&service.socket).await {
                Ok(queue) => now.queue = queue.into_iter().map(|waiting| (waiting.id.clone(), waiting)).collect(),
                Err(error) => now.failed("who waits, and why,", &error),
            }
        }
        let reasons = now.usage.unmeasured.iter().map(|unmeasured| &unmeasured.reason);
        let reasons: Vec<String> = reasons.map(|reason| format!("CPU and memory cannot be read: {reason}")).collect();
        now.problems.extend(reasons);
        now
    }

    fn failed(&mut self, what: &str, error: &ClientError) {
        self.problems.insert(format!("{what} is not known: {}", crate::error_chain::chain(error)));
    }

    /// What one that runs uses; what is known of it may be a second old.
    fn usage(&self, row: &SessionRow) -> Option<&Usage> {
        self.usage.of(&row.id).filter(|_| row.ended_at.is_none())
    }

    fn json(&self, row: &SessionRow) -> serde_json::Result<Value> {
        let mut value = serde_json::to_value(row)?;
        // `aigo run --json` names the session so.
        value["session"] = json!(row.id);
        if let Some(usage) = self.usage(row) {
            value["usage"] = serde_json::to_value(usage)?;
        }
        if let Some(Waiting { position, reason, message, .. }) = self.queue.get(&row.id) {
            value["queue"] = json!({"position": position, "reason": reason, "message": message});
        }
        Ok(value)
    }
}

fn line(context: &Context, style: Style, row: &SessionRow, now: &Now) -> String {
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
    let reason = match (&row.ending, now.queue.get(&row.id)) {
        (Some(ending), _) => ending.reason.to_string(),
        (None, Some(waiting)) => format!("#{} {}", waiting.position, waiting.code()),
        (None, None) => String::new(),
    };
    let folder = one_line(&row.workspace.to_string_lossy(), PATH_CHARS);
    let (cpu, memory) = columns(now.usage(row));
    format!(
        "{:<13} {status} {reason:<22} {:<10} {:<8} {cpu:>7} {memory:>9}  {age:<8} {folder}",
        row.id.as_str(),
        row.agent,
        row.program
    )
}

/// CPU time and memory as people read them.
fn columns(usage: Option<&Usage>) -> (String, String) {
    let cpu = usage.and_then(|usage| usage.cpu_percent).map(|percent| format!("{percent:.1}%"));
    let memory = usage.and_then(|usage| usage.memory_bytes).map(format_size);
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    (or_unknown(cpu), or_unknown(memory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::meter::Measured;

    #[test]
    fn rows_tell_what_the_service_knows() {
        let row = SessionRow::new(SessionId::random(), "claude", "i", "/w");
        let usage = Usage { cpu_percent: Some(12.34), memory_bytes: Some(64 << 20), ..Usage::default() };
        assert_eq!(columns(Some(&usage)), ("12.3%".to_owned(), "64 MiB".to_owned()));
        assert_eq!(columns(None), (UNKNOWN.to_owned(), UNKNOWN.to_owned()));
        let measured = vec![Measured { id: row.id.clone(), agent: "default".into(), usage }];
        let now = Now { usage: Reading { measured, unmeasured: vec![] }, ..Now::default() };
        let value = now.json(&row).unwrap();
        assert_eq!((&value["agent"], &value["program"]), (&json!("default"), &json!("claude")));
        assert_eq!((&value["id"], &value["session"]), (&json!(row.id), &json!(row.id)));
        assert_eq!(value["usage"], json!({"cpuPercent": 12.34, "memoryBytes": 64 << 20}));
        assert_eq!(Now::default().json(&row).unwrap().get("usage"), None);
    }
}
