//! Waiting for a container's end across broken connections.
//!
//! ```text
//!  ask the engine to tell the end ──told──► inspect once for the details ──► ExitInfo
//!        ▲            │ connection broke
//!        │            ▼
//!        │        inspect ──ended──► ExitInfo      gone ──► NotFound
//!        │            │ still lives, or the engine is away
//!        └── pause ◄──┘   (at most RETRIES times without an answer in between)
//! ```

use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::query_parameters::WaitContainerOptionsBuilder;
use futures_util::StreamExt;

use super::container::{checked, exit_code, inspect};
use super::error::About;
use super::wire::Wire;
use crate::engine::{ContainerId, ContainerInfo, ContainerPhase, EngineError, ExitInfo};

/// How often in a row an engine that does not answer is asked again: with [`PAUSE`] some 30 s, the time that an engine's
/// own restart takes.
const RETRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// What a container that an engine found when it started anew may take to be ended by it: Docker stops it first, and may
/// answer meanwhile as if it still ran.
const BACK: Duration = Duration::from_secs(30);

pub(super) async fn wait(wire: &Wire, id: &ContainerId) -> Result<ExitInfo, EngineError> {
    let mut failures = 0;
    let mut away: Option<Instant> = None;
    loop {
        let broken = match told(wire, id).await {
            Ok(code) => {
                let engine_was_away = away.is_some_and(|at| at.elapsed() < BACK);
                return Ok(ExitInfo { engine_was_away, ..details(wire, id, code).await });
            }
            Err(error) if error.engine_away() => error,
            Err(error) => return Err(error),
        };
        away = Some(Instant::now());
        match inspect(wire, id).await {
            Ok(info) => {
                if let Some(end) = ended(&info) {
                    return Ok(end);
                }
                failures = 0;
            }
            Err(error) if error.engine_away() => {
                away = Some(Instant::now());
                failures += 1;
                if failures > RETRIES {
                    return Err(broken);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The exit code, when the engine tells that the container has ended. `None`: it does not know the code, and gives a 0 that
/// means nothing (Podman 5, of a container that ran when the machine was switched off).
async fn told(wire: &Wire, id: &ContainerId) -> Result<Option<i32>, EngineError> {
    let name = checked(id)?;
    let about = About::container("waiting for container", name);
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    // No deadline: this lasts as long as the container, whose deadlines are its session's.
    match Box::pin(wire.docker.wait_container(name, Some(options))).next().await {
        Some(Ok(answer)) => {
            // Podman may send the words of no error, too: empty ones.
            let words = answer.error.and_then(|error| error.message).unwrap_or_default();
            Ok(words.is_empty().then(|| exit_code(answer.status_code)))
        }
        Some(Err(Error::DockerContainerWaitError { code, error })) => Ok(error.is_empty().then(|| exit_code(code))),
        Some(Err(error)) => Err(about.translate(&wire.endpoint, error)),
        None => Err(EngineError::Lost { what: about.what, reason: "the engine closed the connection".to_owned() }),
    }
}

/// Adds what only an inspection knows. Without it, for a container that somebody removed meanwhile or an engine that goes
/// away just now, the code is still the container's.
async fn details(wire: &Wire, id: &ContainerId, code: Option<i32>) -> ExitInfo {
    match inspect(wire, id).await {
        Ok(info) => ExitInfo {
            code: code.unwrap_or_else(|| recorded(&info)),
            oom_killed: info.oom_killed,
            error: info.error,
            finished_at: info.finished_at,
            engine_was_away: false,
        },
        Err(error) => {
            tracing::debug!("container {id} ended with code {code:?}, and nothing more is known: {error}");
            let code = code.unwrap_or(ExitInfo::NOBODY_SAW);
            ExitInfo { code, oom_killed: false, error: String::new(), finished_at: None, engine_was_away: false }
        }
    }
}

/// The code in the engine's record. One without a time of the end was not seen to end: after a power cut Podman records 0 for it.
fn recorded(info: &ContainerInfo) -> i32 {
    info.exit_code.filter(|_| info.finished_at.is_some()).unwrap_or(ExitInfo::NOBODY_SAW)
}

/// Of a container that ended while nobody could tell.
fn ended(info: &ContainerInfo) -> Option<ExitInfo> {
    match info.phase {
        ContainerPhase::Exited => Some(ExitInfo {
            code: recorded(info),
            oom_killed: info.oom_killed,
            error: info.error.clone(),
            finished_at: info.finished_at,
            engine_was_away: true,
        }),
        ContainerPhase::Created | ContainerPhase::Running | ContainerPhase::Paused => None,
    }
}
