//! What cannot be done is said in variants that callers act on.

use std::time::Duration;

use anyhow::{bail, ensure};

use super::{Bench, Program};
use crate::engine::{ContainerId, EngineError, ExecSpec, LogsQuery, Mount, NetworkAttachment, Object, Signal};

pub(super) async fn unknown_containers(bench: &Bench) -> anyhow::Result<()> {
    for name in [bench.name("nobody"), "../version".to_owned(), "a b".to_owned()] {
        let id = ContainerId(name);
        let engine = &bench.engine;
        let refused = [
            engine.start(&id).await.err(),
            engine.inspect(&id).await.err(),
            engine.wait(&id).await.err(),
            engine.signal(&id, Signal::SIGTERM).await.err(),
            engine.logs(&id, &LogsQuery::default()).await.err(),
            engine.exec(&id, &ExecSpec::new(["true"])).await.err(),
        ];
        for error in refused {
            ensure!(matches!(error, Some(EngineError::NotFound { what: Object::Container, .. })), "{error:?}");
        }
        engine.kill(&id).await?;
        engine.stop(&id, Duration::from_secs(1)).await?;
        engine.remove(&id, true).await?;
    }
    Ok(())
}

pub(super) async fn taken_name(bench: &Bench) -> anyhow::Result<()> {
    let spec = bench.spec("twin", &Program::Exit(0));
    bench.engine.create(&spec).await?;
    match bench.engine.create(&spec).await {
        Err(EngineError::Conflict { what: Object::Container, name }) if name == spec.name => Ok(()),
        other => bail!("creating a container of the same name: {other:?}"),
    }
}

pub(super) async fn missing_image(bench: &Bench) -> anyhow::Result<()> {
    let mut spec = bench.spec("imageless", &Program::Exit(0));
    spec.image = "aigo-conformance-no-such-image:none".to_owned();
    match bench.engine.create(&spec).await {
        Err(EngineError::ImageMissing { tag }) if tag == spec.image => Ok(()),
        other => bail!("creating a container of a missing image: {other:?}"),
    }
}

pub(super) async fn missing_mount(bench: &Bench) -> anyhow::Result<()> {
    let mut spec = bench.spec("mountless", &Program::Exit(0));
    spec.mounts = vec![Mount::bind("/nonexistent/aigo conformance", "/data", false)];
    let answer = match bench.engine.create(&spec).await {
        Ok(created) => bench.engine.start(&created.id).await,
        Err(error) => Err(error),
    };
    match answer {
        Err(EngineError::MountMissing { path }) if path.starts_with("/nonexistent/aigo conformance") => Ok(()),
        other => bail!("mounting a missing folder: {other:?}"),
    }
}

pub(super) async fn missing_network(bench: &Bench) -> anyhow::Result<()> {
    let mut spec = bench.spec("networkless", &Program::Exit(0));
    let network = bench.name("no-network");
    spec.network = NetworkAttachment::Network { network: network.clone(), address: None };
    let answer = match bench.engine.create(&spec).await {
        Ok(created) => bench.engine.start(&created.id).await,
        Err(error) => Err(error),
    };
    match answer {
        Err(EngineError::NotFound { what: Object::Network, name }) if name == network => Ok(()),
        other => bail!("attaching to a missing network: {other:?}"),
    }
}
