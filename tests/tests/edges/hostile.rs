//! A container in the hands of an attacker, and what it does to the files by which it speaks with aigo.

use std::fs;
use std::time::{Duration, Instant};

use supervisor::session::event::HostEvent;
use supervisor::session::status::Status;
use tests::host::wait_until;
use tests::{Expect, Home, Look};

use crate::support::{ipc, known, messages, warnings};

/// Says something to people by a file, in shell.
const SAY: &str = r#"say() { printf '{"type":"message","text":"%s"}' "$2" > ipc/messages/.tmp && mv ipc/messages/.tmp ipc/messages/$1.json; }
"#;
/// aigo answers people within this, whatever a container does. Generous: the machine is busy with other tests.
const RESPONSIVE: Duration = Duration::from_secs(5);

/// A file outside of everything that the container may touch.
fn outside(home: &Home, name: &str, text: &str) -> String {
    let folder = home.root().join("outside");
    fs::create_dir_all(&folder).expect("our own folder");
    let path = folder.join(name);
    fs::write(&path, text).expect("our own file");
    path.to_str().expect("our own path").to_owned()
}

/// `aigo ps` works, and at once.
#[track_caller]
fn responsive(home: &Home) {
    let began = Instant::now();
    let said = home.aigo(["ps", "--json"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(began.elapsed() < RESPONSIVE, "aigo ps took {:?}", began.elapsed());
}

#[test]
fn files_that_are_no_messages_are_put_aside_and_good_ones_still_arrive() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let message = r#"{"type":"message","text":"read from outside"}"#;
    let secret = outside(&home, "secret.json", message);
    let script = format!(
        "{SAY}
        cd ipc/messages
        ln -s /etc/passwd 01-passwd.json
        ln -s {secret} 02-outside.json
        ln -s 02-outside.json 03-link-to-link.json
        mkfifo 04-fifo.json
        mkdir -p 05-folder.json/inner
        head -c 3000000 /dev/zero | tr '\\0' x > 06-huge.json
        head -c 100000 /dev/urandom > 07-binary.json
        (for i in $(seq 10000); do printf '['; done) > .tmp; mv .tmp 08-deep.json
        printf '{{\"type\":\"message\",\"te' > 09-torn.json
        printf '{{\"type\":\"nonsense\"}}' > 10-unknown.json
        printf '{{\"type\":\"message\",\"text\":1}}' > 11-wrong.json
        sudo mknod 12-device.json c 1 3 2>/dev/null || ln -s /dev/zero 12-device.json
        printf '{{\"type\":\"message\",\"text\":\"linked twice\"}}' > .tmp; ln .tmp ../hard-link; mv .tmp 13-hard.json
        printf '{{\"type\":\"message\",\"text\":\"odd name\"}}' > \"$(printf '14-\\033[31m\\n.json')\"
        : > 15-empty.json
        cd ../..
        say 99 last",
    );
    let run = home.command(&script).start();
    let path = ipc(&home, &run);
    run.wait("the last message", |events| messages(events).contains(&"last").then_some(()));
    responsive(&home);
    let run = run.finish().expect(Expect::FINISHED);
    let refused = warnings(run.events(), "ipc_dead_letter").join("\n");
    for number in ["01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "15"] {
        assert!(refused.contains(&format!("messages/{number}-")), "{number} is not told: {refused}");
    }
    assert!(!refused.contains("root:"), "{refused}");
    let said = messages(run.events());
    assert!(!said.contains(&"read from outside"), "a link was followed: {said:?}");
    assert!(!said.contains(&"linked twice"), "a file with a second name may be any file of the same disk: {said:?}");
    assert!(!refused.contains('\x1b'), "{refused}");
    let shown = home.aigo(["logs", &known(&home)[0]]).stdout;
    assert!(!shown.contains('\x1b') && !shown.contains("read from outside"), "{shown}");
    assert_eq!(fs::read_to_string(secret).unwrap(), message, "what is outside stays as it was");
    assert!(!path.exists(), "the session's folder is gone");
}

#[test]
fn ten_thousand_files_neither_stop_aigo_nor_hold_up_its_end() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let script = "cd ipc/messages
        awk 'BEGIN { for (i = 0; i < 10000; i++) {
          f = sprintf(\"%05d.json\", i); printf \"{\\\"type\\\":\\\"message\\\",\\\"text\\\":\\\"%d\\\"}\", i > f; close(f) } }'
        echo written; sleep 600";
    let run = home.command(script).steered().start();
    run.wait_for_text("written");
    responsive(&home);
    let session = run.session();
    let began = Instant::now();
    let said = home.aigo(["send", &session, "still there?"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(began.elapsed() < RESPONSIVE, "aigo send took {:?}", began.elapsed());
    run.wait("some of the messages", |events| (messages(events).len() >= 200).then_some(()));
    let began = Instant::now();
    let said = home.aigo(["stop", "--kill", &session]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(began.elapsed() < Duration::from_secs(20), "the end took {:?}", began.elapsed());
    let run = run.finish().expect(Expect::CANCELLED);
    let said: Vec<&str> = messages(run.events());
    let in_order = said.iter().enumerate().all(|(number, text)| *text == number.to_string());
    assert!(in_order, "{} messages, not in their order", said.len());
    assert!(run.warnings().contains(&"ipc_rate_limited"), "{:?}", run.warnings());
    assert_eq!(warnings(run.events(), "ipc_backlog_dropped").len(), 1, "{:?}", run.warnings());
}

#[test]
fn folders_of_the_mailbox_can_be_neither_moved_nor_removed() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let script = format!(
        "{SAY} say 1 before; for i in $(seq 300); do [ -e ipc/messages/1.json ] || break; sleep 0.1; done
        for place in /workspace/ipc /run/aigo/ipc; do for as in env sudo; do
        $as mv $place/messages $place/aside 2>/dev/null && echo moved; $as rm -rf $place/tasks 2>/dev/null && echo removed
        done; done; say 2 after
        for i in $(seq 300); do [ -e ipc/messages/2.json ] || break; sleep 0.1; done; echo done"
    );
    let run = home.command(&script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["done"], "{run:#?}");
    assert_eq!(messages(run.events()), ["before", "after"]);
}

#[test]
fn nothing_is_written_through_planted_links() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let kept = outside(&home, "r1.json", "as it was");
    let outside = kept.trim_end_matches("/r1.json");
    let script = format!(
        "ln -s {kept} ipc/replies/r1.json
        printf '{{\"type\":\"list_tasks\"}}' > ipc/tasks/.tmp; mv ipc/tasks/.tmp ipc/tasks/r1.json
        for i in $(seq 300); do [ -L ipc/replies/r1.json ] || break; sleep 0.1; done
        cat ipc/replies/r1.json; echo
        rm -rf ipc/replies; ln -s {outside} ipc/replies
        printf '{{\"type\":\"list_tasks\"}}' > ipc/tasks/.tmp; mv ipc/tasks/.tmp ipc/tasks/r2.json
        for i in $(seq 300); do [ -e ipc/tasks/r2.json ] || break; sleep 0.1; done
        rm -rf ipc/input; ln -s {outside} ipc/input
        echo ready; for i in $(seq 300); do [ -e go ] && break; sleep 0.1; done"
    );
    let run = home.command(&script).start();
    run.wait_for_text("ready");
    responsive(&home);
    // Whether it is taken or refused: nothing may appear where the link leads to.
    home.aigo(["send", &run.session(), "through the link"]);
    home.put("go", "");
    let run = run.finish();
    assert!(run.texts()[0].contains("\"requestId\":\"r1\""), "a planted link is replaced by the reply: {run:#?}");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "as it was");
    let names: Vec<_> = fs::read_dir(outside).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["r1.json"], "something was written outside");
    assert!(!run.events.is_empty());
}

/// Runs a script that tampers with the journal; the session must end by itself, with a sentence that contains `says`.
fn loses_the_runner(tamper: &str, says: &[&str]) {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let wait = "for i in $(seq 300); do [ -e go ] && break; sleep 0.1; done";
    let script = format!("trap '' TERM HUP INT\necho before\n{wait}\n{tamper}\nwhile :; do sleep 1; done");
    let run = home.command(&script).start();
    run.wait_for_text("before");
    home.put("go", "");
    let run = run.finish();
    let (_, ending, _) = run.ended();
    assert_eq!(ending.reason.word(), "runner_lost", "{run:#?}");
    assert_eq!(run.code(), Some(1), "{run:#?}");
    assert!(says.iter().any(|text| run.detail().contains(text)), "{}", run.detail());
    assert_eq!(home.leftovers(), [] as [&str; 0], "the container is killed");
}

#[test]
fn a_replaced_journal_folder_ends_the_session_with_a_sentence() {
    loses_the_runner("sudo sh -c 'cd /run/aigo/private/record; mv events aside; mkdir events'", &["replaced"]);
}

#[test]
fn a_journal_that_becomes_a_link_ends_the_session_with_a_sentence() {
    loses_the_runner(
        "sudo sh -c 'cd /run/aigo/private/record; mv events aside; ln -s /etc events'",
        &["replaced", "cannot use"],
    );
}

#[test]
fn a_torn_journal_ends_the_session_with_a_sentence() {
    loses_the_runner(
        r#"for f in $(sudo find /run/aigo/private/record/events -name "*.jsonl"); do echo '{"seq":' | sudo tee -a $f >/dev/null; done"#,
        &["journal"],
    );
}

#[test]
fn forged_events_end_the_session_with_a_sentence() {
    let forged = r#"for f in $(sudo find /run/aigo/private/record/events -name "*.jsonl"); do
        echo '{"seq":99999,"at":1,"kind":"runner_exiting","code":0}' | sudo tee -a $f >/dev/null; done"#;
    loses_the_runner(forged, &["journal"]);
}

#[test]
fn a_flood_of_file_events_costs_little_and_holds_nobody_up() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let script = format!(
        "{SAY} echo flooding
        for i in $(seq 40); do j=0; while [ $j -lt 5000 ]; do : > ipc/messages/x; j=$((j+1)); done; say $i $i; done; echo over"
    );
    let run = home.command(&script).start();
    run.wait_for_text("flooding");
    responsive(&home);
    let run = run.finish().expect(Expect::FINISHED);
    let numbers: Vec<String> = (1..=40).map(|number: u32| number.to_string()).collect();
    let mut said = messages(run.events());
    said.sort_by_key(|text| text.parse::<u32>().ok());
    assert_eq!(said, numbers);
}

#[test]
fn json_of_any_depth_is_read() {
    let Some(home) = Home::open() else { return };
    let script = r#"nested() { printf '{"kind":"new","x":'; printf '%0*d' $1 0 | tr 0 '['; printf '%0*d' $1 0 | tr 0 ']'; echo '}'; }
        nested 90; nested 126; nested 127; nested 1000; echo '{"kind":"text","text":"over"}'"#;
    let run = home.command(script).flags(["--command-output", "json"]).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["over"]);
}

#[test]
fn messages_for_a_runner_that_hangs_are_named_at_the_end() {
    let Some(home) = Home::open() else { return };
    let script = "while ! [ -e go ]; do sleep 0.1; done; kill -STOP $PPID; echo > hangs; sleep 600";
    let run = home.command(script).flags(["--root"]).steered().start();
    run.wait_for_status(Status::Running);
    home.put("go", "");
    wait_until("the agent has stopped its runner", || home.file("hangs").exists().then_some(()));
    let session = run.session();
    for text in ["one", "two"] {
        assert_eq!(home.aigo(["send", &session, text]).code, Some(0));
    }
    assert_eq!(home.aigo(["stop", "--kill", &session]).code, Some(0));
    let run = run.finish().expect(Expect::CANCELLED);
    let sent: Vec<&str> = run
        .events()
        .iter()
        .filter_map(|event| match tests::look::host(event) {
            Some(HostEvent::InputSent { id, .. }) => Some(id.as_str()),
            _ => None,
        })
        .collect();
    let told = warnings(run.events(), "input_not_taken");
    assert!(sent.len() == 2 && told.len() == 1 && sent.iter().all(|id| told[0].contains(id)), "{sent:?} {told:?}");
}

#[test]
fn whatever_was_built_in_the_ipc_folder_is_cleared_away() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let kept = outside(&home, "kept", "as it was");
    let outside = kept.trim_end_matches("/kept");
    let script = format!(
        "cd ipc
        sudo mkdir -p roots/a/b/c; sudo touch roots/a/b/c/file; sudo ln -s {outside} roots/a/link
        sudo chown -R 0:0 roots; sudo chmod 0 roots/a/b roots/a roots
        sudo chattr +i messages 2>/dev/null; sudo chattr +a events 2>/dev/null
        mkdir closed; touch closed/file; chmod 0 closed
        ln -s {outside} link; mkfifo fifo
        (for i in $(seq 3000); do mkdir d && cd d || exit; done)
        echo built"
    );
    let run = home.command(&script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["built"]);
    assert!(warnings(run.events(), "left_behind").is_empty(), "{run:#?}");
    assert_eq!(home.leftovers(), [] as [&str; 0]);
    assert_eq!(fs::read_to_string(kept).unwrap(), "as it was");
    assert!(fs::read_dir(home.data().join("sessions")).unwrap().next().is_none());
}

#[test]
fn a_hostile_status_file_and_planted_snapshots_change_nothing() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let kept = outside(&home, "kept", "as it was");
    let script = format!(
        "{SAY} cd ipc
        sudo ln -sf {kept} /run/aigo/private/record/status.json
        for name in current_tasks.json available_groups.json; do sudo rm -f $name; sudo ln -s {kept} $name; done
        sudo mkdir -p input/_close 2>/dev/null; cd ..
        say 1 alive; echo alive"
    );
    let run = home.command(&script).finish();
    assert!(messages(run.events()).contains(&"alive"), "{run:#?}");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "as it was");
    wait_until("nothing left", || home.leftovers().is_empty().then_some(()));
}
