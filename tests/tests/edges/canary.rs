//! The secret canary: a marked credential is searched for in everything that a run touches, while it goes on and after
//! it. Only the upstream may see it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tests::engine::docker;
use tests::host::wait_until;
use tests::{Answer, Expect, Home, Look, Upstream};

use crate::support::known;

/// The credential.
const CANARY: &str = "sk-canary-7f3a9c1e5b2d8046";
/// The same in base64 at each of its three offsets, without the characters at the ends that depend on the neighbours.
const IN_BASE64: [&str; 3] =
    ["c2stY2FuYXJ5LTdmM2E5YzFlNWIyZDgwND", "NrLWNhbmFyeS03ZjNhOWMxZTViMmQ4MDQ2", "zay1jYW5hcnktN2YzYTljMWU1YjJkODA0N"];

/// Where it was found, in words.
#[derive(Debug, Default)]
struct Sweep {
    looked_at: usize,
    found: Vec<String>,
}

impl Sweep {
    fn bytes(&mut self, place: &str, bytes: &[u8]) {
        self.looked_at += 1;
        let mut needles = std::iter::once(CANARY).chain(IN_BASE64);
        if needles.any(|needle| bytes.windows(needle.len()).any(|window| window == needle.as_bytes())) {
            self.found.push(place.to_owned());
        }
    }

    /// Names and contents of everything below a folder.
    fn tree(&mut self, path: &Path) {
        self.bytes(&format!("the name of {}", path.display()), path.as_os_str().as_encoded_bytes());
        let Ok(kind) = fs::symlink_metadata(path).map(|metadata| metadata.file_type()) else { return };
        if kind.is_dir() {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.tree(&entry.path());
            }
        } else if kind.is_file() {
            // What is gone meanwhile (a message that was taken) has become an event.
            self.bytes(&path.display().to_string(), &fs::read(path).unwrap_or_default());
        }
    }

    /// What a program prints.
    fn output(&mut self, program: &str, arguments: &[&str]) {
        let output = Command::new(program).args(arguments).output().expect("the program is there");
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        self.bytes(&format!("{program} {arguments:?}"), &[output.stdout, output.stderr].concat());
    }

    /// Arguments of all processes of this host.
    fn command_lines(&mut self) {
        for entry in fs::read_dir("/proc").expect("there is a /proc").flatten() {
            let path = entry.path().join("cmdline");
            if entry.file_name().to_string_lossy().parse::<u32>().is_ok() {
                self.bytes(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
            }
        }
    }

    #[track_caller]
    fn is_clean(&self, at_least: usize) {
        assert!(self.looked_at >= at_least, "only {} things were looked at", self.looked_at);
        assert!(self.found.is_empty(), "the credential is in: {:#?}", self.found);
    }
}

/// What the agent does in its container as root and by itself: everything that it can read of processes and of its home is
/// copied into the workspace, where the test looks at it. Then it stays until the test has looked around.
const LOOK_AROUND: &str = "set -u
env > seen.env
for p in /proc/[0-9]*; do sudo cat $p/environ $p/cmdline; cat $p/environ; done > seen.proc 2>/dev/null
sudo tar cf seen.tar /home /root /tmp /run /var/log /var/tmp /etc 2>/dev/null
cp -r ipc seen.ipc 2>/dev/null
touch seen.ready
for i in $(seq 600); do [ -e go ] && break; sleep 0.1; done
echo looked around";

/// One run with these flags and this log filter.
fn no_trace_of_the_credential(verbosity: &[&str], log: Option<&str>) {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let upstream = Upstream::start(|number, _| match number {
        0 => Answer::bash(LOOK_AROUND)
            .header("x-echo", CANARY)
            .header("x-api-key", CANARY)
            .header("set-cookie", &format!("session={CANARY}")),
        _ => Answer::status(
            401,
            &json!({"type": "error", "error": {"type": "authentication_error", "message": format!("bad key {CANARY}")},
                "key": CANARY}),
        )
        .header("x-echo", &format!("Bearer {CANARY}")),
    });
    let recording = home.root().join("recording.jsonl");
    let mut run = home
        .live("look around", &upstream)
        .env("ANTHROPIC_API_KEY", CANARY)
        .flags(verbosity)
        .flags(["--record"])
        .flags([&recording]);
    if let Some(log) = log {
        run = run.env("AIGO_LOG", log);
    }
    let run = run.start();
    wait_until("the agent has looked around", || home.file("seen.ready").exists().then_some(()));

    let mut during = Sweep::default();
    let [container] = &home.containers()[..] else { panic!("one container") };
    let image = docker(&["inspect", "--format", "{{.Image}}", container]).unwrap();
    for inspected in [container.as_str(), &image] {
        during.output("docker", &["inspect", inspected]);
    }
    during.output("docker", &["history", "--no-trunc", &image]);
    during.output("docker", &["logs", container]);
    during.output("docker", &["diff", container]);
    during.output("docker", &["top", container, "-eo", "pid,args"]);
    during.output("docker", &["exec", container, "env"]);
    during.output("docker", &["network", "inspect", &format!("aigo-{}", run.session())]);
    during.command_lines();
    during.tree(home.root());
    let aigo = home.aigo(["ps", "--json"]);
    during.bytes("aigo ps", (aigo.stdout + &aigo.stderr).as_bytes());
    during.is_clean(50);
    let seen = fs::read(home.file("seen.proc")).unwrap();
    let placeholder = b"CREDENTIAL_PROXY_PLACEHOLDER";
    assert!(seen.windows(placeholder.len()).any(|window| window == placeholder), "the agent could not look around");

    fs::write(home.file("go"), "").unwrap();
    let run = run.finish().expect(Expect::AGENT_EXIT);
    let mut after = Sweep::default();
    after.bytes("standard output", &run.stdout);
    after.bytes("the events", serde_json::to_string(&run.events).unwrap().as_bytes());
    after.bytes("standard error", run.stderr.as_bytes());
    let id = &known(&home)[0];
    for arguments in [&["logs", id][..], &["logs", "--json", id], &["ps", "--all", "--json"], &["ps", "--all"]] {
        let said = home.aigo(arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.stderr);
        after.bytes(&format!("aigo {arguments:?}"), (said.stdout + &said.stderr).as_bytes());
    }
    after.bytes("the recording", &fs::read(&recording).unwrap());
    after.tree(home.root());
    after.is_clean(15);

    assert_eq!(run.tool_results(), [(false, "looked around")], "{run:#?}");
    assert!(recording.metadata().unwrap().len() > 0 && home.data().join("aigo.db").exists());
    let asked = upstream.requests();
    assert_eq!(asked.len(), 2, "{run:#?}");
    assert!(asked.iter().all(|request| request.all("x-api-key") == [CANARY]), "the upstream does get it");
    assert!(asked.iter().all(|request| !String::from_utf8_lossy(&request.body).contains(CANARY)));
}

#[test]
fn no_trace_of_the_credential_with_debug_output() {
    no_trace_of_the_credential(&["-vv"], None);
}

#[test]
fn no_trace_of_the_credential_with_everything_in_the_log() {
    no_trace_of_the_credential(&[], Some("trace"));
}

#[test]
fn the_search_finds_what_is_planted() {
    use base64::Engine;
    let home = Home::without_engine();
    let found = |look: &dyn Fn(&mut Sweep)| {
        let mut sweep = Sweep::default();
        look(&mut sweep);
        sweep.found.len()
    };
    assert_eq!(found(&|sweep| sweep.tree(home.root())), 0);
    let database = [&[0xff, 0, 0x80][..], CANARY.as_bytes(), &[0; 4096]].concat();
    home.put("a/b/c/aigo.db-wal", &database);
    assert_eq!(found(&|sweep| sweep.tree(home.root())), 1, "in the middle of binary data");
    home.put(&format!("a/{CANARY}"), "");
    assert_eq!(found(&|sweep| sweep.tree(home.root())), 2, "in a file's name");
    for before in ["", "x", "xy"] {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{before}{CANARY} and more"));
        assert_eq!(found(&|sweep| sweep.bytes("base64", encoded.as_bytes())), 1, "{encoded}");
    }
    assert_eq!(found(&|sweep| sweep.output("echo", &[CANARY])), 1, "in a program's output");
    let piped = std::process::Stdio::piped;
    let arguments = ["-c", "echo; read line", CANARY];
    let mut sleeper = Command::new("sh").args(arguments).stdin(piped()).stdout(piped()).spawn();
    let sleeper = sleeper.as_mut().expect("sh is there");
    // A process that was just made has no arguments in /proc for a moment: wait until it has said something.
    let said = sleeper.stdout.as_mut().expect("it is piped");
    std::io::Read::read_exact(said, &mut [0]).expect("it says a line");
    let command_lines = found(&|sweep| sweep.command_lines());
    drop(sleeper.stdin.take());
    sleeper.wait().expect("it is our child");
    assert_eq!(command_lines, 1, "in a process's arguments");
}
