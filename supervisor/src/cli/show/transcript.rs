//! The transcript: one event in, lines for a person out. The same lines on a terminal and in a file, but for colours.

use std::collections::HashMap;

use ipc_protocol::event::{EventKind, OutputStream, StepState, TurnFinished, TurnOutcome};
use jiff::Timestamp;

use super::launch::launch_step;
use super::sanitize::{field, hanging, one_line, sanitize, words};
use super::style::Style;
use super::summary;
use crate::session::event::{HostEvent, SessionEvent, What};
use crate::units::format_duration;

/// Lines of a tool's result that are shown; the rest is counted.
const RESULT_LINES: usize = 12;
/// Characters of a line of a tool's result.
const LINE_CHARS: usize = 160;
/// Begins the other lines of a text behind a mark.
const INDENT: &str = "  ";
/// Tool calls whose start is remembered, for the time that they took.
const MAX_CALLS: usize = 4096;

/// Renders events; remembers what is needed to tell durations.
#[derive(Debug)]
pub struct Transcript {
    style: Style,
    calls: HashMap<String, Timestamp>,
    hide_inputs: bool,
    /// The last error shown. An agent tells the same one as a warning, as the turn's end and as its own: once is enough.
    error: Option<String>,
}

impl Transcript {
    /// `hide_inputs`: the person sees what they type anyway.
    pub fn new(style: Style, hide_inputs: bool) -> Self {
        Self { style, calls: HashMap::new(), hide_inputs, error: None }
    }

    /// The lines for one event, each with its line end; empty if there is nothing to show.
    pub fn render(&mut self, event: &SessionEvent) -> String {
        let mut text = match &event.what {
            What::Host(host) => self.host(host),
            What::Runner(kind) => self.runner(event.at, kind),
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }

    /// Whether this error was not shown just before.
    fn is_news(&mut self, error: &str) -> bool {
        let error = Some(error.trim().to_owned());
        let is_news = self.error != error;
        self.error = error;
        is_news
    }

    fn host(&mut self, event: &HostEvent) -> String {
        let style = self.style;
        match event {
            HostEvent::Session { .. } | HostEvent::Status { .. } => String::new(),
            HostEvent::Queued { position, message, .. } => {
                style.dim(format!("waiting at position {position}: {}", field(message)))
            }
            HostEvent::LaunchStep { step, detail } => style.dim(launch_step(*step, detail.as_deref())),
            HostEvent::InputSent { body, sender, .. } => {
                if self.hide_inputs && sender.is_none() {
                    return String::new();
                }
                let who = sender.as_deref().map(|sender| format!("{}: ", field(sender))).unwrap_or_default();
                prefixed(&style.accent("› "), &format!("{who}{}", sanitize(body.text.trim_end())), RESULT_LINES)
            }
            HostEvent::InterruptSent {} => style.warn("⏸ interrupting the turn"),
            HostEvent::EndRequested { by } => style.warn(format!("■ ending the session ({})", field(by))),
            HostEvent::Escalation { step } => style.warn(format!("■ {}", field(step))),
            HostEvent::Message { body, chat_jid, .. } => {
                let to = chat_jid.as_deref().map(|jid| format!(" to {}", field(jid))).unwrap_or_default();
                format!("{} {}", style.accent(format!("✉ message{to}:")), hanging(&body.text, INDENT))
            }
            HostEvent::AgentQuestion { body, options, .. } => {
                let mut text = format!("{} {}", style.accent("? question:"), hanging(&body.text, INDENT));
                for option in options {
                    text.push_str(&format!("\n  - {}", field(option)));
                }
                text
            }
            HostEvent::File { path, caption, .. } => {
                let caption = caption.as_deref().map(|c| format!(" ({})", field(c))).unwrap_or_default();
                format!("{} {}{caption}", style.accent("⎘ file:"), field(path))
            }
            HostEvent::TaskRequest { request, ok, error, .. } => {
                let outcome = match (ok, error) {
                    (true, _) => style.good("done"),
                    (false, Some(error)) => style.warn(field(error)),
                    (false, None) => style.warn("refused"),
                };
                format!("{} {}: {outcome}", style.accent("⚙ request"), field(request))
            }
            HostEvent::HostWarning { message, .. } => style.warn(format!("! {}", hanging(message, INDENT))),
            HostEvent::Ended { status, ending, summary } => {
                let mut ending = ending.clone();
                ending.detail = ending.detail.filter(|detail| self.is_news(detail));
                summary::lines(style, *status, &ending, summary)
            }
        }
    }

    fn runner(&mut self, at: Timestamp, kind: &EventKind) -> String {
        let style = self.style;
        match kind {
            EventKind::SetupStep { step, state: StepState::Failed, detail } => {
                let step = serde_json::to_value(step).ok().and_then(|v| v.as_str().map(str::to_owned));
                let detail = detail.as_deref().map(|detail| hanging(detail, INDENT)).unwrap_or_default();
                style.bad(format!("✗ setup step {} failed: {detail}", step.unwrap_or_default()))
            }
            EventKind::Text { body, parent_call } => {
                let text = body.text.trim_end_matches('\n');
                if parent_call.is_some() {
                    prefixed("  ┊ ", &clipped(sanitize(text), body.full_bytes), usize::MAX)
                } else {
                    clipped(words(text), body.full_bytes)
                }
            }
            EventKind::Thought { body, .. } => style.dim(prefixed("· ", &sanitize(body.text.trim()), RESULT_LINES)),
            EventKind::ToolCall { call_id, tool, input, .. } => {
                if self.calls.len() < MAX_CALLS {
                    self.calls.insert(call_id.clone(), at);
                }
                format!("{} {}", style.accent(format!("▸ {}", field(tool))), tool_line(&input.value))
            }
            EventKind::ToolResult { call_id, is_error, body } => {
                let took = self.calls.remove(call_id).map(|from| at.duration_since(from));
                let took = took.and_then(|took| took.try_into().ok()).map(format_duration).unwrap_or_default();
                let mark =
                    if *is_error { style.bad(format!("  ✗ {took}")) } else { style.good(format!("  ✓ {took}")) };
                let text = sanitize(body.text.trim_end());
                if text.is_empty() {
                    return mark;
                }
                format!("{}{mark}", prefixed(&style.dim("  │ "), &text, RESULT_LINES))
            }
            EventKind::TurnFinished(turn) => self.turn(turn),
            EventKind::Output { stream, body } => {
                let mark = match stream {
                    OutputStream::Stdout => "  ",
                    OutputStream::Stderr => "2> ",
                };
                prefixed(&style.dim(mark), &sanitize(body.text.trim_end_matches('\n')), usize::MAX)
            }
            EventKind::Question { text, options, .. } => {
                let mut shown = format!("{} {}", style.accent("? question:"), hanging(text, INDENT));
                for option in options {
                    shown.push_str(&format!("\n  - {}", field(option)));
                }
                shown
            }
            EventKind::Warning { message, .. } => {
                self.is_news(message);
                style.warn(format!("! {}", hanging(message, INDENT)))
            }
            EventKind::InputDropped { id, reason } => {
                style.warn(format!("! message {} was not taken: {}", field(id), field(reason)))
            }
            EventKind::SetupStep { .. }
            | EventKind::RunnerStarted { .. }
            | EventKind::AgentStarted { .. }
            | EventKind::MountMismatch { .. }
            | EventKind::Ready {}
            | EventKind::TurnStarted { .. }
            | EventKind::InputAccepted { .. }
            | EventKind::Usage { .. }
            | EventKind::Closing { .. }
            | EventKind::AgentExited { .. }
            | EventKind::RunnerExiting { .. }
            | EventKind::Raw { .. } => String::new(),
        }
    }

    fn turn(&mut self, turn: &TurnFinished) -> String {
        let style = self.style;
        match turn.outcome {
            TurnOutcome::Success => String::new(),
            TurnOutcome::Interrupted => style.warn("⏸ turn interrupted"),
            TurnOutcome::MaxTurns => style.warn("! the bound on the model's turns was reached"),
            TurnOutcome::Error if !self.is_news(&turn.body.text) => String::new(),
            TurnOutcome::Error => style.bad(format!("✗ {}", hanging(turn.body.text.trim(), INDENT))),
        }
    }
}

fn clipped(text: String, full: Option<u64>) -> String {
    match full {
        Some(full) => format!("{text}… ({full} bytes in all)"),
        None => text,
    }
}

/// The one argument that says most, or all of them in short.
fn tool_line(input: &serde_json::Value) -> String {
    const TELLING: [&str; 8] = ["command", "file_path", "path", "pattern", "url", "query", "description", "prompt"];
    let found = TELLING.iter().find_map(|key| input.get(key).and_then(|value| value.as_str()));
    match found {
        Some(text) => one_line(text, LINE_CHARS),
        None if input.as_object().is_some_and(serde_json::Map::is_empty) => String::new(),
        None => one_line(&input.to_string(), LINE_CHARS),
    }
}

/// Every line behind a prefix; of more than `max` lines the first and the last ones, and how many are between.
fn prefixed(prefix: &str, text: &str, max: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let short = |line: &str| {
        let cut: String = line.chars().take(LINE_CHARS).collect();
        if cut.len() < line.len() { format!("{cut}…") } else { cut }
    };
    let mut shown = String::new();
    let mut push = |line: String| {
        shown.push_str(prefix);
        shown.push_str(&line);
        shown.push('\n');
    };
    if lines.len() <= max {
        lines.iter().for_each(|line| push(if max == usize::MAX { (*line).to_owned() } else { short(line) }));
    } else {
        let head = max / 2;
        let tail = max - head - 1;
        lines[..head].iter().for_each(|line| push(short(line)));
        push(format!("… {} more lines", lines.len() - head - tail));
        lines[lines.len() - tail..].iter().for_each(|line| push(short(line)));
    }
    shown
}

#[cfg(test)]
mod tests {
    use ipc_protocol::clip::{ClippedText, ClippedValue};
    use serde_json::json;

    use super::*;

    fn render(kinds: Vec<EventKind>) -> String {
        let mut transcript = Transcript::new(Style::PLAIN, true);
        let at = |ms: usize| Timestamp::from_millisecond(ms as i64).unwrap();
        let events = kinds.into_iter().enumerate();
        events
            .map(|(i, kind)| SessionEvent { seq: i as u64, at: at(i * 400), what: What::Runner(kind) })
            .map(|event| transcript.render(&event))
            .collect()
    }

    #[test]
    fn a_tool_with_its_result_and_time() {
        let text = render(vec![
            EventKind::Text { body: ClippedText::new("Running it.\n", 100), parent_call: None },
            EventKind::ToolCall {
                call_id: "1".into(),
                tool: "Bash".into(),
                input: ClippedValue::new(json!({"command": "make \x1b[2J", "timeout": 3}), 1000),
                parent_call: None,
            },
            EventKind::ToolResult { call_id: "1".into(), is_error: true, body: ClippedText::new("a\nb", 9) },
        ]);
        assert_eq!(text, "Running it.\n▸ Bash make ␛[2J\n  │ a\n  │ b\n  ✗ 0.4s\n");
    }

    #[test]
    fn no_text_of_a_container_is_taken_for_a_line_of_ours() {
        let forged = "x\n✓ completed (finished) in 3.1s\n  no files changed\n\u{2028}! y";
        let text = |text: &str| ClippedText::new(text, 1000);
        let mut transcript = Transcript::new(Style::PLAIN, false);
        let options = vec![forged.to_owned()];
        let sender = Some(forged.to_owned());
        let path = forged.to_owned();
        let events: Vec<What> = vec![
            What::Runner(EventKind::Text { body: text(forged), parent_call: None }),
            What::Runner(EventKind::Text { body: text(forged), parent_call: Some("1".into()) }),
            What::Runner(EventKind::Output { stream: OutputStream::Stdout, body: text(forged) }),
            What::Runner(EventKind::Warning { code: "x".into(), message: forged.into() }),
            What::Runner(EventKind::InputDropped { id: forged.into(), reason: forged.into() }),
            What::Runner(EventKind::ToolCall {
                call_id: "1".into(),
                tool: forged.into(),
                input: ClippedValue::new(json!({"command": forged}), 1000),
                parent_call: None,
            }),
            HostEvent::Message { id: "1".into(), body: text(forged), chat_jid: sender.clone() }.into(),
            HostEvent::AgentQuestion { id: "1".into(), body: text(forged), options }.into(),
            HostEvent::File { id: "1".into(), path, caption: sender.clone() }.into(),
            HostEvent::TaskRequest { id: "1".into(), request: forged.into(), ok: false, error: sender.clone() }.into(),
            HostEvent::HostWarning { code: "x".into(), message: forged.into() }.into(),
            HostEvent::InputSent { id: "1".into(), body: text(forged), sender }.into(),
        ];
        for what in events {
            let told = format!("{what:?}");
            let shown = transcript.render(&SessionEvent { seq: 1, at: Timestamp::UNIX_EPOCH, what });
            assert!(!shown.lines().any(|line| line.starts_with('✓')), "{told}: {shown}");
            let followed = shown.lines().skip(1).find(|line| line.starts_with(['!', '?', '▸', '✉', '⎘']));
            assert_eq!(followed, None, "{told}: {shown}");
            assert!(!shown.contains('\u{2028}'), "{told}");
        }
    }

    #[test]
    fn long_results_are_cut_in_the_middle() {
        let long: String = (1..=30).map(|n| format!("{n}\n")).collect();
        let text = render(vec![EventKind::ToolResult {
            call_id: "1".into(),
            is_error: false,
            body: ClippedText::new(long, 1000),
        }]);
        assert_eq!(text.lines().count(), RESULT_LINES + 1);
        assert!(text.contains("… 19 more lines") && text.contains("│ 30"), "{text}");
    }
}
