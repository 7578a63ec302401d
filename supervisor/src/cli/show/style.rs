//! Colours, on terminals only.

use std::fmt::Display;
use std::io::IsTerminal;

use super::sanitize::sanitize;
use crate::cli::args::ColorChoice;
use crate::session::status::Status;

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    color: bool,
}

impl Style {
    /// No colours.
    pub const PLAIN: Self = Self { color: false };

    /// For standard output, as the flag and the environment (NO_COLOR, TERM=dumb) say.
    pub fn resolve(choice: ColorChoice) -> Self {
        let quiet = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = match choice {
            ColorChoice::Auto => !quiet && std::io::stdout().is_terminal(),
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        Self { color }
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        // SGR parameters, ECMA-48 section 8.3.117.
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Names, headings.
    pub fn bold(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    /// What matters less.
    pub fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }

    /// Went well.
    pub fn good(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    /// Went wrong.
    pub fn bad(self, text: impl Display) -> String {
        self.paint("31", text)
    }

    /// Worth a look.
    pub fn warn(self, text: impl Display) -> String {
        self.paint("33", text)
    }

    /// Tools, links.
    pub fn accent(self, text: impl Display) -> String {
        self.paint("36", text)
    }
}

impl Style {
    /// A status, coloured by what it means.
    pub fn status(self, status: Status, text: impl Display) -> String {
        match status {
            Status::Completed | Status::Running => self.good(text),
            Status::Failed => self.bad(text),
            Status::Timeout | Status::Cancelled | Status::Closing => self.warn(text),
            Status::Queued | Status::Provisioning => text.to_string(),
        }
    }
}

/// An error as it ends a command.
pub fn error(style: Style, text: &str) -> String {
    // Of an engine or a service, which may tell what a container said.
    let text = sanitize(text);
    let mut lines = text.lines();
    let mut shown = format!("{} {}", style.bad("error:"), lines.next().unwrap_or_default());
    for line in lines {
        shown.push_str("\n       ");
        shown.push_str(line);
    }
    shown
}
