//! Limits are on record, can be changed, and hold.

use anyhow::ensure;

use super::{Bench, CannotRun, Program};
use crate::engine::{CgroupDriver, ExecSpec, Limits, LimitsUpdate, Signal};

const MEMORY: u64 = 32 << 20;
/// The kernel's own word on the processes that the container may have, on cgroup v1 and v2.
const PIDS_LIMIT: &str = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null | head -n 1";

pub(super) async fn on_record_and_changed(bench: &Bench) -> anyhow::Result<()> {
    let mut spec = bench.spec("limits", &Program::Deaf);
    spec.limits = Limits {
        nano_cpus: Some(500_000_000),
        memory: Some(MEMORY),
        pids: Some(64),
        nofile: Some(512),
        shm: Some(1 << 20),
    };
    let engine = bench.engine.detect().await?;
    let created = bench.engine.create(&spec).await?;
    bench.engine.start(&created.id).await?;
    let info = bench.engine.inspect(&created.id).await?;
    let can = engine.limits;
    if !(can.memory && can.cpu && can.pids) {
        // What is not enforced is said, and nothing else pretended.
        ensure!(!created.warnings.is_empty(), "no limit is said to be missing");
        ensure!(can.memory || info.limits.memory.is_none(), "{:?}", info.limits);
        return Err(CannotRun("the engine cannot limit all of CPU, memory and processes here").into());
    }
    ensure!(created.warnings.is_empty(), "{:?}", created.warnings);
    ensure!(info.limits == spec.limits, "{:?}", info.limits);
    let update = LimitsUpdate { nano_cpus: Some(1_000_000_000), memory: Some(2 * MEMORY), pids: Some(32) };
    bench.engine.update(&created.id, &update).await?;
    let asked = bench.engine.exec(&created.id, &ExecSpec::new(["sh", "-c", PIDS_LIMIT])).await?;
    let in_force = String::from_utf8_lossy(&asked.output.stdout).trim().to_owned();
    ensure!(in_force == "32" || in_force.is_empty(), "{in_force} processes are in force");
    if engine.quirks.updates_unrecorded {
        ensure!(in_force == "32", "nothing tells the limit that is in force");
        return Ok(());
    }
    let limits = bench.engine.inspect(&created.id).await?.limits;
    ensure!(limits.nano_cpus == update.nano_cpus && limits.memory == update.memory, "{limits:?}");
    ensure!(limits.pids == update.pids && limits.nofile == Some(512), "{limits:?}");
    bench.engine.update(&created.id, &LimitsUpdate { pids: Some(48), ..LimitsUpdate::default() }).await?;
    let limits = bench.engine.inspect(&created.id).await?.limits;
    ensure!(limits.pids == Some(48) && limits.memory == update.memory, "{limits:?}");
    Ok(())
}

/// A cgroup parent in the words of the engine's driver is taken. That containers share its quota is shown where a quota
/// can be set: the engine makes a parent without one.
pub(super) async fn below_a_parent(bench: &Bench) -> anyhow::Result<()> {
    let engine = bench.engine.detect().await?;
    ensure!(engine.limits.cpu || engine.limits.memory, CannotRun("the engine has no cgroups to put below another"));
    let parent = match engine.cgroup_driver {
        // One name for all runs: the engine leaves the parent behind.
        CgroupDriver::Cgroupfs => "/aigo-conformance",
        CgroupDriver::Systemd => "aigo-conformance.slice",
        // There is nothing to be below.
        CgroupDriver::None | CgroupDriver::Machine => return Ok(()),
    };
    let mut spec = bench.spec("below", &Program::Exit(0));
    spec.cgroup_parent = Some(parent.to_owned());
    let id = bench.launch(&spec).await?;
    ensure!(bench.end(&id).await?.code == 0);
    let info = bench.engine.inspect(&id).await?;
    ensure!(info.cgroup_parent == spec.cgroup_parent, "{:?}", info.cgroup_parent);
    Ok(())
}

pub(super) async fn out_of_memory(bench: &Bench) -> anyhow::Result<()> {
    let engine = bench.engine.detect().await?;
    // Without the limit it would eat the host's.
    ensure!(engine.limits.memory, CannotRun("the engine cannot limit memory here"));
    let mut spec = bench.spec("oom", &Program::EatMemory);
    spec.limits.memory = Some(MEMORY);
    let id = bench.launch(&spec).await?;
    let end = bench.end(&id).await?;
    ensure!(end.code == 128 + Signal::SIGKILL as i32, "{end:?}");
    ensure!(end.oom_killed || engine.quirks.oom_untold, "{end:?}");
    Ok(())
}

pub(super) async fn out_of_pids(bench: &Bench) -> anyhow::Result<()> {
    ensure!(bench.engine.detect().await?.limits.pids, CannotRun("the engine cannot limit processes here"));
    let mut spec = bench.spec("pids", &Program::Fork);
    spec.limits.pids = Some(8);
    let id = bench.launch(&spec).await?;
    let end = bench.end(&id).await?;
    ensure!(end.code != 0 && !end.oom_killed, "{end:?}");
    spec.name = bench.name("enough");
    spec.limits.pids = Some(64);
    let id = bench.launch(&spec).await?;
    ensure!(bench.end(&id).await?.code == 0);
    Ok(())
}
