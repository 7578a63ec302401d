//! `aigo config check` and `aigo config show`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::args::Global;
use crate::cli::args::config::{ConfigCheckArgs, ConfigShowArgs};
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::style::Style;
use crate::config::{
    Config, ConfigError, DATA_DIR_VARIABLE, Entry, Environment, Flag, Loaded, Origin, Places, SOCKET, Scope,
};
use crate::engine::detect::{Choice, ENGINE_VARIABLE};

/// Column in which the origins stand, where the values leave room.
const ORIGIN_COLUMN: usize = 44;

/// Says whether a configuration is right.
pub fn check(global: &Global, args: &ConfigCheckArgs) -> Result<Exit, CliError> {
    let source = Source::new(global, args.file.as_deref())?;
    let read = source.load();
    let named = || {
        let usual = source.places.config.display();
        match &args.file {
            Some(file) => file.display().to_string(),
            None if source.places.config.exists() => usual.to_string(),
            None => format!("{usual} is not there: the defaults"),
        }
    };
    if args.json {
        let problems = match read {
            Ok(_) => Vec::new(),
            Err(ConfigError::Bad(problems)) => problems.iter().map(|problem| json!(problem)).collect(),
            Err(error) => vec![json!({"place": named(), "text": CliError::usage(error).to_string()})],
        };
        say::line(json!({"ok": problems.is_empty(), "problems": problems}))?;
        return Ok(if problems.is_empty() { Exit::Ok } else { Exit::Usage });
    }
    read.map_err(CliError::usage)?;
    say::line(format_args!("ok: {}", named()))?;
    Ok(Exit::Ok)
}

/// Shows what holds.
pub fn show(global: &Global, args: &ConfigShowArgs) -> Result<Exit, CliError> {
    if args.default && !args.json {
        say::text(Config::template())?;
        return Ok(Exit::Ok);
    }
    let source = Source::new(global, args.config.file.as_deref())?;
    let entries = if args.default {
        Config::defaults(&source.places).entries()
    } else {
        source.load().map_err(CliError::usage)?.entries()
    };
    if args.json {
        let shown = serde_json::to_string_pretty(&json!({"values": entries})).map_err(CliError::environment)?;
        say::line(shown)?;
    } else {
        say::text(text(Style::resolve(global.color), &entries))?;
    }
    Ok(Exit::Ok)
}

/// Where the configuration of a service comes from: read at its start, again at each SIGHUP, and by those who look at it.
#[derive(Clone, Debug)]
pub struct Source {
    places: Places,
    file: Option<PathBuf>,
    flags: Vec<Flag>,
}

impl Source {
    /// With the flags that all commands have; `file` is one that was named.
    pub fn new(global: &Global, file: Option<&Path>) -> Result<Self, CliError> {
        let mut places = Places::of(Scope::of_process(), &variable).map_err(CliError::environment)?;
        let mut flags = Vec::new();
        // What clap has taken from a variable is that layer's.
        let is_of = |name: &str, value: &str| variable(name).is_some_and(|said| said == value);
        if let Some(data_dir) = &global.data_dir {
            let data_dir = absolute(data_dir)?;
            // A folder of its own has a socket of its own, unless the configuration names another.
            places.socket = Path::new(&data_dir).join(SOCKET);
            if !is_of(DATA_DIR_VARIABLE, &data_dir) {
                flags.push(Flag { key: "data-dir", flag: "--data-dir", value: data_dir });
            }
        }
        if let Choice::Only(backend) = global.engine
            && !is_of(ENGINE_VARIABLE, backend.word())
        {
            flags.push(Flag { key: "engine.backend", flag: "--engine", value: backend.word().to_owned() });
        }
        Ok(Self { places, file: file.map(Path::to_owned), flags })
    }

    /// With further flags.
    pub fn with(mut self, flags: Vec<Flag>) -> Self {
        self.flags.extend(flags);
        self
    }

    /// Reads and judges it.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Config::load(&self.places, self.file.as_deref(), &Environment::new(&variable, names), &self.flags)
    }
}

/// A path of the command line as the configuration wants it.
pub fn absolute(path: &Path) -> Result<String, CliError> {
    let path = std::path::absolute(path).map_err(CliError::usage)?;
    Ok(path.to_string_lossy().into_owned())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// TOML, with the origins as comments. Pure.
fn text(style: Style, entries: &[Entry]) -> String {
    let mut text = String::new();
    let mut tables: &[String] = &[];
    // Writing to a String cannot fail.
    for entry in entries {
        if entry.tables != tables {
            tables = &entry.tables;
            let _ = writeln!(text, "\n{}", style.bold(format!("[{}]", tables.join("."))));
        }
        let line = format!("{} = {}", entry.name, entry.value);
        let origin = format!("# {}", entry.origin);
        let origin = match entry.origin {
            Origin::Default => style.dim(origin),
            Origin::File { .. } | Origin::Environment { .. } | Origin::Flag { .. } => style.accent(origin),
        };
        let _ = writeln!(text, "{line:<ORIGIN_COLUMN$} {origin}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_toml_with_origins() {
        let text = text(Style::PLAIN, &Config::default().entries());
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["session"]["memory"].as_str(), Some("4g"));
        assert_eq!(table["agents"]["default"]["policy"].as_str(), Some("inherit"));
        assert!(text.starts_with("listen = \"127.0.0.1:55765\"                   # default\n"), "{text}");
    }
}
