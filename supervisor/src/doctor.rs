//! Checks everything that can break a first run, and says how to mend each.
//!
//! Gathering and judging are apart: what is asked of the host and the engine becomes plain facts, and pure functions
//! turn facts into [`Check`]s. What a check could not look at because something before it failed is skipped, with the
//! reason. Nothing is left behind: the one network and the one container that are made carry a label, are removed in
//! every case, and what a killed doctor left is removed by the next one.

pub mod check;
pub mod clock;
pub mod engine;
pub mod gateway;
pub mod host;
pub mod leftovers;
pub mod model;
pub mod port;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use tokio_util::sync::CancellationToken;

pub use check::{Check, Report, Verdict};

use crate::agents::HostSide;
use crate::dirs::{DataDir, DirError};
use crate::engine::{EngineError, EngineInfo, SharedEngine};
use crate::image::{self, ImageStatus};
use crate::serve::lock;

/// What is examined. Parts that could not be had come as the error that says why: that is what doctor is for.
#[derive(Debug)]
pub struct Subject<'a> {
    pub engine: Result<SharedEngine, EngineError>,
    pub dirs: Result<DataDir, DirError>,
    /// The image that runs would use.
    pub image: &'a str,
    /// Where the API of a service of this user listens.
    pub listen: SocketAddr,
    /// Folder with the kernel's settings: `/proc/sys`.
    pub kernel_settings: &'a Path,
}

/// Runs all checks, in the order in which they build on each other. After `cancel` the rest is skipped, and what was made
/// is removed before this returns.
pub async fn run(
    subject: &Subject<'_>,
    env: &(dyn Fn(&str) -> Option<OsString> + Sync),
    cancel: &CancellationToken,
) -> Report {
    let info = ask_engine(subject).await;
    let mut checks = engine::judge(&info, &HostSide::look());
    let image = match (&subject.engine, &info) {
        (Ok(engine), Ok(_)) => Some(image::status(&**engine, subject.image).await),
        (Err(_), _) | (_, Err(_)) => None,
    };
    checks.push(engine::image(subject.image, image.as_ref()));

    let (network, upstream) = tokio::join!(probe(subject, &info, image.as_ref(), cancel), model::ask(env, cancel));
    checks.extend(network.checks);
    checks.extend(model::judge(env, &upstream));
    checks.push(clock::judge(network.engine_clock, upstream.clock()));
    checks.push(host::data_directory(&subject.dirs));
    checks.extend(host::disk(subject.dirs.as_ref().ok(), info.as_ref().ok()));
    let service = subject.dirs.as_ref().ok().and_then(|dirs| lock::holder(&dirs.daemon_lock()));
    checks.push(port::check(subject.listen, service.map(|service| service.pid)));
    checks.push(host::inotify(subject.kernel_settings));
    checks.push(leftovers::check(subject, info.is_ok()).await);
    Report { checks }
}

async fn ask_engine(subject: &Subject<'_>) -> Result<EngineInfo, EngineError> {
    match &subject.engine {
        Ok(engine) => engine.detect().await,
        Err(error) => Err(error.clone()),
    }
}

async fn probe(
    subject: &Subject<'_>,
    info: &Result<EngineInfo, EngineError>,
    image: Option<&Result<ImageStatus, EngineError>>,
    cancel: &CancellationToken,
) -> gateway::Found {
    match (&subject.engine, info) {
        (Ok(engine), Ok(_)) => {
            let present = matches!(image, Some(Ok(status)) if status.present);
            let locks = subject.dirs.as_ref().ok().map(|dirs| dirs.root().join("locks"));
            let name = subject.dirs.as_ref().ok().and_then(|dirs| dirs.instance().ok());
            let house = locks.as_deref().zip(name.as_deref()).map(|(locks, name)| gateway::House { locks, name });
            gateway::probe(engine, present.then_some(subject.image), house, cancel).await
        }
        (Err(_), _) | (_, Err(_)) => gateway::Found::skipped("no engine answers"),
    }
}
