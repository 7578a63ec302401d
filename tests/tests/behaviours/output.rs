//! What agents print: any bytes, any amount.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{Expect, Home, Look, host};

/// A name for the window, a cleared screen, a hidden word, and reordered text.
const HOSTILE: &str = r"\033]0;owned\007\033[2J\033[8mhidden\033[0m \342\200\256gpj.exe\n";

/// 100 MB in lines of 1 KB.
const LINES: usize = 100_000;
/// Most memory of aigo whatever an agent prints, in KiB.
const MAX_RESIDENT_KIB: u64 = 64 * 1024;

#[test]
fn a_character_that_is_split_over_two_writes_is_one_character() {
    let Some(home) = Home::open() else { return };
    let script = r"printf 'caf\303'; sleep 0.3; printf '\251 \360\237'; sleep 0.3; printf '\246\200\n'; printf 'bad \377 byte\n'";
    let run = home.command(script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["café 🦀", "bad \u{fffd} byte"]);
}

#[test]
fn escape_sequences_are_shown_to_people_and_kept_for_programs() {
    let Some(home) = Home::open() else { return };
    let script = format!("printf '{HOSTILE}'; printf '{HOSTILE}' >&2");
    let run = home.command(&script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[8mhidden\u{1b}[0m \u{202e}gpj.exe"]);

    let run = home.command(&script).output("text").finish();
    let shown = run.text() + &run.stderr;
    assert_eq!(run.code(), Some(0), "{shown}");
    assert_eq!(shown.matches("␛[8mhidden").count(), 2, "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
}

#[test]
fn a_hundred_megabytes_arrive_in_order_in_little_memory() {
    let Some(home) = Home::open() else { return };
    let script = format!("seq -f \"%09.0f $(printf %0990d 0)\" 1 {LINES}; read -r line");
    let mut run = home.command(&script).steered().start();
    let last = format!("{LINES:09}");
    run.wait_for("the last line", |event| tests::look::text(event).is_some_and(|text| text.starts_with(&last)));
    let resident = host::status_kib(run.pid(), "VmHWM").unwrap();
    run.type_line("enough");
    let run = run.finish().expect(Expect::FINISHED);
    let numbers = run.texts().into_iter().map(|line| line[..9].parse::<usize>().unwrap());
    assert!(numbers.eq(1..=LINES), "each line once, in order");
    println!("aigo needed {resident} KiB at most");
    assert!(resident <= MAX_RESIDENT_KIB, "{resident} KiB");
}

/// A pipe holds 64 KiB (pipe(7)): aigo cannot write any more, and still has to end its session.
#[test]
fn a_reader_that_never_reads_does_not_keep_a_signal_from_ending_the_session() {
    let Some(home) = Home::open() else { return };
    for (signal, output) in [(Signal::SIGTERM, "text"), (Signal::SIGINT, "stream-json"), (Signal::SIGHUP, "text")] {
        let run = home.command("seq 30000; touch printed; exec sleep 300").output(output);
        let mut aigo = run.as_command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        host::wait_until("the agent's words", || home.file("printed").exists().then_some(()));
        kill(Pid::from_raw(aigo.id().cast_signed()), signal).unwrap();
        let status = host::wait_until("the end of aigo", || aigo.try_wait().unwrap());
        assert_eq!(status.code(), Some(130), "it was ended in mid-work, by {signal}");
        assert_eq!(home.leftovers(), [""; 0]);
        std::fs::remove_file(home.file("printed")).unwrap();
    }
}

#[test]
fn a_reader_that_comes_late_gets_everything() {
    let Some(home) = Home::open() else { return };
    let run = home.command("seq 100000; touch printed").output("text");
    let aigo = run.as_command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    host::wait_until("the session's end", || {
        (home.file("printed").exists() && home.leftovers().is_empty()).then_some(())
    });
    let output = aigo.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(text.contains("\n100000\n") && text.contains("completed (finished)"), "{}", text.len());
}

#[test]
fn one_object_at_the_end_tells_everything() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo hello > file; exit 3").output("json").finish();
    let result: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((run.code(), result["exitCode"].as_i64()), (Some(1), Some(1)), "{result}");
    assert_eq!(
        (result["status"].as_str(), result["reason"].as_str()),
        (Some("failed"), Some("agent_exit")),
        "{result}"
    );
    assert_eq!(result["summary"]["changes"]["added"]["names"][0], "file", "{result}");
}
