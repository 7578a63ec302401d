//! What passes, and how.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use supervisor::proxy::{CredentialKind, TokenCounts, Upstream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Notify};

use crate::support::{
    MARKED, Rig, Stub, body, connect_from, fed, message, raw, read_out, reply, send, send_over, soon, whole,
};

const SSE: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"usage":{"input_tokens":11,"output_tokens":1}}}"#,
    "\n\n",
    "event: message_delta\n",
    r#"data: {"type":"message_delta","usage":{"output_tokens":22}}"#,
    "\n\n",
);

#[tokio::test]
async fn both_bodies_stream_without_being_held_back() {
    let (answer, answer_body) = fed();
    let answer_body = Arc::new(Mutex::new(Some(answer_body)));
    let (up_sender, mut up) = tokio::sync::mpsc::channel::<Bytes>(4);
    let stub = Stub::raw(move |_, mut incoming| {
        let (answer_body, up_sender) = (Arc::clone(&answer_body), up_sender.clone());
        async move {
            let first = incoming.frame().await.unwrap().unwrap().into_data().unwrap();
            up_sender.send(first).await.unwrap();
            // Answers while the request is still being sent.
            tokio::spawn(async move {
                while let Some(Ok(frame)) = incoming.frame().await {
                    up_sender.send(frame.into_data().unwrap()).await.unwrap();
                }
            });
            http::Response::new(answer_body.lock().await.take().unwrap())
        }
    })
    .await;
    let rig = Rig::live(&stub).await;
    let (request, request_body) = fed();
    request.send(Ok("one".into())).await.unwrap();
    let call = Request::post("/v1/messages").body(request_body).unwrap();
    let mut response = rig.send(call).await;
    assert_eq!(soon(up.recv()).await.unwrap(), "one");
    for word in ["a", "b", "c"] {
        answer.send(Ok(Bytes::from(word))).await.unwrap();
        assert_eq!(soon(response.frame()).await.unwrap().unwrap().into_data().unwrap(), word);
        request.send(Ok(Bytes::from(word))).await.unwrap();
        assert_eq!(soon(up.recv()).await.unwrap(), word);
    }
    assert_eq!(rig.grant.traffic().in_flight(), 1);
    drop((answer, request));
    assert!(soon(response.frame()).await.is_none());
}

#[tokio::test]
async fn one_credential_takes_the_place_of_both_and_the_path_prefix_stays() {
    for (kind, name, value, betas) in [
        (CredentialKind::ApiKey, "x-api-key", MARKED.to_owned(), vec!["one,two"]),
        (CredentialKind::AuthToken, "authorization", format!("Bearer {MARKED}"), vec!["one,two"]),
        (CredentialKind::OauthToken, "authorization", format!("Bearer {MARKED}"), vec!["one,two", "oauth-2025-04-20"]),
    ] {
        let stub = Stub::noting(|_| reply(200, &[], "{}")).await;
        let rig = Rig::start(Upstream::Live(stub.upstream_as(kind, "/some/path/"))).await;
        let mut request = message(r#"{"model":"m"}"#);
        let headers = request.headers_mut();
        headers.insert("authorization", "Bearer CREDENTIAL_PROXY_PLACEHOLDER".parse().unwrap());
        headers.insert("proxy-authorization", "Basic x".parse().unwrap());
        headers.insert("anthropic-beta", "one,two".parse().unwrap());
        headers.insert("host", "evil.example".parse().unwrap());
        let (parts, _) = whole(rig.send(request).await).await;
        assert_eq!(parts.status, 200);
        let seen = &stub.seen()[0];
        assert_eq!(seen.line, "POST /some/path/v1/messages?beta=true");
        assert_eq!(seen.headers["host"], stub.addr.to_string());
        assert_eq!(seen.headers["accept-encoding"], "identity");
        assert_eq!(seen.headers.get(name).unwrap().to_str().unwrap(), value);
        let credentials = seen
            .headers
            .iter()
            .filter(|(n, _)| ["x-api-key", "authorization", "proxy-authorization"].contains(&n.as_str()));
        assert_eq!(credentials.count(), 1);
        assert_eq!(seen.headers.get_all("anthropic-beta").iter().collect::<Vec<_>>(), betas);
        assert_eq!(seen.body, r#"{"model":"m"}"#);
    }
}

#[tokio::test]
async fn a_client_that_leaves_aborts_the_upstream_call() {
    struct Told(Arc<Notify>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    // Before the head: the handler's future is dropped when its connection is.
    let (arrived, aborted) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = (Arc::clone(&arrived), Arc::clone(&aborted));
    let stub = Stub::raw(move |_, incoming| {
        let told = told.clone();
        async move {
            let _ = incoming.collect().await;
            let _guard = Told(told.1);
            told.0.notify_one();
            std::future::pending().await
        }
    })
    .await;
    let rig = Rig::live(&stub).await;
    let call = tokio::spawn(send_over(TcpStream::connect(rig.addr()).await.unwrap(), message("{}")));
    soon(arrived.notified()).await;
    let traffic = rig.grant.traffic();
    assert_eq!(traffic.in_flight(), 1);
    let mut stream = TcpStream::connect(rig.addr()).await.unwrap();
    stream.write_all(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    soon(arrived.notified()).await;
    assert_eq!(traffic.in_flight(), 2);
    drop(stream);
    soon(aborted.notified()).await;
    // From two to one nobody is woken.
    let one_left = async {
        while traffic.in_flight() != 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(one_left).await;
    call.abort();

    // In the middle of the body: the feed's other end goes away.
    let (answer, answer_body) = fed();
    let answer_body = Arc::new(Mutex::new(Some(answer_body)));
    let stub = Stub::raw(move |_, _| {
        let answer_body = Arc::clone(&answer_body);
        async move { http::Response::new(answer_body.lock().await.take().unwrap()) }
    })
    .await;
    let rig = Rig::live(&stub).await;
    answer.send(Ok("x".into())).await.unwrap();
    let mut response = rig.send(message("{}")).await;
    assert!(soon(response.frame()).await.unwrap().is_ok());
    drop(response);
    soon(answer.closed()).await;
}

#[tokio::test]
async fn errors_of_the_upstream_pass_unchanged() {
    for status in [429, 500, 529, 400, 413] {
        let text = format!(r#"{{"type":"error","error":{{"type":"x","message":"{status}"}}}}"#);
        let given = text.clone();
        let stub = Stub::noting(move |_| {
            reply(
                status,
                &[("retry-after", "7"), ("request-id", "req_1"), ("content-type", "application/json")],
                given.clone(),
            )
        })
        .await;
        let rig = Rig::live(&stub).await;
        let (parts, got) = rig.ask("{}").await;
        assert_eq!((parts.status.as_u16(), got), (status, text));
        assert_eq!(parts.headers["retry-after"], "7");
        assert_eq!(parts.headers["request-id"], "req_1");
        assert!(!parts.headers.contains_key("x-should-retry"));
        assert_eq!(rig.grant.traffic().usage().statuses[&status], 1);
    }
}

#[tokio::test]
async fn a_refused_credential_is_explained_once_and_not_retried() {
    let stub = Stub::noting(|_| {
        let text = format!(
            r#"{{"type":"error","error":{{"type":"authentication_error","message":"invalid x-api-key {MARKED}"}}}}"#
        );
        reply(401, &[("content-type", "application/json"), ("x-echo", MARKED)], text)
    })
    .await;
    let mut rig = Rig::live(&stub).await;
    let (parts, text) = rig.ask("{}").await;
    assert_eq!(parts.status, 401);
    assert_eq!(parts.headers["x-should-retry"], "false");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let sentence = json["error"]["message"].as_str().unwrap();
    assert!(sentence.contains("ANTHROPIC_API_KEY") && sentence.contains("invalid API key ****"), "{sentence}");
    assert!(!format!("{parts:?} {text}").contains("MARKED"));
    assert!(rig.notice().await.contains("refused the credential of ANTHROPIC_API_KEY (HTTP 401)"));

    let stub = Stub::noting(|_| reply(403, &[], format!("no such model for {MARKED}"))).await;
    let rig = Rig::live(&stub).await;
    let (parts, text) = rig.ask("{}").await;
    assert_eq!((parts.status.as_u16(), text), (403, format!("no such model for {}", "*".repeat(MARKED.len()))));
    assert_eq!(parts.headers["x-should-retry"], "false");
}

#[tokio::test]
async fn cut_streams_arrive_cut_and_slow_ones_whole() {
    let stub = Stub::raw(|parts, incoming| async move {
        let _ = incoming.collect().await;
        let (feed, out) = fed();
        tokio::spawn(async move {
            for word in ["a", "b", "c"] {
                feed.send(Ok(Bytes::from(word))).await.unwrap();
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            if parts.headers.contains_key("x-cut") {
                feed.send(Err(std::io::Error::other("cut"))).await.unwrap();
            }
        });
        http::Response::new(out)
    })
    .await;
    let mut rig = Rig::live(&stub).await;
    assert_eq!(rig.ask("{}").await.1, "abc");
    assert!(rig.notices.try_recv().is_err(), "a whole answer is no news");
    let mut request = message("{}");
    request.headers_mut().insert("x-cut", "1".parse().unwrap());
    let mut response = rig.send(request).await;
    let mut got = Vec::new();
    let end = loop {
        match soon(response.frame()).await {
            Some(Ok(frame)) => got.extend_from_slice(&frame.into_data().unwrap()),
            end => break end,
        }
    };
    assert_eq!(got, b"abc");
    assert!(end.is_some_and(|end| end.is_err()), "a cut must not look like an end");
    assert!(rig.notice().await.starts_with("the answer of 127.0.0.1 broke off in the middle"));
    let usage = rig.grant.traffic().usage();
    assert_eq!((usage.requests, usage.statuses[&200], usage.bytes_down, usage.bytes_up), (2, 2, 6, 4));
    assert_eq!(usage.uncounted, 2);
}

#[tokio::test]
async fn tokens_and_activity_are_counted_per_session() {
    let stub = Stub::noting(|_| reply(200, &[("content-type", "text/event-stream")], SSE)).await;
    let rig = Rig::live(&stub).await;
    let traffic = rig.grant.traffic();
    let before = traffic.last_activity();
    tokio::time::sleep(Duration::from_millis(10)).await;
    for _ in 0..2 {
        assert_eq!(rig.ask("{}").await.1, SSE);
    }
    let usage = traffic.usage();
    assert_eq!(usage.tokens, TokenCounts { input: 22, output: 44, ..TokenCounts::default() });
    assert_eq!((usage.requests, usage.uncounted), (2, 0));
    assert!(traffic.last_activity() > before);
    let mut watch = traffic.watch_in_flight();
    soon(watch.wait_for(|count| *count == 0)).await.unwrap();
}

#[tokio::test]
async fn connections_are_reused_and_pipelined_requests_are_answered_in_order() {
    let stub = Stub::noting(|seen| reply(200, &[], format!("<{}>", String::from_utf8_lossy(&seen.body)))).await;
    let rig = Rig::live(&stub).await;
    let one = |text: &str| {
        format!("POST /v1/messages HTTP/1.1\r\nhost: h\r\nx-api-key: p\r\ncontent-length: {}\r\n\r\n{text}", text.len())
    };
    let got = raw(rig.addr(), &[one("first"), one("second"), one("third")].concat()).await;
    let order: Vec<_> = ["<first>", "<second>", "<third>"].iter().map(|part| got.find(part).unwrap()).collect();
    assert!(order.is_sorted() && got.matches("HTTP/1.1 200 OK").count() == 3, "{got}");
    assert_eq!(stub.connections.load(Ordering::SeqCst), 1, "upstream connection reused");
    assert!(stub.seen().iter().all(|seen| seen.headers["x-api-key"] == MARKED));
}

#[tokio::test]
async fn chunked_bodies_pass_and_their_trailers_do_not() {
    let stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    let rig = Rig::live(&stub).await;
    let got = raw(
        rig.addr(),
        "POST /v1/messages HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ntrailer: x-api-key\r\n\r\n\
         3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\nx-api-key: smuggled\r\n\r\n",
    )
    .await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    let seen = &stub.seen()[0];
    assert_eq!(seen.body, r#"{"a":1}"#);
    assert_eq!(seen.headers.get_all("x-api-key").iter().collect::<Vec<_>>(), [MARKED]);
    assert!(!seen.headers.contains_key("trailer"));
}

#[tokio::test]
async fn compressed_answers_pass_untouched_and_uncounted() {
    let packed: &[u8] = &[31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 174, 5, 0, 67, 191, 166, 163, 2, 0, 0, 0];
    let stub = Stub::noting(move |_| {
        reply(200, &[("content-encoding", "gzip"), ("content-type", "application/json")], Bytes::from_static(packed))
    })
    .await;
    let rig = Rig::live(&stub).await;
    let response = rig.send(message("{}")).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(soon(response.collect()).await.unwrap().to_bytes(), packed);
    assert_eq!(rig.grant.traffic().usage().uncounted, 1);
}

#[tokio::test]
async fn strangers_get_a_readable_403_and_are_reported() {
    let stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    let mut rig = Rig::live(&stub).await;
    for request in [message("{}"), Request::get("/aigo/health").body(body("")).unwrap()] {
        let response = send_over(connect_from("127.0.0.2", rig.addr()).await, request).await.unwrap();
        let (parts, text) = whole(response).await;
        assert_eq!(parts.status, 403);
        assert_eq!(parts.headers["x-should-retry"], "false");
        assert!(text.contains(r#""type":"permission_error""#), "{text}");
        assert!(rig.notice().await.contains("127.0.0.2"));
    }
    let second = rig.proxy.grant("127.0.0.2".parse().unwrap(), "s2").unwrap();
    let response = send_over(connect_from("127.0.0.2", rig.addr()).await, message("{}")).await.unwrap();
    assert_eq!(whole(response).await.0.status, 200);
    assert_eq!(second.traffic().usage().requests, 1);
    assert_eq!(rig.grant.traffic().usage().requests, 0);
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn the_end_of_a_grant_cuts_what_is_open() {
    let stub = Stub::raw(|_, _| std::future::pending()).await;
    let rig = Rig::live(&stub).await;
    let traffic = rig.grant.traffic();
    let mut watch = traffic.watch_in_flight();
    let mut idle = TcpStream::connect(rig.addr()).await.unwrap();
    idle.write_all(b"GET /aigo/health HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    assert!(read_out(&mut idle).await.ends_with("ok"));
    let mut busy = TcpStream::connect(rig.addr()).await.unwrap();
    busy.write_all(b"POST /v1/messages HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    soon(watch.wait_for(|count| *count == 1)).await.unwrap();
    let Rig { proxy, grant, notices: _notices } = rig;
    grant.revoke();
    soon(watch.wait_for(|count| *count == 0)).await.unwrap();
    assert_eq!(read_out(&mut busy).await, "");
    let _ = idle.write_all(b"GET /aigo/health HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(read_out(&mut idle).await, "");
    let (parts, _) = whole(send(proxy.local_addr(), message("{}")).await).await;
    assert_eq!(parts.status, 403);
}

#[tokio::test]
async fn health_and_hello_are_answered_here() {
    let stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    let rig = Rig::live(&stub).await;
    let health = Request::get("/aigo/health").body(body("")).unwrap();
    assert_eq!(whole(rig.send(health).await).await.1, "ok");
    let hello = Request::builder().method(Method::HEAD).uri("/api/hello").body(body("")).unwrap();
    assert_eq!(rig.send(hello).await.status(), 200);
    assert!(stub.seen().is_empty());
    assert_eq!(rig.grant.traffic().usage().requests, 0);
}
