//! What a container wrote, and commands run in it, both bounded.

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::{Stream, StreamExt};

use super::container::{checked, exit_code};
use super::error::About;
use super::wire::Wire;
use crate::engine::output::Tail;
use crate::engine::{ContainerId, EngineError, ExecOutput, ExecSpec, LogsQuery, Output, deadline};

pub(super) async fn logs(wire: &Wire, id: &ContainerId, query: &LogsQuery) -> Result<Output, EngineError> {
    let name = checked(id)?;
    let about = About::container("read the log of container", name);
    let tail = query.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    let options = LogsOptionsBuilder::new().stdout(query.stdout).stderr(query.stderr).tail(&tail).build();
    deadline::within(about.what, deadline::LOGS, async {
        collect(wire, about, query.max_bytes, wire.docker.logs(name, Some(options))).await
    })
    .await
}

pub(super) async fn exec(wire: &Wire, id: &ContainerId, spec: &ExecSpec) -> Result<ExecOutput, EngineError> {
    let name = checked(id)?;
    let about = About::container("run a command in container", name);
    deadline::within(about.what, spec.deadline, async {
        let translate = |error| about.translate(&wire.endpoint, error);
        let wanted = CreateExecOptions::<String> {
            cmd: Some(spec.argv.clone()),
            user: spec.user.clone(),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let created = wire.docker.create_exec(name, wanted).await.map_err(translate)?;
        let output = match wire.docker.start_exec(&created.id, None).await.map_err(translate)? {
            StartExecResults::Attached { output, input: _ } => collect(wire, about, spec.max_bytes, output).await?,
            StartExecResults::Detached => Output::default(),
        };
        let ended = wire.docker.inspect_exec(&created.id).await.map_err(translate)?;
        let code = ended.exit_code.map(exit_code).ok_or_else(|| EngineError::Malformed {
            what: about.what,
            message: "the command ended without an exit code".to_owned(),
        })?;
        Ok(ExecOutput { code, output })
    })
    .await
}

async fn collect(
    wire: &Wire,
    about: About<'_>,
    max_bytes: usize,
    pieces: impl Stream<Item = Result<LogOutput, Error>>,
) -> Result<Output, EngineError> {
    let mut pieces = std::pin::pin!(pieces);
    let (mut stdout, mut stderr) = (Tail::new(max_bytes), Tail::new(max_bytes));
    while let Some(piece) = pieces.next().await {
        match piece.map_err(|error| about.translate(&wire.endpoint, error))? {
            LogOutput::StdErr { message } => stderr.push(&message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => stdout.push(&message),
            // An echo of input, which our containers do not have.
            LogOutput::StdIn { .. } => {}
        }
    }
    let ((stdout, cut_out), (stderr, cut_err)) = (stdout.finish(), stderr.finish());
    Ok(Output { stdout, stderr, truncated: cut_out || cut_err })
}
