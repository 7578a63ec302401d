//! Why somebody waits or is turned away: closed sets, each with a word for programs and a sentence for people.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::agents::AgentName;
use crate::units::format_size;

/// Why a request waits for room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "code", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Wait {
    /// The agent (principal) has as many containers as it may have.
    AgentContainers {
        /// The agent.
        #[schema(value_type = String, example = "default")]
        agent: AgentName,
        /// The containers of the agent that run now.
        running: u32,
        /// The most containers that the agent may have at once.
        limit: u32,
    },
    /// As many sessions run as may run.
    Sessions {
        /// The sessions that run now.
        running: u32,
        /// The most sessions that may run at once.
        limit: u32,
    },
    /// Too few CPUs are left.
    Cpus {
        /// The CPUs that running sessions may use, in thousandths of a CPU.
        taken: u64,
        /// The CPUs that the request asks for, in thousandths of a CPU.
        needs: u64,
        /// The CPUs that all sessions together may use, in thousandths of a CPU.
        limit: u64,
    },
    /// Too little of the memory for sessions is left.
    Memory {
        /// The memory that running sessions may use, in bytes.
        taken: u64,
        /// The memory that the request asks for, in bytes.
        needs: u64,
        /// The memory that all sessions together may use, in bytes.
        limit: u64,
    },
    /// The host has too little free memory.
    HostMemory {
        /// The memory of the host that is free now, in bytes.
        free: u64,
        /// The memory of the host that is kept free, in bytes.
        headroom: u64,
    },
    /// Other requests start before this one.
    Turn {
        /// How many requests start before this one.
        ahead: usize,
    },
}

/// Why somebody may not even wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Refusal {
    #[error("there is no room now, and the agent's requests are not queued (policy `reject`): {wait}")]
    WouldWait { wait: Wait },
    #[error("{limit} requests wait already; try again when some of them have started")]
    QueueFull { limit: usize },
    #[error("{limit} requests of agent `{agent}` wait already; try again when some of them have started")]
    LineFull { agent: AgentName, limit: usize },
    #[error("{scarce}; ask for less, or let the operator raise the host's limit")]
    TooLarge { scarce: Scarce },
    #[error("agent `{agent}` may not run containers: its limit is 0")]
    NoContainers { agent: AgentName },
    #[error("a request of this id is here already")]
    Known,
}

/// Of what one alone needs more than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Scarce {
    /// Thousandths.
    Cpus { needs: u64, limit: u64 },
    /// Bytes.
    Memory { needs: u64, limit: u64 },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentContainers { agent, running, limit } => {
                write!(f, "agent `{agent}` has {running} of {limit} containers")
            }
            Self::Sessions { running, limit } => write!(f, "{running} of {limit} sessions run"),
            Self::Cpus { taken, needs, limit } => {
                write!(f, "it needs {} CPUs, and {} of {} are taken", Cpus(*needs), Cpus(*taken), Cpus(*limit))
            }
            Self::Memory { taken, needs, limit } => {
                let [needs, taken, limit] = [*needs, *taken, *limit].map(format_size);
                write!(f, "it needs {needs} of memory, and {taken} of {limit} are taken")
            }
            Self::HostMemory { free, headroom } => {
                let [free, headroom] = [*free, *headroom].map(format_size);
                write!(f, "the host has {free} of free memory, and {headroom} are kept free")
            }
            Self::Turn { ahead: 1 } => f.write_str("1 request is before it"),
            Self::Turn { ahead } => write!(f, "{ahead} requests are before it"),
        }
    }
}

impl fmt::Display for Scarce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpus { needs, limit } => {
                write!(f, "it needs {} CPUs, and the host gives {}", Cpus(*needs), Cpus(*limit))
            }
            Self::Memory { needs, limit } => {
                write!(f, "it needs {} of memory, and the host gives {}", format_size(*needs), format_size(*limit))
            }
        }
    }
}

/// Thousandths of CPUs as people read them.
struct Cpus(u64);

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{rest:03}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_sentences_with_their_numbers() {
        let agent = AgentName::default();
        for (wait, said) in [
            (Wait::AgentContainers { agent, running: 3, limit: 3 }, "agent `default` has 3 of 3 containers"),
            (Wait::Cpus { taken: 1500, needs: 1025, limit: 2000 }, "it needs 1.025 CPUs, and 1.5 of 2 are taken"),
            (
                Wait::HostMemory { free: 1 << 30, headroom: 2 << 30 },
                "the host has 1 GiB of free memory, and 2 GiB are kept free",
            ),
            (Wait::Turn { ahead: 1 }, "1 request is before it"),
        ] {
            assert_eq!(wait.to_string(), said);
        }
        let refusal = Refusal::TooLarge { scarce: Scarce::Memory { needs: 8 << 30, limit: 4 << 30 } };
        assert!(refusal.to_string().starts_with("it needs 8 GiB of memory, and the host gives 4 GiB"), "{refusal}");
    }

    #[test]
    fn words_for_programs() {
        let wait = Wait::Sessions { running: 2, limit: 2 };
        assert_eq!(
            serde_json::to_value(&wait).unwrap(),
            serde_json::json!({"code": "sessions", "running": 2, "limit": 2})
        );
        let refusal = Refusal::WouldWait { wait };
        assert_eq!(serde_json::to_value(&refusal).unwrap()["wait"]["code"], "sessions");
    }
}
