//! The same question where the gateway is there only while a container runs: one that sleeps holds the network up, and the
//! runner's probe is run inside it.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{FIREWALL, GATEWAY, cannot_listen, container, judge, serve};
use crate::doctor::check::Check;
use crate::doctor::clock::Reading;
use crate::doctor::engine::remedy;
use crate::engine::{ContainerId, EngineError, ExecSpec, Network, SharedEngine};
use crate::plan::GATEWAY_NAME;

/// Longer than the question may take.
const SLEEP: [&str; 2] = ["sleep", "120"];
const PROBE: [&str; 2] = ["/usr/local/bin/aigo-runner", "probe"];

pub(super) async fn ask(engine: &SharedEngine, image: &str, name: &str, network: &Network) -> (Check, Option<Reading>) {
    // The engine's own deadlines bound it: the first container of an image may take its time.
    match hold(engine, image, name, network).await {
        Ok((id, clock)) => (ask_from(engine, &id, network).await, clock),
        Err(error) => (Check::failed(GATEWAY, error.to_string(), remedy(&error)), None),
    }
}

/// Starts the container that holds the network up. Its caller removes it by name.
async fn hold(
    engine: &SharedEngine,
    image: &str,
    name: &str,
    network: &Network,
) -> Result<(ContainerId, Option<Reading>), EngineError> {
    let mut spec = container(image, name, network, "");
    spec.entrypoint = Some(Vec::new());
    spec.command = Some(SLEEP.map(str::to_owned).into());
    let id = engine.create(&spec).await?.id;
    let before = Timestamp::now();
    engine.start(&id).await?;
    let after = Timestamp::now();
    let theirs = engine.inspect(&id).await?.started_at;
    Ok((id, theirs.map(|theirs| Reading { before, theirs, after })))
}

async fn ask_from(engine: &SharedEngine, id: &ContainerId, network: &Network) -> Check {
    let listener = match engine.listen(network, 0).await {
        Ok(listener) => listener,
        Err(error) => return cannot_listen(network, &error),
    };
    let port = match listener.local_addr() {
        Ok(local) => local.port(),
        Err(error) => return Check::failed(GATEWAY, error.to_string(), FIREWALL),
    };
    let token = uuid::Uuid::new_v4().simple().to_string();
    let (seen, mut callers) = mpsc::channel(8);
    let server = tokio::spawn(serve(listener, Arc::from(format!("/{token}")), seen));
    let url = format!("http://{GATEWAY_NAME}:{port}/{token}");
    let answer = engine.exec(id, &ExecSpec::new(PROBE.into_iter().chain([url.as_str()]))).await;
    server.abort();
    match answer {
        Ok(answer) => {
            let words = [answer.output.stdout, answer.output.stderr].concat();
            judge(network, answer.code, String::from_utf8_lossy(&words).trim(), callers.try_recv().ok())
        }
        Err(error) => Check::failed(GATEWAY, error.to_string(), remedy(&error)),
    }
}
