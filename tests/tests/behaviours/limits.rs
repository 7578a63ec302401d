//! Limits of agents on a real engine: what the kernel measures, and whom it kills.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use supervisor::agents::{AgentGroups, AgentLimits, AgentName, CpuEnforcement, Runs};
use supervisor::engine::cgroup::{Probe, Sample};
use supervisor::engine::detect::{Choice, connect};
use supervisor::engine::docker::HostEnv;
use supervisor::engine::{ContainerId, ContainerSpec, Labels, LogsQuery, SharedEngine};
use supervisor::plan::LABEL_INSTANCE;
use supervisor::request::Limits;
use supervisor::session::SessionId;
use supervisor::units::MilliCpus;
use supervisor::usage::Survey;
use tests::engine::{self, Kind};

/// Uses all CPU time that it gets.
const BUSY: &str = "while :; do :; done";
const IDLE: &str = "exec sleep 600";
/// How long CPU time is measured: 40 periods of the quota.
const WINDOW: Duration = Duration::from_secs(4);
/// What a quota may be missed by.
const TOLERANCE: f64 = 0.10;
const PATIENCE: Duration = Duration::from_secs(30);

/// Agents of one test on the engine. When it goes, nothing may be left of them.
struct Stage {
    engine: SharedEngine,
    groups: AgentGroups,
    instance: String,
}

impl Stage {
    async fn open() -> Self {
        let engine = connect(Choice::Auto, &HostEnv::from_process()).await.unwrap();
        let instance = SessionId::random().to_string();
        let groups = AgentGroups::new(&instance, &engine.detect().await.unwrap());
        Self { engine, groups, instance }
    }

    /// Whether agents have a cgroup here; says why, where they have none.
    fn holds_together(&self) -> bool {
        match &self.groups.enforcement().cpu {
            CpuEnforcement::Together { .. } => true,
            CpuEnforcement::Apart { why } | CpuEnforcement::Not { why } => {
                println!("not shown: containers of an agent cannot share a quota here: {why}");
                false
            }
        }
    }

    async fn start(&self, agent: &AgentName, limits: &AgentLimits, script: &str) -> Runs {
        let asked = Limits { cpus: MilliCpus(2000), memory: 256 << 20, pids: 64 };
        let name = format!("aigo-limits-{}", SessionId::random());
        let mut spec = ContainerSpec::new(name, engine::image());
        spec.labels = Labels::from([(LABEL_INSTANCE.to_owned(), self.instance.clone())]);
        spec.entrypoint = Some(Vec::new());
        spec.command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
        self.groups.place(agent, limits, asked).await.unwrap().apply(&mut spec);
        let container = self.engine.create(&spec).await.unwrap().id;
        self.engine.start(&container).await.unwrap();
        self.groups.confirm(agent, limits, self.pid(&container).await).unwrap();
        Runs { container, asked }
    }

    async fn pid(&self, container: &ContainerId) -> i32 {
        self.engine.inspect(container).await.unwrap().pid.unwrap()
    }

    async fn sample(&self, container: &ContainerId) -> Sample {
        Probe::open(self.pid(container).await).unwrap().last()
    }

    /// The CPUs that agents use over a window, each with all of its containers.
    async fn cpus<const N: usize>(&self, agents: [&AgentName; N]) -> [f64; N] {
        let used = || agents.map(|agent| self.groups.probe(agent).unwrap().unwrap().last().cpu.unwrap());
        let (began, before) = (Instant::now(), used());
        tokio::time::sleep(WINDOW).await;
        let (after, elapsed) = (used(), began.elapsed());
        std::array::from_fn(|place| (after[place] - before[place]).as_secs_f64() / elapsed.as_secs_f64())
    }

    /// Takes all away: containers, then cgroups.
    async fn close(self) {
        for id in engine::objects(Kind::Container, &self.instance) {
            engine::remove(Kind::Container, &id).unwrap();
        }
        self.groups.sweep(&BTreeSet::new()).await.unwrap();
        assert_eq!(self.cgroups(), Vec::<String>::new());
    }

    /// What is left of this instance in the cgroup file systems.
    fn cgroups(&self) -> Vec<String> {
        let found = std::process::Command::new("find")
            .args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &format!("*{}*", self.instance)])
            .output()
            .unwrap();
        String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for id in engine::objects(Kind::Container, &self.instance) {
                if let Err(error) = engine::remove(Kind::Container, &id) {
                    eprintln!("cleaning up: {error}");
                }
            }
            for folder in self.cgroups() {
                if let Err(error) = std::fs::remove_dir(&folder) {
                    eprintln!("cleaning up {folder}: {error}");
                }
            }
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    if !engine::is_wanted() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

fn agent(name: &str) -> AgentName {
    name.parse().unwrap()
}

fn quota(thousandths: u32) -> AgentLimits {
    AgentLimits { cpus: Some(MilliCpus(thousandths)), ..AgentLimits::default() }
}

/// Gives everything of ours the largest weight while a test measures: on a machine with other work the kernel would
/// rightly give less than the quota.
struct Weight(Vec<(std::path::PathBuf, String)>);

impl Weight {
    fn raise(stage: &Stage) -> Self {
        let top = [
            "/sys/fs/cgroup/cpu/aigo",
            "/sys/fs/cgroup/cpu,cpuacct/aigo",
            "/sys/fs/cgroup/aigo",
            "/sys/fs/cgroup/aigo.slice",
        ];
        let mut raised = Vec::new();
        for top in top.map(std::path::PathBuf::from) {
            let below = [top.join(&stage.instance), top.join(format!("aigo-{}.slice", stage.instance))];
            for folder in std::iter::once(top).chain(below) {
                for (name, most) in [("cpu.shares", "262144"), ("cpu.weight", "10000")] {
                    let file = folder.join(name);
                    if let Ok(before) = std::fs::read_to_string(&file) {
                        std::fs::write(&file, most).unwrap();
                        raised.push((file, before));
                    }
                }
            }
        }
        assert!(!raised.is_empty(), "no weight of ours was found");
        Self(raised)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        for (file, before) in &self.0 {
            // Gone with the cgroup, if nobody else is in it.
            let _ = std::fs::write(file, before.trim());
        }
    }
}

#[track_caller]
fn close_to(what: &str, measured: f64, wanted: f64) {
    println!("{what}: {measured:.3} CPUs, the quota is {wanted}");
    assert!((measured - wanted).abs() <= wanted * TOLERANCE, "{what}: {measured:.3} CPUs instead of {wanted}");
}

#[test]
fn busy_containers_share_their_agents_cpu_quota_also_when_it_changes() {
    run(async {
        let stage = Stage::open().await;
        if !stage.holds_together() {
            return;
        }
        let (one, two) = (agent("one"), agent("two-dashed"));
        let half = quota(500);
        let mut ones = Vec::new();
        for _ in 0..3 {
            ones.push(stage.start(&one, &half, BUSY).await);
            stage.start(&two, &half, BUSY).await;
        }
        let weight = Weight::raise(&stage);
        let [first, second] = stage.cpus([&one, &two]).await;
        close_to("one", first, 0.5);
        close_to("two", second, 0.5);
        let throttling = stage.groups.probe(&one).unwrap().unwrap().last().throttling.unwrap();
        println!("one: {throttling}");
        assert!(throttling.is_any() && throttling.time > Duration::ZERO, "{throttling:?}");
        // What runs gets the new quota: less, then more than at the start.
        for thousandths in [250, 800] {
            let changed = stage.groups.change(&*stage.engine, &one, &quota(thousandths), &ones).await.unwrap();
            assert_eq!(changed.kept, vec![]);
            let [first, second] = stage.cpus([&one, &two]).await;
            close_to("one, changed", first, f64::from(thousandths) / 1000.0);
            close_to("two, unchanged", second, 0.5);
        }
        drop(weight);
        stage.close().await;
    });
}

#[test]
fn the_memory_cap_kills_the_process_that_needs_too_much_and_only_that() {
    run(async {
        let stage = Stage::open().await;
        let capped = AgentLimits { memory: Some(64 << 20), ..AgentLimits::default() };
        let (hungry, other) = (agent("hungry"), agent("other"));
        let sibling = stage.start(&hungry, &capped, IDLE).await.container;
        let stranger = stage.start(&other, &AgentLimits::default(), IDLE).await.container;
        let eater =
            stage.start(&hungry, &capped, "tail /dev/zero; echo tail ended with $?; exec sleep 600").await.container;
        let deadline = Instant::now() + PATIENCE;
        let said = loop {
            let output = stage.engine.logs(&eater, &LogsQuery::default()).await.unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if said.contains("ended with") || Instant::now() > deadline {
                break said;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(said.trim(), "tail ended with 137");
        let eaters = stage.sample(&eater).await;
        assert_eq!(eaters.oom_kills, Some(1), "{eaters:?}");
        assert!(eaters.memory_peak.is_none_or(|peak| peak <= 64 << 20), "{eaters:?}");
        for spared in [&sibling, &stranger] {
            let sample = stage.sample(spared).await;
            assert_eq!((sample.oom_kills, sample.pids), (Some(0), Some(1)), "{sample:?}");
        }
        stage.close().await;
    });
}

#[test]
fn an_agents_cgroup_goes_when_it_is_empty_and_not_before() {
    run(async {
        let stage = Stage::open().await;
        if !stage.holds_together() {
            return;
        }
        let (busy, idle) = (agent("busy"), agent("idle"));
        let runs = stage.start(&busy, &quota(500), IDLE).await;
        stage.groups.place(&idle, &quota(500), runs.asked).await.unwrap();
        // Again is as once.
        stage.groups.place(&idle, &quota(700), runs.asked).await.unwrap();
        assert_eq!(stage.groups.sweep(&BTreeSet::from([idle.clone()])).await.unwrap(), vec![]);
        assert!(!stage.groups.remove(&busy).await.unwrap());
        stage.groups.confirm(&busy, &quota(500), stage.pid(&runs.container).await).unwrap();
        let elsewhere = stage.groups.confirm(&idle, &quota(700), stage.pid(&runs.container).await).unwrap_err();
        assert!(elsewhere.to_string().contains("not below"), "{elsewhere}");
        assert_eq!(stage.groups.sweep(&BTreeSet::new()).await.unwrap(), vec![idle.clone()]);
        assert!(stage.groups.probe(&idle).unwrap().is_none());
        assert!(stage.groups.remove(&idle).await.unwrap());
        stage.engine.remove(&runs.container, true).await.unwrap();
        assert!(stage.groups.remove(&busy).await.unwrap());
        stage.close().await;
    });
}

#[test]
#[ignore = "a measurement of 50 containers: cargo nextest run -p tests --run-ignored only usage_of_fifty --no-capture"]
fn usage_of_fifty_containers_is_read_in_ten_milliseconds() {
    run(async {
        const COUNT: usize = 50;
        let stage = Stage::open().await;
        let mut survey = Survey::new();
        for number in 0..COUNT {
            let runs = stage.start(&agent("many"), &AgentLimits::default(), IDLE).await;
            let pid = stage.pid(&runs.container).await;
            survey.watch(number, pid, &runs.container, Instant::now()).unwrap();
        }
        let mut times: Vec<Duration> = (0..20)
            .map(|_| {
                let began = Instant::now();
                let usage = survey.take(began);
                let took = began.elapsed();
                assert!(usage.len() == COUNT && usage.values().all(|usage| usage.sample.memory.is_some()));
                took
            })
            .collect();
        times.sort();
        let began = Instant::now();
        let ids = engine::objects(Kind::Container, &stage.instance);
        let mut stats = vec!["stats", "--no-stream"];
        stats.extend(ids.iter().map(String::as_str));
        engine::docker(&stats).unwrap();
        let (best, median, worst) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        let stats = began.elapsed();
        println!("{COUNT} containers: best {best:?}, median {median:?}, worst {worst:?}; docker stats {stats:?}");
        // The least disturbed one: what it costs, whatever else the machine does.
        assert!(best <= Duration::from_millis(10), "{times:?}");
        stage.close().await;
    });
}
