//! Mount points, network, proxy, container: in this order, each step told when it is done.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipc_protocol::dir::{DirError, SafeDir};
use ipc_protocol::git_mark;
use tokio::sync::mpsc;

use super::{Hold, Launcher};
use crate::dirs::SessionDir;
use crate::engine::{EngineError, Network, SharedEngine};
use crate::error_chain::chain;
use crate::failpoint::reach;
use crate::plan::{LaunchPlan, MountFacts};
use crate::proxy::{Limits, Notice, Proxy, ProxyConfig, StartError, Upstream};
use crate::request::DEFAULT_IMAGE;
use crate::session::doubt;
use crate::session::event::{HostEvent, LaunchStep};
use crate::session::resources::{Resources, Running};
use crate::session::status::{EndReason, Ending};
use crate::workspace::changes::Before;
use crate::workspace::facts::FolderId;
use crate::workspace::mountpoints;

/// How long the start waits for the look at the folder. It bounds itself between two files; a file system that does not
/// answer lets no call return.
const FIRST_LOOK: Duration = Duration::from_secs(20);
/// The holder of mount points is mounted read-only, and every user of the container may look into it.
const HOLDER_MODE: u32 = 0o755;

/// What answers for a model.
pub(super) struct Model {
    /// Where requests go; none for agents without one.
    pub(super) upstream: Option<Upstream>,
    /// What the proxy has to say.
    pub(super) notices: mpsc::Sender<Notice>,
}

/// A session that is up.
pub(super) struct Provisioned {
    pub(super) running: Running,
    /// The folder before the agent.
    pub(super) before: Before,
}

/// Brings everything up. What was made is noted in `resources` before it is made. With `no_further` it ends after the
/// step that it is at.
pub(super) async fn provision(
    launcher: &Launcher,
    plan: &LaunchPlan,
    resources: &mut Resources,
    model: Model,
    hold: Option<&Hold>,
    steps: mpsc::Sender<HostEvent>,
    no_further: &AtomicBool,
) -> Result<Provisioned, Ending> {
    let tell = |step: LaunchStep, detail: Option<String>| {
        // Bounded: there are fewer steps than places.
        let _ = steps.try_send(HostEvent::LaunchStep { step, detail });
    };
    check_image(launcher, plan).await?;
    let mounts = make_mount_points(launcher, plan, resources).await?;
    // What is mounted there is not the user's folder.
    let (workspace, left_out) = (resources.workspace.clone(), mounts.in_workspace.clone());
    let record = resources.folder.look();
    let too_late = Arc::new(AtomicBool::new(false));
    let look = tokio::task::spawn_blocking({
        let too_late = Arc::clone(&too_late);
        move || Before::take(&workspace, &left_out, &record, &too_late)
    });

    let go_on = || match no_further.load(Ordering::Relaxed) {
        true => Err(Ending::new(EndReason::Cancelled)),
        false => Ok(()),
    };
    go_on()?;
    resources.engine_touched = true;
    let network = making(&resources.folder, launcher.engine.create_network(&plan.network())).await?;
    let _ = launcher.store.set_network(plan.id(), &network.id.0).await;
    reach("network.stored");
    tell(LaunchStep::Network, Some(network.subnet.to_string()));

    let late = launcher.engine.listens_late();
    let mut model = Some(model);
    if let Some(model) = model.take_if(|_| !late) {
        start_proxy(launcher, plan, resources, &network, model, &tell).await?;
    }

    go_on()?;
    let created = making(&resources.folder, launcher.engine.create(&plan.container(&network, &mounts))).await?;
    let _ = launcher.store.set_container(plan.id(), &created.id.0).await;
    reach("container.stored");
    tell(LaunchStep::Container, Some(created.id.0.chars().take(12).collect()));
    for message in created.warnings {
        let _ = steps.try_send(HostEvent::HostWarning { code: "engine".into(), message });
    }
    // The agent must not change anything before the folder was looked at.
    let before = match tokio::time::timeout(FIRST_LOOK, look).await {
        Ok(Ok(before)) => before,
        Ok(Err(error)) => {
            Before::unknown(format!("the folder could not be looked at before the agent started: {error}"))
        }
        Err(_) => {
            // What it sees from now on may be the agent's work.
            too_late.store(true, Ordering::SeqCst);
            let _ = std::fs::remove_file(resources.folder.look());
            Before::unknown("the folder could not be looked at in time before the agent started")
        }
    };
    go_on()?;
    reach("start.before");
    launcher.engine.start(&created.id).await.map_err(|error| engine_ending(&error))?;
    reach("start.after");
    tell(LaunchStep::Start, None);
    if let Some(model) = model {
        // The runner asks for some seconds until the proxy answers.
        start_proxy(launcher, plan, resources, &network, model, &tell).await?;
    }

    let info = launcher.engine.inspect(&created.id).await.map_err(|error| engine_ending(&error))?;
    if let Some(message) = hold.zip(info.pid).and_then(|(hold, pid)| hold.confirm(pid)) {
        let _ = steps.try_send(HostEvent::HostWarning { code: "agent_limits".into(), message });
    }
    if let (Some(proxy), Some(address)) = (&resources.proxy, info.addresses.get(&network.name)) {
        let address = IpAddr::V4(*address);
        if resources.grant.as_ref().is_none_or(|grant| grant.ip() != address) {
            let grant = proxy.grant(address, plan.id().as_str()).map_err(|error| setup("proxy", &error))?;
            resources.grant = Some(grant);
        }
    }
    let traffic = resources.grant.as_ref().map(crate::proxy::Grant::traffic);
    Ok(Provisioned { running: Running { container: created.id, pid: info.pid, traffic }, before })
}

/// A proxy where the network's containers reach this host.
pub(super) async fn proxy_on(
    engine: &SharedEngine,
    network: &Network,
    port: u16,
    upstream: Upstream,
    notices: mpsc::Sender<Notice>,
) -> Result<Proxy, StartError> {
    let address = SocketAddr::new(IpAddr::V4(network.gateway), port);
    let listener = engine.listen(network, port).await.map_err(|error| StartError::listening(address, error))?;
    Proxy::start(ProxyConfig { listener, upstream, notices, limits: Limits::default() }).await
}

async fn start_proxy(
    launcher: &Launcher,
    plan: &LaunchPlan,
    resources: &mut Resources,
    network: &Network,
    model: Model,
    tell: &impl Fn(LaunchStep, Option<String>),
) -> Result<(), Ending> {
    let Some(upstream) = model.upstream else { return Ok(()) };
    let port = plan.permit().request().proxy_port;
    let address = SocketAddr::new(IpAddr::V4(network.gateway), port);
    let proxy = proxy_on(&launcher.engine, network, port, upstream, model.notices).await;
    let proxy = proxy.map_err(|error| setup("proxy", &error))?;
    // The first address that engines give out; the real one is asked for when the container has it.
    resources.grant = proxy.grant(IpAddr::V4(first_address(network)), plan.id().as_str()).ok();
    resources.proxy = Some(proxy);
    reach("proxy.started");
    tell(LaunchStep::Proxy, Some(address.to_string()));
    Ok(())
}

/// Finds an image without a runner of ours before anything is made. A missing image is the engine's to tell.
async fn check_image(launcher: &Launcher, plan: &LaunchPlan) -> Result<(), Ending> {
    let tag = &plan.permit().request().image;
    let image = launcher.engine.image(tag).await.map_err(|error| engine_ending(&error))?;
    match image {
        Some(image) if !image.starts_runner() => Err(Ending::because(
            EndReason::SetupFailed { step: "image".to_owned() },
            format!(
                "the image {tag} does not start aigo's runner (its entry point is {}); use one that `aigo image build` made, \
                 or build yours on top of it (FROM {DEFAULT_IMAGE}) without another ENTRYPOINT",
                image.entrypoint.first().map_or("not set", String::as_str)
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

async fn make_mount_points(
    launcher: &Launcher,
    plan: &LaunchPlan,
    resources: &mut Resources,
) -> Result<MountFacts, Ending> {
    let points = plan.mount_points();
    let noted = launcher.store.mount(plan.id(), &resources.workspace, points.clone()).await;
    noted.map_err(|error| setup("store", &error))?;
    reach("mount.noted");
    let (workspace, id) = (resources.workspace.clone(), plan.permit().facts().workspace.id);
    let made = tokio::task::spawn_blocking(move || mountpoints::make(&workspace, Some(id), &points)).await;
    let made = match made.map_err(|error| setup("workspace", &error))? {
        Ok(made) => made,
        Err(error) => {
            // Nothing was made, and what is at the path now is not ours to clean.
            let forgotten = launcher.store.forget_mounts(plan.id()).await;
            forgotten.map_err(|error| setup("store", &error))?;
            return Err(setup("workspace", &error));
        }
    };
    resources.points = made.held;
    reach("mount.made");
    let (folder, dirs) = (resources.folder.clone(), resources.folder.ipc());
    let nested = launcher.engine.nests_mounts();
    let names: Vec<String> = plan.permit().request().mounts.iter().map(|mount| mount.name.clone()).collect();
    let facts = move || -> Result<MountFacts, Box<dyn std::error::Error + Send + Sync>> {
        make_holder(&folder.extra(), &names)?;
        Ok(MountFacts {
            in_workspace: made.there,
            record: FolderId::at(&dirs.record)?,
            mailbox: FolderId::at(&dirs.mailbox)?,
            extra: FolderId::at(&folder.extra())?,
            nested,
        })
    };
    let facts = tokio::task::spawn_blocking(facts).await.map_err(|error| setup("folder", &error))?;
    facts.map_err(|error| setup("folder", error.as_ref()))
}

/// Makes the folder in which additional mounts have their mount points. The mark keeps `git clean -x` out of what is mounted
/// there.
fn make_holder(path: &Path, names: &[String]) -> Result<(), DirError> {
    let root = path.parent().unwrap_or(path);
    let holder = SafeDir::open(root)?.make_subdir(OsStr::new("extra"), HOLDER_MODE, None)?;
    git_mark::put(&holder, None)?;
    for name in names {
        holder.make_subdir(OsStr::new(name), HOLDER_MODE, None)?;
    }
    Ok(())
}

/// Has the engine make something. From before it is asked until it has answered the session is in doubt.
async fn making<T>(folder: &SessionDir, call: impl Future<Output = Result<T, EngineError>>) -> Result<T, Ending> {
    doubt::begin(folder).map_err(|error| setup("folder", &error))?;
    reach("doubt.begun");
    let outcome = call.await;
    reach("doubt.answered");
    if !outcome.as_ref().is_err_and(EngineError::engine_away) {
        doubt::end(folder);
    }
    reach("doubt.ended");
    outcome.map_err(|error| engine_ending(&error))
}

fn first_address(network: &Network) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network.gateway).saturating_add(1))
}

fn setup(step: &str, error: &dyn std::error::Error) -> Ending {
    Ending::because(EndReason::SetupFailed { step: step.to_owned() }, chain(error))
}

fn engine_ending(error: &EngineError) -> Ending {
    let reason = match error {
        EngineError::ImageMissing { .. } => EndReason::ImageMissing,
        error if error.engine_away() => EndReason::EngineLost,
        EngineError::NoSpace { .. } => EndReason::DiskFull,
        _ => EndReason::EngineError,
    };
    Ending::because(reason, chain(error))
}
