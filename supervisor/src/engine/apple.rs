//! Apple Container: the `container` command of macOS, one lightweight virtual machine a container.
//!
//! It has no socket that others may speak to, so each verb is one or a few runs of its command ([`cli`]), whose JSON is
//! read in the forms that its versions had ([`wire`]). Written to the command reference and the printed models of its
//! versions 0.2 to 1.x, and tested against recordings made by hand from them; no run on macOS was made.
//!
//! What is different, and how it is dealt with here:
//! - What a version offers is asked of its own `--help` ([`offers`]), never guessed from a number.
//! - Its words for failures change from version to version. What failed is therefore told by what the lists say, before
//!   or after; only a few words that were stable are read ([`error`]).
//! - An exit code is told to one command only: the `start --attach` that started the container. [`lives`] keeps it; after a
//!   restart of aigo it is lost, and that is said instead of a number.
//! - There are no events: the list is looked at every [`POLL`] ([`events`]).
//! - It looks names up by their beginning in some versions, so nothing is asked of it by a name that is not on its list.
//! - A network's end on the host comes with the first virtual machine on it, so listeners are made after the start.
//! - Limits are those of the virtual machine: whole processors, and memory; processes are not bounded ([`spec`]).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;

use super::{
    BuildOptions, ContainerId, ContainerInfo, ContainerSpec, ContainerSummary, Created, Engine, EngineError,
    EngineInfo, EventStream, ExecOutput, ExecSpec, ExitInfo, ImageId, ImageInfo, Labels, LimitsUpdate, LogsQuery,
    Network, NetworkSpec, Output, ProgressSink, Signal, TarStream,
};

mod build;
mod cli;
mod container;
mod error;
mod events;
mod image;
mod info;
mod lives;
mod network;
mod offers;
mod output;
pub mod place;
mod progress;
mod spec;
mod wire;

use cli::Cli;
use lives::Lives;
use offers::Offers;
use place::Place;

/// How often the list of containers is looked at where other engines would tell: an end is noticed so late.
const POLL: Duration = Duration::from_millis(500);

/// The oldest version whose output is known.
const OLDEST: (u32, u32) = (0, 2);
const OLDEST_TEXT: &str = "0.2";

/// The command at this place.
///
/// # Errors
/// [`EngineError::Unreachable`] if Apple Container cannot run here, or is not installed.
pub(super) fn program(place: &Place) -> Result<PathBuf, EngineError> {
    place.is_possible().map_err(|why| error::absent("the container command", why))?;
    place.program.clone().ok_or_else(|| error::absent("the container command", "it is not installed"))
}

/// Apple Container by its command.
#[derive(Debug, Clone)]
pub struct AppleEngine {
    cli: Cli,
    offers: Offers,
    lives: Arc<Lives>,
}

impl AppleEngine {
    /// Asks the command at `program` for its version, its service and its options: four runs.
    ///
    /// # Errors
    /// As [`Engine::detect`].
    pub async fn connect(program: PathBuf) -> Result<Self, EngineError> {
        let cli = Cli::new(program);
        info::version(&cli).await?;
        info::is_running(&cli).await?;
        let offers = offers::ask(&cli).await?;
        Ok(Self { cli, offers, lives: Arc::default() })
    }

    /// Whether it can make networks, which every session needs one of.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] if not.
    pub fn check_networks(&self) -> Result<(), EngineError> {
        network::check(&self.offers)
    }
}

#[async_trait]
impl Engine for AppleEngine {
    async fn detect(&self) -> Result<EngineInfo, EngineError> {
        info::detect(self).await
    }

    async fn image(&self, tag: &str) -> Result<Option<ImageInfo>, EngineError> {
        image::inspect(&self.cli, tag).await
    }

    async fn build(
        &self,
        context: Bytes,
        options: &BuildOptions,
        progress: &ProgressSink,
    ) -> Result<ImageId, EngineError> {
        build::build(&self.cli, context, options, progress).await
    }

    async fn import_image(&self, root: TarStream, tag: &str) -> Result<ImageId, EngineError> {
        build::import(&self.cli, root, tag).await
    }

    async fn remove_image(&self, tag: &str) -> Result<(), EngineError> {
        image::remove(&self.cli, tag).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<Network, EngineError> {
        network::create(self, spec).await
    }

    async fn listen(&self, network: &Network, port: u16) -> io::Result<TcpListener> {
        network::listen(network, port).await
    }

    fn listens_late(&self) -> bool {
        true
    }

    fn nests_mounts(&self) -> bool {
        false
    }

    async fn remove_network(&self, network: &str) -> Result<(), EngineError> {
        network::remove(self, network).await
    }

    async fn networks(&self, labels: &Labels) -> Result<Vec<Network>, EngineError> {
        network::list(self, labels).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Created, EngineError> {
        container::create(self, spec).await
    }

    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        container::start(self, id).await
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo, EngineError> {
        container::inspect(self, id).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<ExitInfo, EngineError> {
        container::wait(self, id).await
    }

    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), EngineError> {
        container::signal(self, id, signal).await
    }

    async fn kill(&self, id: &ContainerId) -> Result<(), EngineError> {
        match container::signal(self, id, Signal::SIGKILL).await {
            Err(EngineError::NotRunning { .. } | EngineError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        container::stop(self, id, grace).await
    }

    async fn remove(&self, id: &ContainerId, force: bool) -> Result<(), EngineError> {
        container::remove(self, id, force).await
    }

    async fn logs(&self, id: &ContainerId, query: &LogsQuery) -> Result<Output, EngineError> {
        output::logs(self, id, query).await
    }

    async fn containers(&self, labels: &Labels) -> Result<Vec<ContainerSummary>, EngineError> {
        container::list(self, labels).await
    }

    async fn update(&self, _id: &ContainerId, _limits: &LimitsUpdate) -> Result<(), EngineError> {
        Err(error::unsupported(
            "change the limits of a container that exists: they are those of its virtual machine",
            "start the session again",
        ))
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ExecOutput, EngineError> {
        output::exec(self, id, spec).await
    }

    async fn events(&self, labels: &Labels) -> Result<EventStream, EngineError> {
        events::events(self, labels).await
    }
}
