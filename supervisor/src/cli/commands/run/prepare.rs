//! Flags and surroundings, resolved into a request and the facts that it is judged by.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use ipc_protocol::config::CommandOutput;
use ipc_protocol::limits::MAX_INPUT_TEXT_BYTES;

use crate::cli::args::{CommandOutputChoice, ProgramChoice, RunArgs};
use crate::cli::exit::CliError;
use crate::cli::say;
use crate::request::{AgentRequest, ClaudeRequest, DEFAULT_CPUS, Limits, ModelSource, RunAs, SessionRequest};
use crate::session::machine::Graces;

/// The request, as far as the flags alone tell it.
pub(super) fn request(args: &RunArgs, interactive: bool) -> Result<SessionRequest, CliError> {
    let agent = program(args)?;
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
        principal: args.agent.clone().unwrap_or_default(),
        workspace: args.workspace.clone(),
        workspace_read_only: args.workspace_read_only,
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

fn program(args: &RunArgs) -> Result<AgentRequest, CliError> {
    match args.program {
        ProgramChoice::Claude if !args.command.is_empty() => Err(CliError::usage(anyhow::anyhow!(
            "a command after `--` needs `--program command`: aigo run --program command -- {}",
            args.command.join(" ")
        ))),
        ProgramChoice::Claude => Ok(AgentRequest::Claude(ClaudeRequest {
            model: args.model.clone(),
            max_turns: args.max_turns,
            append_system_prompt: args.append_system_prompt.clone(),
            project_settings: args.project_settings,
        })),
        ProgramChoice::Command => Ok(AgentRequest::Command {
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

/// The same for a service, which has another working directory.
pub(super) fn absolute(mut request: SessionRequest) -> Result<SessionRequest, CliError> {
    let absolute = |path: &mut PathBuf| -> Result<(), CliError> {
        *path = std::path::absolute(&*path).map_err(CliError::usage)?;
        Ok(())
    };
    absolute(&mut request.workspace)?;
    for mount in &mut request.mounts {
        absolute(&mut mount.host)?;
    }
    match &mut request.model {
        ModelSource::Live => {}
        ModelSource::Record(file) | ModelSource::Replay(file) => absolute(file)?,
    }
    Ok(request)
}
