//! Flags and surroundings, resolved into a request and the facts that it is judged by.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::Path;

use ipc_protocol::config::{CommandOutput, Identity};
use ipc_protocol::limits::MAX_INPUT_TEXT_BYTES;
use nix::unistd::{getegid, geteuid};
use secrecy::SecretString;

use crate::cli::args::{AgentChoice, CommandOutputChoice, RunArgs};
use crate::cli::context::Context;
use crate::cli::exit::CliError;
use crate::cli::say;
use crate::engine::EngineInfo;
use crate::policy::Facts;
use crate::proxy::{CredentialKind, LiveUpstream, ModelAccess, Recorder, ReplaySpeed, Script, TlsRoots, Upstream};
use crate::request::{AgentRequest, ClaudeRequest, DEFAULT_CPUS, Limits, ModelSource, RunAs, SessionRequest};
use crate::session::machine::Graces;
use crate::units::MilliCpus;
use crate::workspace::facts::FolderFacts;

/// What answers for a model, if anything.
pub(super) struct Model {
    pub(super) upstream: Option<Upstream>,
}

/// The request, as far as the flags alone tell it.
pub(super) fn request(args: &RunArgs, interactive: bool) -> Result<SessionRequest, CliError> {
    let agent = agent(args)?;
    let prompt = prompt(args)?;
    // Policy judges it too, but only once there are a credential and an engine: this needs neither.
    if prompt.as_ref().is_some_and(|prompt| prompt.trim().is_empty()) {
        return Err(CliError::usage(anyhow::anyhow!("the prompt is empty: say what the agent is to do")));
    }
    // At a terminal a program gets what is typed, until Ctrl-D; and without a prompt the first line is one.
    let open_ended = args.keep_open || (interactive && (prompt.is_none() || !agent.needs_model()));
    if prompt.is_none() && agent.needs_model() && !interactive && !args.steer {
        return Err(CliError::usage(anyhow::anyhow!(
            "no prompt: say what the agent is to do, as `aigo run \"make the tests pass\"`, or with --prompt-file FILE"
        )));
    }
    Ok(SessionRequest {
        workspace: args.workspace.clone(),
        workspace_read_only: args.workspace_read_only,
        cover_ipc: args.cover_ipc,
        mounts: args.mounts.clone(),
        image: args.image.clone(),
        agent,
        prompt,
        keep_open: open_ended || args.steer,
        limits: Limits { cpus: args.cpus.unwrap_or(DEFAULT_CPUS), memory: args.memory, pids: args.pids },
        timeout: args.timeout.0,
        idle_timeout: args.idle_timeout.0,
        graces: Graces { save: args.save_grace, close: args.close_grace, term: args.term_grace },
        env: env(&args.env)?,
        run_as: if args.root { RunAs::Root } else { RunAs::Owner },
        proxy_port: args.proxy_port,
        model: match (&args.replay, &args.record) {
            (Some(file), _) => ModelSource::Replay(file.clone()),
            (None, Some(file)) => ModelSource::Record(file.clone()),
            (None, None) => ModelSource::Live,
        },
    })
}

fn agent(args: &RunArgs) -> Result<AgentRequest, CliError> {
    match args.agent {
        AgentChoice::Claude if !args.command.is_empty() => Err(CliError::usage(anyhow::anyhow!(
            "a command after `--` needs `--agent command`: aigo run --agent command -- {}",
            args.command.join(" ")
        ))),
        AgentChoice::Claude => Ok(AgentRequest::Claude(ClaudeRequest {
            model: args.model.clone(),
            max_turns: args.max_turns,
            append_system_prompt: args.append_system_prompt.clone(),
            project_settings: args.project_settings,
        })),
        AgentChoice::Command => Ok(AgentRequest::Command {
            argv: args.command.clone(),
            output: match args.command_output {
                CommandOutputChoice::Lines => CommandOutput::Lines,
                CommandOutputChoice::Json => CommandOutput::Json,
            },
        }),
    }
}

fn prompt(args: &RunArgs) -> Result<Option<String>, CliError> {
    let Some(file) = &args.prompt_file else { return Ok(args.prompt.clone()) };
    let shown = file.display();
    let read = if file == Path::new("-") {
        if std::io::stdin().is_terminal() {
            say::aside("reading the prompt from the terminal; end it with Ctrl-D");
        }
        read_bounded(std::io::stdin().lock())
    } else {
        std::fs::File::open(file).and_then(read_bounded)
    };
    let bytes = read.map_err(|error| CliError::usage(anyhow::anyhow!("--prompt-file {shown}: {error}")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::usage(anyhow::anyhow!("--prompt-file {shown}: it is not UTF-8 text")))?;
    Ok(Some(text))
}

/// One byte more than is allowed is enough to refuse it.
fn read_bounded(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_INPUT_TEXT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn env(pairs: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let read = |pair: &String| match pair.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(pair) {
            Ok(value) => Ok((pair.clone(), value)),
            Err(_) => Err(CliError::usage(anyhow::anyhow!(
                "--env `{pair}`: there is no such variable (of UTF-8 text) in aigo's own environment; use NAME=VALUE"
            ))),
        },
    };
    pairs.iter().map(read).collect()
}

/// Who answers for a model: a script, or the upstream with the host's credential.
pub(super) fn model(args: &RunArgs, request: &SessionRequest) -> Result<Model, CliError> {
    if let Some(file) = &args.replay {
        let script = Script::load(file).map_err(CliError::usage)?;
        let upstream = Upstream::Replay(script, ReplaySpeed::Fast);
        return Ok(Model { upstream: Some(upstream) });
    }
    let access = match ModelAccess::from_env(|name| std::env::var_os(name), args.allow_plain_http) {
        Ok(access) => access,
        // Only an agent that talks to a model needs one; others get it if it is there.
        Err(_) if !request.agent.needs_model() => return Ok(Model { upstream: None }),
        Err(error) => return Err(CliError::environment(error)),
    };
    let live = LiveUpstream { access, roots: TlsRoots::Native };
    let upstream = match &args.record {
        Some(file) => {
            let recorder = Recorder::create(file, false).map_err(CliError::usage)?;
            Upstream::Record(live, recorder)
        }
        None => Upstream::Live(live),
    };
    Ok(Model { upstream: Some(upstream) })
}

/// What the request is judged by.
pub(super) fn facts(context: &Context, request: &SessionRequest, model: &Model) -> Result<Facts, CliError> {
    let folder = |path: &Path| FolderFacts::gather(path).map_err(CliError::usage);
    let secrets = CredentialKind::BY_PRECEDENCE
        .into_iter()
        .filter_map(|kind| std::env::var(kind.variable()).ok())
        .map(SecretString::from)
        .collect();
    Ok(Facts {
        workspace: folder(&request.workspace)?,
        mounts: request.mounts.iter().map(|mount| folder(&mount.host)).collect::<Result<_, _>>()?,
        own_folders: vec![context.dirs.root().to_owned()],
        us: Identity { uid: geteuid().as_raw(), gid: getegid().as_raw() },
        model: model.upstream.is_some(),
        secrets,
    })
}

/// Fits the limits to the host: a default may shrink, what was asked for must be possible.
pub(super) fn fit(
    mut request: SessionRequest,
    asked: Option<MilliCpus>,
    info: &EngineInfo,
) -> Result<SessionRequest, CliError> {
    let host = MilliCpus(info.cpus.saturating_mul(1000));
    match asked {
        Some(cpus) if cpus.0 > host.0 => {
            return Err(CliError::usage(anyhow::anyhow!("--cpus {cpus}: the engine's host has only {host}")));
        }
        Some(_) => {}
        None => request.limits.cpus = MilliCpus(request.limits.cpus.0.min(host.0)),
    }
    Ok(request)
}
