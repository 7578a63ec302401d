//! The one door into a session: whatever a request came by, what it is judged by is gathered here, and who answers for
//! its model is found here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ipc_protocol::config::Identity;
use nix::unistd::{getegid, geteuid};
use secrecy::SecretString;

use crate::engine::EngineInfo;
use crate::engine::info::{REMAPPED, REMAPPED_REMEDY};
use crate::policy::{self, Denied, Facts, Field, Permit, Reason};
use crate::proxy::{
    AccessError, CredentialKind, LiveUpstream, ModelAccess, RecordError, Recorder, ReplaySpeed, Script, ScriptError,
    TlsRoots, Upstream, UpstreamUrl,
};
use crate::request::{ModelSource, SessionRequest};
use crate::units::MilliCpus;
use crate::workspace::facts::{FolderError, FolderFacts};

/// Where requests come in.
#[derive(Clone, Debug)]
pub struct Door {
    /// Our own folders: never mounted.
    pub own_folders: Vec<PathBuf>,
    /// The upstream, if it is not to be what `ANTHROPIC_BASE_URL` says.
    pub upstream: Option<UpstreamUrl>,
    /// Plain http to an upstream beyond loopback was allowed by name.
    pub allow_plain_http: bool,
}

/// Why a request does not come in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A folder cannot be looked at.
    #[error("{why}")]
    Folder {
        /// Which of the request's.
        field: Field,
        /// Why.
        why: FolderError,
    },
    /// The script cannot be read.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The recording cannot be made.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// No credential, or no upstream.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The engine's containers cannot use folders of this host.
    #[error("{REMAPPED}; {REMAPPED_REMEDY}")]
    Remapped,
    /// More CPUs than there are.
    #[error("{0}")]
    Cpus(Reason),
    /// Policy says no.
    #[error(transparent)]
    Denied(#[from] Denied),
}

/// A request against which nothing speaks but, perhaps, the engine's host.
#[derive(Debug)]
pub struct Asking {
    request: SessionRequest,
    facts: Facts,
    upstream: Option<Upstream>,
}

/// A request that may be carried out, and who answers for its model.
#[derive(Debug)]
pub struct Admitted {
    /// What was judged.
    pub permit: Permit,
    /// None for agents without a model.
    pub upstream: Option<Upstream>,
}

impl Asking {
    /// Fits the limits to the engine's host: a default may shrink, what was asked for must be possible.
    ///
    /// # Errors
    /// [`Refused::Cpus`], and what the engine's kind or configuration rules out.
    pub fn admit(self, cpus_were_named: bool, info: &EngineInfo) -> Result<Admitted, Refused> {
        if info.is_remapped() {
            return Err(Refused::Remapped);
        }
        let Self { mut request, facts, upstream } = self;
        let host = MilliCpus(info.cpus.saturating_mul(1000));
        let asked = request.limits.cpus;
        if asked.0 > host.0 {
            if cpus_were_named {
                let detail = format!("{asked}: the engine's host has only {host}");
                return Err(Refused::Cpus(Reason { field: Field::Cpus, detail }));
            }
            request.limits.cpus = host;
        }
        let facts = Facts { rootless: info.rootless, ..facts };
        Ok(Admitted { permit: policy::judge(request, facts)?, upstream })
    }
}

impl Door {
    /// Judges a request: everything that can be told without the engine. Looks at folders, which may lie on a slow file
    /// system.
    ///
    /// # Errors
    /// Everything that speaks against it.
    pub fn ask(&self, request: SessionRequest) -> Result<Asking, Refused> {
        let upstream = self.upstream(&request)?;
        let facts = self.facts(&request, upstream.is_some())?;
        policy::judge(request.clone(), facts.clone())?;
        Ok(Asking { request, facts, upstream })
    }

    /// Who answers for a model: a script, or the upstream with the host's credential.
    ///
    /// # Errors
    /// A file that cannot be used, or a credential that is missing where one is needed.
    pub fn upstream(&self, request: &SessionRequest) -> Result<Option<Upstream>, Refused> {
        if let ModelSource::Replay(file) = &request.model {
            return Ok(Some(Upstream::Replay(Script::load(file)?, ReplaySpeed::Fast)));
        }
        let access = match ModelAccess::from_env(|name| std::env::var_os(name), self.allow_plain_http) {
            Ok(access) => access,
            // Only an agent that talks to a model needs one; others get it if it is there.
            Err(_) if !request.agent.needs_model() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let access = match &self.upstream {
            Some(url) => access.with_url(url.clone()),
            None => access,
        };
        let live = LiveUpstream { access, roots: TlsRoots::Native };
        Ok(Some(match &request.model {
            ModelSource::Record(file) => Upstream::Record(live, Recorder::create(file, false)?),
            ModelSource::Live | ModelSource::Replay(_) => Upstream::Live(live),
        }))
    }

    fn facts(&self, request: &SessionRequest, model: bool) -> Result<Facts, Refused> {
        let folder =
            |path: &Path, field: Field| FolderFacts::gather(path).map_err(|why| Refused::Folder { field, why });
        let mounts = request.mounts.iter().enumerate().map(|(index, mount)| folder(&mount.host, Field::Mount(index)));
        Ok(Facts {
            workspace: folder(&request.workspace, Field::Workspace)?,
            mounts: mounts.collect::<Result<_, _>>()?,
            own_folders: self.own_folders.clone(),
            us: Identity { uid: geteuid().as_raw(), gid: getegid().as_raw() },
            // The engine tells, when it is asked.
            rootless: false,
            model,
            secrets: host_secrets(|name| std::env::var_os(name)),
        })
    }
}

/// The credentials in the environment: never handed on.
fn host_secrets(env: impl Fn(&str) -> Option<OsString>) -> Vec<SecretString> {
    let text = |kind: CredentialKind| env(kind.variable())?.into_string().ok();
    CredentialKind::BY_PRECEDENCE.into_iter().filter_map(text).map(SecretString::from).collect()
}
