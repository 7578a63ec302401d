//! What can be seen of an engine and its containers.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt;

use super::program::COMMAND;
use super::{Bench, CannotRun, LABEL, Program};
use crate::engine::{
    ContainerPhase, EngineError, EngineEvent, EventKind, EventStream, ExecSpec, Labels, LogsQuery, Mount,
};

const EVENT_DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn tells_who_it_is(bench: &Bench) -> anyhow::Result<()> {
    let info = bench.engine.detect().await?;
    ensure!(info.id.is_empty() == info.quirks.unnamed, "{info:?}");
    ensure!(!info.version.is_empty() && info.api_version.contains('.') && !info.message.is_empty(), "{info:?}");
    ensure!(info.cpus > 0 && info.memory > 0 && info.root_dir.is_absolute(), "{info:?}");
    Ok(())
}

pub(super) async fn mounts_and_environment(bench: &Bench) -> anyhow::Result<()> {
    let mut spec = bench.spec("env", &Program::Environment);
    spec.env = Labels::from([("WORD".to_owned(), "a = b\"c".to_owned())]);
    let (_, text) = bench.output(&spec).await?;
    ensure!(text.lines().any(|line| line == "WORD=a = b\"c"), "{text}");
    // Nothing of this process's environment is passed on.
    ensure!(!text.contains("CARGO"), "{text}");

    for (index, name) in ["with space, and comma", "with space: and colon"].into_iter().enumerate() {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join(name);
        std::fs::create_dir(&data)?;
        std::fs::write(data.join("in"), "contents")?;
        let fixed = folder.path().join("fixed");
        std::fs::create_dir(&fixed)?;
        let mut spec = bench.spec(&format!("mounts{index}"), &Program::Copy);
        spec.cap_add = vec!["DAC_OVERRIDE".to_owned()];
        spec.mounts = vec![Mount::bind(&data, "/data", false), Mount::bind(&fixed, "/fixed", true)];
        let id = bench.launch(&spec).await?;
        let end = bench.end(&id).await?;
        ensure!(end.code == 9, "{name}: {end:?}");
        ensure!(std::fs::read(data.join("out"))? == b"contents");
        ensure!(std::fs::read_dir(&fixed)?.next().is_none());
    }
    Ok(())
}

pub(super) async fn logs_are_bounded(bench: &Bench) -> anyhow::Result<()> {
    let id = bench.launch_program("logs", &Program::Print(2000)).await?;
    bench.end(&id).await?;
    let all = bench.engine.logs(&id, &LogsQuery { max_bytes: 1 << 20, ..LogsQuery::default() }).await?;
    ensure!(all.stdout.starts_with(b"line 0\nline 1\n") && !all.truncated);
    if bench.engine.detect().await?.quirks.streams_joined {
        ensure!(all.stdout.ends_with(b"line 1999\noops\n") && all.stderr.is_empty(), "{:?}", all.stderr);
        let short = bench.engine.logs(&id, &LogsQuery { max_bytes: 10, ..LogsQuery::default() }).await?;
        ensure!(short.stdout == b"1999\noops\n" && short.truncated, "{short:?}");
        return Ok(());
    }
    ensure!(all.stdout.ends_with(b"line 1999\n") && all.stderr == b"oops\n", "{:?}", all.stderr);
    let few = bench.engine.logs(&id, &LogsQuery { tail: Some(2), stderr: false, ..LogsQuery::default() }).await?;
    ensure!(few.stdout.ends_with(b"line 1999\n") && few.stdout.len() < 40 && few.stderr.is_empty(), "{few:?}");
    let short = bench.engine.logs(&id, &LogsQuery { max_bytes: 10, ..LogsQuery::default() }).await?;
    ensure!(short.stdout == b"line 1999\n" && short.truncated, "{short:?}");
    Ok(())
}

pub(super) async fn lists_by_label(bench: &Bench) -> anyhow::Result<()> {
    let mut spec = bench.spec("one", &Program::Deaf);
    spec.labels.insert("which".to_owned(), "one".to_owned());
    let one = bench.launch(&spec).await?;
    let two = bench.engine.create(&bench.spec("two", &Program::Exit(0))).await?.id;
    let three = bench.launch_program("three", &Program::Exit(0)).await?;
    bench.end(&three).await?;
    let mut listed: Vec<_> = bench
        .engine
        .containers(&bench.labels())
        .await?
        .into_iter()
        .map(|container| (container.id, container.phase))
        .collect();
    let mut expected =
        vec![(one.clone(), ContainerPhase::Running), (two, ContainerPhase::Created), (three, ContainerPhase::Exited)];
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    ensure!(listed == expected, "{listed:?} is not {expected:?}");
    let narrowed = bench.engine.containers(&spec.labels).await?;
    ensure!(narrowed.len() == 1 && narrowed[0].id == one && narrowed[0].name == spec.name, "{narrowed:?}");
    ensure!(narrowed[0].labels.get("which").map(String::as_str) == Some("one"));
    let mut other = spec.labels.clone();
    other.insert("which".to_owned(), "none".to_owned());
    ensure!(bench.engine.containers(&other).await?.is_empty());
    Ok(())
}

async fn next(events: &mut EventStream) -> anyhow::Result<EngineEvent> {
    let event = tokio::time::timeout(EVENT_DEADLINE, events.next()).await.context("no event came")?;
    Ok(event.context("the stream ended")??)
}

pub(super) async fn events_in_order(bench: &Bench) -> anyhow::Result<()> {
    let mut events = bench.engine.events(&bench.labels()).await?;
    // Somebody else's container makes no event here.
    let mut other = bench.spec("other", &Program::Exit(0));
    other.labels.insert(LABEL.to_owned(), format!("{}x", bench.run));
    let other = bench.launch(&other).await?;
    bench.end(&other).await?;
    bench.engine.remove(&other, true).await?;
    let id = bench.launch_program("watched", &Program::Exit(5)).await?;
    bench.end(&id).await?;
    for expected in [EventKind::Start, EventKind::Die { exit_code: 5 }, EventKind::Destroy] {
        if expected == EventKind::Destroy {
            // Only now: the end of what is gone already may go untold.
            bench.engine.remove(&id, false).await?;
        }
        let event = next(&mut events).await?;
        ensure!(event.container == id && event.kind == expected, "{event:?} is not {expected:?}");
        ensure!(event.labels.get(LABEL) == Some(&bench.run), "{event:?}");
    }
    Ok(())
}

/// An out-of-memory kill is told before or after the end that it causes.
pub(super) async fn events_tell_of_memory(bench: &Bench) -> anyhow::Result<()> {
    let info = bench.engine.detect().await?;
    ensure!(info.limits.memory, CannotRun("the engine cannot limit memory here"));
    ensure!(!info.quirks.oom_untold, CannotRun("the engine does not tell of out-of-memory kills"));
    let mut events = bench.engine.events(&bench.labels()).await?;
    let mut spec = bench.spec("oom", &Program::EatMemory);
    spec.limits.memory = Some(32 << 20);
    let id = bench.launch(&spec).await?;
    let mut seen = Vec::new();
    while !(seen.contains(&EventKind::Oom) && seen.contains(&EventKind::Die { exit_code: 137 })) {
        let event = next(&mut events).await.with_context(|| format!("after {seen:?}"))?;
        ensure!(event.container == id, "{event:?}");
        seen.push(event.kind);
    }
    Ok(())
}

pub(super) async fn commands_inside(bench: &Bench) -> anyhow::Result<()> {
    let id = bench.launch_program("exec", &Program::Deaf).await?;
    let mut command = ExecSpec::new(["sh", "-c", COMMAND]);
    let answer = bench.engine.exec(&id, &command).await?;
    ensure!(answer.code == 3 && answer.output.stdout == b"out\n0\n" && answer.output.stderr == b"err\n", "{answer:?}");
    command.user = Some("1234".to_owned());
    let answer = bench.engine.exec(&id, &command).await?;
    ensure!(answer.output.stdout == b"out\n1234\n", "{answer:?}");
    let missing = bench.engine.exec(&id, &ExecSpec::new(["aigo-no-such-program"])).await?;
    // Runtimes differ here as shells do.
    ensure!(matches!(missing.code, 126 | 127), "{missing:?}");
    bench.engine.kill(&id).await?;
    bench.end(&id).await?;
    match bench.engine.exec(&id, &command).await {
        Err(EngineError::NotRunning { .. }) => Ok(()),
        other => bail!("running a command in an ended container: {other:?}"),
    }
}
