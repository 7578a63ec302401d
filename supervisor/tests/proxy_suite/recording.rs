//! What a recording keeps, what it does not, and that it can be replayed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;
use supervisor::proxy::{RecordError, Recorder, ReplaySpeed, Script, Upstream};

use crate::support::{MARKED, Rig, Stub, fed, message, reply, soon, whole};

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn recorded(path: &Path, count: usize) -> Vec<Value> {
    soon(async {
        loop {
            let lines = lines(path);
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
}

async fn replay(path: &Path) -> Rig {
    Rig::start(Upstream::Replay(Script::load(path).unwrap(), ReplaySpeed::Fast)).await
}

#[tokio::test]
async fn exchanges_are_kept_without_the_credential_and_replay_alike() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("traffic.jsonl");
    let stub = Stub::raw(|_, incoming| async move {
        let _ = incoming.collect().await;
        let (feed, out) = fed();
        tokio::spawn(async move {
            // The credential and a character are each cut by the end of a chunk.
            let text = format!("data: naïve {MARKED} €\n\n");
            let (head, tail) = text.as_bytes().split_at(text.find("MARKED").unwrap());
            let euro = tail.len() - 4;
            for part in [head, &tail[..euro], &tail[euro..]] {
                feed.send(Ok(Bytes::copy_from_slice(part))).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        http::Response::builder()
            .header("content-type", "text/event-stream")
            .header("request-id", "req_7")
            .header("anthropic-ratelimit-requests-remaining", "9")
            .header("anthropic-organization-id", "org-private")
            .body(out)
            .unwrap()
    })
    .await;
    let recorder = Recorder::create(&path, false).unwrap();
    let rig = Rig::start(Upstream::Record(stub.upstream(), recorder)).await;
    let (_, text) = rig.ask(r#"{"stream":true,"messages":["my .env says sk-ant-MARKED-0123456789"]}"#).await;
    assert!(text.contains(MARKED), "the answer itself passes as it is");
    let lines = recorded(&path, 1).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let line = &lines[0];
    assert_eq!(line["recorded"], 1);
    assert_eq!(line["end"], "complete");
    assert_eq!(line["request"]["path"], "/v1/messages?beta=true");
    assert_eq!(line["request"]["body"]["stream"], true);
    assert_eq!(line["response"]["status"], 200);
    assert!(line["response"]["chunks"].as_array().unwrap().len() >= 3);
    let all = std::fs::read_to_string(&path).unwrap();
    for hidden in ["MARKED", "0123456789", "x-api-key", "PLACEHOLDER", "org-private"] {
        assert!(!all.contains(hidden), "{hidden} in {all}");
    }
    assert!(all.contains("req_7") && all.contains("anthropic-ratelimit-requests-remaining"));

    let again = replay(&path).await;
    let (parts, replayed) = again.ask(r#"{"stream":true}"#).await;
    assert_eq!(parts.headers["request-id"], "req_7");
    assert_eq!(replayed, text.replace(MARKED, &"*".repeat(MARKED.len())));
}

#[tokio::test]
async fn ends_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("traffic.jsonl");
    let stub = Stub::raw(|parts, incoming| async move {
        let _ = incoming.collect().await;
        if parts.headers.contains_key("x-silent") {
            return std::future::pending().await;
        }
        let (feed, out) = fed();
        tokio::spawn(async move {
            feed.send(Ok("first".into())).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            if parts.headers.contains_key("x-cut") {
                let _ = feed.send(Err(std::io::Error::other("cut"))).await;
            }
            feed.closed().await;
        });
        http::Response::new(out)
    })
    .await;
    let rig = Rig::start(Upstream::Record(stub.upstream(), Recorder::create(&path, false).unwrap())).await;
    // Begins first and ends last: replay goes by the order of arrival.
    let mut leaving = rig.send(message(r#"{"n":0}"#)).await;
    assert!(soon(leaving.frame()).await.unwrap().is_ok());
    let mut request = message(r#"{"n":1}"#);
    request.headers_mut().insert("x-cut", "1".parse().unwrap());
    let response = rig.send(request).await;
    assert!(soon(response.collect()).await.is_err());
    recorded(&path, 1).await;
    drop(leaving);
    recorded(&path, 2).await;
    let mut request = message(r#"{"n":2}"#);
    request.headers_mut().insert("x-silent", "1".parse().unwrap());
    let mut in_flight = rig.grant.traffic().watch_in_flight();
    let addr = rig.addr();
    let silent = tokio::spawn(async move { crate::support::send(addr, request).await });
    soon(in_flight.wait_for(|count| *count == 1)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    silent.abort();
    let lines = recorded(&path, 3).await;
    let ends: Vec<_> = lines.iter().map(|line| (line["n"].as_u64().unwrap(), line["end"].as_str().unwrap())).collect();
    assert_eq!(ends, [(1, "upstream_cut"), (0, "client_left"), (2, "client_left")]);
    assert!(lines[2].get("response").is_none());

    let again = replay(&path).await;
    let mut first = again.send(message("{}")).await;
    assert_eq!(soon(first.frame()).await.unwrap().unwrap().into_data().unwrap(), "first");
    let hangs = tokio::time::timeout(std::time::Duration::from_millis(100), first.frame()).await;
    assert!(hangs.is_err(), "the agent is the one to leave");
    let second = again.send(message("{}")).await;
    assert!(soon(second.collect()).await.is_err());
}

#[tokio::test]
async fn recorded_pauses_are_kept_on_request() {
    let line = r#"{"recorded":1,"n":0,"at":"2026-01-01T00:00:00Z","request":{"method":"POST","path":"/v1/messages","headers":[],"bodyAbsent":null},"response":{"status":200,"headers":[],"ms":100,"chunks":[{"ms":200,"text":"a"},{"ms":300,"base64":"Yg=="}]},"end":"complete"}"#;
    for (speed, at_least, below) in
        [(ReplaySpeed::Fast, 0, 90), (ReplaySpeed::Times(10.0), 30, 250), (ReplaySpeed::Recorded, 300, 900)]
    {
        let rig = Rig::start(Upstream::Replay(Script::parse("t", line).unwrap(), speed)).await;
        let began = std::time::Instant::now();
        assert_eq!(rig.ask("{}").await.1, "ab");
        let took = began.elapsed().as_millis();
        assert!((at_least..below).contains(&took), "{speed:?} took {took} ms");
    }
}

#[tokio::test]
async fn failures_and_refusals_are_recorded_as_the_agent_saw_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("traffic.jsonl");
    let stub = Stub::noting(|_| reply(529, &[("retry-after", "3")], "overloaded")).await;
    let rig = Rig::start(Upstream::Record(stub.upstream(), Recorder::create(&path, false).unwrap())).await;
    rig.ask("{}").await;
    recorded(&path, 1).await;
    let again = replay(&path).await;
    let (parts, text) = whole(again.send(message("{}")).await).await;
    assert_eq!((parts.status.as_u16(), text.as_str()), (529, "overloaded"));
    assert_eq!(parts.headers["retry-after"], "3");
}

#[test]
fn an_existing_file_is_kept_unless_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Recorder::create(&path, false), Err(RecordError::Exists(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    Recorder::create(&path, true).unwrap();
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (0, 0o600));
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(Recorder::create(&link, true).is_err());
    assert!(matches!(Recorder::create("/nonexistent/x", false), Err(RecordError::Create { .. })));
}
