//! The worker: everything but PID 1's duties. Opens the journal first, so that every later trouble can be told.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ipc_protocol::config::{CONFIG_ENV, Layout, RunnerConfig};
use ipc_protocol::event::{ClosingReason, EventKind, SetupStep, StepState};
use ipc_protocol::exit::RunnerExit;
use ipc_protocol::runner::RunnerIpc;
use ipc_protocol::status::RunnerState;
use ipc_protocol::{OLDEST_SUPPORTED_VERSION, PROTOCOL_VERSION};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use tokio::select;
use tokio::sync::Notify;

use crate::boot::{self, BootError, step_event};
use crate::inputs::Inputs;
use crate::log::say;
use crate::record::{Record, RecordError, VERSION};
use crate::session::Session;
use crate::signals::Signals;
use crate::{adapter, agent};

/// Why inputs are dropped that came for an agent that never ran.
const NO_AGENT: &str = "the session ended before the agent was started";

/// Why a session could not be run; printed to the container's log, since the journal may not be there.
#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error("{CONFIG_ENV} is no configuration of this runner: {0}")]
    Config(String),
    #[error("cannot use the mailbox or the record of the session: {0}")]
    Ipc(String),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
}

impl WorkerError {
    fn exit(&self) -> RunnerExit {
        match self {
            Self::Config(_) => RunnerExit::BadConfig,
            Self::Ipc(_) | Self::Record(_) => RunnerExit::IpcFailed,
            Self::System(..) => RunnerExit::Internal,
        }
    }
}

/// Runs the worker's whole life; its exit code is one of [`RunnerExit`].
pub(crate) fn main() -> ExitCode {
    // PID 1 must not survive us unnoticed, nor we it. Both calls can only fail on kernels without them.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let _ = SigSet::all().thread_unblock();
    let exit = run().unwrap_or_else(|error| {
        say(chain(&error));
        error.exit()
    });
    ExitCode::from(exit.code())
}

fn run() -> Result<RunnerExit, WorkerError> {
    let config = read_config();
    let standard = Layout::default();
    let layout = config.as_ref().map_or(&standard, |config| &config.layout);
    let ipc = RunnerIpc::open(Path::new(&layout.ipc), Path::new(&layout.record));
    let ipc = ipc.map_err(|error| WorkerError::Ipc(chain(&error)));
    let ipc = match (&config, ipc) {
        // Nobody to tell but the log.
        (Err(error), Err(_)) => return Err(WorkerError::Config(error.clone())),
        (_, ipc) => ipc?,
    };
    let (journal, recovered) = ipc.journal().map_err(|error| WorkerError::Ipc(chain(&error)))?;
    let mut record = Record::new(journal);
    record.add(EventKind::RunnerStarted { version: PROTOCOL_VERSION, runner_version: VERSION.to_owned() })?;
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            record.add(step_event(SetupStep::Config, StepState::Failed, Some(error.clone())))?;
            record.add(EventKind::RunnerExiting { code: RunnerExit::BadConfig.code() })?;
            return Err(WorkerError::Config(error));
        }
    };
    record.add(step_event(SetupStep::Config, StepState::Done, None))?;
    let torn = (recovered.torn_bytes > 0)
        .then(|| format!("{} bytes of an earlier runner's last line were lost", recovered.torn_bytes));
    let open = boot::private::close(&config.layout);
    let notes: Vec<String> = torn.into_iter().chain(open).collect();
    record.add(step_event(SetupStep::Ipc, StepState::Done, (!notes.is_empty()).then(|| notes.join("; "))))?;
    let heartbeat =
        record.start_heartbeat(ipc.status()).map_err(|error| WorkerError::System("start the heartbeat", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| WorkerError::System("start the runtime", error))?;
    let inputs = Inputs::new(ipc.input(), recovered.accepted);
    let exit = runtime.block_on(session(&config, &ipc, inputs, &mut record))?;
    record.set_state(RunnerState::Exiting);
    record.add(EventKind::RunnerExiting { code: exit.code() })?;
    drop(heartbeat);
    Ok(exit)
}

async fn session(
    config: &RunnerConfig,
    ipc: &RunnerIpc,
    mut inputs: Inputs,
    record: &mut Record,
) -> Result<RunnerExit, WorkerError> {
    let mut signals = Signals::catch().map_err(|error| WorkerError::System("catch signals", error))?;
    let prepared = select! {
        prepared = boot::prepare(config, record) => Some(prepared),
        () = signals.next() => None,
    };
    let user = match prepared {
        Some(Ok(user)) => user,
        Some(Err(BootError::Failed(error))) => {
            say(&error);
            inputs.drop_rest(NO_AGENT, record)?;
            return Ok(RunnerExit::SetupFailed);
        }
        Some(Err(BootError::Record(error))) => return Err(error.into()),
        None => {
            record.add(EventKind::Closing { reason: ClosingReason::Signal })?;
            inputs.drop_rest(NO_AGENT, record)?;
            return Ok(RunnerExit::Terminated);
        }
    };
    let adapter = adapter::from_config(config);
    let workspace = Path::new(&config.layout.workspace);
    let agent = match agent::start(&adapter.launch(), &user, workspace) {
        Ok(agent) => agent,
        Err(error) => {
            say(&error);
            record.add(step_event(SetupStep::Agent, StepState::Failed, Some(error)))?;
            inputs.drop_rest(NO_AGENT, record)?;
            return Ok(RunnerExit::SetupFailed);
        }
    };
    record.add(step_event(SetupStep::Agent, StepState::Done, None))?;
    record.add(EventKind::AgentStarted { adapter: adapter.name().to_owned(), pid: agent.pid })?;
    let announced = Arc::new(Notify::new());
    let wake = Arc::clone(&announced);
    // Lives as long as the session.
    let _watch = ipc
        .watch(move || wake.notify_one())
        .map_err(|error| WorkerError::System("watch the inputs", std::io::Error::other(error)))?;
    record.add(EventKind::Ready {})?;
    Ok(Session::new(config, adapter, agent, inputs, announced, record).run(&mut signals).await?)
}

fn read_config() -> Result<RunnerConfig, String> {
    let text = std::env::var(CONFIG_ENV).map_err(|error| error.to_string())?;
    let mut config: RunnerConfig = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if !(OLDEST_SUPPORTED_VERSION..=PROTOCOL_VERSION).contains(&config.version) {
        return Err(format!(
            "it speaks generation {} of the protocol, this runner {OLDEST_SUPPORTED_VERSION} to {PROTOCOL_VERSION}: \
             build the image anew with this aigo",
            config.version
        ));
    }
    if config.version == 1 && config.layout == Layout::default() {
        config.layout = Layout::of_generation_1();
    }
    Ok(config)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
