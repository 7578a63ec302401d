//! What the service makes of requests as RFC 9112 has them: hosts, targets and announced bodies; and of readers of events that
//! come back after the end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::service::{API, command};
use tests::{Home, Request, Service};

/// Much less than a body may take.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The status of the answer to these very bytes, and how long it took.
fn status(service: &Service, bytes: &str) -> (u16, Duration) {
    let mut stream = TcpStream::connect(service.address().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let begin = Instant::now();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.trim_start_matches("HTTP/1.1 ").parse().unwrap_or_else(|_| panic!("{answer}")), begin.elapsed())
}

#[test]
fn the_targets_authority_goes_before_the_host_and_a_host_there_must_be() {
    let home = Home::without_engine();
    let service = Service::start(&home);
    let address = service.address().unwrap();
    let path = format!("{API}/sessions");
    for (target, hosts, wanted) in [
        (path.clone(), vec!["localhost"], 200),
        (format!("http://localhost{path}"), vec!["localhost"], 200),
        (format!("http://{address}{path}"), vec!["evil.example"], 200),
        (format!("http://other{path}"), vec!["localhost"], 403),
        (format!("http://evil.example:{}{path}", address.port()), vec!["localhost"], 403),
        (path.clone(), vec!["evil.example"], 403),
        (path.clone(), vec![], 400),
        (format!("http://localhost{path}"), vec![], 400),
        (path.clone(), vec!["localhost", "localhost"], 400),
        ("/healthz".to_owned(), vec![], 400),
        ("/healthz".to_owned(), vec!["evil.example"], 403),
    ] {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        let bytes = format!("GET {target} HTTP/1.1\r\n{hosts}\r\n");
        assert_eq!(status(&service, &bytes).0, wanted, "{bytes}");
    }
}

#[test]
fn a_body_that_is_announced_as_too_large_is_refused_at_once() {
    let home = Home::without_engine();
    let service = Service::start(&home);
    for path in [format!("{API}/sessions"), format!("{API}/sessions/0123456789ab/cancel"), "/nothing".to_owned()] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000000\r\n\r\n"
        );
        let (status, took) = status(&service, &head);
        assert_eq!(status, 413, "{path}");
        assert!(took < AT_ONCE, "{path}: {took:?}");
    }
}

#[test]
fn a_reader_of_events_that_comes_back_after_the_end_is_told_not_to_ask_again() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let id = service.create(&command(&home, "echo one"));
    service.wait_for_end(&home, &id);
    let events = service.events(&id, 0);
    assert_eq!(events.last().unwrap().name, "ended", "{events:#?}");
    let last = events.len() as u64;
    let ask = |after: u64| {
        let request = Request::new("GET", &format!("{API}/sessions/{id}/events"));
        service.ask(&request.header("last-event-id", &after.to_string()))
    };
    let over = ask(last);
    assert_eq!((over.status, over.body.as_str()), (204, ""), "{over:?}");
    assert_eq!(service.get(&format!("/sessions/{id}/events?after={last}")).status, 204);
    assert_eq!(ask(last - 1).status, 200);
    assert_eq!(service.events(&id, 0), events, "a first request still gets the whole stream");
    assert_eq!(ask(last + 1).status, 400, "a number of another session");
}

#[test]
fn the_command_line_names_a_session_by_the_same_key_everywhere() {
    let Some(home) = Home::open() else { return };
    let mut run = home.aigo_command(["run", "--json", "--program", "command", "--image"]);
    let output =
        run.arg(tests::engine::image()).arg("--workspace").arg(home.workspace()).args(["--", "true"]).output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let listed: Value = serde_json::from_str(&home.aigo(["ps", "--all", "--json"]).stdout).unwrap();
    for key in ["id", "session"] {
        assert!(result[key].is_string(), "{key} in {result}");
        assert_eq!(result[key], listed[0][key], "{key}");
    }
}
