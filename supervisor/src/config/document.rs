//! Reading the file: TOML with the line of each value, flattened, and all that does not belong in it.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::O_NONBLOCK;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Problem};
use super::kind::Raw;
use super::layers::Layer;
use super::list::{Origin, entries};
use super::sections::Config;
use super::suggest;
use crate::agents::AgentName;

/// Beyond it, it is not a configuration.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a file that has to be there.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    // Without O_NONBLOCK, opening a FIFO would wait for ever.
    let file = File::options().read(true).custom_flags(O_NONBLOCK).open(path).map_err(unreadable)?;
    let facts = file.metadata().map_err(unreadable)?;
    if !facts.is_file() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
    }
    if is_writable_by_all(&facts) {
        return Err(ConfigError::Writable { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 1 MiB")));
    }
    Ok(text)
}

/// Reads a file if it exists.
pub(super) fn read_if_there(path: &Path) -> Result<Option<String>, ConfigError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_writable_by_all(facts: &Metadata) -> bool {
    facts.mode() & 0o002 != 0
}

/// What the file says, the agents that it names, and what is wrong with its form.
pub(super) fn layer<'a>(config: &Config, path: &Path, text: &'a str) -> (Layer<'a>, Vec<AgentName>, Vec<Problem>) {
    let mut walk =
        Walk { path, text, known: Known::of(config), layer: Layer::new(), agents: Vec::new(), problems: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        walk.table(&[], table.get_ref());
    } else {
        // What a broken line leaves behind would be judged wrongly.
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            walk.problem(at, error.message().to_owned());
        }
    }
    (walk.layer, walk.agents, walk.problems)
}

/// The names that may be used. What an agent may have is known by the default agent.
struct Known {
    keys: Vec<String>,
    tables: BTreeSet<String>,
}

impl Known {
    fn of(config: &Config) -> Self {
        let entries = entries(config);
        let tables = entries.iter().flat_map(|entry| (0..=entry.tables.len()).map(|end| entry.tables[..end].join(".")));
        Self { tables: tables.collect(), keys: entries.into_iter().map(|entry| entry.key).collect() }
    }

    /// The names of keys and tables right below a table.
    fn below(&self, table: &str) -> Vec<String> {
        let all = self.keys.iter().chain(&self.tables).filter(|path| !path.is_empty());
        let below = all.filter_map(|path| match table {
            "" => Some(path.as_str()),
            table => path.strip_prefix(table)?.strip_prefix('.'),
        });
        let mut names: Vec<String> = below.filter(|name| !name.contains('.')).map(str::to_owned).collect();
        names.dedup();
        names
    }
}

struct Walk<'a, 'b> {
    path: &'b Path,
    text: &'a str,
    known: Known,
    layer: Layer<'a>,
    agents: Vec<AgentName>,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a, '_> {
    fn table(&mut self, tables: &[String], table: &DeTable<'a>) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let at = key.span().start;
            let below = [tables, &[name.to_owned()]].concat();
            let is_agent = tables == ["agents"];
            let as_known = if is_agent { format!("agents.{}", AgentName::default()) } else { known_path(&below) };
            let is_table = self.known.tables.contains(&as_known);
            match value.get_ref() {
                DeValue::Table(inner) if is_agent => match name.parse::<AgentName>() {
                    Ok(agent) => {
                        self.agents.push(agent);
                        self.table(&below, inner);
                    }
                    Err(error) => self.problem(at, error.to_string()),
                },
                DeValue::Table(inner) if is_table => self.table(&below, inner),
                _ if is_table => self.problem(at, format!("`{name}` is a table: write [{}]", below.join("."))),
                value if self.known.keys.contains(&as_known) => match raw(value) {
                    Ok(raw) => {
                        let origin = Origin::File { path: PathBuf::from(self.path), line: self.line(at) };
                        self.layer.insert(below.join("."), (raw, origin));
                    }
                    Err(what) => self.problem(at, format!("{}: {what} cannot be given here", below.join("."))),
                },
                _ => {
                    let here = self.known.below(&known_path(tables));
                    let text = suggest::unknown(&tables.join("."), name, &here, &self.known.keys);
                    self.problem(at, text);
                }
            }
        }
    }

    fn problem(&mut self, at: usize, text: String) {
        let place = Origin::File { path: PathBuf::from(self.path), line: self.line(at) };
        self.problems.push(Problem { place, text });
    }

    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }
}

/// The path by which a key or table is known: every agent's is the default agent's.
fn known_path(tables: &[String]) -> String {
    match tables {
        [agents, _, rest @ ..] if agents == "agents" => {
            [&[agents.clone(), AgentName::default().to_string()], rest].concat().join(".")
        }
        tables => tables.join("."),
    }
}

fn raw<'a>(value: &DeValue<'a>) -> Result<Raw<'a>, &'static str> {
    match value {
        DeValue::String(text) => Ok(Raw { text: text.clone(), is_text: true }),
        DeValue::Integer(number) => Ok(Raw { text: number.to_string().into(), is_text: false }),
        DeValue::Float(number) => Ok(Raw { text: number.to_string().into(), is_text: false }),
        DeValue::Boolean(is) => Ok(Raw { text: is.to_string().into(), is_text: false }),
        DeValue::Datetime(_) => Err("a date"),
        DeValue::Array(_) => Err("a list"),
        DeValue::Table(_) => Err("a table"),
    }
}
