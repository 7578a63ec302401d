//! The last lines: status, reason, duration, changed files, usage.

use std::time::Duration;

use super::sanitize::sanitize;
use super::style::Style;
use crate::session::event::Summary;
use crate::session::status::{Ending, Status};
use crate::units::{format_duration, format_size};
use crate::workspace::changes::Names;

/// Names that are shown of each kind of change.
const MAX_NAMES: usize = 8;
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
        for line in sanitize(detail).lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text.push_str(&changes(summary));
    text.push_str(&usage(style, summary));
    text
}

fn changes(summary: &Summary) -> String {
    let Some(changes) = &summary.changes else { return String::new() };
    let kinds = [("added", &changes.added), ("modified", &changes.modified), ("removed", &changes.removed)];
    let mut text = String::new();
    for (word, names) in kinds.into_iter().filter(|(_, names)| names.count > 0) {
        text.push_str(&format!("  {:<9} {}\n", format!("{word}:"), listed(names)));
    }
    if text.is_empty() {
        text.push_str("  no files changed\n");
    }
    text
}

fn listed(names: &Names) -> String {
    let shown: Vec<String> = names.names.iter().take(MAX_NAMES).map(|name| sanitize(name)).collect();
    let more = names.count - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
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
