//! The marked credential appears nowhere but at its own upstream: not in a log at the most talkative level, not in
//! `Debug` output, errors, notices, answers, recordings.

use std::io::Write;
use std::sync::{Arc, Mutex};

use supervisor::proxy::{CredentialKind, Recorder, Upstream};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{MARKED, Rig, Stub, message, raw, reply, whole};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn the_secret_is_seen_by_its_upstream_only() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    // One runtime thread: the default of this thread is that of every task.
    let _guard = tracing::subscriber::set_default(subscriber);
    let directory = tempfile::tempdir().unwrap();
    let mut shown = String::new();
    for (index, kind) in
        [CredentialKind::ApiKey, CredentialKind::AuthToken, CredentialKind::OauthToken].into_iter().enumerate()
    {
        for tls in [false, true] {
            let answer = |seen: &crate::support::Seen| {
                let echo = format!("{:?}", seen.headers);
                match seen.headers.get("x-want").and_then(|value| value.to_str().ok()) {
                    Some("401") => reply(401, &[("x-echo", MARKED)], echo),
                    Some("403") => reply(403, &[("x-echo", MARKED)], echo),
                    Some("302") => reply(302, &[("location", &format!("http://127.0.0.1:9/{MARKED}"))], ""),
                    Some("500") => reply(500, &[("x-echo", MARKED)], "broken"),
                    _ => reply(200, &[("x-echo", MARKED), ("content-type", "application/json")], "{}"),
                }
            };
            let stub = if tls { Stub::noting_tls(&["h2"], answer).await } else { Stub::noting(answer).await };
            let path = directory.path().join(format!("{index}-{tls}.jsonl"));
            let upstream = stub.upstream_as(kind, "/prefix");
            shown += &format!("{upstream:?}");
            let recorder = Recorder::create(&path, false).unwrap();
            let mut rig = Rig::start(Upstream::Record(upstream, recorder)).await;
            for want in ["200", "401", "403", "302", "500"] {
                let mut request = message(r#"{"stream":true}"#);
                request.headers_mut().insert("x-want", want.parse().unwrap());
                let (parts, text) = whole(rig.send(request).await).await;
                assert_eq!(parts.status.as_str(), want);
                shown += &format!("{parts:?}{text}");
            }
            shown += &raw(rig.addr(), "GET /v1/files HTTP/1.1\r\nhost: h\r\n\r\n").await;
            shown += &raw(rig.addr(), "TRACE /v1/messages HTTP/1.1\r\nhost: h\r\nmax-forwards: 0\r\n\r\n").await;
            shown += &format!("{:?} {:?} {:?}", rig.proxy, rig.grant, rig.grant.traffic().usage());
            assert!(
                stub.seen().len() == 5 && stub.seen().iter().all(|seen| format!("{:?}", seen.headers).contains(MARKED))
            );
            drop(stub);
            let (parts, text) = rig.ask("{}").await;
            shown += &format!("{parts:?}{text}");
            while let Ok(notice) = rig.notices.try_recv() {
                shown += &format!("{notice:?} {}", notice.kind);
            }
            shown += &std::fs::read_to_string(&path).unwrap();
        }
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("TRACE"), "the log was looked at");
    for (what, text) in [("log", &log), ("output", &shown)] {
        if let Some(at) = text.find("MARKED") {
            let from = text.floor_char_boundary(at.saturating_sub(300));
            panic!("the credential is in the {what}: …{}", &text[from..at]);
        }
    }
}
