//! The service's log: in the form that fits where it goes, and with a level that a reload can change.

use std::io::{self, IsTerminal};

use nix::sys::stat::fstat;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{LogFormat, LogLevel, LogSettings};

/// Set by systemd for what it starts: the device and inode of the journal's stream (systemd.exec(5)).
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";
/// Put before the names of our fields in the journal: `AIGO_SESSION`.
const FIELD_PREFIX: &str = "AIGO";

/// The running log.
#[derive(Clone, Debug)]
pub struct ServiceLog {
    filter: reload::Handle<EnvFilter, Registry>,
}

/// No log as configured.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The journal.
    #[error("cannot write to the journal; choose another `log.format`")]
    Journal(#[source] io::Error),
    /// The level.
    #[error("`log.level` is not a filter")]
    Level(#[from] ParseError),
    /// A second start.
    #[error("the log was started before")]
    Twice(#[from] TryInitError),
    /// The log has ended.
    #[error("the level of the log cannot be changed")]
    Fixed(#[from] reload::Error),
}

/// Where and how lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Journal,
}

impl ServiceLog {
    /// Starts it for the process, once.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn start(settings: &LogSettings) -> Result<Self, LogError> {
        let terminal = io::stderr().is_terminal();
        let (filter, handle) = reload::Layer::new(EnvFilter::try_new(settings.level.directives())?);
        let registry = tracing_subscriber::registry().with(filter);
        // A closed standard error is no reason to say so on standard error.
        match form(settings.format, leads_to_journal(), terminal) {
            Form::Text => {
                let layer = fmt::layer().with_writer(io::stderr).with_ansi(terminal).log_internal_errors(false);
                registry.with(layer).try_init()?;
            }
            Form::Json => {
                let layer = fmt::layer().json().flatten_event(true).with_writer(io::stderr).log_internal_errors(false);
                registry.with(layer).try_init()?;
            }
            Form::Journal => {
                let layer = tracing_journald::layer().map_err(LogError::Journal)?;
                let layer =
                    layer.with_field_prefix(Some(FIELD_PREFIX.to_owned())).with_syslog_identifier("aigo".to_owned());
                registry.with(layer).try_init()?;
            }
        }
        Ok(Self { filter: handle })
    }

    /// Changes how much is logged, from now on.
    ///
    /// # Errors
    /// [`LogError`]; then it stays as it was.
    pub fn set_level(&self, level: &LogLevel) -> Result<(), LogError> {
        let filter = EnvFilter::try_new(level.directives())?;
        Ok(self.filter.reload(filter)?)
    }
}

fn form(format: LogFormat, journal: bool, terminal: bool) -> Form {
    match format {
        LogFormat::Auto if journal => Form::Journal,
        LogFormat::Auto if terminal => Form::Text,
        LogFormat::Auto | LogFormat::Json => Form::Json,
        LogFormat::Text => Form::Text,
        LogFormat::Journald => Form::Journal,
    }
}

/// Standard error is the journal's stream, and not only that of an ancestor.
fn leads_to_journal() -> bool {
    let stream = std::env::var(JOURNAL_VARIABLE).unwrap_or_default();
    let facts = fstat(io::stderr());
    facts.is_ok_and(|facts| stream == format!("{}:{}", facts.st_dev, facts.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_fits_the_place() {
        assert_eq!(form(LogFormat::Auto, true, false), Form::Journal);
        assert_eq!(form(LogFormat::Auto, false, true), Form::Text);
        assert_eq!(form(LogFormat::Auto, false, false), Form::Json);
        assert_eq!(form(LogFormat::Text, true, false), Form::Text);
        assert_eq!(form(LogFormat::Json, false, true), Form::Json);
        assert_eq!(form(LogFormat::Journald, false, true), Form::Journal);
    }
}
