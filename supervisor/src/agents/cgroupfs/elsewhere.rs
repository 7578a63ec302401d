//! Where there are no cgroups there is nothing to make: [`Enforcement`](super::Enforcement) never asks for it.

use super::AgentName;
use super::error::AgentError;
use crate::units::MilliCpus;

pub(super) fn hold(agent: &AgentName, path: &str, _cpus: Option<MilliCpus>) -> Result<(), AgentError> {
    let source = "this system has no cgroups".into();
    Err(AgentError::Cgroup { agent: agent.clone(), path: path.to_owned(), source })
}

pub(super) fn list(_instance: &str) -> Result<Vec<AgentName>, AgentError> {
    Ok(Vec::new())
}

pub(super) fn remove(_instance: &str, _path: &str) -> Result<bool, AgentError> {
    Ok(true)
}
