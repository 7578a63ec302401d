//! Docker, and Podman in Docker's API; the only place that knows the client library.
//!
//! One file per family of verbs; [`wire`] is the connection and its pinned API version, [`error`] turns the engine's
//! status codes and sentences into our closed set, and [`dialect`] is where Podman differs. What is known of the client library and worked around here:
//! - it never puts the API version on the wire ([`wire`] does);
//! - its own time limit covers only the time to the response's headers, in whole seconds, so it is set out of the way
//!   and [`deadline`](super::deadline) rules;
//! - its wait reports a non-zero exit as an error ([`wait`]).

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;

use super::subnets::{BadPools, Pools};
use super::{
    Backend, BuildOptions, ContainerId, ContainerInfo, ContainerSpec, ContainerSummary, Created, Engine, EngineError,
    EngineInfo, EventStream, ExecOutput, ExecSpec, ExitInfo, ImageId, ImageInfo, Labels, LimitsUpdate, LogsQuery,
    Network, NetworkSpec, Output, ProgressSink, Signal, TarStream,
};

mod build;
mod container;
mod dialect;
pub mod endpoint;
mod error;
mod events;
pub mod gateway;
mod image;
mod info;
mod libpod;
mod network;
mod output;
mod progress;
#[cfg(target_os = "linux")]
mod rootlesskit;
mod spec;
#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;
mod time;
mod wait;
mod wire;

pub use endpoint::{Endpoint, HostEnv};
use wire::Wire;

/// A connection to one Docker or Podman engine. Cheap to share; every call opens its own connection to the socket.
#[derive(Debug)]
pub struct DockerEngine {
    wire: Wire,
}

impl DockerEngine {
    /// Asks the engine for its version (one round trip; two with Podman) and agrees on an API version with it. Any of the
    /// two will do unless one is `wanted`. Of `env` only what it says of our own side is used.
    ///
    /// # Errors
    /// As [`Engine::detect`]; [`EngineError::BadSubnets`].
    pub async fn connect(endpoint: Endpoint, wanted: Option<Backend>, env: &HostEnv) -> Result<Self, EngineError> {
        let bad = |error: BadPools| EngineError::BadSubnets { reason: error.to_string() };
        let subnets = env.subnets.as_deref().map(str::parse::<Pools>).transpose().map_err(bad)?;
        let wire = Wire::connect(endpoint, wanted).await?;
        Ok(Self { wire: Wire { program: env.program.clone(), subnets, ..wire } })
    }
}

#[async_trait]
impl Engine for DockerEngine {
    async fn detect(&self) -> Result<EngineInfo, EngineError> {
        info::detect(&self.wire).await
    }

    async fn image(&self, tag: &str) -> Result<Option<ImageInfo>, EngineError> {
        image::inspect(&self.wire, tag).await
    }

    async fn build(
        &self,
        context: Bytes,
        options: &BuildOptions,
        progress: &ProgressSink,
    ) -> Result<ImageId, EngineError> {
        build::build(&self.wire, context, options, progress).await
    }

    async fn import_image(&self, root: TarStream, tag: &str) -> Result<ImageId, EngineError> {
        image::import(&self.wire, root, tag).await
    }

    async fn remove_image(&self, tag: &str) -> Result<(), EngineError> {
        image::remove(&self.wire, tag).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<Network, EngineError> {
        network::create(&self.wire, spec).await
    }

    async fn listen(&self, network: &Network, port: u16) -> io::Result<TcpListener> {
        gateway::listen(&self.wire, network, port).await
    }

    fn listens_late(&self) -> bool {
        matches!(&self.wire.dialect, dialect::Dialect::Podman(podman) if podman.rootless)
    }

    fn nests_mounts(&self) -> bool {
        true
    }

    async fn remove_network(&self, network: &str) -> Result<(), EngineError> {
        network::remove(&self.wire, network).await
    }

    async fn networks(&self, labels: &Labels) -> Result<Vec<Network>, EngineError> {
        network::list(&self.wire, labels).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Created, EngineError> {
        container::create(&self.wire, spec).await
    }

    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        container::start(&self.wire, id).await
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo, EngineError> {
        container::inspect(&self.wire, id).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<ExitInfo, EngineError> {
        wait::wait(&self.wire, id).await
    }

    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), EngineError> {
        container::signal(&self.wire, id, signal).await
    }

    async fn kill(&self, id: &ContainerId) -> Result<(), EngineError> {
        match container::signal(&self.wire, id, Signal::SIGKILL).await {
            Err(EngineError::NotRunning { .. } | EngineError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        container::stop(&self.wire, id, grace).await
    }

    async fn remove(&self, id: &ContainerId, force: bool) -> Result<(), EngineError> {
        container::remove(&self.wire, id, force).await
    }

    async fn logs(&self, id: &ContainerId, query: &LogsQuery) -> Result<Output, EngineError> {
        output::logs(&self.wire, id, query).await
    }

    async fn containers(&self, labels: &Labels) -> Result<Vec<ContainerSummary>, EngineError> {
        container::list(&self.wire, labels).await
    }

    async fn update(&self, id: &ContainerId, limits: &LimitsUpdate) -> Result<(), EngineError> {
        container::update(&self.wire, id, limits).await
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ExecOutput, EngineError> {
        output::exec(&self.wire, id, spec).await
    }

    async fn events(&self, labels: &Labels) -> Result<EventStream, EngineError> {
        Ok(events::events(&self.wire, labels))
    }
}
