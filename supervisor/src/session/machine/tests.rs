use ipc_protocol::clip::ClippedValue;
use ipc_protocol::event::TurnFinished;
use ipc_protocol::exit::RunnerExit;
use proptest::prelude::*;

use super::*;

const S: fn(u64) -> Duration = Duration::from_secs;

fn rules(ends: Ends) -> Rules {
    Rules {
        timeout: Some(S(600)),
        idle_timeout: Some(S(60)),
        graces: Graces { save: S(30), close: S(10), term: S(5) },
        ends,
        can_save: true,
    }
}

fn ready(ends: Ends) -> Machine {
    let mut machine = Machine::new(rules(ends));
    machine.step(S(0), Input::Launched);
    machine.step(S(1), Input::Runner(&EventKind::Ready {}));
    assert_eq!(machine.status(), Status::Running);
    // Its heart beats for as long as a test lasts.
    machine.step(S(3600), Input::Heartbeat);
    machine
}

fn tool_call(id: &str) -> EventKind {
    EventKind::ToolCall { call_id: id.into(), tool: "Bash".into(), input: ClippedValue::default(), parent_call: None }
}

fn turn(outcome: TurnOutcome, inputs: &[&str]) -> EventKind {
    EventKind::TurnFinished(TurnFinished {
        turn: 1,
        outcome,
        inputs: inputs.iter().map(ToString::to_string).collect(),
        ..TurnFinished::default()
    })
}

fn exit(code: u8) -> ExitFacts {
    ExitFacts { code: Some(code.into()), ..ExitFacts::default() }
}

/// The runner says how it ends, and the container ends with that.
fn leave(machine: &mut Machine, at: At, code: u8) -> Vec<Effect> {
    machine.step(at, Input::Runner(&EventKind::RunnerExiting { code }));
    machine.step(at, Input::Exited(&exit(code)))
}

fn ending(effects: &[Effect]) -> &EndReason {
    effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Finish(ending) => Some(&ending.reason),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no end in {effects:?}"))
}

#[test]
fn a_one_shot_closes_when_its_answer_is_there() {
    let mut machine = ready(Ends::WhenAnswered);
    assert!(machine.step(S(1), Input::Sent("a")).is_empty());
    machine.step(S(2), Input::Runner(&EventKind::InputAccepted { id: "a".into() }));
    machine.step(S(3), Input::Sent("b"));
    let first = machine.step(S(4), Input::Runner(&turn(TurnOutcome::Success, &["a"])));
    assert!(first.is_empty(), "b is still unanswered: {first:?}");
    let second = machine.step(S(5), Input::Runner(&turn(TurnOutcome::Success, &["b"])));
    assert!(second.contains(&Effect::WriteClose), "{second:?}");
    assert!(!machine.takes_input());
    assert_eq!(*ending(&leave(&mut machine, S(6), 0)), EndReason::Finished);
}

#[test]
fn an_interrupted_turn_leaves_the_session_open() {
    let mut machine = ready(Ends::WhenAnswered);
    machine.step(S(1), Input::Sent("a"));
    let effects = machine.step(S(2), Input::Command(Command::Interrupt));
    assert!(effects.contains(&Effect::SendInterrupt));
    assert!(machine.step(S(3), Input::Runner(&turn(TurnOutcome::Interrupted, &["a"]))).is_empty());
    assert!(machine.takes_input());
}

#[test]
fn a_program_sees_the_end_of_its_input_once_it_has_it() {
    let mut machine = Machine::new(rules(Ends::WhenTaken));
    machine.step(S(0), Input::Launched);
    machine.step(S(0), Input::Sent("a"));
    assert!(!machine.step(S(1), Input::Runner(&EventKind::Ready {})).contains(&Effect::WriteClose));
    let effects = machine.step(S(1), Input::Runner(&EventKind::InputAccepted { id: "a".into() }));
    assert!(effects.contains(&Effect::WriteClose));
}

#[test]
fn a_program_runs_until_somebody_or_a_deadline_wants_its_end() {
    let closing = |reason| EventKind::Closing { reason };
    let program = || {
        let mut machine = Machine::new(Rules { idle_timeout: None, ..rules(Ends::WhenTaken) });
        machine.step(S(0), Input::Launched);
        machine.step(S(1), Input::Runner(&EventKind::Ready {}));
        machine.step(S(1), Input::Runner(&closing(ClosingReason::Close)));
        machine.step(S(3600), Input::Heartbeat);
        assert_eq!(machine.status(), Status::Running);
        assert!(!machine.takes_input(), "its input has ended");
        machine
    };
    let cancel = || Input::Command(Command::Cancel { by: "test".into() });
    for wanted in [Input::Command(close(None, false)), Input::Command(close(Some(S(5)), true)), cancel()] {
        let mut machine = program();
        let effects = machine.step(S(2), wanted);
        assert!(effects.contains(&Effect::Tell(HostEvent::Status { status: Status::Closing })), "{effects:?}");
    }
    let mut machine = program();
    machine.step(S(600), Input::Tick);
    assert_eq!(machine.status(), Status::Closing, "the timeout");
    let mut machine = program();
    machine.step(S(2), Input::Runner(&closing(ClosingReason::Signal)));
    assert_eq!(machine.status(), Status::Closing, "somebody else");
    assert_eq!(*ending(&leave(&mut program(), S(9), 0)), EndReason::Finished);
}

#[test]
fn a_timeout_goes_down_the_ladder_and_is_never_a_success() {
    let mut machine = ready(Ends::WhenTold);
    machine.step(S(590), Input::Runner(&tool_call("t")));
    assert_eq!(machine.next_deadline(), Some(S(600)));
    let save = machine.step(S(600), Input::Tick);
    assert!(save.iter().any(|e| matches!(e, Effect::SendNotice(_))), "{save:?}");
    assert!(machine.step(S(630), Input::Tick).contains(&Effect::WriteClose));
    assert!(machine.step(S(640), Input::Tick).contains(&Effect::Term));
    assert_eq!(machine.next_deadline(), Some(S(645) + RUNNER_END), "first the runner ends its agent");
    assert!(machine.step(S(645) + RUNNER_END, Input::Tick).contains(&Effect::Kill));
    assert_eq!(*ending(&machine.step(S(650), Input::Exited(&exit(0)))), EndReason::WallTimeout);
}

#[test]
fn a_close_that_took_force_is_a_cancel_and_says_by_whom() {
    for (until, code) in [(S(10), i64::from(RunnerExit::Terminated.code())), (S(10) + S(5) + RUNNER_END, 137)] {
        let mut machine = ready(Ends::WhenTold);
        machine.step(S(5), Input::Command(Command::Close { grace: Some(S(5)), interrupt: false, by: "ann".into() }));
        machine.step(S(10), Input::Tick);
        machine.step(until, Input::Tick);
        let effects = machine.step(S(30), Input::Exited(&ExitFacts { code: Some(code), ..ExitFacts::default() }));
        let Some(Effect::Finish(end)) = effects.last() else { panic!("{effects:?}") };
        assert_eq!(end.reason, EndReason::Cancelled);
        assert!(end.detail.as_ref().is_some_and(|detail| detail.contains("ann")), "{end:?}");
    }
}

fn close(grace: Option<Duration>, interrupt: bool) -> Command {
    Command::Close { grace, interrupt, by: "test".into() }
}

#[test]
fn a_close_that_interrupts_work_is_a_cancel() {
    for code in [RunnerExit::Done, RunnerExit::AgentFailed] {
        let mut machine = ready(Ends::WhenAnswered);
        machine.step(S(1), Input::Sent("a"));
        let effects = machine.step(S(2), Input::Command(close(Some(S(5)), true)));
        let at = |wanted: &Effect| effects.iter().position(|effect| effect == wanted);
        assert!(at(&Effect::SendInterrupt).is_some() && at(&Effect::SendInterrupt) < at(&Effect::WriteClose));
        machine.step(S(3), Input::Runner(&turn(TurnOutcome::Interrupted, &["a"])));
        assert_eq!(*ending(&leave(&mut machine, S(4), code.code())), EndReason::Cancelled, "{code:?}");
    }
    // A program has no turns: what it makes of the interrupt tells whether it had work.
    for (code, wanted) in [
        (RunnerExit::AgentSignalled, EndReason::Cancelled),
        (RunnerExit::AgentFailed, EndReason::Cancelled),
        (RunnerExit::Done, EndReason::Closed),
    ] {
        let mut machine = ready(Ends::WhenTold);
        machine.step(S(2), Input::Command(close(Some(S(5)), true)));
        assert_eq!(*ending(&leave(&mut machine, S(4), code.code())), wanted, "{code:?}");
    }
}

#[test]
fn a_close_at_rest_is_closed_also_after_an_interrupt() {
    let mut machine = ready(Ends::WhenAnswered);
    machine.step(S(1), Input::Sent("a"));
    machine.step(S(2), Input::Command(Command::Interrupt));
    machine.step(S(3), Input::Runner(&turn(TurnOutcome::Interrupted, &["a"])));
    machine.step(S(4), Input::Command(close(None, false)));
    // Claude Code ends with 1 after an interrupted turn.
    assert_eq!(*ending(&leave(&mut machine, S(5), 1)), EndReason::Closed);

    let mut machine = ready(Ends::WhenAnswered);
    machine.step(S(1), Input::Sent("a"));
    machine.step(S(2), Input::Command(close(None, false)));
    machine.step(S(3), Input::Runner(&turn(TurnOutcome::Success, &["a"])));
    assert_eq!(*ending(&leave(&mut machine, S(4), 0)), EndReason::Closed, "the turn was finished");
}

#[test]
fn an_agent_that_has_saved_is_not_kept_waiting() {
    let mut machine = ready(Ends::WhenTold);
    machine.step(S(590), Input::Runner(&tool_call("t")));
    machine.step(S(600), Input::Tick);
    let effects = machine.step(S(605), Input::Runner(&turn(TurnOutcome::Success, &[NOTICE_ID])));
    assert!(effects.contains(&Effect::WriteClose), "{effects:?}");
}

#[test]
fn what_is_kept_of_a_hostile_journal_is_little() {
    let mut machine = ready(Ends::WhenTold);
    for number in 0..5000 {
        machine.step(S(2), Input::Runner(&tool_call(&format!("{number}"))));
        machine.step(S(2), Input::Runner(&tool_call(&format!("{number}{}", "x".repeat(1 << 10)))));
    }
    let long = "y".repeat(1 << 20);
    let failed = EventKind::SetupStep {
        step: ipc_protocol::event::SetupStep::Home,
        state: StepState::Failed,
        detail: Some(long.clone()),
    };
    machine.step(S(2), Input::Runner(&failed));
    let finished = TurnFinished { body: ClippedText::new(long, usize::MAX), ..TurnFinished::default() };
    machine.step(S(2), Input::Runner(&tool_call("last")));
    let kept = serde_json::to_string(&machine).unwrap();
    assert!(kept.len() < 64 << 10, "{} bytes", kept.len());
    machine.step(S(2), Input::Runner(&EventKind::TurnFinished(finished)));
    let kept = serde_json::to_string(&machine).unwrap();
    assert!(kept.len() < 16 << 10, "{} bytes", kept.len());
}

#[test]
fn idle_means_nothing_in_flight() {
    let mut machine = ready(Ends::WhenTold);
    assert_eq!(machine.next_deadline(), Some(S(61)));
    machine.step(S(50), Input::Runner(&tool_call("t")));
    assert_eq!(machine.next_deadline(), Some(S(600)), "a tool runs");
    machine.step(
        S(200),
        Input::Runner(&EventKind::ToolResult { call_id: "t".into(), is_error: false, body: ClippedText::default() }),
    );
    assert_eq!(machine.next_deadline(), Some(S(260)));
    machine.step(S(210), Input::ModelRequests(1));
    assert_eq!(machine.next_deadline(), Some(S(600)), "the model works");
    machine.step(S(300), Input::ModelRequests(0));
    machine.step(S(310), Input::Attached(true));
    assert_eq!(machine.next_deadline(), Some(S(600)), "a person is there");
    machine.step(S(320), Input::Attached(false));
    machine.step(S(330), Input::Asked);
    assert_eq!(machine.next_deadline(), Some(S(600)), "a person is asked");
    machine.step(S(340), Input::Sent("answer"));
    machine.step(S(400), Input::Tick);
    assert_eq!(*ending(&machine.step(S(401), Input::Exited(&exit(143)))), EndReason::IdleTimeout);
}

#[test]
fn silence_lasts_while_nobody_owns_the_session() {
    let said = EventKind::Text { body: ClippedText::default(), parent_call: None };
    // Who goes on gets the last words of the one who has gone, late.
    let taken_over = |machine: &mut Machine, event: &EventKind| {
        machine.recall(S(300), S(50), event);
        machine.resume(S(300));
        machine.next_deadline()
    };
    assert_eq!(taken_over(&mut ready(Ends::WhenTold), &said), Some(S(110)), "it was idle long ago");
    assert_eq!(taken_over(&mut ready(Ends::WhenTold), &tool_call("t")), Some(S(600)), "a tool runs");
    let mut machine = ready(Ends::WhenTold);
    machine.step(S(40), Input::Asked);
    assert_eq!(taken_over(&mut machine, &said), Some(S(600)), "a person is asked");
    for there in [Input::Attached(true), Input::ModelRequests(1)] {
        let mut machine = ready(Ends::WhenTold);
        machine.step(S(40), there);
        assert_eq!(taken_over(&mut machine, &said), Some(S(360)), "until the owner was gone");
        machine.resume(S(310));
        assert_eq!(machine.next_deadline(), Some(S(360)), "once");
    }
    // A clock that was set back tells nonsense of then.
    let mut machine = ready(Ends::WhenTold);
    machine.step(S(290), Input::Runner(&said));
    machine.recall(S(300), S(20), &said);
    assert_eq!(machine.next_deadline(), Some(S(350)));
    machine.recall(S(300), S(4000), &said);
    assert_eq!(machine.next_deadline(), Some(S(360)));
    // What is to be done after a last word is done with all its time.
    let mut machine = ready(Ends::WhenAnswered);
    machine.step(S(1), Input::Sent("a"));
    machine.step(S(20), Input::Runner(&tool_call("t")));
    machine.step(S(600), Input::Tick);
    let effects = machine.recall(S(700), S(610), &turn(TurnOutcome::Success, &["a", NOTICE_ID]));
    assert!(effects.contains(&Effect::WriteClose), "{effects:?}");
    assert_eq!(machine.next_deadline(), Some(S(710)));
}

#[test]
fn cancel_kills_at_once_and_a_silent_engine_is_lost() {
    let mut machine = ready(Ends::WhenTold);
    let effects = machine.step(S(5), Input::Command(Command::Cancel { by: "test".into() }));
    assert!(effects.contains(&Effect::Kill));
    assert_eq!(machine.step(S(4) + KILL_REPORT, Input::Tick), []);
    assert_eq!(*ending(&machine.step(S(5) + KILL_REPORT, Input::Tick)), EndReason::EngineLost);
}

#[test]
fn no_container_has_finished_without_its_runners_first_and_last_word() {
    for code in [RunnerExit::Done, RunnerExit::AgentFailed, RunnerExit::AgentSignalled] {
        let facts = exit(code.code());
        let mut silent = Machine::new(rules(Ends::WhenTaken));
        silent.step(S(0), Input::Launched);
        assert_eq!(*ending(&silent.step(S(3), Input::Exited(&facts))), EndReason::RunnerLost, "{code:?}");
        assert_eq!(
            *ending(&ready(Ends::WhenTaken).step(S(3), Input::Exited(&facts))),
            EndReason::RunnerLost,
            "{code:?}"
        );
    }
}

#[test]
fn reasons() {
    let end = |facts: &ExitFacts, events: &[EventKind]| {
        let mut machine = ready(Ends::WhenTold);
        for event in events {
            machine.step(S(2), Input::Runner(event));
        }
        // Whatever ended the container by force left the runner no time for its last word.
        if let Some(code) = facts.code.and_then(RunnerExit::from_code) {
            machine.step(S(2), Input::Runner(&EventKind::RunnerExiting { code: code.code() }));
        }
        ending(&machine.step(S(3), Input::Exited(facts))).clone()
    };
    let exited = |code, signal| EventKind::AgentExited { code, signal };
    assert_eq!(end(&exit(1), &[exited(Some(7), None)]), EndReason::AgentExit { code: 7 });
    assert_eq!(end(&exit(2), &[exited(None, Some(11))]), EndReason::AgentSignal { signal: 11 });
    assert_eq!(end(&exit(137), &[]), EndReason::RunnerLost);
    assert_eq!(end(&ExitFacts::default(), &[]), EndReason::RunnerLost);
    assert_eq!(end(&exit(143), &[]), EndReason::Cancelled);
    let memory = |rise, code| ExitFacts { out_of_memory: rise, ..exit(code) };
    let pids = |rise, code| ExitFacts { pids_exhausted: rise, ..exit(code) };
    for (facts, agent, reason) in [
        (memory(Rise::Lately, 137), None, EndReason::OutOfMemory),
        (memory(Rise::Earlier, 137), None, EndReason::OutOfMemory),
        (memory(Rise::Never, 137), None, EndReason::RunnerLost),
        (memory(Rise::Lately, 1), Some((Some(1), None)), EndReason::OutOfMemory),
        (memory(Rise::Earlier, 1), Some((Some(1), None)), EndReason::AgentExit { code: 1 }),
        (memory(Rise::Earlier, 1), Some((Some(137), None)), EndReason::OutOfMemory),
        (memory(Rise::Earlier, 2), Some((None, Some(9))), EndReason::OutOfMemory),
        (memory(Rise::Earlier, 2), Some((None, Some(11))), EndReason::AgentSignal { signal: 11 }),
        (memory(Rise::Never, 2), Some((None, Some(9))), EndReason::AgentSignal { signal: 9 }),
        (memory(Rise::Lately, 0), Some((Some(0), None)), EndReason::Finished),
        (pids(Rise::Lately, 1), Some((Some(2), None)), EndReason::PidsExhausted),
        (pids(Rise::Earlier, 1), Some((Some(2), None)), EndReason::AgentExit { code: 2 }),
        (pids(Rise::Earlier, 2), Some((None, Some(9))), EndReason::AgentSignal { signal: 9 }),
        (pids(Rise::Lately, 0), Some((Some(0), None)), EndReason::Finished),
    ] {
        let events: Vec<EventKind> = agent.map(|(code, signal)| exited(code, signal)).into_iter().collect();
        assert_eq!(end(&facts, &events), reason, "{facts:?} {agent:?}");
    }
    assert_eq!(end(&ExitFacts { disk_full: true, ..exit(74) }, &[]), EndReason::DiskFull);
    let failed = EventKind::SetupStep {
        step: ipc_protocol::event::SetupStep::Preflight,
        state: StepState::Failed,
        detail: Some("no answer".into()),
    };
    assert_eq!(end(&exit(71), &[failed]), EndReason::SetupFailed { step: "preflight".into() });
}

fn warned(effects: &[Effect], wanted: &str) -> Option<String> {
    effects.iter().find_map(|effect| match effect {
        Effect::Tell(HostEvent::HostWarning { code, message }) if code == wanted => Some(message.clone()),
        _ => None,
    })
}

#[test]
fn messages_that_nobody_took_are_named_at_every_end() {
    let lost = || {
        let mut machine = ready(Ends::WhenTold);
        for id in ["taken", "b", "a", "dropped"] {
            machine.step(S(2), Input::Sent(id));
        }
        machine.step(S(2), Input::Runner(&EventKind::InputAccepted { id: "taken".into() }));
        machine.step(S(2), Input::Runner(&EventKind::InputDropped { id: "dropped".into(), reason: String::new() }));
        machine
    };
    let mut killed = lost();
    killed.step(S(3), Input::Command(Command::Cancel { by: "test".into() }));
    for effects in [
        lost().step(S(3), Input::Exited(&exit(137))),
        lost().step(S(3), Input::EngineLost("gone")),
        killed.step(S(3) + KILL_REPORT, Input::Tick),
    ] {
        let said = warned(&effects, "input_not_taken").unwrap_or_else(|| panic!("{effects:?}"));
        assert!(said.contains(": a, b;"), "{said}");
        assert!(matches!(effects.last(), Some(Effect::Finish(_))), "the end is the last: {effects:?}");
    }
}

#[test]
fn many_messages_that_nobody_took_are_counted_and_our_own_is_none_of_them() {
    let mut machine = ready(Ends::WhenTold);
    machine.step(S(600), Input::Tick);
    assert_eq!(warned(&machine.step(S(601), Input::Exited(&exit(137))), "input_not_taken"), None);
    let mut machine = ready(Ends::WhenTold);
    for number in 0..MAX_NAMED + 3 {
        machine.step(S(2), Input::Sent(&format!("m{number:02}")));
    }
    let said = warned(&machine.step(S(3), Input::Exited(&exit(137))), "input_not_taken").unwrap();
    assert!(said.contains("m19 and 3 more") && !said.contains("m20"), "{said}");
}

fn drained(outcome: TurnOutcome) -> Machine {
    let mut machine = ready(Ends::WhenAnswered);
    machine.step(S(1), Input::Sent("a"));
    let effects = machine.step(S(100), Input::Runner(&turn(outcome, &["a"])));
    assert!(effects.contains(&Effect::WriteClose), "{effects:?}");
    machine
}

#[test]
fn a_one_shot_that_is_done_but_does_not_end_is_ended_and_stays_what_it_was() {
    for (outcome, code, reason) in [
        (TurnOutcome::Success, 143, EndReason::Finished),
        (TurnOutcome::Success, 137, EndReason::Finished),
        (TurnOutcome::Error, 143, EndReason::AgentExit { code: 1 }),
    ] {
        let mut machine = drained(outcome);
        assert_eq!(machine.next_deadline(), Some(S(100) + DRAIN_GRACE));
        let effects = machine.step(S(130), Input::Tick);
        assert!(effects.contains(&Effect::Term) && warned(&effects, "left_running").is_some(), "{effects:?}");
        assert!(machine.step(S(145), Input::Tick).contains(&Effect::Kill));
        assert_eq!(*ending(&machine.step(S(150), Input::Exited(&exit(code)))), reason);
    }
}

#[test]
fn nothing_that_works_is_ended_after_the_answer() {
    let mut machine = drained(TurnOutcome::Success);
    machine.step(S(110), Input::Runner(&tool_call("t")));
    machine.step(S(150), Input::Runner(&EventKind::Warning { code: "w".into(), message: String::new() }));
    machine.step(S(150), Input::ModelRequests(1));
    machine.step(S(150), Input::Runner(&turn(TurnOutcome::Success, &[])));
    assert_eq!(machine.next_deadline(), Some(S(600)), "the model works");
    machine.step(S(205), Input::ModelRequests(0));
    assert_eq!(machine.next_deadline(), Some(S(205) + DRAIN_GRACE), "30 s after the last activity");
    // A program that has its input may be quiet for as long as it likes.
    let mut machine = Machine::new(Rules { idle_timeout: None, ..rules(Ends::WhenTaken) });
    machine.step(S(0), Input::Launched);
    assert!(machine.step(S(1), Input::Runner(&EventKind::Ready {})).contains(&Effect::WriteClose));
    machine.step(S(3600), Input::Heartbeat);
    assert_eq!(machine.next_deadline(), Some(S(600)));
}

#[test]
fn a_silent_runner_is_told_and_then_ended() {
    let mut machine = Machine::new(Rules { idle_timeout: None, timeout: None, ..rules(Ends::WhenTold) });
    machine.step(S(0), Input::Launched);
    machine.step(S(1), Input::Runner(&EventKind::Ready {}));
    assert_eq!(machine.next_deadline(), Some(S(1) + SILENCE));
    machine.step(S(50), Input::Heartbeat);
    assert_eq!(machine.step(S(50) + SILENCE - S(1), Input::Tick), []);
    assert!(warned(&machine.step(S(50) + SILENCE, Input::Tick), "runner_silent").is_some());
    assert_eq!(machine.step(S(51) + SILENCE, Input::Tick), [], "told once");
    assert!(warned(&machine.step(S(52) + SILENCE, Input::Heartbeat), "runner_resumed").is_some());
    assert_eq!(machine.step(S(53) + SILENCE, Input::Heartbeat), [], "told once");
    // Events are signs of life, too, and a paused container cannot give any.
    machine.step(S(200), Input::Runner(&tool_call("t")));
    assert!(!machine.finds_runner_silent(S(199) + SILENCE) && machine.finds_runner_silent(S(200) + SILENCE));
    machine.step(S(300), Input::Paused);
    assert_eq!(machine.next_deadline(), Some(S(300) + SILENCE));
    machine.step(S(300) + SILENCE, Input::Tick);
    let end = S(300) + SILENCE + SILENCE_END;
    assert_eq!(machine.next_deadline(), Some(end));
    let effects = machine.step(end, Input::Tick);
    assert!(effects.contains(&Effect::WriteClose), "{effects:?}");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::SendNotice(_))), "it cannot be asked: {effects:?}");
    assert!(machine.step(end + S(10), Input::Tick).contains(&Effect::Term));
    assert!(machine.step(end + S(15) + RUNNER_END, Input::Tick).contains(&Effect::Kill));
    assert_eq!(*ending(&machine.step(end + S(30), Input::Exited(&exit(137)))), EndReason::RunnerLost);
}

#[test]
fn a_runner_that_never_gets_ready_is_ended() {
    let mut machine = Machine::new(rules(Ends::WhenTold));
    machine.step(S(1), Input::Launched);
    assert_eq!(machine.next_deadline(), Some(S(1) + READY_LIMIT));
    machine.step(S(1) + READY_LIMIT, Input::Tick);
    let end = machine.step(S(100), Input::Exited(&exit(143)));
    assert_eq!(*ending(&end), EndReason::SetupFailed { step: "runner".into() });
}

#[derive(Clone, Debug)]
enum Step {
    Runner(u8),
    Sent,
    Interrupt,
    Close(bool),
    Cancel,
    Tick,
    Heartbeat,
    Models(usize),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        (0_u8..6).prop_map(Step::Runner),
        Just(Step::Sent),
        Just(Step::Interrupt),
        any::<bool>().prop_map(Step::Close),
        Just(Step::Cancel),
        Just(Step::Tick),
        Just(Step::Heartbeat),
        (0_usize..2).prop_map(Step::Models),
    ];
    prop::collection::vec((0_u64..200, step), 0..60)
}

proptest! {
    /// Whatever happens: after a time limit has passed the session ends within the sum of the graces, exactly once,
    /// and nothing follows the end; new input is never taken after `_close`.
    #[test]
    fn every_session_ends_once(steps in steps(), code in 0_u8..3) {
        let mut machine = Machine::new(rules(Ends::WhenAnswered));
        machine.step(S(0), Input::Launched);
        let mut now = S(0);
        let mut closed = false;
        for (delay, step) in steps {
            now += S(delay);
            let event = match step {
                Step::Runner(0) => EventKind::Ready {},
                Step::Runner(1) => tool_call("t"),
                Step::Runner(2) => turn(TurnOutcome::Success, &[]),
                Step::Runner(3) => turn(TurnOutcome::Interrupted, &[]),
                Step::Runner(4) => EventKind::InputAccepted { id: "m".into() },
                _ => EventKind::Warning { code: "w".into(), message: String::new() },
            };
            let input = match step {
                Step::Runner(_) => Input::Runner(&event),
                Step::Sent => Input::Sent("m"),
                Step::Interrupt => Input::Command(Command::Interrupt),
                Step::Close(grace) => {
                    Input::Command(close(grace.then_some(S(3)), !grace))
                }
                Step::Cancel => Input::Command(Command::Cancel { by: "test".into() }),
                Step::Tick => Input::Tick,
                Step::Heartbeat => Input::Heartbeat,
                Step::Models(count) => Input::ModelRequests(count),
            };
            let effects = machine.step(now, input);
            closed |= effects.contains(&Effect::WriteClose);
            prop_assert!(!(closed && machine.takes_input()));
        }
        let mut ticks = 0;
        while let Some(deadline) = machine.next_deadline() {
            now = now.max(deadline);
            machine.step(now, Input::Tick);
            ticks += 1;
            prop_assert!(ticks < 20, "the ladder does not end: {machine:?}");
        }
        let last = machine.step(now, Input::Exited(&exit(code)));
        prop_assert!(last.is_empty() || matches!(last[..], [.., Effect::Finish(_)]));
        prop_assert!(machine.status().is_terminal());
        prop_assert!(machine.step(now, Input::Tick).is_empty());
    }
}
