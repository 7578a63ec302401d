//! Can a container reach this host? The whole design rests on it: model requests go from the container to the proxy on
//! its network's gateway. A network and a container are made as a session's are, and removed in every case.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::check::Check;
use super::clock::Reading;
use super::engine::remedy;
use crate::engine::{
    ContainerId, ContainerSpec, EngineError, Ipv4Net, Labels, Limits, LogsQuery, Network, NetworkAttachment,
    NetworkSpec, SharedEngine,
};
use crate::plan::GATEWAY_NAME;
use crate::session::lock;

mod late;

const NETWORK: &str = "network";
const GATEWAY: &str = "gateway";
/// Label of what doctor makes; its value is the name of doctor's data directory ([`Identity`](crate::dirs::Identity)).
pub const LABEL_DOCTOR: &str = "aigo.doctor";
/// The value where there is no data directory.
const NOBODY: &str = "nobody";

/// The runner's own attempt has 2 s; the rest is for a slow start.
const PROBE_DEADLINE: Duration = Duration::from_secs(20);
/// A request of the probe fits in one packet; a stranger gets no longer than this.
const REQUEST_DEADLINE: Duration = Duration::from_secs(2);
const MAX_REQUEST: usize = 4096;
/// Bytes of the probe's words that are kept.
const MAX_WORDS: usize = 2048;
/// A network is in use for a moment after its container is gone.
const REMOVE_TRIES: u32 = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(100);

/// The data directory that doctor works for.
#[derive(Clone, Copy, Debug)]
pub(super) struct House<'a> {
    /// Where its locks are.
    pub(super) locks: &'a Path,
    /// Marks what is of it on the engine.
    pub(super) name: &'a str,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) checks: Vec<Check>,
    /// The engine's clock, by the container's start.
    pub(super) engine_clock: Option<Reading>,
}

impl Found {
    pub(super) fn skipped(reason: &str) -> Self {
        let checks = [NETWORK, GATEWAY].map(|name| Check::skipped(name, reason)).into();
        Self { checks, engine_clock: None }
    }
}

/// Makes a network and, with an image, a container on it that asks a listener on the gateway.
pub(super) async fn probe(
    engine: &SharedEngine,
    image: Option<&str>,
    house: Option<House<'_>>,
    cancel: &CancellationToken,
) -> Found {
    probe_on(engine, image, house, cancel, None).await
}

async fn probe_on(
    engine: &SharedEngine,
    image: Option<&str>,
    house: Option<House<'_>>,
    cancel: &CancellationToken,
    subnet: Option<Ipv4Net>,
) -> Found {
    if cancel.is_cancelled() {
        return Found::skipped("cancelled");
    }
    // Whoever holds the lock is the only doctor of this data directory, so that what carries its name is a dead one's.
    let _lock = house.and_then(|House { locks, .. }| {
        std::fs::create_dir_all(locks).ok()?;
        lock::take(&locks.join("doctor.lock")).ok()?
    });
    let labels = labels(house.map_or(NOBODY, |House { name, .. }| name));
    if _lock.is_some() {
        // Best effort: the checks below say it if the engine does not work.
        let _ = sweep(engine, &labels).await;
    }
    let name = format!("aigo-doctor-{}", uuid::Uuid::new_v4().simple());
    let mut found = tokio::select! {
        found = try_out(engine, image, &name, labels, subnet) => found,
        () = cancel.cancelled() => Found::skipped("cancelled"),
    };
    if let Err(error) = remove(engine, &name).await {
        found.checks.push(Check::warning(
            NETWORK,
            format!("what was made for this check could not be removed: {error}"),
            format!("docker rm -f {name}; docker network rm {name}"),
        ));
    }
    found
}

fn labels(owner: &str) -> Labels {
    Labels::from([(LABEL_DOCTOR.to_owned(), owner.to_owned())])
}

async fn sweep(engine: &SharedEngine, labels: &Labels) -> Result<(), EngineError> {
    for container in engine.containers(labels).await? {
        engine.remove(&container.id, true).await?;
    }
    for network in engine.networks(labels).await? {
        engine.remove_network(&network.name).await?;
    }
    Ok(())
}

async fn remove(engine: &SharedEngine, name: &str) -> Result<(), EngineError> {
    engine.remove(&ContainerId(name.to_owned()), true).await?;
    let mut tries = 0;
    loop {
        match engine.remove_network(name).await {
            Err(EngineError::InUse { .. }) if tries < REMOVE_TRIES => tries += 1,
            other => return other,
        }
        tokio::time::sleep(REMOVE_PAUSE).await;
    }
}

async fn try_out(
    engine: &SharedEngine,
    image: Option<&str>,
    name: &str,
    labels: Labels,
    subnet: Option<Ipv4Net>,
) -> Found {
    let spec = NetworkSpec { name: name.to_owned(), labels, internal: false, subnet };
    let network = match engine.create_network(&spec).await {
        Ok(network) => network,
        Err(error) => {
            let failed = Check::failed(NETWORK, error.to_string(), remedy(&error));
            let skipped = Check::skipped(GATEWAY, "no network could be made");
            return Found { checks: vec![failed, skipped], engine_clock: None };
        }
    };
    let made = Check::ok(NETWORK, format!("can be made ({}, gateway {})", network.subnet, network.gateway));
    let (gateway, engine_clock) = match image {
        Some(image) => ask(engine, image, name, &network).await,
        None => (Check::skipped(GATEWAY, "there is no image to start a container from"), None),
    };
    Found { checks: vec![made, gateway], engine_clock }
}

async fn ask(engine: &SharedEngine, image: &str, name: &str, network: &Network) -> (Check, Option<Reading>) {
    // Where the gateway comes with the first container, that one has to run already.
    if engine.listens_late() {
        return late::ask(engine, image, name, network).await;
    }
    let listener = match engine.listen(network, 0).await {
        Ok(listener) => listener,
        Err(error) => return (cannot_listen(network, &error), None),
    };
    let port = match listener.local_addr() {
        Ok(local) => local.port(),
        Err(error) => return (Check::failed(GATEWAY, error.to_string(), FIREWALL), None),
    };
    // Only who knows it gets the answer, so that a stranger's request proves nothing.
    let token = uuid::Uuid::new_v4().simple().to_string();
    let (seen, mut callers) = mpsc::channel(8);
    let server = tokio::spawn(serve(listener, Arc::from(format!("/{token}")), seen));
    let url = format!("http://{GATEWAY_NAME}:{port}/{token}");
    let answer = timeout(PROBE_DEADLINE, run(engine, container(image, name, network, &url))).await;
    server.abort();
    match answer {
        Ok(Ok((code, words, clock))) => (judge(network, code, &words, callers.try_recv().ok()), clock),
        Ok(Err(error)) => (Check::failed(GATEWAY, error.to_string(), remedy(&error)), None),
        Err(_) => {
            let detail = format!("the container that asks did not end within {} s", PROBE_DEADLINE.as_secs());
            (Check::failed(GATEWAY, detail, "look into the engine's log"), None)
        }
    }
}

fn cannot_listen(network: &Network, error: &std::io::Error) -> Check {
    let detail = format!("cannot listen on the network's gateway {}: {error}", network.gateway);
    let remedy = "agents that need a model need this; if the engine hides its networks from this host (in a VM, or as \
                  somebody else's rootless engine), use a rootful engine on this machine";
    Check::failed(GATEWAY, detail, remedy)
}

const FIREWALL: &str = "let the engine's networks reach this host in its firewall; for ufw: sudo ufw allow in on br-+ ; for \
                        firewalld: add the bridges to the docker or trusted zone";

fn container(image: &str, name: &str, network: &Network, url: &str) -> ContainerSpec {
    let mut spec = ContainerSpec::new(name, image);
    spec.entrypoint = Some(vec!["/usr/local/bin/aigo-runner".to_owned()]);
    spec.command = Some(vec!["probe".to_owned(), url.to_owned()]);
    spec.labels = network.labels.clone();
    spec.network = NetworkAttachment::Network { network: network.name.clone(), address: None };
    spec.extra_hosts = BTreeMap::from([(GATEWAY_NAME.to_owned(), IpAddr::V4(network.gateway))]);
    spec.limits = Limits { memory: Some(64 << 20), pids: Some(32), ..Limits::default() };
    spec
}

/// The container's exit code, its words, and the engine's clock.
async fn run(engine: &SharedEngine, spec: ContainerSpec) -> Result<(i32, String, Option<Reading>), EngineError> {
    let id = engine.create(&spec).await?.id;
    let before = Timestamp::now();
    engine.start(&id).await?;
    let after = Timestamp::now();
    let exit = engine.wait(&id).await?;
    let theirs = engine.inspect(&id).await?.started_at;
    let output = engine.logs(&id, &LogsQuery { max_bytes: MAX_WORDS, ..LogsQuery::default() }).await?;
    let words = [output.stdout, output.stderr].concat();
    let clock = theirs.map(|theirs| Reading { before, theirs, after });
    Ok((exit.code, String::from_utf8_lossy(&words).trim().to_owned(), clock))
}

fn judge(network: &Network, code: i32, words: &str, caller: Option<IpAddr>) -> Check {
    let inside = |ip: Ipv4Addr| network.subnet.contains(ip) && ip != network.gateway;
    match caller {
        Some(IpAddr::V4(ip)) if code == 0 && inside(ip) => {
            Check::ok(GATEWAY, format!("a container ({ip}) reaches this host at {}", network.gateway))
        }
        Some(ip) if code == 0 => Check::failed(
            GATEWAY,
            format!("a container reaches this host, but from {ip}, which is not its own address on {}", network.subnet),
            "the proxy knows sessions by their address: switch masquerading of local traffic off in the engine or firewall",
        ),
        Some(_) | None => {
            let words = if words.is_empty() { "it said nothing".to_owned() } else { words.to_owned() };
            Check::failed(
                GATEWAY,
                format!("a container cannot reach this host at {}: exit code {code}: {words}", network.gateway),
                FIREWALL,
            )
        }
    }
}

/// Answers 200 to whoever asks for `path`, and tells who that was.
async fn serve(listener: TcpListener, path: Arc<str>, seen: mpsc::Sender<IpAddr>) {
    while let Ok((stream, peer)) = listener.accept().await {
        // One after the other: only one caller is expected, and each has a deadline.
        let answered = timeout(REQUEST_DEADLINE, answer(stream, &path)).await;
        if matches!(answered, Ok(Ok(true))) && seen.send(peer.ip()).await.is_err() {
            return;
        }
    }
}

async fn answer(mut stream: TcpStream, path: &str) -> std::io::Result<bool> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MAX_REQUEST {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let good = head.starts_with(format!("GET {path} ").as_bytes());
    let status = if good { "200 OK" } else { "404 Not Found" };
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    stream.shutdown().await?;
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use crate::engine::fake::{Call, FakeEngine, Fault};
    use crate::engine::{Engine as _, NetworkId};

    fn network() -> Network {
        Network {
            id: NetworkId("n".into()),
            name: "n".into(),
            labels: Labels::new(),
            internal: false,
            subnet: "10.9.0.0/24".parse().unwrap(),
            gateway: [10, 9, 0, 1].into(),
        }
    }

    #[test]
    fn only_an_answer_to_the_containers_own_address_is_good() {
        let verdict = |code, caller: Option<[u8; 4]>| judge(&network(), code, "words", caller.map(IpAddr::from)).status;
        assert_eq!(verdict(0, Some([10, 9, 0, 2])), Verdict::Ok);
        assert_eq!(verdict(0, Some([10, 9, 0, 1])), Verdict::Failed);
        assert_eq!(verdict(0, Some([172, 17, 0, 1])), Verdict::Failed);
        assert_eq!(verdict(0, None), Verdict::Failed);
        assert_eq!(verdict(1, Some([10, 9, 0, 2])), Verdict::Failed);
        assert!(judge(&network(), 1, "connection refused", None).detail.contains("connection refused"));
    }

    #[tokio::test]
    async fn the_listener_tells_callers_from_strangers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, mut callers) = mpsc::channel(8);
        let server = tokio::spawn(serve(listener, "/secret".into(), seen));
        for (request, status) in
            [("GET /other HTTP/1.1\r\n\r\n", "404"), ("GET /secret HTTP/1.1\r\nHost: x\r\n\r\n", "200")]
        {
            assert!(callers.try_recv().is_err());
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains(status), "{answer}");
        }
        assert_eq!(callers.recv().await, Some(address.ip()));
        server.abort();
    }

    /// A container that asks from its own address, like the runner's probe. The subnet is one of loopback, so that its
    /// gateway can be listened on.
    fn asking() -> FakeEngine {
        FakeEngine::with("i:1", |run| async move {
            let url = run.argv()[2].clone();
            let rest = url.strip_prefix("http://host-gateway:").unwrap();
            let (port, path) = rest.split_once('/').unwrap();
            let gateway = run.spec.extra_hosts["host-gateway"];
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 9, 9, 2], 0).into()).unwrap();
            let mut stream = socket.connect((gateway, port.parse().unwrap()).into()).await.unwrap();
            stream.write_all(format!("GET /{path} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            i32::from(!answer.contains("200"))
        })
    }

    async fn probe_fake(fake: &FakeEngine, cancel: &CancellationToken) -> Found {
        let engine: SharedEngine = Arc::new(fake.clone());
        probe_on(&engine, Some("i:1"), None, cancel, Some("127.9.9.0/24".parse().unwrap())).await
    }

    #[tokio::test]
    async fn a_container_that_asks_is_seen_and_nothing_is_left() {
        let fake = asking();
        let found = probe_fake(&fake, &CancellationToken::new()).await;
        let verdicts: Vec<Verdict> = found.checks.iter().map(|check| check.status).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Ok], "{:?}", found.checks);
        assert!(found.checks[1].detail.contains("127.9.9.2") && found.engine_clock.is_some());
        assert_eq!(fake.leftovers(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn whatever_call_fails_nothing_is_left() {
        for call in [Call::CreateNetwork, Call::Create, Call::Start, Call::Wait, Call::Inspect, Call::Logs] {
            for fault in [Fault::Fail(EngineError::Refused { what: "do it", message: "no".into() }), Fault::LoseAnswer]
            {
                let fake = asking();
                fake.fault(call, 1, fault);
                let found = probe_fake(&fake, &CancellationToken::new()).await;
                let failed = found.checks.iter().find(|check| check.status == Verdict::Failed);
                assert!(failed.is_some_and(|check| check.remedy.is_some()), "{call:?}: {:?}", found.checks);
                assert_eq!(fake.leftovers(), Vec::<String>::new(), "{call:?}");
            }
        }
    }

    #[tokio::test]
    async fn cancelling_leaves_nothing() {
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let fake = FakeEngine::with("i:1", move |_run| {
            stop.cancel();
            std::future::pending()
        });
        let found = probe_fake(&fake, &cancel).await;
        assert!(found.checks.iter().all(|check| check.status == Verdict::Skipped), "{:?}", found.checks);
        assert_eq!(fake.leftovers(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_dead_doctors_things_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let fake = asking();
        let spec = NetworkSpec { name: "old".into(), labels: labels("ours"), internal: false, subnet: None };
        fake.create_network(&spec).await.unwrap();
        let other = NetworkSpec { name: "other".into(), labels: labels("theirs"), ..spec };
        fake.create_network(&other).await.unwrap();
        let engine: SharedEngine = Arc::new(fake.clone());
        let house = House { locks: folder.path(), name: "ours" };
        probe(&engine, None, Some(house), &CancellationToken::new()).await;
        assert_eq!(fake.leftovers().len(), 1, "a doctor of another data directory may be at work");
        fake.remove_network("other").await.unwrap();
        assert_eq!(fake.leftovers(), Vec::<String>::new());
    }
}
