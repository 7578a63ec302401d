//! Many short sessions in one service: what it holds, and how long a launch takes, are at the end what they were.
//!
//! ```text
//!  start ──► look ──► warm-up ──► rest, look ──► all the others ──► rest, look ──► stop ──► a service that clears away ──► look
//! ```
//!
//! What the first sessions bring along stays for good (pools, caches, the cgroup of the agent), so the service's own
//! descriptors, threads and memory are compared with those after the warm-up; what sessions hold, with what was there
//! before any of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::held::{Held, Process};
use tests::service::{API, command};
use tests::{Home, Request, Service, host};

/// Says how many sessions; `make soak` runs 2,000.
const VARIABLE: &str = "AIGO_SOAK_SESSIONS";
const SESSIONS: usize = 300;
/// Sessions at once.
const AT_ONCE: usize = 4;
/// After so many nothing is done for the first time.
const WARM_UP: usize = 60;
/// So many launches at the beginning are compared with as many at the end.
const EDGE: usize = 30;
/// Sessions between two lines of progress.
const PROGRESS: usize = 100;

/// A thread that tokio keeps for blocking calls goes after 10 s without any: what has not changed for longer is at rest.
const REST: Duration = Duration::from_secs(11);
/// How long that may take: each minute the service compares its store with the engine, and needs threads for it.
const RESTED: Duration = Duration::from_secs(90);
/// The pace of looking whether it is at rest.
const LOOK: Duration = Duration::from_millis(250);

/// How much the service's own memory (`RssAnon`) may grow after the warm-up: so much for what an allocator comes to keep, of
/// which most is seen in the first hundreds of sessions (430 KiB after 300 as after 1,000) …
const GROWTH_KIB: u64 = 1 << 10;
/// … and so much for each session. A session that is not let go of keeps its driver, its mailbox and its events, which is
/// several times as much.
const GROWTH_EACH_KIB: u64 = 1;

/// The agent under whose name they run: with a quota, so that it has a cgroup.
const AGENT: &str = "soak";

struct Soak<'a> {
    service: &'a Service,
    request: Value,
    sessions: usize,
    next: AtomicUsize,
    /// From before the request to the client's having the event `ready`, in the order of the requests.
    launches: Mutex<Vec<(usize, Duration)>>,
}

impl Soak<'_> {
    /// Runs the sessions up to this number, some at once.
    fn run_to(&self, end: usize) {
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Ok(number) = self.take(end) {
                        let took = self.session();
                        self.launches.lock().unwrap().push((number, took));
                        if (number + 1).is_multiple_of(PROGRESS) {
                            self.tell(number + 1);
                        }
                    }
                });
            }
        });
    }

    fn take(&self, end: usize) -> Result<usize, usize> {
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| (next < end).then_some(next + 1))
    }

    /// One session from the request to its end.
    fn session(&self) -> Duration {
        let begin = Instant::now();
        let id = self.service.create(&self.request);
        let mut ready = None;
        let mut last = None;
        for event in self.service.watch(&id, 0) {
            if event.name == "ready" {
                ready = Some(begin.elapsed());
            }
            last = Some(event);
        }
        let last = last.unwrap();
        let end: Value = serde_json::from_str(&last.data).unwrap();
        assert_eq!((last.name.as_str(), &end["status"]), ("ended", &json!("completed")), "{end}");
        ready.unwrap()
    }

    fn tell(&self, done: usize) {
        let memory = own_memory(self.service);
        let recent = self.launches_of(done.saturating_sub(PROGRESS)..done);
        println!("{done} of {} sessions; launch {:?}; memory {memory} KiB", self.sessions, median(&recent));
    }

    fn launches_of(&self, numbers: std::ops::Range<usize>) -> Vec<Duration> {
        let launches = self.launches.lock().unwrap();
        launches.iter().filter(|(number, _)| numbers.contains(number)).map(|(_, took)| *took).collect()
    }
}

fn median(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The service's memory but for pages of files, which the kernel can drop, in KiB (`proc_pid_status(5)`).
fn own_memory(service: &Service) -> u64 {
    host::status_kib(service.pid(), "RssAnon").unwrap()
}

/// Waits until the service's threads and descriptors do not change any more.
fn at_rest(service: &Service) -> Process {
    let deadline = Instant::now() + RESTED;
    let (mut last, mut since) = (Process::of(service.pid()), Instant::now());
    while since.elapsed() < REST && Instant::now() < deadline {
        std::thread::sleep(LOOK);
        let now = Process::of(service.pid());
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// Nothing is held that was not held before. Anonymous volumes of other tests go in their time.
fn nothing_more(home: &Home, before: &Held) {
    let mut more = Vec::new();
    let deadline = Instant::now() + host::PATIENCE;
    while Instant::now() < deadline {
        more = Held::by(home).more_than(before);
        if more.is_empty() {
            return;
        }
        std::thread::sleep(LOOK);
    }
    panic!("left behind: {more:#?}");
}

#[test]
fn hundreds_of_short_sessions_leave_the_service_as_it_was() {
    let Some(home) = Home::open() else { return };
    let sessions = std::env::var(VARIABLE).map_or(SESSIONS, |number| number.parse().unwrap());
    assert!(sessions >= WARM_UP + 2 * EDGE, "{VARIABLE}: at least {}", WARM_UP + 2 * EDGE);
    let service = Service::start(&home);
    let limits = Request::new("PUT", &format!("{API}/agents/{AGENT}")).json(&json!({"cpus": 2}));
    assert_eq!(service.ask(&limits).status, 200);
    let (before, at_start) = (Held::by(&home), Process::of(service.pid()));
    println!("before:  {before}; {at_start}; memory {} KiB", own_memory(&service));

    let mut request = command(&home, "true");
    request["agent"] = json!(AGENT);
    let soak = Soak { service: &service, request, sessions, next: AtomicUsize::default(), launches: Mutex::default() };
    soak.run_to(WARM_UP);
    // The agent's cgroup is there now. It may go at any time when the agent has no session, and comes back with the next.
    let agents_cgroups = Held::by(&home).counts["cgroups"];
    let (warm, warm_memory) = (at_rest(&service), own_memory(&service));
    println!("after {WARM_UP} sessions: {}; {warm}; memory {warm_memory} KiB", Held::by(&home));

    let begin = Instant::now();
    soak.run_to(sessions);
    let took = begin.elapsed();
    let (end, memory) = (at_rest(&service), own_memory(&service));
    let held = Held::by(&home);
    println!("after {sessions} sessions: {held}; {end}; memory {memory} KiB");
    let more = end.more_than(&warm);
    assert!(more.is_empty(), "the service holds more than after {WARM_UP} sessions: {more:#?}");
    let mut allowed = before.clone();
    allowed.counts.insert("cgroups", agents_cgroups);
    nothing_more(&home, &allowed);

    let grown = memory.saturating_sub(warm_memory);
    let after_warm_up = u64::try_from(sessions - WARM_UP).unwrap();
    let bound = GROWTH_KIB + GROWTH_EACH_KIB * after_warm_up;
    let (first, last) = (soak.launches_of(0..EDGE), soak.launches_of(sessions - EDGE..sessions));
    println!(
        "{sessions} sessions, {:.1} a second; memory grown by {grown} KiB since the first {WARM_UP} (at most {bound}); \
         launch: median of the first {EDGE} {:?}, of the last {EDGE} {:?}",
        (sessions - WARM_UP) as f64 / took.as_secs_f64(),
        median(&first),
        median(&last),
    );
    assert!(grown <= bound, "the service's memory has grown by {grown} KiB since {WARM_UP} sessions");
    // Launches that got slower are all slower, the fastest one, too; those on a machine that is busy just now are not.
    let fastest = last.iter().min().copied().unwrap_or_default();
    assert!(fastest <= 2 * median(&first), "the last launches took {last:?}, the first {first:?}");

    // With the service its limits for agents are gone, and with them what holds them.
    assert!(service.stop().success());
    assert!(Service::start(&home).stop().success());
    nothing_more(&home, &before);
    println!("leaks: containers, networks, volumes, mounts, cgroups, folders, descriptors, threads: 0");
}
