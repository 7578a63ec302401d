//! What agents may use, what their sessions do use, and who waits: by the API and the command line of a real service.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use supervisor::session::event::HostEvent;
use tests::host::wait_until;
use tests::service::{API, command, text};
use tests::{Expect, Home, Request, Service, look};

/// Uses all CPU time that it gets.
const BUSY: &str = "echo up; while :; do :; done";
/// How long CPU time is measured: 40 periods of the quota.
const WINDOW: Duration = Duration::from_secs(4);
/// What a quota may be missed by.
const TOLERANCE: f64 = 0.15;
/// Windows that are waited for one in which the machine has room.
const WINDOWS: usize = 5;

fn put(service: &Service, agent: &str, limits: &Value) -> Value {
    let reply = service.ask(&Request::new("PUT", &format!("{API}/agents/{agent}")).json(limits));
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

fn cancel(service: &Service, home: &Home, id: &str) {
    assert_eq!(service.ask(&Request::new("POST", &format!("{API}/sessions/{id}/cancel"))).status, 202);
    service.wait_for_end(home, id);
}

/// What sessions use, as soon as all of them are measured.
fn usage(service: &Service, ids: &[&str]) -> Vec<Value> {
    wait_until("the figures of all sessions", || {
        let metrics = service.get("/metrics").json();
        assert_eq!(metrics["unmeasured"], json!([]), "{metrics}");
        let of = |id: &&str| metrics["bySession"].as_array()?.iter().find(|one| one["id"] == **id).cloned();
        ids.iter().map(of).collect::<Option<Vec<Value>>>()
    })
}

fn running(service: &Service, home: &Home) -> String {
    let id = service.create(&command(home, BUSY));
    assert!(service.watch(&id, 0).any(|event| event.name == "text" || event.name == "output"));
    id
}

/// The CPUs that sessions use together over the window, by the seconds that the kernel counts.
fn cpus(service: &Service, ids: &[&str]) -> f64 {
    let secs = || usage(service, ids).iter().map(|one| one["usage"]["cpuSecs"].as_f64().unwrap()).sum::<f64>();
    // A survey is good for a second: each of the two is to be a new one, with the same time from asking to reading.
    std::thread::sleep(Duration::from_millis(1100));
    let (before, began) = (secs(), Instant::now());
    std::thread::sleep(WINDOW);
    (secs() - before) / began.elapsed().as_secs_f64()
}

/// The same, of the first window in which they got `enough`: a machine that has others to serve gives less.
fn cpus_with_room(service: &Service, ids: &[&str], enough: f64) -> f64 {
    let windows = std::iter::repeat_with(|| cpus(service, ids)).take(WINDOWS);
    windows
        .scan(false, |done, used| {
            let is_over = std::mem::replace(done, used >= enough);
            (!is_over).then_some(used)
        })
        .fold(0.0, f64::max)
}

/// How long, in milliseconds, the quota of their agent held them back since the service looks at them.
fn held_back(service: &Service, ids: &[&str]) -> u64 {
    std::thread::sleep(Duration::from_millis(1100));
    usage(service, ids)[0]["usage"]["throttledSharedMs"].as_u64().unwrap()
}

#[test]
fn a_quota_that_comes_later_holds_for_what_runs_and_outlives_the_service() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let agent = service.get("/agents/default").json();
    assert_eq!((&agent["limits"]["cpus"], &agent["sources"]["cpus"]), (&Value::Null, &json!("default")), "{agent}");
    let ids = [running(&service, &home), running(&service, &home)];
    let ids = [ids[0].as_str(), ids[1].as_str()];
    assert_eq!(held_back(&service, &ids), 0);
    let free = cpus(&service, &ids);
    let agent = put(&service, "default", &json!({"cpus": 0.5}));
    assert_eq!((&agent["sources"]["cpus"], &agent["sources"]["pids"]), (&json!("set"), &json!("default")), "{agent}");
    if agent["cpuEnforcement"] == "together" {
        assert_eq!(agent["notEnforced"], json!([]));
        let held = cpus_with_room(&service, &ids, 0.5 * (1.0 - TOLERANCE));
        println!("two busy sessions use {free:.2} CPUs without a quota, and {held:.3} with one of 0.5");
        assert!((held - 0.5).abs() <= 0.5 * TOLERANCE, "with 0.5 CPUs for both they use {held:.3}");
        assert!(held_back(&service, &ids) > 0, "the quota did nothing");
    } else {
        println!("not shown: containers of an agent cannot share a quota here: {}", agent["notEnforced"]);
    }
    assert!(service.stop().success());
    let service = Service::start(&home);
    let agent = service.get("/agents/default").json();
    assert_eq!((&agent["limits"]["cpus"], &agent["sources"]["cpus"]), (&json!(0.5), &json!("set")), "{agent}");
    let reset = service.ask(&Request::new("DELETE", &format!("{API}/agents/default")));
    assert_eq!((reset.status, &reset.json()["limits"]["cpus"]), (200, &Value::Null), "{reset:?}");
    if agent["cpuEnforcement"] == "together" {
        let before = held_back(&service, &ids);
        let freed = cpus(&service, &ids);
        println!("and {freed:.2} when it is taken back");
        assert_eq!(held_back(&service, &ids), before, "the quota still holds them back");
    }
    for id in ids {
        cancel(&service, &home, id);
    }
    wait_until("the agent's cgroup to go", || home.cgroups().is_empty().then_some(()));
    let audit = service.get("/audit-log").json();
    let actions: Vec<&Value> = audit["items"].as_array().unwrap().iter().map(|line| &line["action"]).collect();
    assert!(actions.contains(&&json!("agent.limits")) && actions.contains(&&json!("agent.reset")), "{actions:?}");
}

#[test]
fn what_a_session_uses_is_told_everywhere() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let id = running(&service, &home);
    let one = wait_until("a rate", || {
        let one = usage(&service, &[&id]).remove(0);
        one["usage"]["cpuPercent"].as_f64().is_some_and(|percent| percent > 10.0).then_some(one)
    });
    assert_eq!(one["agent"], "default");
    for figure in ["cpuSecs", "memoryBytes", "processes"] {
        assert!(one["usage"][figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {one}");
    }
    let total = service.get("/metrics").json()["usage"].clone();
    assert!(total["sessions"] == 1 && total["memoryBytes"].as_u64() > Some(0), "{total}");
    let session = service.get(&format!("/sessions/{id}")).json();
    assert!(session["usage"]["memoryBytes"].is_u64(), "{session}");
    assert!(service.sessions()[0]["usage"]["memoryBytes"].is_u64());
    let series = service.get("//metrics").body;
    let wanted = format!("aigo_session_memory_bytes{{session=\"{id}\",agent=\"default\"}} ");
    assert!(series.contains(&wanted) && series.contains("aigo_agent_cpus{agent=\"default\"} "), "{series}");
    let rows: Vec<Value> = serde_json::from_str(&home.aigo(["ps", "--json"]).stdout).unwrap();
    assert!(rows[0]["usage"]["cpuSecs"].as_f64() > Some(0.0), "{rows:?}");
    let table = home.aigo(["ps"]).stdout;
    assert!(table.contains("CPU") && table.contains("MiB") && table.contains('%'), "{table}");
    cancel(&service, &home, &id);
    assert_eq!(service.get(&format!("/sessions/{id}")).json().get("usage"), None);
}

#[test]
fn who_waits_sees_its_place_and_can_leave() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    put(&service, "builder", &json!({"containers": 1}));
    let start = || {
        let mut request = command(&home, BUSY);
        request["agent"] = "builder".into();
        let reply = service.post("/sessions", &request);
        (reply.status, text(&reply.json()["id"]))
    };
    let (status, first) = start();
    assert_eq!(status, 201);
    // Attended from a terminal: it tells of its place, too.
    let run = home.command("echo done").flags(["--agent", "builder"]).start();
    run.wait_for("its place", |event| matches!(look::host(event), Some(HostEvent::Queued { position: 1, .. })));
    let second = text(&service.get("/queue").json()["items"][0]["id"]);
    let (status, third) = start();
    assert_eq!(status, 202);
    let rows: Vec<Value> = serde_json::from_str(&home.aigo(["ps", "--json"]).stdout).unwrap();
    let row = rows.iter().find(|row| row["id"] == third.as_str()).unwrap();
    assert_eq!(
        (&row["agent"], &row["program"], &row["status"]),
        (&json!("builder"), &json!("command"), &json!("queued"))
    );
    assert_eq!((&row["queue"]["position"], &row["queue"]["reason"]["code"]), (&json!(2), &json!("agent_containers")));
    let table = home.aigo(["ps"]).stdout;
    assert!(table.contains("#2 agent_containers"), "{table}");
    let queue: Vec<Value> = serde_json::from_str(&home.aigo(["queue", "--json"]).stdout).unwrap();
    let ids: Vec<&Value> = queue.iter().map(|waiting| &waiting["id"]).collect();
    assert_eq!(ids, [&json!(second), &json!(third)]);
    assert!(home.aigo(["queue"]).stdout.contains("agent `builder` has 1 of 1 containers"));
    let said = home.aigo(["queue", "cancel", &second]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    run.finish().expect(Expect::CANCELLED);
    let moved = service.watch(&third, 0).filter(|event| event.name == "queued").nth(1).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&moved.data).unwrap()["position"], 1, "{moved:?}");
    assert_eq!(home.aigo(["queue", "cancel", &first]).code, Some(2), "it runs");
    assert_eq!(home.aigo(["stop", &third]).code, Some(0));
    assert_eq!(service.get("/queue").json()["items"], json!([]));
    cancel(&service, &home, &first);
}

#[test]
fn an_agents_name_needs_a_service() {
    let Some(home) = Home::open() else { return };
    let said = home.aigo(["run", "--agent", "builder", "--workspace", home.workspace().to_str().unwrap(), "x"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stderr.contains("--agent builder") && said.stderr.contains("aigo serve"), "{}", said.stderr);
}
