//! What `aigo run` prints, in the three forms of `--output`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ipc_protocol::event::EventKind;
use serde_json::json;

use crate::cli::args::OutputFormat;
use crate::cli::exit::Exit;
use crate::cli::say;
use crate::cli::show::launch::launch_step;
use crate::cli::show::sanitize::{self, one_line};
use crate::cli::show::style::Style;
use crate::cli::show::transcript::Transcript;
use crate::policy::env;
use crate::request::SessionRequest;
use crate::session::SessionId;
use crate::session::event::{HostEvent, SessionEvent, What};
use crate::units::{format_duration, format_size};

/// The pace of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// Prints events as they come.
pub(super) struct Printer {
    output: OutputFormat,
    transcript: Transcript,
    progress: Option<ProgressBar>,
    last: Option<SessionEvent>,
    /// The program's exit code and the signal that ended it, as the runner tells.
    exited: (Option<i32>, Option<i32>),
}

/// The first lines: what runs, on what, within what.
pub(super) fn header(request: &SessionRequest) -> [String; 2] {
    let timeout =
        request.timeout.map_or_else(|| "no timeout".to_owned(), |t| format!("timeout {}", format_duration(t)));
    let real = request.workspace.canonicalize().unwrap_or_else(|_| request.workspace.clone());
    let folder = one_line(&real.to_string_lossy(), 200);
    let access = if request.workspace_read_only { " (read-only)" } else { "" };
    [
        format!("{} in {} on {folder}{access}", request.agent.word(), request.image),
        format!(
            "{} CPUs, {} memory, {} processes, {timeout}",
            request.limits.cpus,
            format_size(request.limits.memory),
            request.limits.pids
        ),
    ]
}

impl Printer {
    pub(super) fn new(output: OutputFormat, style: Style, typing: bool, id: &SessionId, header: &[String; 2]) -> Self {
        let mut progress = None;
        if output == OutputFormat::Text {
            say::aside(format_args!("{} {}", style.bold(format!("● session {id}:")), header[0]));
            say::aside(style.dim(format!("  {}", header[1])));
            if std::io::stderr().is_terminal() {
                let bar = ProgressBar::new_spinner();
                // The template is a constant that is tested below.
                if let Ok(template) = ProgressStyle::with_template(TEMPLATE) {
                    bar.set_style(template);
                }
                bar.enable_steady_tick(TICK);
                bar.set_message("starting");
                progress = Some(bar);
            }
        }
        Self { output, transcript: Transcript::new(style, typing), progress, last: None, exited: (None, None) }
    }

    /// Prints one event. An error means that nobody reads any more.
    pub(super) fn event(&mut self, event: SessionEvent) -> std::io::Result<()> {
        match self.output {
            OutputFormat::Text => self.text(&event)?,
            OutputFormat::StreamJson => {
                let json = sanitize::json(&event)?;
                let mut out = std::io::stdout().lock();
                writeln!(out, "{json}")?;
                out.flush()?;
            }
            OutputFormat::Json => {}
        }
        if let What::Runner(EventKind::AgentExited { code, signal }) = &event.what {
            self.exited = (*code, *signal);
        }
        self.last = Some(event);
        Ok(())
    }

    fn text(&mut self, event: &SessionEvent) -> std::io::Result<()> {
        match &event.what {
            What::Host(HostEvent::LaunchStep { step, detail }) => {
                let line = launch_step(*step, detail.as_deref());
                return match &self.progress {
                    Some(bar) => {
                        bar.set_message(line.trim_start_matches([' ', '·']).to_owned());
                        Ok(())
                    }
                    None => writeln!(std::io::stderr(), "{line}"),
                };
            }
            // Said on standard error before the session began.
            What::Host(HostEvent::HostWarning { code, .. }) if code == env::KEY_WARNING => return Ok(()),
            What::Runner(EventKind::Ready {}) | What::Host(HostEvent::Ended { .. }) => {
                if let Some(bar) = self.progress.take() {
                    bar.finish_and_clear();
                }
            }
            What::Host(_) | What::Runner(_) => {}
        }
        let text = self.transcript.render(event);
        if text.is_empty() {
            return Ok(());
        }
        let print = || {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()
        };
        match &self.progress {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// A line for the person at the terminal that is no event.
    pub(super) fn note(&self, line: &str) {
        let print = || say::aside(line);
        match &self.progress {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// After the last event.
    pub(super) fn finish(&mut self, id: &SessionId, exit: Exit) {
        if let Some(bar) = self.progress.take() {
            bar.finish_and_clear();
        }
        if self.output != OutputFormat::Json {
            return;
        }
        // `exitCode` is that of aigo, `code` and `signal` are how the program ended.
        let mut result = json!({"id": id, "session": id, "exitCode": exit.code()});
        let (code, signal) = self.exited;
        for (name, value) in [("code", code), ("signal", signal)] {
            if let Some(value) = value {
                result[name] = json!(value);
            }
        }
        if let Some(SessionEvent { what: What::Host(HostEvent::Ended { status, ending, summary }), .. }) = &self.last {
            result["status"] = json!(status);
            result["detail"] = json!(ending.detail);
            // The reason with what belongs to it, as in the event.
            if let (Some(result), Ok(serde_json::Value::Object(ending))) =
                (result.as_object_mut(), serde_json::to_value(&ending.reason))
            {
                result.extend(ending);
            }
            result["summary"] = json!(summary);
        }
        // Nobody may be left to read it.
        let result = sanitize::json_pretty(&result).unwrap_or_default();
        let _ = writeln!(std::io::stdout(), "{result}");
    }
}

const TEMPLATE: &str = "  {spinner} {msg} {elapsed}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
