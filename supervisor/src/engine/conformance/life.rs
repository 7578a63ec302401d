//! Starting, ending, removing.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::{Bench, Program};
use crate::engine::{ContainerPhase, EngineError, Signal};

const KILLED: i32 = 128 + Signal::SIGKILL as i32;

pub(super) async fn exit_codes(bench: &Bench) -> anyhow::Result<()> {
    for code in [0, 1, 42, 255] {
        let spec = bench.spec(&format!("exit{code}"), &Program::Exit(code));
        let created = bench.engine.create(&spec).await?;
        let before = bench.engine.inspect(&created.id).await?;
        ensure!(before.phase == ContainerPhase::Created && before.exit_code.is_none(), "{before:?}");
        ensure!(before.started_at.is_none() && before.name == spec.name && before.labels.contains_key(super::LABEL));
        bench.engine.start(&created.id).await?;
        let end = bench.end(&created.id).await?;
        ensure!(end.code == i32::from(code) && !end.oom_killed, "{end:?}");
        let after = bench.engine.inspect(&created.id).await?;
        ensure!(after.phase == ContainerPhase::Exited && after.exit_code == Some(i32::from(code)), "{after:?}");
        ensure!(after.started_at.is_some() && after.finished_at >= after.started_at, "{after:?}");
        ensure!(after.pid.is_none(), "{after:?}");
        // Waiting for what ended long ago tells the same.
        ensure!(bench.end(&created.id).await?.code == i32::from(code));
    }
    Ok(())
}

pub(super) async fn killed(bench: &Bench) -> anyhow::Result<()> {
    let id = bench.launch_program("kill", &Program::Deaf).await?;
    bench.printed(&id, "ready").await?;
    bench.engine.start(&id).await?;
    ensure!(bench.engine.inspect(&id).await?.phase == ContainerPhase::Running);
    // Deaf: a polite signal does nothing.
    bench.engine.signal(&id, Signal::SIGTERM).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    ensure!(bench.engine.inspect(&id).await?.phase.is_live());
    let (end, killed) = tokio::join!(bench.end(&id), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bench.engine.kill(&id).await
    });
    killed?;
    let end = end?;
    ensure!(end.code == KILLED && !end.oom_killed, "{end:?}");
    Ok(())
}

pub(super) async fn stopped_by_itself(bench: &Bench) -> anyhow::Result<()> {
    let id = bench.launch_program("stop", &Program::Obedient).await?;
    bench.printed(&id, "ready").await?;
    bench.engine.stop(&id, Duration::from_secs(20)).await?;
    let end = bench.end(&id).await?;
    ensure!(end.code == 7, "{end:?}");
    let id = bench.launch_program("term", &Program::Obedient).await?;
    bench.printed(&id, "ready").await?;
    bench.engine.signal(&id, Signal::SIGTERM).await?;
    ensure!(bench.end(&id).await?.code == 7);
    Ok(())
}

pub(super) async fn stopped_by_force(bench: &Bench) -> anyhow::Result<()> {
    let id = bench.launch_program("deaf", &Program::Deaf).await?;
    bench.printed(&id, "ready").await?;
    let began = Instant::now();
    bench.engine.stop(&id, Duration::from_secs(1)).await?;
    ensure!(began.elapsed() >= Duration::from_millis(900), "it was given {:?}", began.elapsed());
    let end = bench.end(&id).await?;
    ensure!(end.code == KILLED, "{end:?}");
    Ok(())
}

pub(super) async fn removed(bench: &Bench) -> anyhow::Result<()> {
    let id = bench.launch_program("remove", &Program::Deaf).await?;
    match bench.engine.remove(&id, false).await {
        Err(EngineError::InUse { .. }) => {}
        other => bail!("removing a running container without force: {other:?}"),
    }
    ensure!(bench.engine.inspect(&id).await?.phase.is_live());
    bench.engine.remove(&id, true).await?;
    bench.engine.remove(&id, true).await?;
    bench.engine.remove(&id, false).await?;
    match bench.engine.inspect(&id).await {
        Err(EngineError::NotFound { .. }) => {}
        other => bail!("inspecting a removed container: {other:?}"),
    }
    let never_started = bench.engine.create(&bench.spec("created", &Program::Deaf)).await?.id;
    bench.engine.remove(&never_started, false).await?;
    // Two at once: both succeed.
    let id = bench.launch_program("twice", &Program::Deaf).await?;
    let (first, second) = tokio::join!(bench.engine.remove(&id, true), bench.engine.remove(&id, true));
    first?;
    second?;
    Ok(())
}

pub(super) async fn ended_ones_are_left_alone(bench: &Bench) -> anyhow::Result<()> {
    let id = bench.launch_program("ended", &Program::Exit(4)).await?;
    bench.end(&id).await?;
    bench.engine.kill(&id).await?;
    bench.engine.stop(&id, Duration::from_secs(1)).await?;
    match bench.engine.signal(&id, Signal::SIGTERM).await {
        Err(EngineError::NotRunning { .. }) => {}
        other => bail!("signalling an ended container: {other:?}"),
    }
    ensure!(bench.engine.inspect(&id).await?.exit_code == Some(4));
    Ok(())
}
