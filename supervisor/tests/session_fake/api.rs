//! What the API answers where no agent is needed for it: streams with holes, refusals with their fields.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use supervisor::serve::api::guard::{Guard, Peer};
use supervisor::serve::api::{self, Api, PREFIX};
use supervisor::serve::builds::Builds;
use supervisor::serve::manager::Manager;
use supervisor::session::event::HostEvent;
use supervisor::session::status::Status;
use supervisor::session::{SessionId, control};
use supervisor::store::{Decision, NewEvent, Outcome, SessionRow};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::house::{House, IMAGE};
use crate::queue::{DEADLINE, config, manager};

/// The API over a manager, as a listener would serve it.
pub(crate) fn router(manager: &Arc<Manager>) -> Router {
    let stopping = CancellationToken::new();
    let builds = Builds::new(manager.engine.clone(), manager.dirs.clone(), stopping.clone());
    api::router(Api::new(Arc::clone(manager), Arc::new(builds), stopping, TaskTracker::new()), Guard::default())
}

pub(crate) fn request(method: &str, path: &str, body: Option<&Value>) -> Request<Body> {
    let request = Request::builder().method(method).uri(format!("{PREFIX}{path}")).header(header::HOST, "localhost");
    let request = match body {
        Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    let mut request = request.unwrap();
    request.extensions_mut().insert(Peer::Unix(0));
    request
}

async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// A stream of events, as what is told of each: its number, or the bounds of a gap.
struct Watch {
    body: Body,
    text: String,
}

impl Watch {
    async fn open(router: &Router, id: &SessionId) -> Self {
        Self::after(router, id, 0).await
    }

    async fn after(router: &Router, id: &SessionId, after: u64) -> Self {
        let path = format!("/sessions/{id}/events?after={after}");
        let response = router.clone().oneshot(request("GET", &path, None)).await.unwrap();
        // A reader that has seen the end of a session is told so by 204, which has no body.
        let over = after > 0 && response.status() == StatusCode::NO_CONTENT;
        assert!(over || response.status() == StatusCode::OK, "{}", response.status());
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next one; none at the stream's end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let told = match field("event: ") {
                    Some("gap") => field("data: ").map(str::to_owned),
                    _ => field("id: ").map(str::to_owned),
                };
                self.text = rest.to_owned();
                match told {
                    Some(told) => return Some(told),
                    None => continue,
                }
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await.expect("the stream is silent")?;
            self.text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    }

    async fn rest(mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(told) = self.next().await {
            all.push(told);
        }
        all
    }
}

/// A session of another process with so many events.
async fn told(house: &House, events: usize) -> SessionId {
    let id = SessionId::random();
    let mut row = SessionRow::new(id.clone(), "command", IMAGE, &house.workspace);
    row.status = Status::Running;
    house.launcher.store.insert_session(row).await.unwrap();
    let events: Vec<NewEvent> = (0..events).map(|_| HostEvent::InterruptSent {}.into()).collect();
    house.launcher.store.append(&id, events, None).await.unwrap();
    id
}

async fn over(house: &House, id: &SessionId) {
    let outcome = Outcome { status: Status::Completed, ending: None, summary: None };
    house.launcher.store.end_session(id, outcome, HostEvent::InterruptSent {}).await.unwrap();
}

fn remove(house: &House, sql: &str) {
    let database = rusqlite::Connection::open(house.launcher.dirs.database()).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    database.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_gap_is_told_wherever_it_is() {
    let gap = |from: u64, to: u64| json!({"from": from, "to": to}).to_string();
    for (sql, wanted) in [
        ("DELETE FROM events WHERE seq IN (2, 3)", vec!["1".to_owned(), gap(2, 3), "4".into(), "5".into(), "6".into()]),
        ("DELETE FROM events WHERE seq < 6", vec![gap(1, 5), "6".into()]),
        ("SELECT 1", (1..=6).map(|seq| seq.to_string()).collect()),
    ] {
        let house = House::new();
        let manager = manager(&house, config(5));
        let id = told(&house, 5).await;
        over(&house, &id).await;
        remove(&house, sql);
        assert_eq!(Watch::open(&router(&manager), &id).await.rest().await, wanted, "{sql}");
    }
}

/// Stored events, those that come while somebody reads, holes in the former, and after how many items a reader hangs up.
#[derive(Clone, Debug)]
struct Story {
    stored: usize,
    later: Vec<usize>,
    removed: Vec<(u64, u64)>,
    hang_ups: Vec<usize>,
}

fn story() -> impl Strategy<Value = Story> {
    let removed = vec((1..=400u64, 0..60u64), 0..4);
    (1..400usize, vec(1..150usize, 0..4), removed, vec(1..150usize, 0..5))
        .prop_map(|(stored, later, removed, hang_ups)| Story { stored, later, removed, hang_ups })
}

/// What is told of events 1 to `last`: each number, or the bounds of a hole.
fn whole(last: u64, is_removed: impl Fn(u64) -> bool) -> Vec<String> {
    let mut all = Vec::new();
    let mut seq = 1;
    while seq <= last {
        let end = (seq..=last).take_while(|seq| is_removed(*seq)).last();
        all.push(end.map_or_else(|| seq.to_string(), |to| json!({"from": seq, "to": to}).to_string()));
        seq = end.unwrap_or(seq) + 1;
    }
    all
}

/// The cursor of who was told this last.
fn cursor(told: &str) -> u64 {
    let gap = || serde_json::from_str::<Value>(told).ok()?["to"].as_u64();
    told.parse().ok().or_else(gap).unwrap()
}

async fn reads_all(story: Story) {
    let house = House::new();
    let router = router(&manager(&house, config(5)));
    let id = told(&house, story.stored).await;
    let stored = u64::try_from(story.stored).unwrap();
    // Never the last one of a session that runs: its number would be given again.
    let is_removed =
        |seq: u64| seq < stored && story.removed.iter().any(|(from, more)| (*from..=from + more).contains(&seq));
    for seq in (1..=stored).filter(|seq| is_removed(*seq)) {
        remove(&house, &format!("DELETE FROM events WHERE seq = {seq}"));
    }
    let write = async {
        for count in &story.later {
            let events = (0..*count).map(|_| HostEvent::InterruptSent {}.into()).collect();
            house.launcher.store.append(&id, events, None).await.unwrap();
            tokio::task::yield_now().await;
        }
        over(&house, &id).await;
    };
    let read = async {
        let mut all: Vec<String> = Vec::new();
        for items in story.hang_ups.iter().copied().chain([usize::MAX]) {
            let mut watch = Watch::after(&router, &id, all.last().map_or(0, |told| cursor(told))).await;
            for _ in 0..items {
                let Some(told) = watch.next().await else { return all };
                all.push(told);
            }
        }
        all
    };
    let ((), all) = tokio::join!(write, read);
    let last = stored + u64::try_from(story.later.iter().sum::<usize>()).unwrap() + 1;
    assert_eq!(all, whole(last, is_removed), "{story:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_told_once_and_in_order_or_as_missing_however_often_a_reader_comes_back(story in story()) {
        tokio::runtime::Runtime::new().unwrap().block_on(reads_all(story));
    }
}

#[tokio::test]
async fn a_stream_whose_end_is_removed_while_it_is_read_says_so() {
    // More than are read at once.
    const EVENTS: usize = 250;
    let gap = |from: u64, to: u64| json!({"from": from, "to": to}).to_string();
    for sql in ["DELETE FROM events WHERE seq > 100", "DELETE FROM events; DELETE FROM sessions"] {
        let house = House::new();
        let manager = manager(&house, config(5));
        let id = told(&house, EVENTS).await;
        over(&house, &id).await;
        let mut watch = Watch::open(&router(&manager), &id).await;
        assert_eq!(watch.next().await.as_deref(), Some("1"), "{sql}");
        remove(&house, sql);
        let rest = watch.rest().await;
        assert_eq!((rest.len(), rest.last()), (200, Some(&gap(201, 251))), "{sql}");
    }
    // Of what came last the reader knows only that there was an end.
    let house = House::new();
    let manager = manager(&house, config(5));
    let id = told(&house, 1).await;
    let mut watch = Watch::open(&router(&manager), &id).await;
    assert_eq!(watch.next().await.as_deref(), Some("1"));
    over(&house, &id).await;
    remove(&house, "DELETE FROM events; DELETE FROM sessions");
    assert_eq!(watch.rest().await, [json!({"from": 2}).to_string()]);
}

#[tokio::test]
async fn a_reader_that_comes_back_after_the_end_is_told_that_nothing_comes() {
    let house = House::new();
    let router = router(&manager(&house, config(5)));
    let id = told(&house, 3).await;
    let status = async |after: u64| {
        let path = format!("/sessions/{id}/events?after={after}");
        router.clone().oneshot(request("GET", &path, None)).await.unwrap().status()
    };
    assert_eq!(status(3).await, StatusCode::OK, "the session goes on");
    over(&house, &id).await;
    for (after, wanted) in [(0, 200), (3, 200), (4, 204), (5, 400)] {
        assert_eq!(status(after).await.as_u16(), wanted, "after {after}");
    }
}

fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().map_or(&[][..], Vec::as_slice);
    errors.iter().filter_map(|error| error["pointer"].as_str()).collect()
}

#[tokio::test]
async fn what_is_refused_names_its_fields_in_the_words_of_the_api() {
    let house = House::new();
    let router = router(&manager(&house, config(5)));
    let keys = house.workspace.join(".ssh");
    std::fs::create_dir(&keys).unwrap();
    let with = |more: Value| {
        let mut body = json!({
            "workspace": house.workspace, "image": IMAGE, "program": {"type": "command", "argv": ["work"]},
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request("POST", "/sessions", Some(&body))
    };
    for (more, status, wanted) in [
        (json!({"limits": {"cpus": 1024}}), 422, "/limits/cpus"),
        (json!({"limits": {"memoryBytes": 1}}), 403, "/limits/memoryBytes"),
        (json!({"limits": {"pids": 1}}), 403, "/limits/pids"),
        (json!({"env": {"HOME": "/x"}}), 403, "/env/HOME"),
        (json!({"image": "Not An Image"}), 403, "/image"),
        (json!({"prompt": " "}), 403, "/prompt"),
        (json!({"workspace": "/nowhere/at/all"}), 422, "/workspace"),
        (json!({"workspace": "/etc"}), 403, "/workspace"),
        (json!({"mounts": [{"hostPath": "/nowhere/at/all", "name": "a"}]}), 422, "/mounts/0/hostPath"),
        (json!({"mounts": [{"hostPath": keys, "name": "a"}]}), 403, "/mounts/0/hostPath"),
        (json!({"model": {"source": "replay", "file": "/nowhere/at/all"}}), 422, "/model/file"),
        (json!({"program": {"type": "command", "argv": []}}), 403, "/program/argv"),
    ] {
        let (found, problem) = ask(&router, with(more)).await;
        assert_eq!((found.as_u16(), pointers(&problem)), (status, vec![wanted]), "{problem}");
        assert!(![" --", "\"--"].iter().any(|flag| problem.to_string().contains(flag)), "{problem}");
    }
    let (status, problem) = ask(&router, request("DELETE", "/sessions", None)).await;
    assert_eq!((status.as_u16(), &problem["type"]), (405, &json!("urn:aigo:problem:wrong-method")));
}

#[tokio::test]
async fn a_head_has_a_bound() {
    let house = House::new();
    let router = router(&manager(&house, config(5)));
    for (bytes, status) in [(30 << 10, 200), (33 << 10, 431)] {
        let mut long = request("GET", "/sessions", None);
        long.headers_mut().insert("x-long", "x".repeat(bytes).parse().unwrap());
        let (found, problem) = ask(&router, long).await;
        assert_eq!(found.as_u16(), status, "{problem}");
    }
}

#[tokio::test]
async fn a_busy_owner_is_no_conflict() {
    let house = House::new();
    let manager = manager(&house, config(5));
    let router = router(&manager);
    let id = told(&house, 1).await;
    let folder = house.launcher.dirs.session(&id);
    std::fs::create_dir(folder.root()).unwrap();
    let (pending, mut requests) = tokio::sync::mpsc::channel(1);
    let server = control::listen(&folder.control_socket(), pending, None).unwrap();
    let cancel = format!("/sessions/{id}/cancel");
    // Its time passes by itself: as soon as everybody waits.
    tokio::time::pause();
    let (status, problem) = ask(&router, request("POST", &cancel, None)).await;
    tokio::time::resume();
    assert_eq!((status.as_u16(), &problem["type"]), (503, &json!("urn:aigo:problem:busy")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|said| said.contains("carries it out")), "{problem}");
    assert!(matches!(requests.recv().await.unwrap().request, control::Request::Cancel { .. }));
    let line = manager.store.audit_log(None, 1).await.unwrap().pop().unwrap();
    assert_eq!((line.decision, line.reasons.len()), (Decision::Allowed, 1), "it is carried out");
    server.end().await;
}
