//! `aigo run` with a person at a terminal.

use tests::{Home, Script, Terminal, host};

#[test]
fn typed_lines_go_to_the_agent_and_the_end_of_input_closes() {
    let Some(home) = Home::open() else { return };
    let run = home.command(r#"echo ready; while read -r line; do echo "got $line"; done"#).flags(["--keep-open"]);
    let mut terminal = Terminal::open(run);
    terminal.wait_for("ready");
    terminal.type_line("hello there");
    terminal.wait_for("got hello there");
    terminal.ctrl_d();
    let (status, shown) = terminal.finish();
    assert_eq!(status.code(), Some(0), "{shown}");
    assert!(shown.contains("completed"), "{shown}");
}

#[test]
fn ctrl_c_once_interrupts_the_turn_and_the_session_goes_on() {
    let Some(home) = Home::open() else { return };
    let marker = host::unique("ctrl-c");
    let script =
        Script::new().bash(&format!("sh -c 'sleep 300; true' {marker}")).say("second answer").expect("something else");
    let mut terminal = Terminal::open(home.claude("work", &script).flags(["--keep-open"]));
    host::wait_until("the tool", || host::processes_with(&marker).pop());
    terminal.ctrl_c();
    terminal.wait_for("turn interrupted");
    host::wait_until("the tool to be gone", || host::processes_with(&marker).is_empty().then_some(()));
    terminal.type_line("something else");
    terminal.wait_for("second answer");
    terminal.ctrl_d();
    let (status, shown) = terminal.finish();
    assert_eq!(status.code(), Some(0), "{shown}");
}

#[test]
fn ctrl_c_twice_closes_the_session() {
    let Some(home) = Home::open() else { return };
    let marker = host::unique("ctrl-c");
    let script = Script::new().bash(&format!("sh -c 'sleep 300; true' {marker}")).say("never said");
    let mut terminal = Terminal::open(home.claude("work", &script).flags(["--keep-open"]));
    host::wait_until("the tool", || host::processes_with(&marker).pop());
    terminal.ctrl_c();
    terminal.wait_for("turn interrupted");
    terminal.ctrl_c();
    let (status, shown) = terminal.finish();
    assert_eq!(status.code(), Some(0), "{shown}");
    assert!(shown.contains("closed"), "{shown}");
}

#[test]
fn ctrl_c_three_times_kills_what_does_not_listen() {
    let Some(home) = Home::open() else { return };
    let run = home.command("trap '' INT TERM; echo up; while :; do sleep 1; done").flags(["--keep-open"]);
    let mut terminal = Terminal::open(run);
    terminal.wait_for("up");
    terminal.ctrl_c();
    terminal.wait_for("interrupting");
    terminal.ctrl_c();
    terminal.wait_for("ending the session");
    terminal.ctrl_c();
    let (status, shown) = terminal.finish();
    assert_eq!(status.code(), Some(130), "{shown}");
    assert!(shown.contains("cancelled"), "{shown}");
}

/// The kernel stops a background job that reads from its terminal, and with `stty tostop` one that writes to it.
#[test]
fn in_the_background_a_session_runs_on_and_is_not_typed_to() {
    let Some(home) = Home::open() else { return };
    let mut terminal = Terminal::open_in_the_background(home.command("echo up; read -r line; echo \"over <$line>\""));
    terminal.wait_for("up");
    terminal.type_line("not for aigo");
    terminal.wait_for("completed");
    let (status, shown) = terminal.finish();
    assert_eq!(status.code(), Some(0), "{shown}");
    assert!(shown.contains("over <>"), "{shown}");
}

#[test]
fn a_terminal_that_is_closed_ends_the_session() {
    let Some(home) = Home::open() else { return };
    let terminal = Terminal::open(home.command("echo up; cat").flags(["--keep-open"]));
    terminal.wait_for("up");
    let status = terminal.close();
    assert_eq!(status.code(), Some(0), "it ended by itself, not by the signal: {status}");
    assert_eq!(home.containers(), [""; 0]);
}
