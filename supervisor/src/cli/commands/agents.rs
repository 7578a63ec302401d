//! `aigo agents`: who may use what, asked of the service and told to it.

use crate::agents::{AgentName, LimitPolicy};
use crate::cli::args::Global;
use crate::cli::args::agents::{AgentsArgs, AgentsCommand};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::sanitize::{json_pretty, one_line};
use crate::cli::show::style::Style;
use crate::client::{self, ClientError};
use crate::serve::api::agents::{Agent, CpuHeld, Limits};
use crate::serve::lock::Holder;
use crate::serve::manager::Source;
use crate::units::format_size;

/// Characters of a sentence about what is not enforced.
const SENTENCE_CHARS: usize = 400;
/// Behind a limit that was set while the service ran.
const SET: &str = "*";

/// Lists agents, or changes the limits of one.
pub async fn run(global: &Global, args: &AgentsArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let service = service(&context)?;
    let socket = &service.socket;
    let style = Style::resolve(global.color);
    match &args.command {
        None => {
            let agents = client::agents(socket).await.map_err(CliError::environment)?;
            if args.json {
                say::line(json_pretty(&agents).map_err(CliError::environment)?)
            } else {
                say::text(table(style, &agents))
            }
        }
        Some(AgentsCommand::Set(set)) => {
            let agent =
                client::set_limits(socket, &set.name, set.limits()).await.map_err(|error| refused(&set.name, error))?;
            one(style, set.json, agent)
        }
        Some(AgentsCommand::Unset(unset)) => {
            let agent = client::reset_limits(socket, &unset.name).await.map_err(|error| refused(&unset.name, error))?;
            one(style, unset.json, agent)
        }
    }?;
    Ok(Exit::Ok)
}

fn one(style: Style, json: bool, agent: Agent) -> Result<(), CliError> {
    if json {
        say::line(json_pretty(&agent).map_err(CliError::environment)?)
    } else {
        say::text(table(style, &[agent]))
    }
}

fn service(context: &Context) -> Result<Holder, CliError> {
    context.service().ok_or_else(|| {
        CliError::environment(anyhow::anyhow!(
            "no service runs with the data directory {}, and only a service has agents with limits; start it with \
             `aigo serve`, or install it with `aigo service install`",
            context.dirs.root().display()
        ))
    })
}

fn refused(name: &AgentName, error: ClientError) -> CliError {
    let said = anyhow::Error::new(error);
    match said.downcast_ref::<ClientError>() {
        Some(ClientError::Refused(_)) => CliError::usage(said.context(format!("agent `{name}`"))),
        Some(ClientError::Connect { .. } | ClientError::NoAnswer(_) | ClientError::Unavailable(_)) | None => {
            CliError::environment(said)
        }
    }
}

/// One line an agent, and what is not enforced below. Pure.
fn table(style: Style, agents: &[Agent]) -> String {
    let head = format!(
        "{:<16} {:>8} {:>10} {:>10} {:>9} {:<8} {:>7} {:>7} HELD",
        "AGENT", "CPUS", "MEMORY", "CONTAINERS", "PROCESSES", "NO ROOM", "RUNNING", "WAITING"
    );
    let mut text = format!("{}\n", style.bold(head));
    for agent in agents {
        text.push_str(&line(agent));
        text.push('\n');
    }
    if agents.iter().any(is_set) {
        text.push_str(&format!("{}\n", style.dim(format!("{SET} set by `aigo agents set`, before the configuration"))));
    }
    for agent in agents {
        for sentence in &agent.not_enforced {
            let sentence = one_line(sentence, SENTENCE_CHARS);
            text.push_str(&format!("{}\n", style.warn(format!("! {}: {sentence}", agent.name))));
        }
    }
    text
}

fn is_set(agent: &Agent) -> bool {
    let sources = agent.sources;
    [sources.cpus, sources.memory_bytes, sources.containers, sources.pids, sources.policy].contains(&Source::Set)
}

fn line(agent: &Agent) -> String {
    let mark = |source: Source| match source {
        Source::Set => SET,
        Source::Configuration | Source::Default => "",
    };
    let shown = |value: Option<String>, source: Source| value.unwrap_or_else(|| "-".to_owned()) + mark(source);
    let Agent { name, limits, sources, running, queued, cpu_enforcement, not_enforced: _ } = agent;
    let Limits { cpus, memory_bytes, containers, pids, policy } = limits;
    let policy = LimitPolicy::from(*policy).word();
    let held = match cpu_enforcement {
        Some(CpuHeld::Together) => "together",
        Some(CpuHeld::Apart) => "apart",
        Some(CpuHeld::Not) => "not",
        None => "?",
    };
    format!(
        "{name:<16} {:>8} {:>10} {:>10} {:>9} {:<8} {running:>7} {queued:>7} {held}",
        shown(cpus.map(|cpus| cpus.to_string()), sources.cpus),
        shown(memory_bytes.map(format_size), sources.memory_bytes),
        shown(containers.map(|containers| containers.to_string()), sources.containers),
        shown(pids.map(|pids| pids.to_string()), sources.pids),
        policy.to_owned() + mark(sources.policy),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_set_is_marked_and_what_is_not_enforced_is_said() {
        let agents: Vec<Agent> = serde_json::from_value(json!([
            {
                "name": "builder", "running": 2, "queued": 1, "cpuEnforcement": "apart",
                "limits": {"cpus": 0.5, "memoryBytes": 1 << 30, "containers": 3, "pids": null, "policy": "reject"},
                "sources": {"cpus": "set", "memoryBytes": "configuration", "containers": "default", "pids": "set", "policy": "set"},
                "notEnforced": ["each container has a third"],
            },
            {
                "name": "default", "running": 0, "queued": 0, "cpuEnforcement": null,
                "limits": {"cpus": null, "memoryBytes": null, "containers": null, "pids": null, "policy": "queue"},
                "sources": {"cpus": "default", "memoryBytes": "default", "containers": "default", "pids": "default", "policy": "default"},
                "notEnforced": [],
            },
        ]))
        .unwrap();
        let text = table(Style::PLAIN, &agents);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["builder", "0.5*", "1", "GiB", "3", "-*", "reject*", "2", "1", "apart"]);
        assert_eq!(words[2], ["default", "-", "-", "-", "-", "queue", "0", "0", "?"]);
        assert!(text.ends_with("the configuration\n! builder: each container has a third\n"), "{text}");
    }
}
