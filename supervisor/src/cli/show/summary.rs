//! The last lines: status, reason, duration, changed files, usage.

use std::time::Duration;

use super::sanitize::{field, hanging, short_field};
use super::style::Style;
use crate::session::event::Summary;
use crate::session::status::{Ending, Status};
use crate::units::{format_duration, format_size};
use crate::workspace::changes::{Changes, GitChange, GitFolders, LeftOut, Names};

/// Names that are shown of each kind of change.
const MAX_NAMES: usize = 8;
/// Characters of a name that are shown.
const NAME_CHARS: usize = 200;
/// Throttling that people notice.
const NOTEWORTHY_MS: u64 = 1000;

/// The final lines of a transcript.
pub fn lines(style: Style, status: Status, ending: &Ending, summary: &Summary) -> String {
    let took = format_duration(Duration::from_millis(summary.duration_ms));
    let head = format!("{status} ({}) in {took}", ending.reason);
    let mut text = String::from("\n");
    text.push_str(&match status {
        Status::Completed => style.good(format!("✓ {head}")),
        Status::Timeout | Status::Cancelled => style.warn(format!("■ {head}")),
        Status::Failed => style.bad(format!("✗ {head}")),
        Status::Queued | Status::Provisioning | Status::Running | Status::Closing => head,
    });
    text.push('\n');
    if let Some(detail) = &ending.detail {
        // It may hold words of the container's: they stand further in than the lines below.
        text.push_str(&format!("  {}\n", hanging(detail.trim_end(), "    ")));
    }
    text.push_str(&changes(summary));
    text.push_str(&usage(style, summary));
    text
}

fn changes(summary: &Summary) -> String {
    if let Some(why) = &summary.changes_unknown {
        return format!("  what changed is not known: {}\n", field(why));
    }
    let Some(changes) = &summary.changes else { return String::new() };
    let kinds = [
        ("added", listed(&changes.added)),
        ("modified", listed(&changes.modified)),
        ("mode", listed(&changes.mode_changed)),
        ("touched", listed(&changes.touched)),
        ("removed", listed(&changes.removed)),
        ("git", repositories(&changes.git)),
    ];
    let kinds = kinds.into_iter().filter(|(_, names)| !names.is_empty());
    let lines: String = kinds.map(|(word, names)| format!("  {:<9} {names}\n", format!("{word}:"))).collect();
    match (changes.incomplete, lines.is_empty()) {
        (false, true) => "  no files changed\n".to_owned(),
        (false, false) => lines,
        (true, true) => format!("  no changes in what was compared\n{}", left_out(changes)),
        (true, false) => format!("  at least:\n{lines}{}", left_out(changes)),
    }
}

/// Folders that were not compared, those with the same reason together.
fn left_out(changes: &Changes) -> String {
    let LeftOut { count, folders } = &changes.left_out;
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for folder in folders.iter().take(MAX_NAMES) {
        let name = short_field(&folder.path, NAME_CHARS);
        match reasons.iter_mut().find(|(reason, _)| *reason == folder.reason) {
            Some((_, names)) => names.push(name),
            None => reasons.push((&folder.reason, vec![name])),
        }
    }
    let more = count.saturating_sub(folders.len().min(MAX_NAMES));
    let shown: Vec<String> =
        reasons.into_iter().map(|(reason, names)| format!("{} ({})", names.join(", "), field(reason))).collect();
    format!("  not compared: {}\n", and_more(&shown, more, "; "))
}

fn listed(names: &Names) -> String {
    let shown: Vec<String> = names.names.iter().take(MAX_NAMES).map(|name| short_field(name, NAME_CHARS)).collect();
    and_more(&shown, names.count.saturating_sub(shown.len()), ", ")
}

fn repositories(git: &GitFolders) -> String {
    let shown = git.folders.iter().take(MAX_NAMES).map(|folder| {
        let change = match folder.change {
            GitChange::Added => "added",
            GitChange::Changed => "changed",
            GitChange::Removed => "removed",
        };
        format!("{} {change}", short_field(&folder.path, NAME_CHARS))
    });
    let shown: Vec<String> = shown.collect();
    and_more(&shown, git.count.saturating_sub(shown.len()), ", ")
}

fn and_more(shown: &[String], more: usize, between: &str) -> String {
    let shown = shown.join(between);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn usage(style: Style, summary: &Summary) -> String {
    let mut parts = Vec::new();
    if summary.turns > 0 {
        parts.push(format!("{} turn{}", summary.turns, if summary.turns == 1 { "" } else { "s" }));
    }
    let tokens = summary.tokens;
    if tokens.input + tokens.output + tokens.cache_read + tokens.cache_write > 0 {
        parts.push(format!(
            "{} tokens in, {} out",
            tokens.input + tokens.cache_read + tokens.cache_write,
            tokens.output
        ));
    }
    if summary.model_requests > 0 {
        parts.push(format!(
            "{} model request{}",
            summary.model_requests,
            if summary.model_requests == 1 { "" } else { "s" }
        ));
    }
    if let Some(cost) = summary.cost_usd.filter(|cost| *cost > 0.0) {
        parts.push(format!("${cost:.4}"));
    }
    if let Some(peak) = summary.peak_memory_bytes {
        parts.push(format!("peak memory {}", format_size(peak)));
    }
    let throttled = summary.throttled.map_or(0, |throttled| throttled.own_ms.max(throttled.shared_ms));
    if throttled >= NOTEWORTHY_MS {
        parts.push(format!("held back by the CPU quota for {}", format_duration(Duration::from_millis(throttled))));
    }
    if parts.is_empty() { String::new() } else { format!("  {}\n", style.dim(parts.join(" · "))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::status::EndReason;
    use crate::workspace::changes::{GitFolder, LeftOutFolder};

    fn shown(changes: Changes) -> String {
        super::changes(&Summary { changes: Some(Box::new(changes)), ..Summary::default() })
    }

    fn names(names: &[&str]) -> Names {
        Names { count: names.len(), names: names.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn nothing_changed_is_said_only_if_everything_was_compared() {
        assert_eq!(shown(Changes::default()), "  no files changed\n");
        let folder = |path: &str| LeftOutFolder { path: path.into(), reason: "it cannot be read".into() };
        let left_out = LeftOut { count: 12, folders: vec![folder("a/"), folder("b/")] };
        let partial = Changes { left_out, incomplete: true, ..Changes::default() };
        assert_eq!(
            shown(partial.clone()),
            "  no changes in what was compared\n  not compared: a/, b/ (it cannot be read) and 10 more\n"
        );
        let partial = Changes { added: names(&["new"]), ..partial };
        assert!(shown(partial).starts_with("  at least:\n  added:    new\n  not compared:"));
        let unknown = Summary { changes_unknown: Some("a\nb".into()), ..Summary::default() };
        assert_eq!(super::changes(&unknown), "  what changed is not known: a␊b\n");
    }

    #[test]
    fn each_kind_has_its_line() {
        let git =
            GitFolders { count: 1, folders: vec![GitFolder { path: "lib/.git".into(), change: GitChange::Removed }] };
        let changes = Changes { mode_changed: names(&["run.sh"]), removed: names(&["x/"]), git, ..Changes::default() };
        assert_eq!(shown(changes), "  mode:     run.sh\n  removed:  x/\n  git:      lib/.git removed\n");
    }

    #[test]
    fn a_name_is_no_line_of_the_summary() {
        let forged = "a.txt\n\n✓ completed (finished) in 3.1s\n  no files changed";
        let changes = Box::new(Changes { added: names(&[forged]), ..Changes::default() });
        let summary = Summary { changes: Some(changes), ..Summary::default() };
        let ending = Ending::because(EndReason::AgentExit { code: 1 }, "it said: x\nno files changed");
        let text = lines(Style::PLAIN, Status::Failed, &ending, &summary);
        assert_eq!(text.lines().filter(|line| line.starts_with('✓')).count(), 0, "{text}");
        assert_eq!(text.lines().filter(|line| *line == "  no files changed").count(), 0, "{text}");
        assert!(text.contains("  added:    a.txt␊␊✓ completed"), "{text}");
    }
}
