//! What containers print, and commands in them.
//!
//! The command keeps one log of both streams, and prints it as text: it is all told as standard output, which
//! [`Quirks::streams_joined`](crate::engine::Quirks) says.

use super::container::{all, checked, phase};
use super::{AppleEngine, error};
use crate::engine::{ContainerId, EngineError, ExecOutput, ExecSpec, LogsQuery, Object, Output, deadline};

/// Bytes of a log that show that there is one, or of the complaint that there is none.
const SOME: usize = 4096;
/// What a shell ends with when there is no such program; the command has 1 for it, and this sentence.
const NO_PROGRAM: i32 = 127;
const NO_PROGRAM_SAID: &str = "failed to find target executable";

pub(super) async fn logs(engine: &AppleEngine, id: &ContainerId, query: &LogsQuery) -> Result<Output, EngineError> {
    let what = "read the log of container";
    is_live(engine, id).await?;
    let LogsQuery { stdout, stderr, tail, max_bytes } = query;
    if !stdout && !stderr {
        return Ok(Output::default());
    }
    let lines = tail.map(|lines| lines.to_string());
    let mut args = vec!["logs"];
    if let Some(lines) = &lines {
        args.extend(["-n", lines]);
    }
    args.push(checked(id)?);
    let answer = engine.cli.run_tail(what, deadline::LOGS, &args, *max_bytes).await?;
    if !answer.is_good() {
        return Err(error::refused(what, &answer));
    }
    Ok(Output { stdout: answer.stdout, stderr: Vec::new(), truncated: answer.truncated })
}

/// The end of the log, if anything was printed.
pub(super) async fn printed(engine: &AppleEngine, id: &ContainerId) -> Result<Vec<u8>, EngineError> {
    let query = LogsQuery { max_bytes: SOME, ..LogsQuery::default() };
    logs(engine, id, &query).await.map(|output| output.stdout)
}

/// Fails if it does not exist.
async fn is_live(engine: &AppleEngine, id: &ContainerId) -> Result<bool, EngineError> {
    let name = checked(id)?;
    let found = all(engine).await?.into_iter().find(|container| container.id() == *id);
    let missing = || EngineError::NotFound { what: Object::Container, name: name.to_owned() };
    found.map(|container| phase(engine, &container).is_live()).ok_or_else(missing)
}

pub(super) async fn exec(engine: &AppleEngine, id: &ContainerId, spec: &ExecSpec) -> Result<ExecOutput, EngineError> {
    let what = "run a command in container";
    let ExecSpec { argv, user, deadline, max_bytes } = spec;
    if !is_live(engine, id).await? {
        return Err(EngineError::NotRunning { name: id.0.clone() });
    }
    let mut args = vec!["exec"];
    if let Some(user) = user {
        args.extend(["--user", user]);
    }
    args.push(checked(id)?);
    args.extend(argv.iter().map(String::as_str));
    let answer = engine.cli.run_tail(what, *deadline, &args, *max_bytes).await?;
    let Some(code) = answer.code else {
        return Err(EngineError::Lost { what, reason: "`container exec` was killed".to_owned() });
    };
    // The command's own failures and the program's have one code and one stream.
    let no_program = code == 1 && String::from_utf8_lossy(&answer.stderr).contains(NO_PROGRAM_SAID);
    let code = if no_program { NO_PROGRAM } else { code };
    Ok(ExecOutput {
        code,
        output: Output { stdout: answer.stdout, stderr: answer.stderr, truncated: answer.truncated },
    })
}
