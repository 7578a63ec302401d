//! Clients that mean no good: they wait, they trickle, they talk nonsense. Others are answered as before, and nothing grows.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tests::service::API;
use tests::{Home, Request, Service, host};

/// Connections that say nothing.
const IDLE: usize = 1000;
/// Clients that send a head, or a body, a byte at a time.
const SLOW: usize = 50;
/// Requests that are none.
const MALFORMED: usize = 10_000;
/// How long the service takes at most to say that it is well; it takes about a millisecond.
const WELL: Duration = Duration::from_millis(500);
/// How much the service may grow: what it keeps of connections that are gone is its allocator's.
const GROWTH_KIB: u64 = 24 << 10;
/// Longer than a client may take for a head, or for a body.
const PATIENCE: Duration = Duration::from_secs(30);

fn is_well(service: &Service) {
    let begin = Instant::now();
    assert_eq!(service.get("//healthz").status, 200);
    let took = begin.elapsed();
    assert!(took < WELL, "/healthz took {took:?}");
}

fn resident(service: &Service) -> u64 {
    host::status_kib(service.pid(), "VmRSS").unwrap()
}

/// Opens a connection and sends something.
fn open(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// What the service says before it closes the connection.
fn rest(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    // It may have been reset with our bytes unread.
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn idle_and_slow_clients_are_sent_away_and_others_served() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let address = service.address().unwrap();
    is_well(&service);
    let before = resident(&service);
    let begin = Instant::now();
    let idle: Vec<TcpStream> = (0..IDLE).map(|_| open(address, b"")).collect();
    let head = format!("POST {API}/sessions HTTP/1.1\r\nhost: {address}\r\n");
    let mut heads: Vec<TcpStream> = (0..SLOW).map(|_| open(address, head.as_bytes())).collect();
    let body = format!("{head}content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{");
    let mut bodies: Vec<TcpStream> = (0..SLOW).map(|_| open(address, body.as_bytes())).collect();
    for _ in 0..20 {
        // A connection that was closed meanwhile takes no more.
        heads.iter_mut().for_each(|stream| drop(stream.write_all(b"x")));
        bodies.iter_mut().for_each(|stream| drop(stream.write_all(b" ")));
        is_well(&service);
        std::thread::sleep(Duration::from_millis(100));
    }
    for stream in idle.into_iter().chain(heads) {
        rest(stream);
    }
    assert!(begin.elapsed() < PATIENCE, "idle clients were kept for {:?}", begin.elapsed());
    for stream in bodies {
        let said = rest(stream);
        assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    }
    is_well(&service);
    let grown = resident(&service).saturating_sub(before);
    assert!(grown < GROWTH_KIB, "the service has grown by {grown} KiB");
}

#[test]
fn nonsense_is_refused_and_costs_nothing() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let address = service.address().unwrap();
    let huge = format!("GET / HTTP/1.1\r\nhost: {address}\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\nhost: {address}\r\n{}\r\n", "x: y\r\n".repeat(1000));
    let nonsense: [&[u8]; 6] = [
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let send = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may hang up on us before all is said.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        rest(stream)
    };
    for huge in [&huge, &many] {
        let said = send(huge.as_bytes());
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    }
    // What the first ones make it grow is kept for those that follow.
    nonsense.iter().cycle().take(MALFORMED / 10).for_each(|bytes| drop(send(bytes)));
    let before = resident(&service);
    for (number, bytes) in nonsense.iter().cycle().take(MALFORMED).enumerate() {
        let said = send(bytes);
        assert!(!said.starts_with("HTTP/1.1 2"), "{said}");
        if number % 500 == 0 {
            is_well(&service);
        }
    }
    let grown = resident(&service).saturating_sub(before);
    assert!(grown < GROWTH_KIB, "the service has grown by {grown} KiB");
    let list = Request::new("GET", &format!("{API}/sessions"));
    assert_eq!(service.ask(&list).status, 200);
}
