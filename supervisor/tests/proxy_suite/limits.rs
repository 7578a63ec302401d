//! Nothing waits for ever, and nothing grows without a bound.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use supervisor::proxy::{Limits, Proxy, ProxyConfig, StartError, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::{Rig, Stub, connect_from, fed, message, read_out, reply, send, send_over, soon, whole};

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_silent_upstream_is_given_up() {
    let stub = Stub::raw(|_, _| std::future::pending()).await;
    let limits = Limits { response_head: SHORT, ..Limits::default() };
    let rig = Rig::start_with(Upstream::Live(stub.upstream()), limits).await;
    let (parts, text) = rig.ask("{}").await;
    assert_eq!(parts.status, 504);
    assert!(text.contains("timeout_error"), "{text}");
    assert!(!parts.headers.contains_key("x-should-retry"));
}

#[tokio::test]
async fn silence_in_a_body_cuts_it_either_way() {
    let (feed, out) = fed();
    let out = std::sync::Mutex::new(Some(out));
    let stub = Stub::raw(move |_, _| {
        let out = out.lock().unwrap().take();
        async move {
            match out {
                Some(out) => http::Response::new(out),
                None => std::future::pending().await,
            }
        }
    })
    .await;
    let limits = Limits { body_idle: SHORT, ..Limits::default() };
    let mut rig = Rig::start_with(Upstream::Live(stub.upstream()), limits).await;
    feed.send(Ok(Bytes::from("a"))).await.unwrap();
    let mut response = rig.send(message("{}")).await;
    assert!(soon(response.frame()).await.unwrap().is_ok());
    assert!(soon(response.frame()).await.unwrap().is_err());
    soon(feed.closed()).await;
    assert!(rig.notice().await.contains("127.0.0.1 broke off in the middle: nothing came for"));

    let mut stream = TcpStream::connect(rig.addr()).await.unwrap();
    stream.write_all(b"POST /v1/messages HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
    let mut got = String::new();
    let _ = soon(stream.read_to_string(&mut got)).await;
    assert!(got.starts_with("HTTP/1.1 408") && got.contains("nothing of its body came"), "{got}");
    assert!(rig.notice().await.contains("malformed request of the container: nothing of its body came"));
}

#[tokio::test]
async fn clients_that_dawdle_are_closed() {
    let stub = Stub::raw(|_, _| async {
        let (feed, out) = fed();
        tokio::spawn(async move { while feed.send(Ok(Bytes::from(vec![b'x'; 1 << 20]))).await.is_ok() {} });
        http::Response::new(out)
    })
    .await;
    let limits = Limits { client_head: SHORT, write_stall: SHORT, stranger_head: SHORT, ..Limits::default() };
    let rig = Rig::start_with(Upstream::Live(stub.upstream()), limits).await;
    for mut stream in [TcpStream::connect(rig.addr()).await.unwrap(), connect_from("127.0.0.2", rig.addr()).await] {
        stream.write_all(b"POST /v1/mess").await.unwrap();
        let mut got = String::new();
        // Closed with a part of a head that nobody has read, the kernel may say so by a reset.
        let closed = soon(stream.read_to_string(&mut got)).await;
        assert!(closed.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::ConnectionReset), "{closed:?}");
    }
    // Does not read what it asked for.
    let traffic = rig.grant.traffic();
    let mut watch = traffic.watch_in_flight();
    let mut stream = TcpStream::connect(rig.addr()).await.unwrap();
    stream.write_all(b"POST /v1/messages HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    soon(watch.wait_for(|count| *count == 1)).await.unwrap();
    soon(watch.wait_for(|count| *count == 0)).await.unwrap();
}

#[tokio::test]
async fn connections_are_capped_per_session_and_for_strangers() {
    let stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    let limits = Limits { connections_per_session: 2, stranger_connections: 1, ..Limits::default() };
    let mut rig = Rig::start_with(Upstream::Live(stub.upstream()), limits).await;
    let held = [TcpStream::connect(rig.addr()).await.unwrap(), TcpStream::connect(rig.addr()).await.unwrap()];
    let mut third = TcpStream::connect(rig.addr()).await.unwrap();
    assert_eq!(read_out(&mut third).await, "");
    assert!(rig.notice().await.contains("limit of 2 connections of one session"));
    let _stranger = connect_from("127.0.0.2", rig.addr()).await;
    let mut over = connect_from("127.0.0.3", rig.addr()).await;
    assert_eq!(read_out(&mut over).await, "");
    assert!(rig.notice().await.contains("limit of 1 callers"));
    drop(held);
    soon(async {
        loop {
            let stream = TcpStream::connect(rig.addr()).await.unwrap();
            if send_over(stream, message("{}")).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn shutdown_lets_running_requests_finish_and_cuts_the_rest() {
    let stub = Stub::raw(|parts, _| async move {
        let pause = if parts.headers.contains_key("x-long") { 3600 } else { 0 };
        tokio::time::sleep(Duration::from_millis(150) + Duration::from_secs(pause)).await;
        reply(200, &[], "done")
    })
    .await;
    let rig = Rig::live(&stub).await;
    let addr = rig.addr();
    let mut watch = rig.grant.traffic().watch_in_flight();
    let running = tokio::spawn(async move { whole(send(addr, message("{}")).await).await.1 });
    soon(watch.wait_for(|count| *count == 1)).await.unwrap();
    let Rig { proxy, grant: _grant, notices: _notices } = rig;
    assert_eq!(soon(proxy.shutdown(Duration::from_secs(5))).await, 0);
    assert_eq!(running.await.unwrap(), "done");
    assert!(TcpStream::connect(addr).await.is_err());

    let rig = Rig::live(&stub).await;
    let mut watch = rig.grant.traffic().watch_in_flight();
    let mut request = message("{}");
    request.headers_mut().insert("x-long", "1".parse().unwrap());
    let stream = TcpStream::connect(rig.addr()).await.unwrap();
    let stuck = tokio::spawn(send_over(stream, request));
    soon(watch.wait_for(|count| *count == 1)).await.unwrap();
    let Rig { proxy, grant: _grant, notices: _notices } = rig;
    let began = Instant::now();
    assert_eq!(soon(proxy.shutdown(SHORT)).await, 1);
    assert!(began.elapsed() < SHORT * 3);
    assert!(stuck.await.unwrap().is_err());
}

#[tokio::test]
async fn start_errors_name_the_address_and_the_remedy() {
    let stub = Stub::noting(|_| reply(200, &[], "ok")).await;
    let start = async |listen: String, upstream| {
        let (notices, _) = mpsc::channel(1);
        let address = listen.parse().unwrap();
        let listener =
            tokio::net::TcpListener::bind(address).await.map_err(|error| StartError::listening(address, error))?;
        Proxy::start(ProxyConfig { listener, upstream, notices, limits: Limits::default() }).await
    };
    let live = || Upstream::Live(stub.upstream());
    assert!(matches!(start("0.0.0.0:0".into(), live()).await, Err(StartError::AllAddresses(_))));
    assert!(matches!(start("[::]:0".into(), live()).await, Err(StartError::AllAddresses(_))));
    assert!(matches!(start(stub.addr.to_string(), live()).await, Err(StartError::Taken(_))));
    assert!(matches!(start("203.0.113.1:0".into(), live()).await, Err(StartError::NoSuchAddress(_))));
    let began = Instant::now();
    let proxy = start("127.0.0.1:0".into(), live()).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
    proxy.shutdown(SHORT).await;
}
