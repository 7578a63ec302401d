//! What the runner wrote to its container's log, for an end that nothing else explains: it writes there what it cannot write
//! to the journal, such as why it cannot open that.

use std::time::Duration;

use crate::engine::{ContainerId, LogsQuery, SharedEngine};
use crate::session::SessionId;
use crate::session::resources::object_name;
use crate::session::status::{EndReason, Ending};

/// The last lines that are shown, and how many bytes of them.
const LINES: u32 = 3;
const BYTES: usize = 500;
/// The engine may hang, and an end is waited for.
const DEADLINE: Duration = Duration::from_secs(5);
/// Steps of a setup that failed before the runner could say in the journal why.
const UNEXPLAINED: [&str; 2] = ["config", "unknown"];

/// Adds the last words in the container's log, if there are any and the ending needs them.
pub(super) async fn explain(ending: Ending, engine: &SharedEngine, id: &SessionId) -> Ending {
    let is_unexplained = match &ending.reason {
        EndReason::RunnerLost => true,
        EndReason::SetupFailed { step } => UNEXPLAINED.contains(&step.as_str()),
        EndReason::Finished
        | EndReason::Closed
        | EndReason::AgentExit { .. }
        | EndReason::AgentSignal { .. }
        | EndReason::OutOfMemory
        | EndReason::PidsExhausted
        | EndReason::DiskFull
        | EndReason::WallTimeout
        | EndReason::IdleTimeout
        | EndReason::Cancelled
        | EndReason::ImageMissing
        | EndReason::EngineError
        | EndReason::EngineLost => false,
    };
    if !is_unexplained {
        return ending;
    }
    let container = ContainerId(object_name(id));
    let query = LogsQuery { tail: Some(LINES), max_bytes: BYTES, ..LogsQuery::default() };
    // Without an answer the ending says as much as is known.
    let Ok(Ok(log)) = tokio::time::timeout(DEADLINE, engine.logs(&container, &query)).await else { return ending };
    let log = [log.stdout, log.stderr].concat();
    let log = String::from_utf8_lossy(&log);
    let words: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if words.is_empty() {
        return ending;
    }
    let words = format!("the last words in its container's log: {}", words.join("; "));
    let detail = match ending.detail {
        Some(detail) => format!("{detail}; {words}"),
        None => words,
    };
    Ending::because(ending.reason, detail)
}
