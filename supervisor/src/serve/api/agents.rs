//! Agents and what they may use.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::extract::{Json, Path};
use super::failures::{BadRequest, Conflict, NotFound, NotJson, TooLarge, Unavailable, Unprocessable};
use super::guard::Peer;
use super::problem::{FieldError, Problem};
use crate::agents::limits::even_null;
use crate::agents::{AgentLimits, AgentName, CpuEnforcement, LimitPolicy, SetLimits};
use crate::policy::{MIN_MEMORY, MIN_PIDS};
use crate::serve::manager::{ChangeError, Sources};
use crate::store::{Decision, NewAudit};
use crate::units::MilliCpus;

/// What an agent (principal) may use. A limit that is null is no limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentLimits)]
pub struct Limits {
    /// The number of CPUs of all containers of the agent together.
    pub cpus: Option<f64>,
    /// The memory of each container, in bytes.
    pub memory_bytes: Option<u64>,
    /// The most containers at once.
    pub containers: Option<u32>,
    /// The most processes and threads of each container.
    pub pids: Option<u32>,
    /// What happens to a request for which there is no room now.
    pub policy: Policy,
}

/// Limits to be set for an agent (principal). What is left out is as the configuration says; a limit that is null is no
/// limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewAgentLimits)]
pub struct NewLimits {
    /// The number of CPUs of all containers of the agent together, from 0.01 to 1024.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = 0.01, maximum = 1024)]
    cpus: Option<Option<f64>>,
    /// The memory of each container in bytes, at least 6291456 (6 MiB).
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, minimum = 6291456)]
    memory_bytes: Option<Option<u64>>,
    /// The most containers at once, at most 10000; 0 allows none.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 10000)]
    containers: Option<Option<u32>>,
    /// The most processes and threads of each container, from 16 to 4194304.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 16, maximum = 4194304)]
    pids: Option<Option<u32>>,
    /// What happens to a request for which there is no room now. Null has the effect of leaving the field out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<Policy>,
}

/// What happens to a request for which there is no room now: `queue` (it waits for its turn) or `reject` (it is refused).
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LimitPolicy)]
pub enum Policy {
    /// It waits for its turn.
    #[default]
    Queue,
    /// It is refused.
    Reject,
}

/// An agent (principal): its limits and its sessions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// The name of the agent.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{0,39}$", example = "default")]
    pub name: String,
    /// What the agent may use.
    pub limits: Limits,
    /// Where each limit comes from.
    pub sources: Sources,
    /// How many sessions of the agent run or are being started.
    pub running: u32,
    /// How many requests of the agent wait.
    pub queued: usize,
    /// How this host enforces the limit of CPUs; null before an engine has answered.
    pub cpu_enforcement: Option<CpuHeld>,
    /// The limits that this host does not enforce, in sentences.
    pub not_enforced: Vec<String>,
}

/// How a limit of CPUs is enforced: `together` (all containers of the agent share one quota), `apart` (each container has a
/// part of the quota), or `not`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CpuHeld {
    /// All containers of the agent share it.
    Together,
    /// Each container has a part of its own.
    Apart,
    /// It is not.
    Not,
}

impl From<AgentLimits> for Limits {
    fn from(limits: AgentLimits) -> Self {
        Self {
            cpus: limits.cpus.map(|cpus| f64::from(cpus.0) / 1000.0),
            memory_bytes: limits.memory,
            containers: limits.containers,
            pids: limits.pids,
            policy: limits.policy.into(),
        }
    }
}

impl From<SetLimits> for NewLimits {
    fn from(limits: SetLimits) -> Self {
        let SetLimits { cpus, memory, containers, pids, policy } = limits;
        Self {
            cpus: cpus.map(|cpus| cpus.map(|cpus| f64::from(cpus.0) / 1000.0)),
            memory_bytes: memory,
            containers,
            pids,
            policy: policy.map(Policy::from),
        }
    }
}

impl From<Policy> for LimitPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Queue => Self::Queue,
            Policy::Reject => Self::Reject,
        }
    }
}

impl From<LimitPolicy> for Policy {
    fn from(policy: LimitPolicy) -> Self {
        match policy {
            LimitPolicy::Queue => Self::Queue,
            LimitPolicy::Reject => Self::Reject,
        }
    }
}

impl NewLimits {
    fn read(self) -> Result<SetLimits, Problem> {
        let mut errors = Vec::new();
        let mut check = |good: bool, pointer: &str, detail: String| {
            if !good {
                errors.push(FieldError { pointer: pointer.to_owned(), detail });
            }
        };
        let possible = |cpus: f64| cpus.is_finite() && (0.01..=1024.0).contains(&cpus);
        check(self.cpus.flatten().is_none_or(possible), "/cpus", "from 0.01 to 1024".to_owned());
        // The kernel and the engines count in signed 64 bits.
        let possible = |bytes: u64| (MIN_MEMORY..=i64::MAX.unsigned_abs()).contains(&bytes);
        let memory = self.memory_bytes.flatten().is_none_or(possible);
        check(memory, "/memoryBytes", format!("from {MIN_MEMORY} to {}", i64::MAX));
        check(self.containers.flatten().is_none_or(|n| n <= 10_000), "/containers", "at most 10000".to_owned());
        let pids = self.pids.flatten().is_none_or(|pids| (MIN_PIDS..=1 << 22).contains(&pids));
        check(pids, "/pids", format!("from {MIN_PIDS} to {}", 1 << 22));
        if !errors.is_empty() {
            return Err(Problem::bad_fields(errors));
        }
        Ok(SetLimits {
            cpus: self.cpus.map(|cpus| cpus.map(|cpus| MilliCpus((cpus * 1000.0).round() as u32))),
            memory: self.memory_bytes,
            containers: self.containers,
            pids: self.pids,
            policy: self.policy.map(LimitPolicy::from),
        })
    }
}

fn describe(api: &Api, name: &AgentName) -> Agent {
    let limits = api.manager.limits(name);
    let enforcement = api.manager.enforcement();
    let (running, queued) = api.manager.of_agent(name);
    Agent {
        name: name.to_string(),
        limits: limits.into(),
        sources: api.manager.sources(name),
        running,
        queued,
        cpu_enforcement: enforcement.as_ref().map(|enforcement| match enforcement.cpu {
            CpuEnforcement::Together { .. } => CpuHeld::Together,
            CpuEnforcement::Apart { .. } => CpuHeld::Apart,
            CpuEnforcement::Not { .. } => CpuHeld::Not,
        }),
        not_enforced: enforcement.map(|enforcement| enforcement.shortfalls(&limits)).unwrap_or_default(),
    }
}

/// List the agents that limits are set for or that have sessions
///
/// Each agent comes with its limits, where each limit comes from, and what this host does not enforce.
#[utoipa::path(get, path = "/agents", tag = "agents", operation_id = "listAgents",
    responses((status = 200, description = "The agents.", body = Vec<Agent>), Unavailable))]
pub(super) async fn list(State(api): State<Api>) -> Result<axum::Json<Vec<Agent>>, Problem> {
    let agents = api.manager.agents().await?;
    Ok(axum::Json(agents.iter().map(|agent| describe(&api, agent)).collect()))
}

/// Show an agent
///
/// An agent that neither the configuration nor this API names has the default limits.
#[utoipa::path(get, path = "/agents/{name}", tag = "agents", operation_id = "getAgent",
    params(("name" = String, Path, description = "The name of the agent.")),
    responses((status = 200, description = "The agent.", body = Agent), NotFound))]
pub(super) async fn show(State(api): State<Api>, Path(name): Path<AgentName>) -> axum::Json<Agent> {
    axum::Json(describe(&api, &name))
}

/// Set the limits of an agent
///
/// The limits hold for running sessions, too. They last over restarts of the service and have precedence over its configuration
/// until they are reset. A limit that is left out is as the configuration says, even if it was set before. `notEnforced` names
/// what could not be changed for running sessions.
#[utoipa::path(put, path = "/agents/{name}", tag = "agents", operation_id = "setAgentLimits",
    request_body(content = NewLimits, description = "The limits to set."),
    params(("name" = String, Path, description = "The name of the agent.")),
    responses(
        (status = 200, description = "The agent with its new limits.", body = Agent),
        BadRequest,
        NotFound,
        Conflict,
        TooLarge,
        NotJson,
        Unprocessable,
        Unavailable,
    ))]
pub(super) async fn set(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<AgentName>,
    Json(limits): Json<NewLimits>,
) -> Result<axum::Json<Agent>, Problem> {
    change(&api, &peer, &name, "agent.limits", Some(limits.read()?)).await
}

/// Reset the limits of an agent
///
/// The limits are as the configuration says again, for running sessions, too.
#[utoipa::path(delete, path = "/agents/{name}", tag = "agents", operation_id = "resetAgentLimits",
    params(("name" = String, Path, description = "The name of the agent.")),
    responses(
        (status = 200, description = "The agent with the limits that hold now.", body = Agent),
        NotFound,
        Unavailable,
    ))]
pub(super) async fn reset(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<AgentName>,
) -> Result<axum::Json<Agent>, Problem> {
    change(&api, &peer, &name, "agent.reset", None).await
}

async fn change(
    api: &Api,
    peer: &Peer,
    name: &AgentName,
    action: &'static str,
    limits: Option<SetLimits>,
) -> Result<axum::Json<Agent>, Problem> {
    let outcome = api.manager.set_limits(name, limits).await;
    let (decision, mut reasons) = match &outcome {
        Ok(said) => (Decision::Allowed, said.clone()),
        Err(error) => (Decision::Denied, vec![crate::error_chain::chain(error)]),
    };
    reasons.insert(0, format!("agent `{name}`"));
    if let Some(limits) = &limits {
        reasons.insert(1, limits.to_string());
    }
    api.manager.audit(NewAudit { actor: peer.actor(), action, session: None, decision, reasons }).await;
    let said = outcome.map_err(|error| match error {
        ChangeError::TooMany(_) => Problem::conflict(error.to_string()),
        ChangeError::Agent(_) | ChangeError::Store(_) => Problem::from_outside(&error),
    })?;
    let mut agent = describe(api, name);
    agent.not_enforced.extend(said);
    Ok(axum::Json(agent))
}
