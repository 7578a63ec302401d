//! The name of an agent: a word for people that is also safe as a folder of a cgroup hierarchy and in a unit's name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name, in characters: a systemd unit's name has at most 255, each dash in it becomes four of them.
const LONGEST: usize = 40;
/// The agent of sessions that name none.
const DEFAULT: &str = "default";
/// Files that the kernel keeps in a cgroup of version 1 (cgroups(7)) and that are called as an agent could be: no folder
/// can have their name.
const KERNELS_OWN: [&str; 3] = ["tasks", "notify_on_release", "release_agent"];

/// A principal that limits are set for: lower-case letters, digits, `-` and `_`, at most 40, a letter or digit first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentName(String);

/// Why a text names no agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name an agent: use at most {LONGEST} lower-case letters, digits, - and _, beginning with a letter or digit \
     (and no name of a kernel's cgroup file, such as tasks)"
)]
pub struct InvalidAgentName(String);

impl AgentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AgentName {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl TryFrom<String> for AgentName {
    type Error = InvalidAgentName;

    fn try_from(text: String) -> Result<Self, InvalidAgentName> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let first = text.starts_with(plain);
        let rest = text.chars().all(|c| plain(c) || c == '-' || c == '_');
        if first && rest && text.len() <= LONGEST && !KERNELS_OWN.contains(&text.as_str()) {
            Ok(Self(text))
        } else {
            Err(InvalidAgentName(text))
        }
    }
}

impl FromStr for AgentName {
    type Err = InvalidAgentName;

    fn from_str(text: &str) -> Result<Self, InvalidAgentName> {
        Self::try_from(text.to_owned())
    }
}

impl From<AgentName> for String {
    fn from(name: AgentName) -> Self {
        name.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_folders_and_units() {
        for good in ["default", "a", "research_2", "my-agent", &"x".repeat(LONGEST)] {
            assert_eq!(good.parse::<AgentName>().unwrap().as_str(), good);
        }
        let long = "x".repeat(LONGEST + 1);
        for bad in ["", "-a", "_a", "A", "a/b", "..", "a.slice", "cpu.max", "tasks", "a b", "ä", "a\n", &long] {
            let error = bad.parse::<AgentName>().unwrap_err().to_string();
            assert!(error.contains("cannot name an agent"), "{bad}: {error}");
        }
        assert_eq!(AgentName::default().as_str().parse(), Ok(AgentName::default()));
    }
}
