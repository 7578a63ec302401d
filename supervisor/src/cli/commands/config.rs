//! `aigo config check` and `aigo config show`.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::cli::args::Global;
use crate::cli::args::config::{ConfigCheckArgs, ConfigShowArgs};
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::style::Style;
use crate::config::{Config, ConfigError, Entry, Loaded, Origin, Places, Problem, Scope};

/// Column in which the origins stand, where the values leave room.
const ORIGIN_COLUMN: usize = 44;

/// Says whether a configuration is right.
pub fn check(args: &ConfigCheckArgs) -> Result<Exit, CliError> {
    let places = places()?;
    let read = load(&places, args.file.as_deref());
    let named = || match &args.file {
        Some(file) => file.display().to_string(),
        None if places.config.exists() => places.config.display().to_string(),
        None => format!("{} is not there: the defaults", places.config.display()),
    };
    if args.json {
        let problems = match read {
            Ok(_) => Vec::new(),
            Err(ConfigError::Bad(problems)) => problems,
            Err(error) => vec![Problem { place: named(), text: CliError::usage(error).to_string() }],
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
    let places = places()?;
    let entries = if args.default {
        Config::defaults(&places).entries()
    } else {
        load(&places, args.config.file.as_deref()).map_err(CliError::usage)?.entries()
    };
    if args.json {
        let shown = serde_json::to_string_pretty(&json!({"values": entries})).map_err(CliError::environment)?;
        say::line(shown)?;
    } else {
        say::text(text(Style::resolve(global.color), &entries))?;
    }
    Ok(Exit::Ok)
}

/// Where this person's, or the system's, configuration is.
pub fn places() -> Result<Places, CliError> {
    Places::of(Scope::of_process(), &variable).map_err(CliError::environment)
}

fn load(places: &Places, file: Option<&Path>) -> Result<Loaded, ConfigError> {
    Config::load(places, file, &variable, &[])
}

pub(super) fn variable(name: &str) -> Option<String> {
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
