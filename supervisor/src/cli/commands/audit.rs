//! `aigo audit`: who asked for what, and what was decided.

use crate::cli::args::Global;
use crate::cli::args::agents::AuditArgs;
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::sanitize::{json_pretty, one_line};
use crate::cli::show::second;
use crate::cli::show::style::Style;
use crate::client;
use crate::serve::api::wire::AuditEntry;
use crate::store::Decision;

/// Characters of the reasons.
const REASON_CHARS: usize = 300;

/// Shows the newest lines.
pub async fn run(global: &Global, args: &AuditArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let lines = match context.service() {
        Some(service) => client::audit(&service.socket, args.limit).await.map_err(CliError::environment)?,
        // What the last one has written.
        None => {
            let rows = context.store.audit_log(None, args.limit as usize).await.map_err(CliError::environment)?;
            rows.into_iter().map(AuditEntry::from).collect()
        }
    };
    if args.json {
        say::line(json_pretty(&lines).map_err(CliError::environment)?)?;
    } else if lines.is_empty() {
        say::aside("nobody has asked a service for anything yet");
    } else {
        say::text(table(Style::resolve(global.color), &lines))?;
    }
    Ok(Exit::Ok)
}

/// One line each. Pure.
fn table(style: Style, lines: &[AuditEntry]) -> String {
    let head = format!("{:<20} {:<8} {:<17} {:<13} {:<26} WHY", "WHEN", "DECISION", "ACTION", "SESSION", "WHO");
    let mut text = format!("{}\n", style.bold(head));
    for AuditEntry { id: _, at, actor, action, session, decision, reasons } in lines {
        let at = second(*at);
        let word = format!("{:<8}", decision.word());
        let decision = match decision {
            Decision::Allowed => word,
            Decision::Denied => style.warn(word),
        };
        let session = session.as_deref().unwrap_or_default();
        let why = one_line(&reasons.join("; ").replace('\n', " "), REASON_CHARS);
        let (who, action) = (one_line(actor, 60), one_line(action, 30));
        let line = format!("{at:<20} {decision} {action:<17} {session:<13} {who:<26} {why}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_tame() {
        let entry = AuditEntry {
            id: 7,
            at: jiff::Timestamp::UNIX_EPOCH,
            actor: "api 127.0.0.1:9".into(),
            action: "request.refused".into(),
            session: None,
            decision: Decision::Denied,
            reasons: vec!["pages of \x1b[31mhttp://e\nvil may not".into(), "the last of 9".into()],
        };
        let text = table(Style::PLAIN, &[entry]);
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("1970-01-01 00:00:00Z denied   request.refused "), "{line}");
        assert!(line.ends_with("pages of ␛[31mhttp://e vil may not; the last of 9"), "{line}");
    }
}
