//! The container engine behind one narrow, object-safe trait.
//!
//! Everything that aigo wants from an engine is a verb of [`Engine`]; everything that it says or hears is plain data of
//! our own. Only [`docker`] knows the client library and the wire, and only [`apple`] Apple's command. [`fake`] is a whole engine in memory that can fail or
//! hang at any call, and [`conformance`] is the one list of behaviours that both are held to.
//!
//! A container's life, as every backend shows it ([`ContainerPhase`]):
//!
//! ```text
//!            start             process ends, kill, stop, oom
//! (create) ─► Created ─► Running ─────────────────────────► Exited ─► (remove)
//!                          │  ▲
//!                    pause ▼  │ unpause        anything but running ─► (remove); running only with force
//!                         Paused
//! ```
//!
//! Laws of the trait:
//! - Every call ends: each has a deadline from [`deadline`], except [`Engine::wait`], [`Engine::build`] and the event
//!   stream, which last as long as what they watch and end with an error when the engine goes.
//! - Dropping a future abandons the call; for a build this cancels it. What the engine had accepted by then may have
//!   happened, so callers name and label objects first and clean up by label.
//! - `remove_*` is idempotent: what is already gone counts as removed.
//! - No call is made of more round trips than its name says, so that a launch costs what the engine's own client pays.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
pub use nix::sys::signal::Signal;
use tokio::net::TcpListener;

pub mod apple;
pub mod cgroup;
pub mod conformance;
pub mod container;
pub mod deadline;
pub mod detect;
pub mod docker;
pub mod error;
pub mod event;
pub mod fake;
pub mod image;
pub mod info;
pub mod network;
pub mod output;
mod routes;
pub mod subnets;

pub use container::{
    ContainerId, ContainerInfo, ContainerPhase, ContainerSpec, ContainerSummary, Created, Device, ExecSpec, ExitInfo,
    Limits, LimitsUpdate, LogDriver, LogPolicy, Mount, MountSource, NetworkAttachment, Seccomp, Security,
};
pub use error::{EngineError, Object};
pub use event::{EngineEvent, EventKind, EventStream};
pub use image::{BuildOptions, BuildProgress, ImageId, ImageInfo, ProgressSink, TarStream};
pub use info::{Backend, CgroupDriver, CgroupVersion, EngineIdentity, EngineInfo, LimitSupport, Networking, Quirks};
pub use network::{Ipv4Net, Network, NetworkId, NetworkSpec};
pub use output::{ExecOutput, LogsQuery, Output};

/// Labels that an object must carry, all of them, key and value, to be listed or reported.
pub type Labels = std::collections::BTreeMap<String, String>;

/// An engine that callers share.
pub type SharedEngine = Arc<dyn Engine>;

/// A container engine. See the module text for the laws that hold for every verb.
#[async_trait]
pub trait Engine: Send + Sync + fmt::Debug {
    /// Asks who answers and what it can do. Two round trips; nothing is cached.
    ///
    /// # Errors
    /// [`EngineError::Unreachable`], [`EngineError::PermissionDenied`], [`EngineError::TooOld`],
    /// [`EngineError::BadEndpoint`]: each names its remedy.
    async fn detect(&self) -> Result<EngineInfo, EngineError>;

    /// Looks an image up by tag or id; `None` when the engine does not have it. Never pulls.
    async fn image(&self, tag: &str) -> Result<Option<ImageInfo>, EngineError>;

    /// Builds an image from a tar archive that holds the build context. Progress goes to `progress` in order; a full
    /// sink holds the build up, a dropped one is ignored. Cancel by dropping the future.
    ///
    /// # Errors
    /// [`EngineError::BuildFailed`] names the step that failed and what it said.
    async fn build(
        &self,
        context: Bytes,
        options: &BuildOptions,
        progress: &ProgressSink,
    ) -> Result<ImageId, EngineError>;

    /// Makes an image of one layer from a root file system in a tar stream (not an image archive).
    async fn import_image(&self, root: TarStream, tag: &str) -> Result<ImageId, EngineError>;

    /// Removes a tag, and the image with its last tag. Idempotent.
    ///
    /// # Errors
    /// [`EngineError::InUse`] while a container uses it.
    async fn remove_image(&self, tag: &str) -> Result<(), EngineError>;

    /// Creates a bridge network of one IPv4 subnet, without IPv6 and without traffic between its containers, and tells
    /// its gateway (an address of the host on which containers reach it). When the engine's own address pools are
    /// exhausted, a private /24 that no route of this host covers is taken instead.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] if the name is taken; [`EngineError::NoFreeSubnet`].
    async fn create_network(&self, spec: &NetworkSpec) -> Result<Network, EngineError>;

    /// Listens where containers of the network reach this host: on its gateway, at `port` (0: any free one). Containers
    /// are seen with their own addresses, and only they can connect. Sockets that were accepted outlive the network.
    ///
    /// # Errors
    /// As bind(2); where this process cannot listen on the engine's networks, a sentence with the remedy.
    async fn listen(&self, network: &Network, port: u16) -> io::Result<TcpListener>;

    /// Whether a listener made before the first container of the network runs may not serve it: the network's end of the
    /// wire comes and goes with containers. Then listen after [`Engine::start`].
    fn listens_late(&self) -> bool;

    /// Whether a mount in a mounted folder costs nothing and cannot be removed in the container (rmdir(2), `EBUSY`): one by the
    /// same kernel. In a virtual machine each mount is a device.
    fn nests_mounts(&self) -> bool;

    /// Removes a network by name or id. Idempotent.
    ///
    /// # Errors
    /// [`EngineError::InUse`] while containers are attached.
    async fn remove_network(&self, network: &str) -> Result<(), EngineError>;

    /// Lists the networks that carry all of `labels`.
    async fn networks(&self, labels: &Labels) -> Result<Vec<Network>, EngineError>;

    /// Creates a container without starting it: one round trip.
    ///
    /// # Errors
    /// [`EngineError::ImageMissing`], [`EngineError::Conflict`] (name taken), [`EngineError::MountMissing`],
    /// [`EngineError::NotFound`] (network); what is wrong with a mount may also be said only by [`Engine::start`].
    async fn create(&self, spec: &ContainerSpec) -> Result<Created, EngineError>;

    /// Starts a created container: one round trip. Starting a running one is no error.
    async fn start(&self, id: &ContainerId) -> Result<(), EngineError>;

    /// Reads a container's state.
    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo, EngineError>;

    /// Waits until the container is not running, without a deadline (a session's own deadlines rule its life). A
    /// connection that breaks is renewed a bounded number of times; between tries the state is inspected, so that an
    /// end that was missed is found.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] if the container is gone; [`EngineError::Unreachable`] if the engine stays away.
    async fn wait(&self, id: &ContainerId) -> Result<ExitInfo, EngineError>;

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`] if there is none.
    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), EngineError>;

    /// Kills every process of the container. Killing what does not run, or is gone, is no error.
    async fn kill(&self, id: &ContainerId) -> Result<(), EngineError>;

    /// Sends SIGTERM (or the image's stop signal) and kills after `grace` (whole seconds, rounded up). Stopping what
    /// does not run is no error.
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), EngineError>;

    /// Removes a container and its anonymous volumes. Idempotent; waits out a removal that is under way.
    ///
    /// # Errors
    /// [`EngineError::InUse`] if it runs and `force` is false.
    async fn remove(&self, id: &ContainerId, force: bool) -> Result<(), EngineError>;

    /// Reads what the container wrote to its output streams, the last `query.max_bytes` of it.
    async fn logs(&self, id: &ContainerId, query: &LogsQuery) -> Result<Output, EngineError>;

    /// Lists containers in any phase that carry all of `labels`.
    async fn containers(&self, labels: &Labels) -> Result<Vec<ContainerSummary>, EngineError>;

    /// Changes limits of a container, running or not.
    async fn update(&self, id: &ContainerId, limits: &LimitsUpdate) -> Result<(), EngineError>;

    /// Runs a command in a running container and waits for its end. When the deadline of the spec passes, the call fails
    /// with [`EngineError::Timeout`] and the process is left to the container.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ExecOutput, EngineError>;

    /// What happens to containers that carry all of `labels`, from the time of this call on (by this host's clock). The
    /// stream ends with an error when the engine goes, never silently; take a new one and compare with
    /// [`Engine::containers`] then.
    async fn events(&self, labels: &Labels) -> Result<EventStream, EngineError>;
}
