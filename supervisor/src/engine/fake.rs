//! A whole engine in memory, for tests of everything above the engine.
//!
//! It keeps the laws of [`Engine`](super::Engine): the conformance suite runs on it unchanged. What a container does is
//! a script: a closure that is given a [`FakeRun`] (the container's spec with its mounts and environment, its signals,
//! its output) and whose future gives the exit code. A session test plays the runner by writing to the mailbox folder
//! of the mount that it finds there. As for a first process in a real container, a signal that the script does not take
//! is ignored, and SIGKILL ends it wherever it is.
//!
//! Faults are planned ahead ([`FakeEngine::fault`]): the n-th call of a verb fails, hangs, or is carried out while its
//! answer is lost. The engine as a whole goes and comes ([`FakeEngine::engine_down`], [`FakeEngine::engine_up`]);
//! containers outlive it, as they do when Docker's daemon is killed. All times are tokio's, so a paused clock works.

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;

use super::{
    BuildOptions, BuildProgress, ContainerId, ContainerInfo, ContainerSpec, ContainerSummary, Created, Engine,
    EngineError, EngineInfo, EventStream, ExecOutput, ExecSpec, ExitInfo, ImageId, ImageInfo, Labels, LimitsUpdate,
    LogsQuery, Network, NetworkSpec, Object, Output, ProgressSink, Signal, TarStream, deadline,
};

mod container;
mod event;
mod fault;
mod run;
mod state;
#[cfg(test)]
mod tests;

pub use fault::{Call, CallRecord, Fault};
pub use run::FakeRun;
use state::{Shared, State};

/// The lock around the state, never held across an await.
type StateLock = Mutex<State>;

/// What a container does when it runs; gives its exit code.
pub type Script = Arc<dyn Fn(FakeRun) -> BoxFuture<'static, i32> + Send + Sync>;
/// What a command run in a container does.
pub type ExecScript = Arc<dyn Fn(&ContainerSpec, &ExecSpec) -> ExecOutput + Send + Sync>;

/// The engine. Clones are the same engine.
#[derive(Debug, Clone)]
pub struct FakeEngine {
    shared: Arc<Shared>,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeEngine {
    /// An engine without images, whose containers end at once with code 0 and whose commands succeed in silence.
    #[must_use]
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared::new()) }
    }

    /// An engine that has one image and whose containers run `script`.
    #[must_use]
    pub fn with<F>(image: &str, script: impl Fn(FakeRun) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = i32> + Send + 'static,
    {
        let engine = Self::new();
        engine.add_image(image);
        engine.script(script);
        engine
    }

    /// Makes an image present.
    pub fn add_image(&self, tag: &str) {
        self.lock().add_image(tag, Labels::new());
    }

    /// What containers started from now on do.
    pub fn script<F>(&self, script: impl Fn(FakeRun) -> F + Send + Sync + 'static)
    where
        F: Future<Output = i32> + Send + 'static,
    {
        self.lock().script = Arc::new(move |run| Box::pin(script(run)));
    }

    /// What commands run in containers from now on do.
    pub fn exec_script(&self, script: impl Fn(&ContainerSpec, &ExecSpec) -> ExecOutput + Send + Sync + 'static) {
        self.lock().exec_script = Arc::new(script);
    }

    /// Plans a fault for the `nth` call of a verb, counted from 1 and from the start of this engine.
    pub fn fault(&self, call: Call, nth: usize, fault: Fault) {
        self.lock().faults.plan(call, nth, fault);
    }

    /// The `nth` call of a verb fails without effect.
    pub fn fail_at(&self, call: Call, nth: usize, error: EngineError) {
        self.fault(call, nth, Fault::Fail(error));
    }

    /// The `nth` call of a verb gets no answer and has no effect.
    pub fn hang_at(&self, call: Call, nth: usize) {
        self.fault(call, nth, Fault::Hang);
    }

    /// Carries out what calls with [`Fault::Late`] have asked for.
    pub fn catch_up(&self) {
        let mut state = self.lock();
        for act in std::mem::take(&mut state.late) {
            act(&mut state);
        }
    }

    /// From now on nobody answers: calls fail, waits end after their retries, event streams break. Containers go on.
    pub fn engine_down(&self) {
        {
            let mut state = self.lock();
            state.down = true;
            state.break_streams();
        }
        self.shared.changed.send_modify(|generation| *generation += 1);
    }

    /// Somebody answers again; what happened to containers meanwhile is as it happened.
    pub fn engine_up(&self) {
        self.lock().down = false;
        self.shared.changed.send_modify(|generation| *generation += 1);
    }

    /// Every call so far, in order, failed ones included.
    #[must_use]
    pub fn calls(&self) -> Vec<CallRecord> {
        self.lock().faults.records().to_vec()
    }

    /// What is left: names of containers, then of networks. For tests that nothing leaks.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        self.lock().leftovers()
    }

    /// The spec that a container was created with.
    #[must_use]
    pub fn spec(&self, id: &ContainerId) -> Option<ContainerSpec> {
        self.lock().find(&id.0).ok().map(|container| container.spec.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// One call: recorded, faulted as planned, under the deadline that a real one has.
    async fn call<T>(
        &self,
        call: Call,
        subject: &str,
        what: &'static str,
        limit: Duration,
        act: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let fault = self.lock().faults.record(call, subject);
        self.faulted(fault, what, limit, act).await
    }

    async fn faulted<T>(
        &self,
        fault: Option<Fault>,
        what: &'static str,
        limit: Duration,
        act: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        deadline::within(what, limit, async {
            self.lock().answers()?;
            match fault {
                None => act.await,
                Some(Fault::Fail(error) | Fault::Late(Some(error))) => Err(error),
                Some(Fault::Hang | Fault::Late(None)) => std::future::pending().await,
                Some(Fault::LoseAnswer) => {
                    act.await?;
                    Err(EngineError::Lost { what, reason: "the connection was cut".to_owned() })
                }
            }
        })
        .await
    }

    /// A call that makes something, perhaps only after we have stopped waiting for it.
    async fn making<T>(
        &self,
        call: Call,
        subject: &str,
        what: &'static str,
        limit: Duration,
        act: impl FnOnce(&mut State) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let fault = self.lock().faults.record(call, subject);
        if let Some(Fault::Late(answer)) = fault {
            self.lock().late.push(Box::new(move |state| drop(act(state))));
            return self.faulted(Some(Fault::Late(answer)), what, limit, std::future::pending()).await;
        }
        self.faulted(fault, what, limit, async { act(&mut self.lock()) }).await
    }

    /// A call that needs nothing but the state.
    async fn quick<T>(
        &self,
        call: Call,
        subject: &str,
        what: &'static str,
        limit: Duration,
        act: impl FnOnce(&mut State) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.call(call, subject, what, limit, async { act(&mut self.lock()) }).await
    }
}

/// What a call does to the state.
type Act = Box<dyn FnOnce(&mut State) + Send>;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere must not hide behind this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Far beyond any test: for verbs that have no deadline.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

#[async_trait]
impl Engine for FakeEngine {
    async fn detect(&self) -> Result<EngineInfo, EngineError> {
        self.quick(Call::Detect, "", "describe itself", deadline::DETECT, |_| Ok(state::info())).await
    }

    async fn image(&self, tag: &str) -> Result<Option<ImageInfo>, EngineError> {
        self.quick(Call::Image, tag, "inspect image", deadline::READ, |state| Ok(state.image(tag))).await
    }

    async fn build(
        &self,
        _context: Bytes,
        options: &BuildOptions,
        progress: &ProgressSink,
    ) -> Result<ImageId, EngineError> {
        self.call(Call::Build, &options.tag, "build an image", FOREVER, async {
            let (id, name) = ("1".to_owned(), "[1/1] FROM scratch".to_owned());
            for event in [
                BuildProgress::Step { id: id.clone(), name: name.clone() },
                BuildProgress::Log { id: id.clone(), line: "built".to_owned() },
                BuildProgress::Done { id, name },
            ] {
                if progress.send(event).await.is_err() {
                    break;
                }
            }
            Ok(self.lock().add_image(&options.tag, options.labels.clone()))
        })
        .await
    }

    async fn import_image(&self, mut root: TarStream, tag: &str) -> Result<ImageId, EngineError> {
        let what = "import an image";
        self.call(Call::ImportImage, tag, what, deadline::IMPORT, async {
            while let Some(chunk) = root.next().await {
                chunk.map_err(|error| EngineError::Lost { what, reason: error.to_string() })?;
            }
            Ok(self.lock().add_image(tag, Labels::new()))
        })
        .await
    }

    async fn remove_image(&self, tag: &str) -> Result<(), EngineError> {
        self.quick(Call::RemoveImage, tag, "remove image", deadline::REMOVE_IMAGE, |state| state.remove_image(tag))
            .await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<Network, EngineError> {
        let wanted = spec.clone();
        self.making(Call::CreateNetwork, &spec.name, "create a network", deadline::NETWORK, move |state| {
            state.create_network(&wanted)
        })
        .await
    }

    async fn listen(&self, network: &Network, port: u16) -> io::Result<TcpListener> {
        // Its networks exist nowhere, unless a test chose a subnet of loopback.
        let gateway = if network.gateway.is_loopback() { network.gateway } else { Ipv4Addr::LOCALHOST };
        TcpListener::bind((gateway, port)).await
    }

    fn listens_late(&self) -> bool {
        false
    }

    fn nests_mounts(&self) -> bool {
        true
    }

    async fn remove_network(&self, network: &str) -> Result<(), EngineError> {
        self.quick(Call::RemoveNetwork, network, "remove a network", deadline::NETWORK, |state| {
            state.remove_network(network)
        })
        .await
    }

    async fn networks(&self, labels: &Labels) -> Result<Vec<Network>, EngineError> {
        self.quick(Call::Networks, "", "list networks", deadline::READ, |state| Ok(state.networks_with(labels))).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Created, EngineError> {
        let wanted = spec.clone();
        let mounts = State::check_mounts(spec);
        let act = move |state: &mut State| mounts.and_then(|()| state.create(&wanted));
        self.making(Call::Create, &spec.name, "create container", deadline::CREATE, act).await
    }

    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.quick(Call::Start, &id.0, "start container", deadline::START, |state| state.start(id, &self.shared)).await
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo, EngineError> {
        self.quick(Call::Inspect, &id.0, "inspect container", deadline::READ, |state| Ok(state.find(&id.0)?.describe()))
            .await
    }

    async fn wait(&self, id: &ContainerId) -> Result<ExitInfo, EngineError> {
        self.call(Call::Wait, &id.0, "wait for container", FOREVER, self.shared.wait(id)).await
    }

    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), EngineError> {
        self.quick(Call::Signal, &id.0, "signal container", deadline::SIGNAL, |state| {
            state.signal(id, signal, &self.shared)
        })
        .await
    }

    async fn kill(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.quick(Call::Kill, &id.0, "signal container", deadline::SIGNAL, |state| {
            match state.signal(id, Signal::SIGKILL, &self.shared) {
                Err(EngineError::NotRunning { .. } | EngineError::NotFound { .. }) => Ok(()),
                other => other,
            }
        })
        .await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        let limit = grace.saturating_add(deadline::STOP_MARGIN);
        self.call(Call::Stop, &id.0, "stop container", limit, async {
            let asked = self.lock().signal(id, Signal::SIGTERM, &self.shared);
            match asked {
                Ok(()) => {}
                Err(EngineError::NotRunning { .. } | EngineError::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
            if tokio::time::timeout(grace, self.shared.wait(id)).await.is_err() {
                match self.lock().signal(id, Signal::SIGKILL, &self.shared) {
                    Ok(()) | Err(EngineError::NotRunning { .. } | EngineError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
        .await
    }

    async fn remove(&self, id: &ContainerId, force: bool) -> Result<(), EngineError> {
        self.quick(Call::Remove, &id.0, "remove container", deadline::REMOVE, |state| {
            state.remove(id, force, &self.shared)
        })
        .await
    }

    async fn logs(&self, id: &ContainerId, query: &LogsQuery) -> Result<Output, EngineError> {
        self.quick(Call::Logs, &id.0, "read the log of container", deadline::LOGS, |state| {
            Ok(state.find(&id.0)?.logs(query))
        })
        .await
    }

    async fn containers(&self, labels: &Labels) -> Result<Vec<ContainerSummary>, EngineError> {
        self.quick(Call::Containers, "", "list containers", deadline::READ, |state| Ok(state.containers_with(labels)))
            .await
    }

    async fn update(&self, id: &ContainerId, limits: &LimitsUpdate) -> Result<(), EngineError> {
        self.quick(Call::Update, &id.0, "change the limits of container", deadline::UPDATE, |state| {
            state.find_mut(&id.0)?.update(limits);
            Ok(())
        })
        .await
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ExecOutput, EngineError> {
        self.call(Call::Exec, &id.0, "run a command in container", spec.deadline, async {
            let (script, container) = {
                let state = self.lock();
                let container = state.find(&id.0)?;
                if !container.phase.is_live() {
                    return Err(EngineError::NotRunning { name: id.0.clone() });
                }
                (Arc::clone(&state.exec_script), container.spec.clone())
            };
            Ok(script(&container, spec))
        })
        .await
    }

    async fn events(&self, labels: &Labels) -> Result<EventStream, EngineError> {
        self.quick(Call::Events, "", "watch its events", deadline::READ, |state| Ok(state.subscribe(labels))).await
    }
}

fn no_container(name: &str) -> EngineError {
    EngineError::NotFound { what: Object::Container, name: name.to_owned() }
}
