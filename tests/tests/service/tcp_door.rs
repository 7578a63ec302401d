//! Who may use the service by TCP on this host: its own user, root, the group of its socket, and nobody else, on no path.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::{Uid, User, geteuid};
use serde_json::{Value, json};
use tests::host::wait_until;
use tests::service::{API, text};
use tests::{Home, Request, Service, binary};

/// A user without any right, as every Linux has one.
const NOBODY: &str = "nobody";
/// Another user of that kind, who runs a service, or is a member of a group.
const DAEMON: &str = "daemon";
/// How often a client tries to be taken for somebody else.
const TRIES: usize = 300;

/// Becoming another user takes root.
fn may_become_others() -> bool {
    let may = geteuid().is_root();
    if !may {
        eprintln!("not run: becoming another user takes root");
    }
    may
}

fn user(name: &str) -> User {
    User::from_name(name).unwrap().unwrap_or_else(|| panic!("no user {name}"))
}

/// A program as another user, with the groups of the user database.
fn as_user(name: &str, program: &str) -> Command {
    let User { uid, gid, .. } = user(name);
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"]).arg(program);
    // Programs of the machine, not those of the home of whoever runs the tests.
    command.current_dir("/").env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command
}

/// What `curl` of another user gets: the status and the body.
fn curl(name: &str, service: &Service, method: &str, path: &str, arguments: &[&str]) -> (u16, String) {
    let url = format!("http://{}{path}", service.address().unwrap());
    let mut command = as_user(name, "curl");
    command.args([
        "--silent",
        "--show-error",
        "--globoff",
        "--max-time",
        "30",
        "--write-out",
        "\n%{http_code}",
        "-X",
        method,
    ]);
    let output = command.args(arguments).arg(&url).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let (body, status) = said.rsplit_once('\n').unwrap_or_default();
    let status = status.parse().unwrap_or_else(|_| panic!("{method} {url}: {output:?}"));
    (status, body.to_owned())
}

/// Every call of the service's own document, with names in place of parameters.
fn calls(service: &Service) -> Vec<(String, String)> {
    let document = service.get("//api/v1/openapi.json").json();
    let mut calls = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "0123456789ab").replace("{name}", "somebody");
        assert!(!path.contains('{'), "{path}");
        calls.extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    calls
}

#[test]
fn another_user_is_refused_by_every_call() {
    if !may_become_others() {
        return;
    }
    let home = Home::without_engine();
    let service = Service::start(&home);
    let nobody = user(NOBODY).uid;
    let mut calls = calls(&service);
    assert!(calls.len() > 20, "{calls:?}");
    for path in ["/", "/nothing", "/api/v1/container/nothing"] {
        calls.push(("GET".to_owned(), path.to_owned()));
    }
    for (method, path) in calls {
        let json = ["--header", "content-type: application/json", "--data", "{\"workspace\": \"/\"}"];
        let arguments: &[&str] = if method == "GET" { &[] } else { &json };
        let (status, body) = curl(NOBODY, &service, &method, &path, arguments);
        if ["/healthz", "/readyz"].contains(&path.as_str()) {
            assert!([200, 503].contains(&status), "{method} {path}: {status} {body}");
            continue;
        }
        assert_eq!(status, 403, "{method} {path}: {body}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["type"], "urn:aigo:problem:forbidden");
        let detail = text(&problem["detail"]);
        assert!(detail.contains(&format!("uid {nobody}")) && detail.contains("socket.group"), "{detail}");
    }
    // Nothing came of it, and the log says who it was.
    assert_eq!(service.sessions(), [json!(null); 0]);
    let line = wait_until("the refusal in the audit log", || {
        let log = service.get("/audit-log").json();
        log["items"].as_array().unwrap().iter().find(|line| line["action"] == "request.refused").cloned()
    });
    let actor = text(&line["actor"]);
    assert!(actor.starts_with("api 127.0.0.1:") && actor.ends_with(&format!(" uid {nobody}")), "{line}");
    assert_eq!(line["decision"], "denied");
}

#[test]
fn users_are_told_apart_over_ipv6_too() {
    if !may_become_others() {
        return;
    }
    if !std::path::Path::new("/proc/net/if_inet6").exists() {
        eprintln!("not run: this host has no IPv6");
        return;
    }
    let home = Home::without_engine();
    let service = Service::launch(of_user(DAEMON, &home, "[::1]:0"));
    let list = format!("{API}/sessions");
    assert_eq!(curl(DAEMON, &service, "GET", &list, &[]).0, 200);
    assert_eq!(service.get("/sessions").status, 200, "root");
    assert_eq!(curl(NOBODY, &service, "GET", &list, &[]).0, 403);
}

#[test]
fn the_owner_gets_in_by_curl_and_is_named_in_the_audit_log() {
    let home = Home::without_engine();
    let service = Service::start(&home);
    let address = service.address().unwrap();
    let url = format!("http://localhost:{}{API}/agents/builder", address.port());
    let mut command = Command::new("curl");
    command.args(["--silent", "--fail-with-body", "-X", "PUT", "-H", "content-type: application/json"]);
    let output = command.args(["--data", "{\"cpus\": 1}", &url]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let line = service.get("/audit-log").json()["items"][0].clone();
    let actor = text(&line["actor"]);
    assert!(actor.starts_with("api 127.0.0.1:"), "{line}");
    assert!(actor.ends_with(&format!(" uid {}", Uid::effective())), "{line}");
}

#[test]
fn a_client_that_hangs_up_at_once_is_not_taken_for_root() {
    if !may_become_others() {
        return;
    }
    // Older kernels list the socket of a client that has gone as one of root's.
    const ATTACK: &str = r#"
import socket, struct, sys
port, tries = int(sys.argv[1]), int(sys.argv[2])
for number in range(tries):
    body = b'{"cpus": 1}'
    head = f"PUT /api/v1/container/agents/evil-{number} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        if number % 3 == 0:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif number % 3 == 1:
            client.shutdown(socket.SHUT_WR)
"#;
    let home = Home::without_engine();
    let service = Service::start(&home);
    let (port, tries) = (service.address().unwrap().port().to_string(), TRIES.to_string());
    let output = as_user(NOBODY, "python3").args(["-c", ATTACK, &port, &tries]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // The service has come to the last of them when it answers one that came later.
    let agents = service.get("/agents").body;
    assert!(!agents.contains("evil"), "{agents}");
    assert!(service.stop().success());
    let service = Service::start(&home);
    assert!(!service.get("/agents").body.contains("evil"));
    let log = service.get("/audit-log?limit=1000").json();
    let actions: Vec<&Value> = log["items"].as_array().unwrap().iter().map(|line| &line["action"]).collect();
    assert!(actions.iter().all(|action| **action == "request.refused"), "{log:#}");
}

/// `aigo serve` with a group database of the test's own, in which `daemon` is a member of the group `aigo-users`.
fn with_group(home: &Home, config: &str) -> Service {
    let config = home.write("config.toml", config);
    let groups = fs::read_to_string("/etc/group").unwrap();
    let groups = home.write("group", format!("{groups}\naigo-users:x:64321:{DAEMON}\n"));
    let serve = home.aigo_command(["serve", "--listen", "127.0.0.1:0"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount --bind \"$0\" /etc/group && exec \"$@\"").arg(groups).arg(serve.get_program());
    command.args(serve.get_args()).arg("--socket").arg(home.data().join("aigo.sock"));
    command.arg("--data-dir").arg(home.data()).arg("--config").arg(config);
    let service = Service::launch(command);
    assert!(service.address().is_some(), "{}", service.said());
    service
}

#[test]
fn members_of_the_sockets_group_get_in() {
    if !may_become_others() {
        return;
    }
    let list = format!("{API}/sessions");
    let home = Home::without_engine();
    let service = with_group(&home, "[socket]\ngroup = \"aigo-users\"\nmode = \"0660\"\n");
    assert_eq!(curl(DAEMON, &service, "GET", &list, &[]).0, 200);
    let (status, body) = curl(NOBODY, &service, "GET", &list, &[]);
    assert!(status == 403 && body.contains("members of the group `aigo-users`"), "{status} {body}");
}

/// `aigo serve` of another user, on a port.
fn of_user(name: &str, home: &Home, listen: &str) -> Command {
    let User { uid, gid, .. } = user(name);
    // The build's own folder may be closed to others.
    let aigo = home.root().join("aigo");
    fs::copy(binary::aigo(), &aigo).unwrap();
    let data: PathBuf = home.data();
    fs::create_dir_all(&data).unwrap();
    chown(&data, Some(uid.as_raw()), Some(gid.as_raw())).unwrap();
    let mut command = as_user(name, aigo.to_str().unwrap());
    command.args(["serve", "--listen", listen, "--data-dir"]).arg(&data).arg("--socket").arg(data.join("aigo.sock"));
    command.env("HOME", &data).env("DOCKER_HOST", "unix:///nonexistent/docker.sock").env("AIGO_ENGINE", "docker");
    command
}

#[test]
fn a_service_of_an_ordinary_user_is_for_that_user_and_root() {
    if !may_become_others() {
        return;
    }
    let home = Home::without_engine();
    let service = Service::launch(of_user(DAEMON, &home, "127.0.0.1:0"));
    let list = format!("{API}/sessions");
    assert_eq!(curl(DAEMON, &service, "GET", &list, &[]).0, 200);
    assert_eq!(service.get("/sessions").status, 200, "root");
    assert_eq!(curl(NOBODY, &service, "GET", &list, &[]).0, 403);
}

#[test]
fn a_token_lets_in_whoever_has_it_and_nobody_else() {
    if !may_become_others() {
        return;
    }
    let home = Home::without_engine();
    let token = home.write("token", "0123456789abcdef0123456789abcdef\n");
    fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = home.write("config.toml", format!("token-file = \"{}\"\n", token.display()));
    let service = Service::configured(&home, &config);
    let list = format!("{API}/sessions");
    let right = ["--header", "authorization: Bearer 0123456789abcdef0123456789abcdef"];
    let wrong = ["--header", "authorization: Bearer 0123456789abcdef0123456789abcdee"];
    assert_eq!(curl(NOBODY, &service, "GET", &list, &right).0, 200);
    for arguments in [&wrong[..], &[]] {
        assert_eq!(curl(NOBODY, &service, "GET", &list, arguments).0, 401);
    }
    assert_eq!(service.ask(&Request::new("GET", &list)).status, 401, "the owner without it");
}

#[test]
fn a_port_that_is_taken_is_refused_with_who_has_it() {
    if !may_become_others() {
        return;
    }
    let first_home = Home::without_engine();
    let first = Service::launch(of_user(DAEMON, &first_home, "127.0.0.1:0"));
    let address = first.address().unwrap().to_string();
    // Root may see whose it is, with the process and its command line.
    let home = Home::without_engine();
    let second = home.aigo(["serve", "--listen", &address]);
    assert_eq!(second.code, Some(3), "{second:?}");
    let who = format!("process {} (user {DAEMON}, uid {})", first.pid(), user(DAEMON).uid);
    for part in [address.as_str(), &who, "serve --listen", "--listen 127.0.0.1:PORT"] {
        assert!(second.stderr.contains(part), "{part} in {}", second.stderr);
    }
    // So does the doctor.
    let config = home.write("config.toml", format!("listen = \"{address}\"\n"));
    let mut doctor = home.aigo_command(["doctor", "--json"]);
    doctor
        .env("AIGO_CONFIG", config)
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .env("AIGO_ENGINE", "docker");
    let checks: Value = serde_json::from_slice(&doctor.output().unwrap().stdout).unwrap();
    let check = checks.as_array().unwrap().iter().find(|check| check["name"] == "API port").unwrap();
    assert!(check["status"] == "warning" && text(&check["detail"]).contains(&who), "{check}");
    assert!(text(&check["remedy"]).contains("listen"), "{check}");
    // An ordinary user sees the other's uid, not more.
    let home = Home::without_engine();
    let output = of_user(NOBODY, &home, &address).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("user {DAEMON}, uid {}", user(DAEMON).uid)), "{said}");
    drop(first);
}
