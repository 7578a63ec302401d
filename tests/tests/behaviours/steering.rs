//! Talking to a running agent: messages, interrupts, and closing without losing any.

use ipc_protocol::event::{EventKind, TurnOutcome};
use nix::sys::signal::Signal;
use supervisor::session::status::Status;
use tests::{Expect, Home, Look, Run, Script, host, look};

/// How a session says that it takes no more, by how far its end is.
const REFUSALS: [&str; 4] =
    ["takes no more messages", "the session is ending", "cannot be reached", "no session that runs"];

/// Sends a message with `aigo send`: its id.
fn send(home: &Home, session: &str, text: &str) -> String {
    let said = home.aigo(["send", session, text]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    said.stdout.trim().to_owned()
}

fn wait_until_taken(run: &Run<'_>, id: &str) {
    run.wait_for(
        &format!("message {id} to be taken"),
        |event| matches!(look::runner(event), Some(EventKind::InputAccepted { id: taken }) if taken == id),
    );
}

#[test]
fn an_interrupt_in_mid_tool_ends_the_tool_and_a_new_message_goes_on() {
    let Some(home) = Home::open() else { return };
    let marker = host::unique("interrupted");
    let script = Script::new()
        .bash(&format!("sh -c 'sleep 300; true' {marker}"))
        .say("second answer")
        .expect("do something else");
    let run = home.claude("work", &script).start();
    run.wait_for_tool();
    host::wait_until("the tool's process", || host::processes_with(&marker).pop());
    let session = run.session();
    let said = home.aigo(["interrupt", &session]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    run.wait_for_turns(1);
    host::wait_until("the tool to be gone", || host::processes_with(&marker).is_empty().then_some(()));
    send(&home, &session, "do something else");
    let run = run.finish().expect(Expect::FINISHED);
    let outcomes: Vec<TurnOutcome> = run.turns().iter().map(|turn| turn.outcome).collect();
    assert_eq!(outcomes, [TurnOutcome::Interrupted, TurnOutcome::Success]);
    assert_eq!(run.texts(), ["second answer"]);
}

#[test]
fn a_message_in_mid_turn_is_taken_in_the_same_turn() {
    let Some(home) = Home::open() else { return };
    let script = Script::new()
        .bash("while [ ! -e /workspace/go ]; do sleep 0.1; done")
        .bash("true")
        .say("did both")
        .expect("and this as well");
    let run = home.claude("do this", &script).start();
    run.wait_for_tool();
    let id = send(&home, &run.session(), "and this as well");
    wait_until_taken(&run, &id);
    home.put("go", "");
    let run = run.finish().expect(Expect::FINISHED);
    let [turn] = run.turns()[..] else { panic!("one turn: {run:?}") };
    assert!(turn.inputs.len() == 2 && turn.inputs.contains(&id), "one turn answers both: {turn:#?}");
}

#[test]
fn a_message_just_before_a_close_is_answered_or_refused() {
    let Some(home) = Home::open() else { return };
    let script = Script::new().say("first answer").say("second answer").expect("last words");
    let run = home.claude("hello", &script).flags(["--keep-open"]).start();
    run.wait_for_turns(1);
    let session = run.session();
    let id = send(&home, &session, "last words");
    let said = home.aigo(["stop", &session]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let run = run.finish().expect(Expect::CLOSED);
    let answered = run.turns().iter().any(|turn| turn.inputs.contains(&id));
    match run.was_taken(&id) {
        Some(true) => assert!(answered && run.texts().contains(&"second answer"), "{run:?}"),
        Some(false) => assert!(!answered, "{run:?}"),
        None => panic!("lost: {run:?}"),
    }
}

#[test]
fn messages_that_race_a_close_are_never_lost() {
    let Some(home) = Home::open() else { return };
    let run = home.command(r#"while read -r line; do echo "got $line"; done"#).steered().start();
    run.wait_for_status(Status::Running);
    let session = run.session();
    let accepted: Vec<(String, String)> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..6)
            .map(|number| {
                let (home, session) = (&home, &session);
                scope.spawn(move || {
                    let text = format!("message {number}");
                    let said = home.aigo(["send", session.as_str(), &text]);
                    let refused = REFUSALS.iter().any(|why| said.stderr.contains(why));
                    assert!(said.code == Some(0) || refused, "neither taken nor refused: {said:?}");
                    (said.code == Some(0)).then(|| (said.stdout.trim().to_owned(), text))
                })
            })
            .collect();
        let said = home.aigo(["stop", &session]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        senders.into_iter().filter_map(|sender| sender.join().unwrap()).collect()
    });
    let run = run.finish().expect(Expect::CLOSED);
    for (id, text) in accepted {
        let echoed = run.texts().contains(&format!("got {text}").as_str());
        assert_eq!(run.was_taken(&id), Some(echoed), "`{text}` was taken and is lost: {run:?}");
    }
}

#[test]
fn sigint_without_a_terminal_in_mid_turn_is_no_success() {
    let Some(home) = Home::open() else { return };
    let marker = host::unique("sigint");
    let script = Script::new().bash(&format!("sh -c 'sleep 300; true' {marker}")).say("never said");
    let run = home.claude("work", &script).start();
    host::wait_until("the tool", || host::processes_with(&marker).pop());
    run.signal(Signal::SIGINT);
    let run = run.finish().expect(Expect::CANCELLED);
    assert!(run.detail().contains("closed by Ctrl-C in mid-turn"), "{run:?}");
    assert_eq!(run.turns().len(), 1, "the turn was interrupted, not killed: {run:?}");

    let run = home.command("echo up; exec sleep 300").flags(["--keep-open"]).start();
    run.wait_for_text("up");
    run.signal(Signal::SIGINT);
    run.finish().expect(Expect::CANCELLED);
}

#[test]
fn sigint_without_a_terminal_at_rest_closes() {
    let Some(home) = Home::open() else { return };
    let run = home.claude("hello", &Script::new().say("hello")).flags(["--keep-open"]).start();
    run.wait_for_turns(1);
    run.signal(Signal::SIGINT);
    run.finish().expect(Expect::CLOSED);
}

/// `aigo stop` finds the session ended before, while or after it asks.
#[test]
fn stopping_what_is_ending_or_has_ended_is_no_failure() {
    let Some(home) = Home::open() else { return };
    let run = home.command("cat").steered().start();
    run.wait_for_status(Status::Running);
    let session = run.session();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let said = home.aigo(["stop", &session]);
                assert_eq!(said.code, Some(0), "{said:?}");
                assert!(said.stdout.contains("closed"), "{said:?}");
            });
        }
    });
    let run = run.finish();
    assert_eq!(run.ended().0, Status::Completed, "{run:?}");
    let said = home.aigo(["stop", "--json", &session]);
    assert!(said.code == Some(0) && said.stdout.contains("\"endedAt\""), "{said:?}");
}

#[test]
fn lines_of_standard_input_are_messages() {
    let Some(home) = Home::open() else { return };
    let mut run = home.command(r#"while read -r line; do echo "got $line"; done; echo over"#).steered().start();
    run.type_line("one");
    run.type_line("two");
    run.wait_for_text("got two");
    run.close_stdin();
    let run = run.finish().expect(Expect::CLOSED);
    assert_eq!(run.texts(), ["got one", "got two", "over"]);
}
