//! Flags of `aigo agents` and `aigo audit`.

use clap::{ArgGroup, Subcommand, ValueEnum};

use crate::agents::{AgentName, LimitPolicy, SetLimits};
use crate::policy::MIN_PIDS;
use crate::units::{MilliCpus, parse_cpus, parse_size};

/// The word for a limit that is none.
const UNBOUNDED: &str = "none";

/// `aigo agents`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "An agent is a name that sessions run under (`aigo run --agent NAME`), `default` where they name none.\n\
                  HELD says how its CPUs are: `together` (all its containers share them), `apart` (each has a part of its\n\
                  own) or `not`. What else is not enforced here is said below the list.\n\n\
                  Examples:\n  aigo agents\n  aigo agents --json | jq '.[] | select(.notEnforced != [])'\n  \
                  aigo agents set builder --cpus 2 --memory 4g\n  aigo agents unset builder"
)]
pub struct AgentsArgs {
    #[command(subcommand)]
    pub command: Option<AgentsCommand>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do with agents.
#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// Set an agent's limits, for what runs, too
    Set(AgentsSetArgs),
    /// Take back what was set: the configuration's limits hold again, for what runs, too
    Unset(AgentsUnsetArgs),
}

/// `aigo agents set`.
#[derive(Debug, clap::Args)]
#[command(
    group = ArgGroup::new("limits").required(true).multiple(true),
    after_help = "Name all that is to go before the configuration: what was set before and is not named now is as the\n\
                  configuration says again. `none` is unbounded, whatever it says. Limits last, also over a restart.\n\n\
                  Examples:\n  aigo agents set builder --cpus 2 --memory 4g --containers 3\n  \
                  aigo agents set reviewer --pids none --policy reject"
)]
pub struct AgentsSetArgs {
    /// The agent
    #[arg(value_name = "NAME")]
    pub name: AgentName,
    /// CPUs of all its containers together, such as 2 or 0.5
    #[arg(long, value_name = "N", group = "limits", value_parser = bound(parse_cpus))]
    pub cpus: Option<Bound<MilliCpus>>,
    /// Memory of each container, such as 512m or 4g
    #[arg(long, value_name = "SIZE", group = "limits", value_parser = bound(parse_size))]
    pub memory: Option<Bound<u64>>,
    /// Containers at once; with 0 the agent may not run
    #[arg(long, value_name = "N", group = "limits", value_parser = bound(|text| number(text, 0)))]
    pub containers: Option<Bound<u32>>,
    /// Processes and threads of each container
    #[arg(long, value_name = "N", group = "limits", value_parser = bound(|text| number(text, MIN_PIDS)))]
    pub pids: Option<Bound<u32>>,
    /// What becomes of a request for which there is no room
    #[arg(long, value_enum, value_name = "POLICY", group = "limits")]
    pub policy: Option<PolicyChoice>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `aigo agents unset`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  aigo agents unset builder")]
pub struct AgentsUnsetArgs {
    /// The agent
    #[arg(value_name = "NAME")]
    pub name: AgentName,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound<T> {
    To(T),
    None,
}

/// What becomes of a request for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyChoice {
    /// It waits
    Queue,
    /// It is refused
    Reject,
}

impl<T> Bound<T> {
    fn get(self) -> Option<T> {
        match self {
            Self::To(value) => Some(value),
            Self::None => None,
        }
    }
}

impl AgentsSetArgs {
    /// What is to be set.
    pub fn limits(&self) -> SetLimits {
        SetLimits {
            cpus: self.cpus.map(Bound::get),
            memory: self.memory.map(Bound::get),
            containers: self.containers.map(Bound::get),
            pids: self.pids.map(Bound::get),
            policy: self.policy.map(|policy| match policy {
                PolicyChoice::Queue => LimitPolicy::Queue,
                PolicyChoice::Reject => LimitPolicy::Reject,
            }),
        }
    }
}

/// Reads a limit by `parse`, or the word for none.
fn bound<T, E: ToString>(
    parse: impl Fn(&str) -> Result<T, E> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<Bound<T>, String> + Clone + Send + Sync + 'static {
    move |text| match text {
        UNBOUNDED => Ok(Bound::None),
        text => parse(text).map(Bound::To).map_err(|error| format!("{}, or `{UNBOUNDED}`", error.to_string())),
    }
}

fn number(text: &str, min: u32) -> Result<u32, String> {
    let number = text.parse::<u32>().ok().filter(|number| *number >= min);
    number.ok_or_else(|| format!("use a whole number from {min} on"))
}

/// `aigo audit`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Who asked the service for what, what was decided, and why; the newest first. WHO is `api` with an address,\n\
                  `socket` or `cli` with a user's number, or a signal.\n\n\
                  Examples:\n  aigo audit\n  aigo audit -n 1000 --json | jq '.[] | select(.decision == \"denied\")'"
)]
pub struct AuditArgs {
    /// How many lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
