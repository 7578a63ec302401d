//! TLS to the upstream: HTTP/1.1 and 2, and whom not to trust.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use futures_util::future::join_all;
use supervisor::proxy::{TlsRoots, Upstream};

use crate::support::{MARKED, Rig, Stub, reply};

#[tokio::test]
async fn both_http_versions_by_tls() {
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
        let stub = Stub::noting_tls(alpn, |_| reply(200, &[], "ok")).await;
        let rig = Rig::live(&stub).await;
        assert_eq!(rig.ask("{}").await.1, "ok");
        let answers = join_all((0..20).map(|_| rig.ask("{}"))).await;
        assert!(answers.iter().all(|(parts, text)| parts.status == 200 && text == "ok"));
        if alpn.contains(&"h2") {
            assert_eq!(stub.connections.load(Ordering::SeqCst), 1, "one connection carries all");
        }
        for seen in stub.seen() {
            assert!(seen.line.ends_with("/v1/messages?beta=true"));
            assert_eq!(seen.headers["x-api-key"], MARKED);
        }
    }
}

#[tokio::test]
async fn an_untrusted_upstream_gets_nothing_and_is_not_retried() {
    let stub = Stub::noting_tls(&["h2"], |_| reply(200, &[], "ok")).await;
    let mut upstream = stub.upstream();
    upstream.roots = TlsRoots::Given(Arc::new(rustls::RootCertStore::empty()));
    let mut rig = Rig::start(Upstream::Live(upstream)).await;
    let (parts, text) = rig.ask("{}").await;
    assert_eq!(parts.status, 502);
    assert_eq!(parts.headers["x-should-retry"], "false");
    assert!(text.contains("SSL_CERT_FILE") && text.contains("localhost"), "{text}");
    assert!(rig.notice().await.contains("is not trusted"));
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let stub = Stub::noting_tls(&["h2"], |_| reply(200, &[], "ok")).await;
    let url = supervisor::proxy::UpstreamUrl::parse(&format!("https://127.0.0.1:{}", stub.addr.port()), false).unwrap();
    let mut upstream = stub.upstream();
    upstream.access = supervisor::proxy::ModelAccess::new(url, upstream.access.credential().clone());
    let rig = Rig::start(Upstream::Live(upstream)).await;
    let (parts, _) = rig.ask("{}").await;
    assert_eq!((parts.status.as_u16(), parts.headers["x-should-retry"].as_bytes()), (502, &b"false"[..]));
    assert!(stub.seen().is_empty());
}

/// The host's own roots are read from the environment, which a test must not change under others: it runs itself again.
#[tokio::test]
async fn the_hosts_ca_file_is_honoured() {
    const CHILD: &str = "AIGO_TEST_UPSTREAM_PORT";
    const NAME: &str = "tls::the_hosts_ca_file_is_honoured";
    if let Ok(port) = std::env::var(CHILD) {
        let credential =
            supervisor::proxy::Credential::new(supervisor::proxy::CredentialKind::ApiKey, MARKED.to_owned());
        let url = supervisor::proxy::UpstreamUrl::parse(&format!("https://localhost:{port}"), false).unwrap();
        let access = supervisor::proxy::ModelAccess::new(url, credential.unwrap());
        let upstream = supervisor::proxy::LiveUpstream { access, roots: TlsRoots::Native };
        let rig = Rig::start(Upstream::Live(upstream)).await;
        let (parts, text) = rig.ask("{}").await;
        assert_eq!((parts.status.as_u16(), text.as_str()), (200, "ok"));
        return;
    }
    let stub = Stub::noting_tls(&["h2"], |_| reply(200, &[], "ok")).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let der = base64::engine::general_purpose::STANDARD.encode(stub.ca.as_ref().unwrap());
    std::fs::write(file.path(), format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n")).unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args([NAME, "--exact"]).env(CHILD, stub.addr.port().to_string()).env("SSL_CERT_FILE", file.path());
    let output = crate::support::soon(child.kill_on_drop(true).output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    assert_eq!(stub.seen().len(), 1);
}
