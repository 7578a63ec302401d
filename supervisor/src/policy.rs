//! May this be done? A pure judgement: request and facts in, [`Permit`] or all reasons against it out.
//!
//! A [`Permit`] can only be made here, and a [`crate::plan::LaunchPlan`] only from a permit: nothing is launched unjudged.

pub mod env;
pub mod image_name;
mod keys;
pub mod path;
mod reason;

pub use reason::{Field, Reason};

use ipc_protocol::config::Identity;
use ipc_protocol::limits::MAX_INPUT_TEXT_BYTES;

use crate::request::{AgentRequest, SessionRequest};
use crate::workspace::facts::FolderFacts;

/// Smallest memory that the engines accept (6 MiB, see `docker run --memory`); the runner alone fits well in it.
pub(crate) const MIN_MEMORY: u64 = 6 << 20;
/// Fewest processes with which the runner and an agent start.
pub(crate) const MIN_PIDS: u32 = 16;

/// What the judgement rests on; gathered just before it, and what is then used.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The user's folder.
    pub workspace: FolderFacts,
    /// The folders of [`SessionRequest::mounts`], in order.
    pub mounts: Vec<FolderFacts>,
    /// Our own folders: never mounted.
    pub own_folders: Vec<std::path::PathBuf>,
    /// Whom aigo itself runs as.
    pub us: Identity,
    /// The engine runs without root, as this user: root of a container is nobody but this user on the host.
    pub rootless: bool,
    /// Something answers for a model: an upstream with a credential, or a replay.
    pub model: bool,
    /// Real credentials of the host: never handed on by `--env`.
    pub secrets: Vec<secrecy::SecretString>,
}

/// A request that was judged and may be carried out.
#[derive(Clone, Debug)]
pub struct Permit {
    request: SessionRequest,
    facts: Facts,
}

impl Permit {
    /// What was asked for.
    pub fn request(&self) -> &SessionRequest {
        &self.request
    }

    /// What it was judged by.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Why a request may not be carried out: every reason, so that one round mends them all.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", self.sentences().join("\n"))]
pub struct Denied {
    /// Each for itself.
    pub reasons: Vec<Reason>,
}

impl Denied {
    /// The reasons as sentences.
    pub fn sentences(&self) -> Vec<String> {
        self.reasons.iter().map(Reason::to_string).collect()
    }

    /// Against the whole request.
    fn because(&mut self, detail: impl Into<String>) {
        self.of(Field::Request, detail);
    }

    fn of(&mut self, field: Field, detail: impl Into<String>) {
        self.reasons.push(Reason { field, detail: detail.into() });
    }
}

/// Judges a request.
pub fn judge(request: SessionRequest, facts: Facts) -> Result<Permit, Denied> {
    let mut denied = Denied { reasons: Vec::new() };
    workspace(&facts, &mut denied);
    mounts(&request, &facts, &mut denied);
    limits(&request, &mut denied);
    if let Err(error) = image_name::check(&request.image) {
        denied.of(Field::Image, error.to_string());
    }
    for (name, value) in &request.env {
        if let Err(error) = env::check(name, value, &facts.secrets) {
            denied.of(Field::Env(name.clone()), error.to_string());
        }
    }
    agent(&request, &facts, &mut denied);
    if facts.rootless && facts.us.uid == 0 {
        denied.because(
            "the engine is the rootless one of another user, whose containers cannot use what belongs to root; run aigo as \
             that user, or use a rootful engine",
        );
    }
    if denied.reasons.is_empty() { Ok(Permit { request, facts }) } else { Err(denied) }
}

fn workspace(facts: &Facts, denied: &mut Denied) {
    let folder = &facts.workspace;
    let shown = folder.canonical.display();
    if let Err(error) = path::check(&folder.canonical, &facts.own_folders) {
        denied.of(Field::Workspace, format!("workspace {shown}: {error}"));
    }
    if !folder.is_dir {
        denied.of(Field::Workspace, format!("workspace {shown} is not a folder"));
    } else if !folder.readable {
        denied.of(
            Field::Workspace,
            format!("workspace {shown} cannot be read; run aigo as its owner, or change its mode"),
        );
    }
}

fn mounts(request: &SessionRequest, facts: &Facts, denied: &mut Denied) {
    for (index, (mount, folder)) in request.mounts.iter().zip(&facts.mounts).enumerate() {
        let shown = folder.canonical.display();
        if let Err(error) = path::check(&folder.canonical, &facts.own_folders) {
            denied.of(Field::Mount(index), format!("mount {shown}: {error}"));
        }
        if !folder.is_dir {
            denied.of(Field::Mount(index), format!("mount {shown} is not a folder"));
        }
        if let Err(error) = path::check_name(&mount.name) {
            denied.of(Field::MountName(index), format!("mount {shown}: {error}"));
        }
        if request.mounts[..index].iter().any(|other| other.name == mount.name) {
            denied.of(
                Field::MountName(index),
                format!("two mounts are named `{}`; name them apart with HOST:NAME", mount.name),
            );
        }
    }
}

fn limits(request: &SessionRequest, denied: &mut Denied) {
    if request.limits.memory < MIN_MEMORY {
        denied.of(Field::Memory, format!("{} is below the engines' least, 6m", request.limits.memory));
    }
    if request.limits.pids < MIN_PIDS {
        denied.of(
            Field::Pids,
            format!("{} is below the least with which an agent starts, {MIN_PIDS}", request.limits.pids),
        );
    }
}

fn agent(request: &SessionRequest, facts: &Facts, denied: &mut Denied) {
    if request.agent.needs_model() && !facts.model {
        denied.because(
            "no credential for the model: set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or CLAUDE_CODE_OAUTH_TOKEN in \
             aigo's environment (it stays on the host), or answer from a script with --replay FILE (in the API `model`)",
        );
    }
    match &request.agent {
        AgentRequest::Command { argv, .. } if argv.is_empty() => {
            denied.of(Field::Argv, "there is no command to run; give it after `--` (in the API as `argv`)");
        }
        AgentRequest::Claude(_) | AgentRequest::Command { .. } => {}
    }
    if let Some(prompt) = &request.prompt {
        if prompt.trim().is_empty() {
            denied.of(Field::Prompt, "the prompt is empty");
        }
        if prompt.len() > MAX_INPUT_TEXT_BYTES {
            denied.of(Field::Prompt, format!(
                "the prompt has {} bytes, more than the {MAX_INPUT_TEXT_BYTES} that one message may have; put the text \
                 into a file of the workspace and name it",
                prompt.len()
            ));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
