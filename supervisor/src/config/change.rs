//! What a reload changes, and what of it a running service can take.

use std::collections::BTreeMap;
use std::fmt;

use toml::Value;

use super::kind::Raw;
use super::layers::{Layer, Origins, lay};
use super::list::{Entry, Origin, entries};
use super::sections::Config;
use super::visit::Applies;

/// A key whose value differs. An agent that is in one of the two only has no value in the other.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its value before.
    pub old: Option<Value>,
    /// Its value now.
    pub new: Option<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| value.as_ref().map_or_else(|| "not set".to_owned(), Value::to_string);
        write!(f, "{}: {} instead of {}", self.key, show(&self.new), show(&self.old))
    }
}

/// What comes of reading the configuration again.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// What holds from now on: the new values, but the old ones of what needs a restart.
    pub config: Config,
    /// What the service takes at once.
    pub live: Vec<Change>,
    /// What waits for a restart.
    pub restart: Vec<Change>,
}

impl Config {
    /// Compares with a configuration that was read later.
    pub fn reload(&self, new: &Self) -> Reload {
        let (old, now) = (by_key(self), by_key(new));
        let (mut live, mut restart) = (Vec::new(), Vec::new());
        for (key, entry) in now.iter().chain(old.iter().filter(|(key, _)| !now.contains_key(*key))) {
            let value = |from: &BTreeMap<String, Entry>| from.get(key).map(|entry| entry.value.clone());
            let change = Change { key: key.clone(), old: value(&old), new: value(&now) };
            if change.old != change.new {
                match entry.applies {
                    Applies::Live => live.push(change),
                    Applies::Restart => restart.push(change),
                }
            }
        }
        let kept: Layer<'_> = old
            .into_values()
            .filter(|entry| entry.applies == Applies::Restart)
            .map(|entry| (entry.key, (raw(&entry.value), Origin::Default)))
            .collect();
        let mut config = new.clone();
        // What is shown can be read again (a test holds each kind to it), so that nothing is refused here.
        lay(&mut config, kept, Vec::new(), &mut Origins::new(), &mut Vec::new());
        Reload { config, live, restart }
    }
}

fn by_key(config: &Config) -> BTreeMap<String, Entry> {
    entries(config).into_iter().map(|entry| (entry.key.clone(), entry)).collect()
}

fn raw(value: &Value) -> Raw<'static> {
    match value {
        Value::String(text) => Raw { text: text.clone().into(), is_text: true },
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::Table(_) => Raw { text: value.to_string().into(), is_text: false },
    }
}
