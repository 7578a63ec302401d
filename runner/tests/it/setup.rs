//! Boot phases and the command line.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::common::Place;
use ipc_protocol::config::{CONFIG_ENV, Identity};
use ipc_protocol::event::{ClosingReason, EventKind, SetupStep, StepState};
use ipc_protocol::exit::RunnerExit;
use ipc_protocol::input::Input;
use nix::sys::signal::Signal;

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aigo-runner"));
    command.args(args).env_remove(CONFIG_ENV).envs(env.iter().copied());
    command.output().unwrap()
}

/// Answers every connection with this status line.
fn serve(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/health", listener.local_addr().unwrap());
    std::thread::spawn(move || answer(&listener, status));
    url
}

fn answer(listener: &TcpListener, status: &str) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(format!("{status}\r\ncontent-length: 0\r\n\r\n").as_bytes());
    }
}

fn unused_url() -> String {
    format!("http://{}/", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

fn failed_step(runner: &crate::common::Runner) -> (SetupStep, String) {
    runner
        .events
        .iter()
        .find_map(|event| match &event.kind {
            EventKind::SetupStep { step, state: StepState::Failed, detail } => Some((*step, detail.clone().unwrap())),
            _ => None,
        })
        .unwrap()
}

#[test]
fn the_command_line_explains_itself() {
    let output = run(&[], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("AIGO_RUNNER_CONFIG is not set"));
    assert_eq!(run(&["--nonsense"], &[]).status.code(), Some(64));
    let version = run(&["--version"], &[]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), format!("aigo-runner {}\n", env!("CARGO_PKG_VERSION")));
    assert!(String::from_utf8_lossy(&run(&["--help"], &[]).stdout).contains("translate claude"));
}

#[test]
fn a_bad_configuration_is_a_sentence() {
    for (config, expected) in [("{", "EOF"), (r#"{"version":99}"#, "missing field")] {
        let output = run(&[], &[(CONFIG_ENV, config)]);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected), "{output:?}");
    }
}

#[test]
fn another_generation_of_the_protocol_is_refused() {
    let mut place = Place::sh("true");
    place.config.version = 99;
    let child = place.start().child.id();
    assert!(child > 0);
    let output = run(&[], &[(CONFIG_ENV, &serde_json::to_string(&place.config).unwrap())]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("build the image anew"), "{output:?}");
}

#[test]
fn no_ipc_directory_is_an_exit_code_of_its_own() {
    let mut place = Place::sh("true");
    place.config.layout.ipc = "/nonexistent/ipc".into();
    let output = run(&[], &[(CONFIG_ENV, &serde_json::to_string(&place.config).unwrap())]);
    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/ipc"), "{output:?}");
}

#[test]
fn the_agent_gets_its_environment_and_no_more() {
    let mut runner = Place::sh("echo HOME=$HOME; pwd; echo config=$AIGO_RUNNER_CONFIG; cut -d' ' -f5 /proc/$$/stat; echo $$; cat /proc/self/oom_score_adj").start();
    assert_eq!(runner.end(), RunnerExit::Done);
    let texts = runner.texts();
    assert_eq!(texts[0], "HOME=/root");
    assert!(texts[1].ends_with("/workspace"), "{texts:?}");
    assert_eq!(texts[2], "config=");
    assert_eq!(texts[3], texts[4], "leads a process group");
    assert_eq!(texts[5], "500");
}

#[test]
fn another_uid_gets_a_name_a_home_and_nothing_of_root() {
    let mut place = Place::sh(
        "id -u; id -G; echo $USER; (cd ~ && touch mine && echo home); touch /workspace-no 2>/dev/null || echo denied; echo x > new",
    );
    place.config.identity = Identity { uid: 4242, gid: 4243 };
    fs::write(place.path("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::create_dir(place.path("etc/sudoers.d")).unwrap();
    fs::set_permissions(place.path("workspace"), fs::Permissions::from_mode(0o777)).unwrap();
    let mut runner = place.start();
    assert_eq!(runner.end(), RunnerExit::Done, "{:?}", runner.events);
    assert_eq!(runner.texts(), ["4242", "4243", "agent", "home", "denied"]);
    assert_eq!(fs::metadata(place.path("workspace/new")).unwrap().uid(), 4242);
    assert_eq!(fs::metadata(place.path("home")).unwrap().uid(), 4242);
    let passwd = fs::read_to_string(place.path("etc/passwd")).unwrap();
    assert!(passwd.contains("\nagent:*:4242:4243:"), "{passwd}");
    assert!(fs::read_to_string(place.path("etc/group")).unwrap().contains("agent:*:4243:"));
    if ["/usr/bin/sudo", "/bin/sudo"].iter().any(|path| fs::exists(path).unwrap()) {
        let rule = fs::metadata(place.path("etc/sudoers.d/aigo-agent")).unwrap();
        assert_eq!((rule.uid(), rule.mode() & 0o777), (0, 0o440));
    }
}

#[test]
fn a_folder_that_the_agent_may_not_enter_is_a_sentence() {
    let mut place = Place::sh("true");
    place.config.identity = Identity { uid: 4242, gid: 4243 };
    fs::set_permissions(place.path("workspace"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut runner = place.start();
    assert_eq!(runner.end(), RunnerExit::SetupFailed);
    let (step, detail) = failed_step(&runner);
    assert_eq!(step, SetupStep::Workspace);
    for part in ["uid 4242", "belongs to uid 0", "0700", "chmod o+rx"] {
        assert!(detail.contains(part), "{detail}");
    }
}

#[test]
fn a_folder_that_is_read_only_for_the_agent_is_noted() {
    let mut place = Place::sh("cat");
    place.config.identity = Identity { uid: 4242, gid: 4243 };
    let mut runner = place.start();
    runner.outbox.close().unwrap();
    assert_eq!(runner.end(), RunnerExit::Done);
    assert!(runner.has(|kind| matches!(kind,
        EventKind::SetupStep { step: SetupStep::Workspace, state: StepState::Done, detail: Some(detail) }
            if detail.contains("read-only for uid 4242"))));
}

#[test]
fn a_workspace_that_is_missing_fails() {
    let place = Place::sh("true");
    fs::remove_dir(place.path("workspace")).unwrap();
    place.host().input().unwrap().send(Some("m1".parse().unwrap()), Input::Interrupt {}).unwrap();
    let mut runner = place.start();
    assert_eq!(runner.end(), RunnerExit::SetupFailed);
    assert_eq!(failed_step(&runner).0, SetupStep::Workspace);
    assert_eq!(runner.dropped(), [("m1", "the session ended before the agent was started")]);
}

#[test]
fn a_proxy_that_answers_lets_the_agent_start() {
    let mut place = Place::sh("true");
    place.config.preflight_url = Some(serve("HTTP/1.1 200 OK"));
    let mut runner = place.start();
    assert_eq!(runner.end(), RunnerExit::Done);
}

#[test]
fn a_proxy_that_does_not_answer_is_a_sentence() {
    let mut place = Place::sh("true");
    place.config.preflight_url = Some(serve("HTTP/1.1 403 Forbidden"));
    let begun = Instant::now();
    let mut runner = place.start();
    assert_eq!(runner.end(), RunnerExit::SetupFailed);
    assert!(begun.elapsed() >= Duration::from_secs(5));
    let (step, detail) = failed_step(&runner);
    assert!(step == SetupStep::Preflight && detail.contains("does not know this container"), "{detail}");
}

#[test]
fn a_proxy_that_listens_late_lets_the_agent_start() {
    // An address of its own: nobody else takes the port meanwhile.
    let address = TcpListener::bind("127.77.0.1:0").unwrap().local_addr().unwrap();
    let mut place = Place::sh("true");
    place.config.preflight_url = Some(format!("http://{address}/health"));
    let mut runner = place.start();
    std::thread::spawn(move || {
        // Longer than a proxy that listens may refuse this container.
        std::thread::sleep(Duration::from_secs(7));
        answer(&TcpListener::bind(address).unwrap(), "HTTP/1.1 200 OK");
    });
    assert_eq!(runner.end(), RunnerExit::Done);
}

#[test]
fn a_signal_ends_the_boot() {
    let mut place = Place::sh("true");
    place.config.preflight_url = Some(unused_url());
    let mut runner = place.start();
    runner.send("m1", "never read");
    runner.until("workspace", |kind| matches!(kind, EventKind::SetupStep { step: SetupStep::Workspace, .. }));
    runner.signal(Signal::SIGTERM);
    assert_eq!(runner.end(), RunnerExit::Terminated);
    assert!(runner.has(|kind| *kind == EventKind::Closing { reason: ClosingReason::Signal }));
    assert_eq!(runner.dropped().len(), 1);
}

#[test]
fn probe_tells_with_a_sentence() {
    let good = run(&["probe", &serve("HTTP/1.1 200 OK")], &[]);
    assert!(good.status.success() && String::from_utf8_lossy(&good.stdout).contains("answered 200"), "{good:?}");
    for (url, expected) in [
        (unused_url(), "refused"),
        ("https://host/".into(), "not a URL"),
        ("http://no-such-host/".into(), "/etc/hosts"),
        (serve("SSH-2.0-x"), "does not speak HTTP"),
    ] {
        let bad = run(&["probe", &url], &[]);
        assert_eq!(bad.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&bad.stdout).contains(expected), "{bad:?}");
    }
}
