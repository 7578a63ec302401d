//! Requests that try to get the credential somewhere else, or to get more out of the proxy than it is for.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{MARKED, Rig, Stub, message, raw, read_out, reply, whole};

#[tokio::test]
async fn requests_for_elsewhere_are_refused() {
    let other = Stub::noting(|_| reply(200, &[], "should not be asked")).await;
    let stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    let mut rig = Rig::live(&stub).await;
    let absolute = format!(
        "POST http://{}/v1/messages HTTP/1.1\r\nhost: {}\r\ncontent-length: 2\r\n\r\n{{}}",
        other.addr, other.addr
    );
    let connect = format!("CONNECT {} HTTP/1.1\r\nhost: {}\r\n\r\n", other.addr, other.addr);
    for request in [absolute, connect] {
        let got = raw(rig.addr(), &request).await;
        assert!(got.starts_with("HTTP/1.1 400") && got.contains("not a forward proxy"), "{got}");
        assert!(got.to_lowercase().contains("x-should-retry: false"));
        assert!(rig.notice().await.contains("does not carry"));
    }
    assert!(other.seen().is_empty() && stub.seen().is_empty());
}

#[tokio::test]
async fn a_foreign_host_header_changes_nothing() {
    let stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    let rig = Rig::live(&stub).await;
    for hosts in ["host: evil.example", "host: h\r\nx-forwarded-host: evil.example"] {
        let got = raw(
            rig.addr(),
            &format!("POST /v1/messages HTTP/1.1\r\n{hosts}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"),
        )
        .await;
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    }
    assert_eq!(stub.seen().len(), 2);
    for seen in stub.seen() {
        assert_eq!(seen.headers.get_all("host").iter().collect::<Vec<_>>(), [&stub.addr.to_string()]);
        assert!(!format!("{:?}", seen.headers).contains("evil"));
    }
}

#[tokio::test]
async fn what_is_not_the_model_api_is_refused_with_a_sentence() {
    let stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    let mut rig = Rig::live(&stub).await;
    for line in ["GET /v1/files", "POST /v1/messages/batches", "POST /v1/messages/../files", "GET /v1/organizations/me"]
    {
        let got = raw(rig.addr(), &format!("{line} HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n")).await;
        assert!(got.starts_with("HTTP/1.1 404") && got.contains("does not carry"), "{got}");
        assert!(rig.notice().await.contains(line));
    }
    assert!(stub.seen().is_empty());
}

/// Both lengths at once: whichever one wins, the bytes after it are either this request's body or one request of the same
/// caller, and each gets the credential taken off and put on again.
#[tokio::test]
async fn smuggled_requests_stay_requests_of_this_caller() {
    let stub = Stub::noting(|seen| reply(200, &[], format!("<{}>", seen.line))).await;
    let rig = Rig::live(&stub).await;
    let hidden = "POST /v1/files HTTP/1.1\r\nhost: h\r\nx-api-key: stolen\r\ncontent-length: 0\r\n\r\n";
    let attempts = [
        format!("content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("transfer-encoding: chunked\r\ncontent-length: 200\r\n\r\n0\r\n\r\n{hidden}"),
        format!("content-length: 0\r\ncontent-length: 50\r\n\r\n{hidden}"),
        format!("content-length: 0, 50\r\n\r\n{hidden}"),
        format!("transfer-encoding: identity, chunked\r\ntransfer-encoding : x\r\n\r\n0\r\n\r\n{hidden}"),
        format!("transfer-encoding: xchunked\r\ncontent-length: 2\r\n\r\n{{}}{hidden}"),
        format!("content-length: +2\r\n\r\n{{}}{hidden}"),
        format!("content-length: 2\r\nconnection: x-api-key, content-length\r\n\r\n{{}}{hidden}"),
    ];
    for attempt in attempts {
        let got = raw(rig.addr(), &format!("POST /v1/messages HTTP/1.1\r\nhost: h\r\n{attempt}")).await;
        assert!(!got.contains("</v1/files>"), "{got}");
    }
    for seen in stub.seen() {
        assert_eq!(seen.line, "POST /v1/messages", "nothing else reaches the upstream");
        assert_eq!(seen.headers.get_all("x-api-key").iter().collect::<Vec<_>>(), [MARKED]);
        assert!(!seen.body.windows(6).any(|window| window == b"stolen"));
    }
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    let mut rig = Rig::live(&stub).await;
    let many: String = (0..500).map(|index| format!("x-{index}: y\r\n")).collect();
    let got = raw(rig.addr(), &format!("POST /v1/messages HTTP/1.1\r\n{many}content-length: 0\r\n\r\n")).await;
    assert!(got.starts_with("HTTP/1.1 431"), "{got}");
    assert!(rig.notice().await.contains("of the container: its head has more than 100 headers or 64 KiB"));
    let long = "y".repeat(512 * 1024);
    let got = raw(rig.addr(), &format!("POST /v1/messages HTTP/1.1\r\nx: {long}\r\ncontent-length: 0\r\n\r\n")).await;
    assert!(got.is_empty() || got.starts_with("HTTP/1.1 431"), "{got}");
    let got = raw(rig.addr(), "\x16\x03\x01\x02\x00\x01 this is TLS\r\n\r\n").await;
    assert!(got.is_empty() || got.starts_with("HTTP/1.1 400"), "{got}");
    assert!(stub.seen().is_empty());
    assert_eq!(rig.ask("{}").await.0.status, 200, "still there");
}

#[tokio::test]
async fn answers_lose_what_echoes_the_credential() {
    let stub = Stub::noting(|seen| {
        let echo = seen.headers["x-api-key"].to_str().unwrap().to_owned();
        let bearer = format!("Bearer {echo}");
        reply(
            200,
            &[
                ("x-echo", &echo),
                ("www-authenticate", &bearer),
                ("location", &format!("https://h/?key={echo}")),
                ("set-cookie", "session=abc"),
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("x-kept", "yes"),
            ],
            "ok",
        )
    })
    .await;
    let rig = Rig::live(&stub).await;
    let (parts, _) = rig.ask("{}").await;
    let mut names: Vec<_> = parts.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "date", "x-kept"]);
}

#[tokio::test]
async fn a_refusal_arrives_although_the_body_was_not_wanted() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    stub.addr = gone;
    let rig = Rig::live(&stub).await;
    let large = "x".repeat(2 * 1024 * 1024);
    for (line, status) in [("/v1/messages", "502"), ("/v1/files", "404")] {
        let mut stream = TcpStream::connect(rig.addr()).await.unwrap();
        let head = format!("POST {line} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", large.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(large.as_bytes()).await.unwrap();
        let got = read_out(&mut stream).await;
        assert!(got.starts_with(&format!("HTTP/1.1 {status}")) && got.contains(r#""type":"error""#), "{got}");
    }
    let (parts, text) = whole(rig.send(message("{}")).await).await;
    assert!(!parts.headers.contains_key("x-should-retry"), "the upstream may come back");
    assert!(text.contains("cannot be reached"), "{text}");
}
