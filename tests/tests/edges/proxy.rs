//! The credential proxy, from where it must not be used, and where it cannot be reached.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use supervisor::session::event::{HostEvent, LaunchStep};
use tests::engine::{docker, image};
use tests::host::unique;
use tests::upstream::KEY;
use tests::{Answer, Expect, Home, Look, Run, Script, Upstream, look};

use crate::support::{free_port, known, warnings};

/// The agent is there until it gets a line.
const WAIT: &str = "echo up; read line; echo down";
/// Longest wait for a connection that nobody answers.
const CONNECT: Duration = Duration::from_secs(2);

/// A session whose proxy is up, on this port.
fn with_proxy(home: &Home, port: u16) -> Run<'_> {
    let script = home.write("script", Script::new().say("from the script").text());
    let port = port.to_string();
    let run = home.command(WAIT).flags(["--proxy-port", &port, "--steer", "--replay"]).flags([script]);
    let run = run.with_stdin().start();
    run.wait_for_text("up");
    run
}

/// Where the session's proxy listens.
fn listens_at(run: &Run<'_>) -> SocketAddr {
    run.wait("the proxy's address", |events| {
        events.iter().find_map(|event| match look::host(event) {
            Some(HostEvent::LaunchStep { step: LaunchStep::Proxy, detail: Some(detail) }) => detail.parse().ok(),
            _ => None,
        })
    })
}

/// The status that a container on `network` gets for a model request to `proxy`, or what curl says.
fn asked_from_container(network: &str, proxy: SocketAddr) -> Result<String, String> {
    let url = format!("http://{proxy}/v1/messages");
    let curl = ["-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", "-d", "{}", &url];
    docker(&[&["run", "--rm", "--network", network, "--entrypoint", "curl", &image()], &curl[..]].concat())
}

/// The status line that this host itself gets, or `None` if nobody listens.
fn asked_from_host(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT).ok()?;
    stream.set_read_timeout(Some(CONNECT)).expect("a plain timeout");
    let request = format!("POST /v1/messages HTTP/1.1\r\nhost: {address}\r\ncontent-length: 2\r\n\r\n{{}}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = [0; 64];
    let count = stream.read(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..count]).lines().next().unwrap_or_default().to_owned())
}

fn own_addresses() -> Vec<Ipv4Addr> {
    let all = nix::ifaddrs::getifaddrs().expect("the host's addresses");
    all.filter_map(|one| Some(one.address?.as_sockaddr_in()?.ip())).collect()
}

/// A network of the test's own.
struct OtherNetwork(String);

impl OtherNetwork {
    fn make() -> Self {
        let name = unique("aigo-test-network");
        docker(&["network", "create", &name]).expect("a network");
        Self(name)
    }
}

impl Drop for OtherNetwork {
    fn drop(&mut self) {
        if let Err(error) = docker(&["network", "rm", &self.0]) {
            eprintln!("cleaning up: {error}");
        }
    }
}

#[test]
fn strangers_are_refused_and_no_other_address_listens() {
    let Some(home) = Home::open() else { return };
    let port = free_port();
    let mut run = with_proxy(&home, port);
    let proxy = listens_at(&run);
    assert_eq!(proxy.port(), port);

    let same = asked_from_container(&format!("aigo-{}", run.session()), proxy);
    assert_eq!(same.as_deref(), Ok("403"), "another container on the session's own network");
    let other = OtherNetwork::make();
    if let Ok(status) = asked_from_container(&other.0, proxy) {
        assert_eq!(status, "403", "a container on another network");
    }
    let host = asked_from_host(proxy);
    assert!(host.as_ref().is_some_and(|line| line.contains("403")), "the host itself: {host:?}");
    for address in own_addresses() {
        if IpAddr::V4(address) != proxy.ip() {
            assert_eq!(asked_from_host((address, port).into()), None, "the proxy listens on {address}, too");
        }
    }
    run.type_line("enough");
    run.close_stdin();
    let run = run.finish().expect(Expect::CLOSED);
    assert!(warnings(run.events(), "proxy_stranger").len() >= 2, "{run:#?}");
    assert_eq!(run.ended().2.model_requests, 0, "strangers are not counted as the session's");
    assert_eq!(asked_from_host(proxy), None, "the proxy ends with its session");
}

#[test]
fn the_agent_itself_gets_what_the_script_says_and_no_other_host() {
    let Some(home) = Home::open() else { return };
    let script = home.write("script", Script::new().say("from the script").text());
    let ask = "code() { curl -s -m 10 -o /tmp/answer -w '%{http_code}\n' \"$@\"; }
        code \"$ANTHROPIC_BASE_URL/v1/messages\" -H content-type:application/json -d '{\"model\":\"m\"}'
        grep -o 'from the script' /tmp/answer
        code -x \"$ANTHROPIC_BASE_URL\" http://example.invalid/v1/messages -d '{}'
        code \"$ANTHROPIC_BASE_URL/v1/files\"
        echo key $ANTHROPIC_API_KEY";
    let run = home.command(ask).flags(["--replay"]).flags([script]).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["200", "from the script", "400", "404", "key CREDENTIAL_PROXY_PLACEHOLDER"]);
    assert_eq!(warnings(run.events(), "proxy_not_carried").len(), 2, "{run:#?}");
}

/// Sends a request as it is to the proxy, prints its status and the sentence of the refusal.
const RAW: &str = r#"
import json, os, socket, sys
host, port = os.environ["ANTHROPIC_BASE_URL"].removeprefix("http://").split(":")
with socket.create_connection((host, int(port)), 10) as connection:
    connection.sendall(sys.argv[1].replace("|", "\r\n").encode())
    answer = connection.makefile("rb").read().decode()
head, _, body = answer.partition("\r\n\r\n")
print(head.split()[1], json.loads(body)["error"]["message"])
"#;

#[test]
fn a_malformed_request_of_the_agent_is_400_and_its_own_fault() {
    let Some(home) = Home::open() else { return };
    home.put("raw.py", RAW);
    let upstream = Upstream::script([Answer::say("nobody asks")]);
    let lines = [
        "POST /v1/messages HTTP/1.1|connection: close|host: h|transfer-encoding: chunked||2|{}|no size|",
        "POST /v1/messages HTTP/1.1|connection: close|host: h|host: h|content-length: 2||{}",
        "POST /v1/messages HTTP/1.1|connection: close|content-length: 2||{}",
    ];
    let run = home.command("");
    let run = run.after_dashes(["sh", "-c", "for line; do python3 raw.py \"$line\"; done", "sh"].iter().chain(&lines));
    let run = run.env("ANTHROPIC_API_KEY", KEY).env("ANTHROPIC_BASE_URL", upstream.url("")).finish();
    let run = run.expect(Expect::FINISHED);
    let told = warnings(run.events(), "proxy_bad_request");
    assert_eq!((run.texts().len(), told.len()), (3, 3), "{run:#?}");
    for ((text, told), reason) in run.texts().iter().zip(told).zip(["body is malformed", "2 Host", "no Host"]) {
        assert!(text.starts_with("400 ") && text.contains(reason), "{text}");
        assert!(told.contains("request of the container") && told.contains(reason), "{told}");
        assert!(!told.contains('\\') && !told.contains("127.0.0.1"), "not the upstream's fault: {told}");
    }
    assert!(warnings(run.events(), "upstream_failed").is_empty(), "{run:#?}");
}

#[test]
fn a_redirect_of_the_upstream_is_named_and_not_followed() {
    let Some(home) = Home::open() else { return };
    let upstream = Upstream::start(|_, _| {
        Answer::status(308, &serde_json::json!("Moved")).header("location", "https://gateway.example/key-like-path")
    });
    let ask = "curl -s -m 10 -o answer -w '%{http_code}\n' \"$ANTHROPIC_BASE_URL/v1/messages\" -d '{}'; cat answer";
    let run = home.command(ask).env("ANTHROPIC_API_KEY", KEY).env("ANTHROPIC_BASE_URL", upstream.url("")).finish();
    let run = run.expect(Expect::FINISHED);
    let [told] = warnings(run.events(), "upstream_redirects")[..] else { panic!("one warning: {run:#?}") };
    for part in ["127.0.0.1", "HTTP 308", "gateway.example", "not followed", "ANTHROPIC_BASE_URL"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("key-like-path"), "{told}");
    let texts = run.texts();
    assert!(texts[0] == "308" && texts[1].contains("gateway.example"), "{texts:?}");
    assert_eq!(upstream.requests().len(), 1);
}

/// A rule of the host's firewall, gone with this value.
struct Blocked(u16);

impl Blocked {
    fn port(port: u16) -> Self {
        Self::rule("-I", port).expect("iptables is there wherever Docker runs, and the tests run as root");
        Self(port)
    }

    fn rule(verb: &str, port: u16) -> Result<(), String> {
        let port = port.to_string();
        let rule = ["-w", "10", verb, "INPUT", "-p", "tcp", "--dport", &port, "-j", "DROP"];
        let output = Command::new("iptables").args(rule).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if let Err(error) = Self::rule("-D", self.0) {
            eprintln!("cleaning up: {error}");
        }
    }
}

#[test]
fn a_firewall_between_container_and_proxy_is_named_before_the_agent_starts() {
    let Some(home) = Home::open() else { return };
    let port = free_port();
    let _blocked = Blocked::port(port);
    let script = Script::new().say("nobody hears this");
    let run = home.claude("hello", &script).flags(["--proxy-port", &port.to_string()]).finish();
    let run = run.expect(Expect::SETUP_FAILED);
    let (_, ending, _) = run.ended();
    assert_eq!(ending.reason.to_string(), "setup_failed (preflight)");
    assert!(run.detail().contains("firewall") && run.detail().contains(&port.to_string()), "{}", run.detail());
    assert!(run.texts().is_empty(), "{run:#?}");
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_left() {
    let Some(home) = Home::open() else { return };
    let other = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let run = home.claude("hello", &Script::new().say("hello")).flags(["--proxy-port", &port]).finish();
    let run = run.expect(Expect::SETUP_FAILED);
    assert_eq!(run.ended().1.reason.to_string(), "setup_failed (proxy)");
    assert!(run.detail().contains(&port) && run.detail().contains("taken"), "{}", run.detail());
    assert!(run.detail().contains("--proxy-port"), "the remedy: {}", run.detail());
    assert_eq!(home.leftovers(), [] as [&str; 0]);
    assert_eq!(known(&home).len(), 1);
}
