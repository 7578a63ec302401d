//! Each failure is told as the fault of the one whose it is: the container, this host, the network, or the upstream.

use http_body_util::BodyExt;
use supervisor::proxy::{ReplaySpeed, Script, TlsRoots, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{MARKED, Rig, Stub, fed, raw, read_out, reply};

/// A request whose body is announced in chunks and ends with something that is none.
const MALFORMED_CHUNK: &str =
    "POST /v1/messages HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\nnot a size\r\n";

/// An upstream that answers every connection with these bytes once it has got something, and then closes it.
async fn answering(bytes: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = [0; 4096];
            let _ = stream.read(&mut got).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    address
}

/// A proxy whose upstream is at this address.
async fn rig_at(address: std::net::SocketAddr) -> Rig {
    let mut stub = Stub::noting(|_| reply(200, &[], "not asked")).await;
    stub.addr = address;
    Rig::live(&stub).await
}

#[tokio::test]
async fn a_malformed_chunk_is_400_and_the_containers_fault() {
    let plain = Stub::noting(|_| reply(200, &[], "ok")).await;
    let tls = Stub::noting_tls(&["h2"], |_| reply(200, &[], "ok")).await;
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), "{\"say\": \"ok\"}\n").unwrap();
    let replay = Upstream::Replay(Script::load(script.path()).unwrap(), ReplaySpeed::Fast);
    for upstream in [Upstream::Live(plain.upstream()), Upstream::Live(tls.upstream()), replay] {
        let mut rig = Rig::start(upstream).await;
        let got = raw(rig.addr(), MALFORMED_CHUNK).await;
        assert!(got.starts_with("HTTP/1.1 400") && got.contains("its body is malformed"), "{got}");
        assert!(got.to_lowercase().contains("x-should-retry: false") && !got.contains('\''), "{got}");
        let notice = rig.notice().await;
        assert!(notice.starts_with("refused a malformed request of the container: its body is malformed"), "{notice}");
        assert!(!notice.contains("upstream") && !notice.contains("localhost") && !notice.contains('\\'), "{notice}");
        assert_eq!(rig.ask("{}").await.0.status, 200, "the next request is carried");
        assert!(rig.notices.try_recv().is_err(), "one notice is enough");
    }
}

#[tokio::test]
async fn a_malformed_chunk_after_the_answer_began_is_not_the_upstreams_fault() {
    let (feed, out) = fed();
    let out = std::sync::Mutex::new(Some(out));
    let stub = Stub::raw(move |_, incoming| {
        let out = out.lock().unwrap().take();
        async move {
            // Answers at once, and goes on reading.
            tokio::spawn(incoming.collect());
            http::Response::new(out.unwrap())
        }
    })
    .await;
    let mut rig = Rig::live(&stub).await;
    let mut stream = TcpStream::connect(rig.addr()).await.unwrap();
    let (good, bad) = MALFORMED_CHUNK.split_at(MALFORMED_CHUNK.find("not a size").unwrap());
    stream.write_all(good.as_bytes()).await.unwrap();
    feed.send(Ok("begun".into())).await.unwrap();
    let got = read_out(&mut stream).await;
    assert!(got.starts_with("HTTP/1.1 200") && got.contains("begun"), "{got}");
    stream.write_all(bad.as_bytes()).await.unwrap();
    let notice = rig.notice().await;
    assert!(notice.contains("of the container: its body is malformed"), "{notice}");
}

#[tokio::test]
async fn no_host_header_two_or_a_bad_one_are_400() {
    let stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    let mut rig = Rig::live(&stub).await;
    for (hosts, reason) in [
        ("", "no Host header"),
        ("host: h\r\nhost: h\r\n", "2 Host headers"),
        ("host: h\r\nx: y\r\nHOST: evil.example\r\n", "2 Host headers"),
        ("host: user@evil.example\r\n", "its Host header is not a host name"),
        ("host:\r\n", "its Host header is not a host name"),
    ] {
        for line in ["POST /v1/messages", "GET /aigo/health"] {
            let request = format!("{line} HTTP/1.1\r\n{hosts}content-length: 0\r\n\r\n");
            let got = raw(rig.addr(), &request).await;
            assert!(got.starts_with("HTTP/1.1 400") && got.contains(reason), "{hosts}: {got}");
            let notice = rig.notice().await;
            assert!(notice.contains("of the container") && notice.contains(reason), "{notice}");
        }
    }
    let old = raw(rig.addr(), "GET /aigo/health HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200"), "HTTP/1.0 has no Host header: {old}");
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_head_that_is_not_http_is_the_containers_fault() {
    let stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    let mut rig = Rig::live(&stub).await;
    for head in [
        "\x16\x03\x01\x02\x00\x01 this is TLS\r\n\r\n",
        "POST /v1/messages\r\n\r\n",
        "GET / HTTP/1.1\r\na b: c\r\n\r\n",
    ] {
        let got = raw(rig.addr(), head).await;
        assert!(got.is_empty() || got.starts_with("HTTP/1.1 400"), "{got}");
        let notice = rig.notice().await;
        assert!(notice.contains("of the container: its head is not HTTP/1.1"), "{notice}");
    }
}

#[tokio::test]
async fn a_redirect_is_passed_back_and_named() {
    let other = Stub::noting(|_| reply(200, &[], "should not be asked")).await;
    let named = format!("127.0.0.1:{}", other.addr.port());
    for (location, status, target) in [
        (format!("http://{named}/v1/messages?key=hidden"), 307, named.as_str()),
        (format!("http://user:hidden@{named}/"), 301, &named),
        ("/somewhere/hidden".to_owned(), 308, "another path of the same host"),
        (format!("https://h.example/?key={MARKED}"), 302, "an address that cannot be shown"),
    ] {
        let stub = Stub::noting(move |_| {
            let headers = [("location", location.as_str()), ("content-type", "text/html"), ("x-kept", "yes")];
            reply(status, &headers, "<h1>Moved</h1>")
        })
        .await;
        let mut rig = Rig::live(&stub).await;
        let (parts, text) = rig.ask("{}").await;
        assert_eq!(parts.status, status);
        assert_eq!(parts.headers.contains_key("location"), !target.contains("shown"), "the redirect is passed back");
        assert_eq!(parts.headers["x-kept"], "yes");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let sentence = json["error"]["message"].as_str().unwrap();
        for part in [target, "not followed", "ANTHROPIC_BASE_URL", &format!("HTTP {status}")] {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
        assert!(!sentence.contains("hidden") && !sentence.contains("MARKED"), "{sentence}");
        assert_eq!(rig.notice().await, sentence);
        assert!(other.seen().is_empty() && stub.seen().len() == 1);
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_was_reached() {
    for (answer, reason) in
        [(&b""[..], "it broke off before it answered"), (b"SSH-2.0-OpenSSH_9.9\r\n", "its answer is not HTTP")]
    {
        let mut rig = rig_at(answering(answer).await).await;
        let (parts, text) = rig.ask("{}").await;
        assert_eq!(parts.status, 502);
        assert!(!parts.headers.contains_key("x-should-retry"), "the upstream may come back");
        assert!(text.contains("was reached and gave no answer") && text.contains(reason), "{text}");
        let notice = rig.notice().await;
        assert!(notice.contains("127.0.0.1 was reached") && notice.contains(reason), "{notice}");
    }
}

#[tokio::test]
async fn an_upstream_without_tls_or_without_a_connection_is_told_apart() {
    let mut plain = Stub::noting_tls(&["http/1.1"], |_| reply(200, &[], "ok")).await;
    plain.addr = answering(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let mut rig = Rig::live(&plain).await;
    let (parts, text) = rig.ask("{}").await;
    assert_eq!(parts.status, 502);
    assert!(text.contains("was reached") && text.contains("TLS handshake failed"), "{text}");
    assert!(rig.notice().await.contains("TLS handshake failed"));

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut rig = rig_at(nobody).await;
    let (parts, text) = rig.ask("{}").await;
    assert_eq!(parts.status, 502);
    assert!(text.contains("cannot be reached from this host") && text.contains("firewall"), "{text}");
    assert!(rig.notice().await.contains("cannot be reached"));
}

/// The host's own roots are read from the environment, which a test must not change under others: it runs itself again.
#[tokio::test]
async fn a_host_without_ca_certificates_is_not_the_upstreams_fault() {
    const CHILD: &str = "AIGO_TEST_NO_ROOTS";
    const NAME: &str = "faults::a_host_without_ca_certificates_is_not_the_upstreams_fault";
    if std::env::var_os(CHILD).is_some() {
        let stub = Stub::noting_tls(&["h2"], |_| reply(200, &[], "ok")).await;
        let mut upstream = stub.upstream();
        upstream.roots = TlsRoots::Native;
        let mut rig = Rig::start(Upstream::Live(upstream)).await;
        let (parts, text) = rig.ask("{}").await;
        assert_eq!(parts.status, 502);
        assert!(text.contains("this host's CA certificates cannot be loaded"), "{text}");
        assert!(rig.notice().await.contains("SSL_CERT_FILE"));
        return;
    }
    let empty = tempfile::tempdir().unwrap();
    let file = empty.path().join("none.pem");
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args([NAME, "--exact"]).env(CHILD, "1").env("SSL_CERT_FILE", &file).env("SSL_CERT_DIR", empty.path());
    let output = crate::support::soon(child.kill_on_drop(true).output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
