//! The contract between aigo and Apple's `container` command: which words it is given, and what its answers are taken for.
//!
//! The recordings are made by hand, from the command reference and the printed models of Apple Container 0.2 to 1.x; no run
//! on macOS was made. `stand_in` plays them: words that are not recorded fail the test. `suite` holds the adapter to the
//! behaviours of every engine, on a stand-in with a state.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a panic is how a test fails; the lint knows only of functions marked as tests"
)]

mod stand_in;
mod suite;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use supervisor::engine::apple::AppleEngine;
use supervisor::engine::{
    Backend, BuildOptions, BuildProgress, CgroupDriver, ContainerId, ContainerPhase, ContainerSpec, Engine,
    EngineError, EventKind, ExecSpec, Labels, Limits, LimitsUpdate, LogsQuery, Mount, NetworkAttachment, NetworkSpec,
    Object, Signal,
};

use stand_in::StandIn;

fn c1() -> ContainerId {
    ContainerId("c1".into())
}

fn labels() -> Labels {
    Labels::from([("aigo.session".to_owned(), "s1".to_owned())])
}

fn network() -> NetworkSpec {
    NetworkSpec { name: "n1".into(), ..NetworkSpec::default() }
}

async fn refusal(stand_in: &StandIn) -> String {
    let error = AppleEngine::connect(stand_in.program()).await.unwrap_err();
    error.to_string()
}

#[tokio::test]
async fn a_command_that_is_absent_stopped_old_or_another_is_told_with_the_remedy() {
    let absent = AppleEngine::connect("/nonexistent/container".into()).await.unwrap_err();
    assert!(absent.engine_away());
    let text = absent.to_string();
    assert!(text.contains("/nonexistent/container") && text.contains("install Apple Container"), "{text}");

    for (file, expected) in [
        ("status-stopped", ["its service is not running", "container system start"]),
        ("too-old", ["Apple Container 0.1.0 is too old", "0.2"]),
        ("stranger", ["no version in", "Apple's container command"]),
    ] {
        let stand_in = StandIn::play(&[file]);
        let text = refusal(&stand_in).await;
        assert!(expected.iter().all(|part| text.contains(part)), "{file}: {text}");
        stand_in.was_asked_in_order();
    }
}

#[tokio::test]
async fn what_it_can_do_is_told_by_its_version_and_system() {
    let stand_in = StandIn::play(&["connect-1", "detect-1"]);
    let engine = stand_in.connect().await;
    assert!(engine.check_networks().is_ok() && engine.listens_late());
    let info = engine.detect().await.unwrap();
    assert_eq!((info.backend, info.version.as_str()), (Backend::AppleContainer, "1.1.0"));
    assert_eq!(serde_json::to_value(info.backend).unwrap(), "apple_container");
    assert_eq!(info.cgroup_driver, CgroupDriver::Machine);
    assert!(info.limits.memory && info.limits.cpu && !info.limits.pids && !info.limits.swap, "{:?}", info.limits);
    assert!(info.rootless && info.quirks.oom_untold && info.quirks.unnamed && info.warnings.is_empty(), "{info:?}");
    assert!(info.root_dir.ends_with("com.apple.container") && info.cpus > 0 && info.memory > 0);
    stand_in.was_asked_in_order();

    let stand_in = StandIn::play(&["connect-0.2", "detect-0.2"]);
    let engine = stand_in.connect().await;
    let info = engine.detect().await.unwrap();
    assert_eq!(info.warnings.len(), 2, "{:?}", info.warnings);
    let text = engine.check_networks().unwrap_err().to_string();
    assert!(text.contains("Apple Container cannot make networks") && text.contains("macOS 26"), "{text}");
    // Without a run of the command.
    assert!(matches!(engine.create_network(&network()).await, Err(EngineError::Unsupported { .. })));
    assert_eq!(engine.networks(&labels()).await.unwrap(), []);
    engine.remove_network("n1").await.unwrap();
    let update = engine.update(&c1(), &LimitsUpdate::default()).await.unwrap_err().to_string();
    assert!(update.contains("cannot change the limits of a container"), "{update}");
    stand_in.was_asked_in_order();
}

#[tokio::test]
async fn a_session_is_created_started_waited_for_and_removed() {
    let stand_in = StandIn::play(&["connect-1", "life"]);
    let engine = stand_in.connect().await;
    let mut spec = ContainerSpec::new("c1", "agent");
    spec.labels = labels();
    spec.env = BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]);
    spec.mounts = vec![Mount::bind("/tmp", "/workspace", false)];
    spec.network = NetworkAttachment::Network { network: "n1".into(), address: None };
    spec.extra_hosts = BTreeMap::from([("host-gateway".to_owned(), [127, 9, 8, 1].into())]);
    spec.limits = Limits { nano_cpus: Some(2_000_000_000), memory: Some(2 << 30), ..Limits::default() };
    spec.cap_add = vec!["CHOWN".into()];
    spec.user = Some("0:0".into());
    spec.working_dir = Some("/workspace".into());
    let created = engine.create(&spec).await.unwrap();
    assert_eq!((created.id, created.warnings), (c1(), vec![]));

    let listed = engine.containers(&labels()).await.unwrap();
    assert_eq!((listed.len(), listed[0].phase, listed[0].image.as_str()), (1, ContainerPhase::Created, "agent:latest"));
    assert!(listed[0].created_at.is_some());
    engine.start(&c1()).await.unwrap();
    let running = engine.inspect(&c1()).await.unwrap();
    assert_eq!((running.phase, running.exit_code, running.pid), (ContainerPhase::Running, None, None));
    assert_eq!(running.addresses["n1"].to_string(), "192.168.65.2");
    assert_eq!((running.limits, running.image.as_str()), (spec.limits, "sha256:1111"));
    let end = engine.wait(&c1()).await.unwrap();
    assert_eq!((end.code, end.oom_killed), (42, false));
    // The list still shows its machine: the run that attended it knows better.
    let ended = engine.inspect(&c1()).await.unwrap();
    assert_eq!((ended.phase, ended.exit_code), (ContainerPhase::Exited, Some(42)));
    assert!(ended.finished_at.is_some() && ended.started_at.is_some() && ended.addresses.is_empty());
    engine.remove(&c1(), false).await.unwrap();
    stand_in.was_asked();
}

#[tokio::test]
async fn a_start_that_fails_is_told() {
    let stand_in = StandIn::play(&["connect-1", "start-fails"]);
    let error = stand_in.connect().await.start(&c1()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("ended with 1 before the container ran") && text.contains("logs --boot c1"), "{text}");
}

#[tokio::test]
async fn an_exit_code_that_nobody_heard_is_not_made_up() {
    let stand_in = StandIn::play(&["connect-1", "after-restart"]);
    let engine = stand_in.connect().await;
    let error = engine.wait(&c1()).await.unwrap_err();
    assert!(
        error.to_string().contains("only to the run that started the container") && !error.engine_away(),
        "{error}"
    );
    let info = engine.inspect(&c1()).await.unwrap();
    assert_eq!((info.phase, info.exit_code), (ContainerPhase::Exited, None));
    stand_in.was_asked_in_order();
}

#[tokio::test]
async fn signals_stops_and_removals() {
    let stand_in = StandIn::play(&["connect-1", "signals"]);
    let engine = stand_in.connect().await;
    engine.signal(&c1(), Signal::SIGTERM).await.unwrap();
    engine.kill(&c1()).await.unwrap();
    engine.stop(&c1(), Duration::from_millis(2500)).await.unwrap();
    engine.stop(&c1(), Duration::from_secs(1)).await.unwrap();
    assert!(matches!(engine.signal(&c1(), Signal::SIGTERM).await, Err(EngineError::NotRunning { .. })));
    engine.remove(&c1(), true).await.unwrap();
    stand_in.was_asked_in_order();
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_and_never_a_part_of_another() {
    let stand_in = StandIn::play(&["connect-1", "missing"]);
    let engine = stand_in.connect().await;
    let is_missing =
        |error: Option<EngineError>| matches!(error, Some(EngineError::NotFound { what: Object::Container, .. }));
    assert!(is_missing(engine.start(&c1()).await.err()));
    assert!(is_missing(engine.inspect(&c1()).await.err()));
    assert!(is_missing(engine.wait(&c1()).await.err()));
    assert!(is_missing(engine.signal(&c1(), Signal::SIGTERM).await.err()));
    assert!(is_missing(engine.logs(&c1(), &LogsQuery::default()).await.err()));
    assert!(is_missing(engine.exec(&c1(), &ExecSpec::new(["true"])).await.err()));
    engine.kill(&c1()).await.unwrap();
    engine.stop(&c1(), Duration::from_secs(1)).await.unwrap();
    // `c10` is there, and the command would take a beginning for the whole.
    engine.remove(&c1(), true).await.unwrap();
    // No run of the command: they are no names.
    for name in ["--all", "../c1", "a b", ""] {
        assert!(is_missing(engine.start(&ContainerId(name.into())).await.err()), "{name:?}");
        engine.remove(&ContainerId(name.into()), true).await.unwrap();
        assert_eq!(engine.image(name).await.unwrap(), None);
        engine.remove_network(name).await.unwrap();
    }
    assert_eq!(engine.image("nope:latest").await.unwrap(), None);
    engine.remove_image("nope:latest").await.unwrap();
    let missing = engine.create(&ContainerSpec::new("c1", "nope:latest")).await;
    assert_eq!(missing, Err(EngineError::ImageMissing { tag: "nope:latest".into() }));
    engine.remove_network("n1").await.unwrap();
    stand_in.was_asked_in_order();
}

#[tokio::test]
async fn names_and_subnets_that_are_taken() {
    let stand_in = StandIn::play(&["connect-1", "taken"]);
    let engine = stand_in.connect().await;
    for _ in ["at a look", "in between"] {
        let taken = engine.create(&ContainerSpec::new("c1", "agent")).await;
        assert_eq!(taken, Err(EngineError::Conflict { what: Object::Container, name: "c1".into() }));
    }
    for _ in ["at a look", "in between"] {
        let taken = engine.create_network(&network()).await;
        assert_eq!(taken, Err(EngineError::Conflict { what: Object::Network, name: "n1".into() }));
    }
    let chosen = NetworkSpec { subnet: "192.168.64.0/24".parse().ok(), ..network() };
    assert!(matches!(engine.create_network(&chosen).await, Err(EngineError::SubnetTaken { .. })));
    stand_in.was_asked_in_order();
}

#[tokio::test]
async fn a_network_is_made_listened_on_listed_and_removed() {
    let stand_in = StandIn::play(&["connect-1", "networks"]);
    let engine = stand_in.connect().await;
    let network = engine.create_network(&NetworkSpec { labels: labels(), ..network() }).await.unwrap();
    assert_eq!((network.gateway.to_string(), network.subnet.to_string()), ("127.9.8.1".into(), "127.9.8.0/24".into()));
    // Its gateway is one of loopback here, so that it is there.
    let listener = engine.listen(&network, 0).await.unwrap();
    assert_eq!(listener.local_addr().unwrap().ip().to_string(), "127.9.8.1");
    assert_eq!(engine.networks(&labels()).await.unwrap(), [network]);
    assert!(matches!(engine.remove_network("n1").await, Err(EngineError::InUse { what: Object::Network, .. })));
    engine.remove_network("n1").await.unwrap();
    engine.remove_network("n1").await.unwrap();
    stand_in.was_asked_in_order();
}

#[tokio::test]
async fn answers_that_make_no_sense_never_end_or_do_not_come() {
    let stand_in = StandIn::play(&["connect-1", "trouble"]);
    let engine = stand_in.connect().await;
    let none = Labels::new();
    let error = engine.containers(&none).await.unwrap_err();
    assert!(matches!(error, EngineError::Malformed { .. }) && error.to_string().contains("no JSON"), "{error}");
    let began = Instant::now();
    let error = engine.containers(&none).await.unwrap_err();
    assert!(matches!(error, EngineError::Malformed { .. }) && error.to_string().contains("more than"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "its deadline was not what ended it");
    let error = engine.containers(&none).await.unwrap_err();
    assert!(error.engine_away() && error.to_string().contains("container system start"), "{error}");

    let short = ExecSpec { deadline: Duration::from_secs(1), ..ExecSpec::new(["true"]) };
    let error = engine.exec(&c1(), &short).await.unwrap_err();
    assert!(matches!(error, EngineError::Timeout { .. }) && error.engine_away(), "{error}");
    let pid = stand_in.file("pid").expect("the run that hung has left its number");
    let gone = async {
        while stand_in::lives(&pid) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("the run that hung is ended");

    let error = engine.signal(&c1(), Signal::SIGTERM).await.unwrap_err();
    assert!(matches!(error, EngineError::NoSpace { .. }), "{error}");
    stand_in.was_asked_in_order();
}

#[tokio::test]
async fn logs_and_commands() {
    let stand_in = StandIn::play(&["connect-1", "output"]);
    let engine = stand_in.connect().await;
    let log = engine.logs(&c1(), &LogsQuery::default()).await.unwrap();
    assert_eq!(
        (log.stdout.as_slice(), log.stderr.as_slice(), log.truncated),
        (&b"line 1\noops\n"[..], &b""[..], false)
    );
    let last = LogsQuery { tail: Some(1), max_bytes: 3, ..LogsQuery::default() };
    let log = engine.logs(&c1(), &last).await.unwrap();
    assert_eq!((log.stdout.as_slice(), log.truncated), (&b"ps\n"[..], true));
    let mut command = ExecSpec::new(["sh", "-c", "echo a b"]);
    command.user = Some("1000".into());
    let answer = engine.exec(&c1(), &command).await.unwrap();
    assert_eq!((answer.code, answer.output.stdout.as_slice()), (3, &b"out\n"[..]));
    assert_eq!(answer.output.stderr, b"err\n");
    assert_eq!(engine.exec(&c1(), &ExecSpec::new(["nope"])).await.unwrap().code, 127);
    // It has ended by now.
    let ended = engine.exec(&c1(), &ExecSpec::new(["true"])).await;
    assert!(matches!(ended, Err(EngineError::NotRunning { .. })));
    stand_in.was_asked_in_order();
}

#[tokio::test]
async fn images_are_looked_up_removed_and_built() {
    let stand_in = StandIn::play(&["connect-1", "images"]);
    let engine = stand_in.connect().await;
    let image = engine.image("sha256:1111").await.unwrap().unwrap();
    assert_eq!((image.id.0.as_str(), image.tags.as_slice()), ("sha256:1111", &["agent:latest".to_owned()][..]));
    assert_eq!((image.entrypoint[0].as_str(), image.size), ("/usr/local/bin/aigo-runner", 52_428_800));
    assert!(image.created.is_some() && image.labels["aigo.runner"] == "1" && image.env["PATH"] == "/usr/bin");
    assert!(matches!(engine.remove_image("agent").await, Err(EngineError::InUse { what: Object::Image, .. })));
    engine.remove_image("agent").await.unwrap();

    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(13);
    header.set_mode(0o644);
    archive.append_data(&mut header, "Dockerfile", &b"FROM scratch\n"[..]).unwrap();
    let context: bytes::Bytes = archive.into_inner().unwrap().into();
    let options = BuildOptions {
        tag: "agent".into(),
        args: Labels::from([("A".to_owned(), "1".to_owned())]),
        ..BuildOptions::default()
    };
    let (sink, mut progress) = tokio::sync::mpsc::channel(64);
    let id = engine.build(context.clone(), &options, &sink).await.unwrap();
    assert_eq!(id.0, "sha256:1111");
    drop(sink);
    let mut said = Vec::new();
    progress.recv_many(&mut said, 64).await;
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(matches!(&said[3], BuildProgress::Log { line, .. } if line == "made"), "{said:?}");

    let (sink, _gone) = tokio::sync::mpsc::channel(64);
    let options = BuildOptions { tag: "agent".into(), ..BuildOptions::default() };
    let error = engine.build(context, &options, &sink).await.unwrap_err();
    let EngineError::BuildFailed { step, message } = error else { panic!("{error}") };
    assert_eq!(
        (step.as_str(), message.as_str()),
        ("[2/2] RUN make", "process \"make\" did not complete: exit code: 2")
    );
    stand_in.was_asked_in_order();
}

#[tokio::test]
async fn events_come_from_looking_and_end_with_the_service() {
    let stand_in = StandIn::play(&["connect-1", "events"]);
    let engine = stand_in.connect().await;
    let mut events = engine.events(&labels()).await.unwrap();
    let mut kinds = Vec::new();
    while let Some(Ok(event)) = events.next().await {
        assert_eq!((event.container, event.labels), (c1(), labels()));
        kinds.push(event.kind);
    }
    // The container is somebody else's, so its code is not known.
    assert_eq!(kinds, [EventKind::Start, EventKind::Die { exit_code: i32::MAX }, EventKind::Destroy]);
    assert!(events.next().await.is_none());
    stand_in.was_asked_in_order();
}
