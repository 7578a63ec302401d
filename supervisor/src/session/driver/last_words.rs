//! What the container printed at last: the runner's own words where its journal has none.

use crate::engine::{ContainerId, LogsQuery, SharedEngine};

/// The end of the log that is asked for, in bytes.
const MAX_BYTES: usize = 4096;
/// Lines that are shown, and characters of them all.
const LINES: usize = 3;
const MAX_CHARS: usize = 600;

/// The last lines of the container's log; `None` if it printed nothing or the engine has not kept it.
pub(super) async fn of(engine: &SharedEngine, container: &ContainerId) -> Option<String> {
    let query = LogsQuery { max_bytes: MAX_BYTES, ..LogsQuery::default() };
    let output = engine.logs(container, &query).await.ok()?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    shown(&text)
}

fn shown(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LINES)..)?.join(" / ");
    let last: String = last.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARS).collect();
    (!last.is_empty()).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_in_one() {
        assert_eq!(shown(" \n\n"), None);
        assert_eq!(shown("a\nb\n\nc\nd\n").as_deref(), Some("b / c / d"));
        assert!(
            shown(&"x\u{1b}[31m".repeat(1000))
                .is_some_and(|text| text.len() < 4 * MAX_CHARS && !text.contains('\u{1b}'))
        );
    }
}
