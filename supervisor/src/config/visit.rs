//! The one way to go through all keys, whatever is done with them.

use super::kind::Kind;
use crate::agents::{AgentName, InvalidAgentName};

/// When a changed value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Applies {
    /// As soon as it is read again, for what starts from then on.
    Live,
    /// When the service is started anew.
    Restart,
}

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its name in its table.
    pub(super) name: &'static str,
    /// When a changed value holds.
    pub(super) applies: Applies,
    /// The variable that sets it, where it is not named by the rule.
    pub(super) variable: Option<&'static str>,
}

impl Key {
    /// A key that a running service can take.
    pub(super) const fn live(name: &'static str) -> Self {
        Self { name, applies: Applies::Live, variable: None }
    }

    /// A key that needs a restart.
    pub(super) const fn restart(name: &'static str) -> Self {
        Self { name, applies: Applies::Restart, variable: None }
    }

    /// With a variable of its own, which other programs know, too.
    pub(super) const fn variable(self, name: &'static str) -> Self {
        Self { variable: Some(name), ..self }
    }
}

/// What is done with each key.
pub(super) trait Visitor {
    /// A key of the table that was entered last.
    fn key<K: Kind>(&mut self, key: Key, kind: &K, value: &mut K::Value);

    /// Into a table; an agent's name is one, too.
    fn enter(&mut self, name: &str);

    /// Out of the table.
    fn leave(&mut self);

    /// The agents that this visitor knows more of than the configuration.
    fn agents(&mut self) -> Vec<Result<AgentName, InvalidAgentName>> {
        Vec::new()
    }
}

/// The path of a key in the tables above it: `session.memory`.
pub(super) fn path(tables: &[String], name: &str) -> String {
    let mut path = tables.join(".");
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
    path
}
