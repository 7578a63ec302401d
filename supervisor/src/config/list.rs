//! All keys with their values, for showing and comparing.

use std::path::PathBuf;

use toml::Value;

use super::kind::Kind;
use super::sections::Config;
use super::visit::{Applies, Key, Visitor, path};
use super::{Loaded, TEMPLATE};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Origin {
    /// Nobody named it.
    Default,
    /// The configuration file.
    File {
        /// Which.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment {
        /// Which.
        variable: String,
    },
    /// The command line.
    Flag {
        /// Which.
        flag: &'static str,
    },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => f.write_str(variable),
            Self::Flag { flag } => f.write_str(flag),
        }
    }
}

/// A value that holds.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Entry {
    /// The tables above it, from the outside.
    #[serde(skip)]
    pub tables: Vec<String>,
    /// Its name in its table.
    #[serde(skip)]
    pub name: &'static str,
    /// The whole key: `session.memory`.
    pub key: String,
    /// As it would stand in a file.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
    /// When a changed value holds.
    pub applies: Applies,
    /// The variable that can set it; agents have none.
    pub variable: Option<String>,
}

impl Loaded {
    /// Every key with its value and origin, in the order of the default file.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = entries(&self.config);
        for entry in &mut entries {
            if let Some(origin) = self.origins.get(&entry.key) {
                entry.origin = origin.clone();
            }
        }
        entries
    }
}

impl Config {
    /// Every key with its value, all called defaults, in the order of the default file.
    pub fn entries(&self) -> Vec<Entry> {
        entries(self)
    }

    /// The default configuration as a file to start from.
    pub const fn template() -> &'static str {
        TEMPLATE
    }
}

pub(super) fn entries(config: &Config) -> Vec<Entry> {
    let mut list = List::default();
    config.clone().visit(&mut list);
    list.entries
}

#[derive(Default)]
struct List {
    tables: Vec<String>,
    entries: Vec<Entry>,
}

impl Visitor for List {
    fn key<K: Kind>(&mut self, key: Key, kind: &K, value: &mut K::Value) {
        self.entries.push(Entry {
            tables: self.tables.clone(),
            name: key.name,
            key: path(&self.tables, key.name),
            value: kind.show(value),
            origin: Origin::Default,
            applies: key.applies,
            variable: variable(&self.tables, key),
        });
    }

    fn enter(&mut self, name: &str) {
        self.tables.push(name.to_owned());
    }

    fn leave(&mut self) {
        self.tables.pop();
    }
}

/// `AIGO_` and the path in capitals; names of agents cannot be told apart in it.
fn variable(tables: &[String], key: Key) -> Option<String> {
    if tables.first().is_some_and(|table| table == "agents") {
        return None;
    }
    let by_rule = || format!("AIGO_{}", path(tables, key.name).to_uppercase().replace(['.', '-'], "_"));
    Some(key.variable.map_or_else(by_rule, str::to_owned))
}
