//! Agents and what they may use.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::extract::{Json, Path};
use super::guard::Peer;
use super::problem::{FieldError, Problem};
use crate::agents::limits::even_null;
use crate::agents::{AgentLimits, AgentName, CpuEnforcement, LimitPolicy, SetLimits};
use crate::policy::{MIN_MEMORY, MIN_PIDS};
use crate::serve::manager::{ChangeError, Sources};
use crate::store::{Decision, NewAudit};
use crate::units::MilliCpus;

/// What an agent may use. What is null is unbounded.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// CPUs of all its containers together.
    pub cpus: Option<f64>,
    /// Bytes of memory of each container.
    pub memory_bytes: Option<u64>,
    /// Containers at once.
    pub containers: Option<u32>,
    /// Processes and threads of each container.
    pub pids: Option<u32>,
    /// What becomes of a request for which there is no room now.
    pub policy: Policy,
}

/// What is set of an agent's limits. What is left out is as the configuration says; what is null is unbounded.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewLimits {
    /// CPUs of all its containers together.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = 0.01, maximum = 1024)]
    cpus: Option<Option<f64>>,
    /// Bytes of memory of each container.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, minimum = 6291456)]
    memory_bytes: Option<Option<u64>>,
    /// Containers at once.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 10000)]
    containers: Option<Option<u32>>,
    /// Processes and threads of each container.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 16, maximum = 4194304)]
    pids: Option<Option<u32>>,
    /// What becomes of a request for which there is no room now; null is as if it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<Policy>,
}

/// What becomes of a request for which there is no room now.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It waits for its turn.
    #[default]
    Queue,
    /// It is refused.
    Reject,
}

/// An agent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// What it may use.
    pub limits: Limits,
    /// Where each of these comes from: `set` by this API, the `configuration`, or the `default` of all agents.
    pub sources: Sources,
    /// Its sessions that run, or are being brought up.
    pub running: u32,
    /// Its requests that wait.
    pub queued: usize,
    /// How the CPU quota is held here; null before an engine has answered.
    pub cpu_enforcement: Option<CpuHeld>,
    /// What of the limits is not enforced here, in sentences.
    pub not_enforced: Vec<String>,
}

/// How a CPU quota is held.
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

/// List agents that limits are set for, or that have sessions
#[utoipa::path(get, path = "/agents", tag = "agents", responses((status = 200, body = Vec<Agent>)))]
pub(super) async fn list(State(api): State<Api>) -> Result<axum::Json<Vec<Agent>>, Problem> {
    let agents = api.manager.agents().await?;
    Ok(axum::Json(agents.iter().map(|agent| describe(&api, agent)).collect()))
}

/// Show an agent; one that nothing was said of has the limits of all others
#[utoipa::path(get, path = "/agents/{name}", tag = "agents", params(("name" = String, Path, description = "The agent")),
    responses((status = 200, body = Agent), NotFound))]
pub(super) async fn show(State(api): State<Api>, Path(name): Path<AgentName>) -> axum::Json<Agent> {
    axum::Json(describe(&api, &name))
}

/// Set an agent's limits, for what runs, too
///
/// They last, also when the service is started anew, and go before its configuration until they are taken back. What was
/// set before and is left out now is as the configuration says again. What could not be changed for what runs is named in
/// `notEnforced`.
#[utoipa::path(put, path = "/agents/{name}", tag = "agents", request_body = NewLimits,
    params(("name" = String, Path, description = "The agent")),
    responses(
        (status = 200, body = Agent),
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

/// Take back what was set of an agent's limits: they are the configuration's again, for what runs, too
#[utoipa::path(delete, path = "/agents/{name}", tag = "agents", params(("name" = String, Path, description = "The agent")),
    responses(
        (status = 200, description = "What holds now", body = Agent),
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
