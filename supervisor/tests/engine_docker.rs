//! What only a real engine can show: the kernel's counters, and builds that fail or are abandoned.
//!
//! `AIGO_TEST_ENGINE=none` and `AIGO_TEST_IMAGE` as for the conformance suite.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use supervisor::engine::cgroup::{CgroupError, Probe, Sample};
use supervisor::engine::detect::{Choice, connect};
use supervisor::engine::docker::HostEnv;
use supervisor::engine::{BuildOptions, BuildProgress, ContainerId, ContainerSpec, EngineError, Labels, SharedEngine};
use tokio::sync::mpsc;

const LABEL: &str = "aigo.engine-test";
const PATIENCE: Duration = Duration::from_secs(60);
const MEMORY: u64 = 48 << 20;

struct Bench {
    engine: SharedEngine,
    image: String,
    labels: Labels,
    run: String,
}

/// Runs a test on the real engine, and removes what it made whatever became of it.
async fn with_engine<F>(test: impl FnOnce(std::sync::Arc<Bench>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    if std::env::var("AIGO_TEST_ENGINE").is_ok_and(|value| value == "none") {
        println!("no real engine is asked: AIGO_TEST_ENGINE=none");
        return;
    }
    let engine = connect(Choice::Auto, &HostEnv::from_process())
        .await
        .unwrap_or_else(|error| panic!("{error}; or set AIGO_TEST_ENGINE=none to run without"));
    let image = std::env::var("AIGO_TEST_IMAGE").unwrap_or_else(|_| "debian:trixie-slim".to_owned());
    let run = uuid::Uuid::new_v4().simple().to_string();
    let labels = Labels::from([(LABEL.to_owned(), run.clone())]);
    let bench = std::sync::Arc::new(Bench { engine: engine.clone(), image, labels: labels.clone(), run });
    let outcome = tokio::spawn(tokio::time::timeout(PATIENCE, test(bench))).await;
    for container in engine.containers(&labels).await.unwrap_or_default() {
        let removed = engine.remove(&container.id, true).await;
        assert!(removed.is_ok(), "{removed:?}");
    }
    match outcome {
        Ok(Ok(())) => {}
        other => panic!("the test did not end well: {other:?}"),
    }
}

impl Bench {
    async fn launch(&self, script: &str, pids: u32) -> Result<ContainerId, EngineError> {
        let mut spec = ContainerSpec::new(format!("aigo-engine-test-{}", &self.run[..12]), &self.image);
        spec.labels = self.labels.clone();
        spec.entrypoint = Some(vec![]);
        spec.command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
        spec.limits.memory = Some(MEMORY);
        spec.limits.pids = Some(pids);
        let id = self.engine.create(&spec).await?.id;
        self.engine.start(&id).await?;
        Ok(id)
    }

    /// Opens the container's cgroup and samples it until `enough`.
    async fn sampled(&self, id: &ContainerId, enough: impl Fn(&Sample) -> bool) -> (Probe, Sample) {
        let pid = self.engine.inspect(id).await.ok().and_then(|info| info.pid);
        let mut probe = Probe::open(pid.unwrap_or_default()).unwrap_or_else(|error| panic!("{error}"));
        loop {
            let sample = probe.sample().unwrap_or_else(|error| panic!("{error}"));
            if enough(&sample) {
                return (probe, sample);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_killed_for_memory_is_counted() {
    with_engine(|bench| async move {
        let id = bench.launch("sleep 0.3; tail /dev/zero; sleep 60", 64).await.unwrap_or_else(|e| panic!("{e}"));
        let (mut probe, sample) = bench.sampled(&id, Sample::out_of_memory).await;
        assert!(!sample.pids_exhausted(), "{sample:?}");
        assert!(sample.memory_peak.is_some_and(|peak| peak > MEMORY / 2 && peak <= MEMORY), "{sample:?}");
        assert!(sample.cpu.is_some_and(|time| time > Duration::ZERO), "{sample:?}");
        let removed = bench.engine.remove(&id, true).await;
        assert!(removed.is_ok(), "{removed:?}");
        // Gone with the container; what was seen stays.
        assert!(matches!(probe.sample(), Err(CgroupError::Gone { .. })));
        assert!(probe.last().out_of_memory());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_process_is_counted() {
    with_engine(|bench| async move {
        // The shell gives up at the first refusal, so a subshell tries, and the first process lives on.
        let script = "(i=0; while [ $i -lt 20 ]; do sleep 60 & i=$((i+1)); done) 2>/dev/null; sleep 60 || read -r x; \
                      while :; do :; done";
        let id = bench.launch(script, 8).await.unwrap_or_else(|e| panic!("{e}"));
        let (_probe, sample) = bench.sampled(&id, Sample::pids_exhausted).await;
        assert!(!sample.out_of_memory(), "{sample:?}");
        assert!(sample.pids.is_some_and(|count| count <= 8), "{sample:?}");
    })
    .await;
}

fn context(recipe: &str) -> Bytes {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(recipe.len() as u64);
    header.set_mode(0o644);
    let added = archive.append_data(&mut header, "Dockerfile", recipe.as_bytes());
    assert!(added.is_ok());
    archive.into_inner().map(Bytes::from).unwrap_or_default()
}

fn options(bench: &Bench) -> BuildOptions {
    BuildOptions { tag: format!("aigo-engine-test:{}", bench.run), ..BuildOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_build_names_its_step() {
    with_engine(|bench| async move {
        let recipe = format!("FROM {}\nRUN echo before; exit 3\n", bench.image);
        let (sink, mut progress) = mpsc::channel(1024);
        let error = bench.engine.build(context(&recipe), &options(&bench), &sink).await;
        drop(sink);
        match error {
            Err(EngineError::BuildFailed { step, message }) => {
                assert!(step.contains("exit 3"), "{step}: {message}");
            }
            other => panic!("{other:?}"),
        }
        let mut said = Vec::new();
        while let Some(event) = progress.recv().await {
            said.push(event);
        }
        assert!(said.iter().any(|event| matches!(event, BuildProgress::Failed { .. })), "{said:?}");
        assert!(
            said.iter().any(|event| matches!(event, BuildProgress::Log { line, .. } if line == "before")),
            "{said:?}"
        );
        let broken = bench.engine.build(context("FROM\n"), &options(&bench), &mpsc::channel(64).0).await;
        assert!(matches!(broken, Err(EngineError::BuildFailed { .. })), "{broken:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_build_stops() {
    with_engine(|bench| async move {
        let marker = format!("abandoned-{}", bench.run);
        let recipe = format!("FROM {}\nRUN sleep 3141; echo {marker}\n", bench.image);
        let (sink, mut progress) = mpsc::channel(1024);
        let build = tokio::spawn({
            let bench = std::sync::Arc::clone(&bench);
            async move { bench.engine.build(context(&recipe), &options(&bench), &sink).await }
        });
        loop {
            match progress.recv().await {
                Some(BuildProgress::Step { name, .. }) if name.contains(&marker) => break,
                Some(_) => {}
                None => panic!("the build ended: {:?}", build.await),
            }
        }
        let running = || {
            std::fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
                std::fs::read(entry.path().join("cmdline"))
                    .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&marker))
            })
        };
        while !running() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        build.abort();
        while running() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
