//! The configuration of the service: what holds, and where each value comes from.
//!
//! ```text
//!   defaults ◄── file ◄── environment ◄── flags          each layer overwrites what it names
//!        └──────────┴─────────┴─────────────┘
//!                        │ every problem at once, with its place and a suggestion
//!                        ▼
//!                     Config   exists only if all of it is right
//! ```
//! Each key is written down once, in [`sections`]: its name, its kind (unit, range, how it is read and shown) and whether a
//! running service can take it. Reading a file, reading the environment, showing and comparing are visitors of that list, so
//! that no key can be forgotten by one of them. `default.toml` is the same list for people; a test holds the two together.
//!
//! Secrets are never in it: it is shown, compared and logged.

mod change;
mod document;
mod environment;
mod error;
mod holding;
mod kind;
mod layers;
mod list;
mod place;
mod sections;
mod suggest;
mod visit;

use std::path::Path;

pub use change::{Change, Reload};
pub use environment::Environment;
pub use error::{ConfigError, Problem};
pub use kind::LogLevel;
pub use list::{Entry, Origin};
pub use place::{CONFIG_VARIABLE, DATA_DIR_VARIABLE, Places, SOCKET, Scope};
pub use sections::{
    AgentSettings, Config, EngineSettings, HostLimits, LogFormat, LogSettings, ProxySettings, QueueSettings, Retention,
    SessionDefaults, SocketSettings,
};
pub use visit::Applies;

/// The commented default configuration: what people get as their first file.
pub const TEMPLATE: &str = include_str!("config/default.toml");

/// A value from the command line: it wins over all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The key, such as `listen` or `socket.path`.
    pub key: &'static str,
    /// The flag, as people typed it: `--listen`.
    pub flag: &'static str,
    /// The value, as text.
    pub value: String,
}

/// A configuration with the origin of each value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    origins: layers::Origins,
}

impl Config {
    /// Reads and judges the configuration: the defaults of `places`, the file, the environment, the flags.
    ///
    /// Variables of our prefix that nobody reads are problems, too. `file` is one that somebody named, which has to be there; without it, the one of [`Places`] is read if it exists.
    ///
    /// # Errors
    /// [`ConfigError::Bad`] with every problem that was found, or what keeps the file from being read.
    pub fn load(
        places: &Places,
        file: Option<&Path>,
        env: &Environment<'_>,
        flags: &[Flag],
    ) -> Result<Loaded, ConfigError> {
        let text = match file {
            Some(file) => Some((file, document::read(file)?)),
            None => document::read_if_there(&places.config)?.map(|text| (places.config.as_path(), text)),
        };
        let text = text.as_ref().map(|(path, text)| (*path, text.as_str()));
        layers::load(Self::defaults(places), text, env, flags)
    }
}

#[cfg(test)]
mod tests;
