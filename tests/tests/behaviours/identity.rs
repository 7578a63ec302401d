//! A data directory is copied while sessions run: nothing that is done with the copy touches the original's.

use std::fs;
use std::process::Command;

use supervisor::session::event::HostEvent;
use supervisor::session::status::Status;
use tests::service::command;
use tests::{Expect, Home, Look, Service, look};

/// Speaks, and ends when the workspace has a file `go`.
const WAIT: &str = "echo up; while [ ! -e go ]; do sleep 0.1; done; echo end";

/// Copies the data directory as a person would, beside that of the original.
fn copy_of(original: &Home) -> Home {
    let copy = Home::without_engine();
    let status = Command::new("cp").arg("-a").arg(original.data()).arg(copy.data()).status().unwrap();
    assert!(status.success());
    copy
}

/// The database alone, as it is while somebody writes to it.
fn database_of(original: &Home) -> Home {
    let copy = Home::without_engine();
    fs::create_dir(copy.data()).unwrap();
    for name in ["aigo.db", "aigo.db-wal"] {
        fs::copy(original.data().join(name), copy.data().join(name)).unwrap();
    }
    copy
}

/// Runs all commands that could do something to a session, first of all `first`, and looks whether the original's
/// container lives after each.
fn commands_leave_it_alone(copy: &Home, first: &[&str], session: &str, original: &Home) {
    let container = original.containers();
    assert_eq!(container.len(), 1, "{container:?}");
    let others: [&[&str]; 9] = [
        &["ps", "--all"],
        &["history"],
        &["show", session],
        &["logs", session],
        &["doctor"],
        &["interrupt", session],
        &["stop", session],
        &["stop", "--kill", session],
        &["stop", "--all"],
    ];
    for (place, arguments) in [first].into_iter().chain(others).enumerate() {
        let said = copy.aigo(arguments);
        assert_eq!(original.containers(), container, "aigo {arguments:?}: {said:?}");
        assert_eq!(said.stderr.contains("is a copy of another one"), place == 0, "it is said once: {said:?}");
    }
    let said = copy.aigo(["show", session]);
    assert!(said.stdout.contains("the session belongs to the original"), "{said:?}");
    copy.command("true").finish().expect(Expect::FINISHED);
    assert_eq!(original.containers(), container, "after a session with the copy");
    let service = Service::start(copy);
    let id = service.create(&command(copy, "true"));
    assert_eq!(service.wait_for_end(copy, &id)["reason"], "finished");
    assert!(service.stop().success());
    assert_eq!(original.containers(), container, "after a service with the copy");
    assert_ne!(copy.instance(), original.instance());
}

#[test]
fn a_copy_leaves_the_session_of_an_aigo_run_alone_and_works_by_itself() {
    let Some(home) = Home::open() else { return };
    let run = home.command(WAIT).start();
    run.wait_for_text("up");
    let session = run.session();
    let copy = copy_of(&home);
    commands_leave_it_alone(&copy, &["ps"], &session, &home);
    home.put("go", "");
    let run = run.finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["up", "end"]);
    // What the copy knows of it is what it was when it was copied, and that it is not the copy's.
    let events = copy.logs(&session);
    assert!(events.iter().zip(1..).all(|(event, number)| event.seq == number), "{events:#?}");
    let Some(HostEvent::Ended { status, .. }) = events.last().and_then(look::host) else { panic!("{events:#?}") };
    assert_eq!(*status, Status::Cancelled);
}

#[test]
fn a_copy_leaves_the_sessions_of_a_service_alone_also_while_that_is_down() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let id = service.create(&command(&home, WAIT));
    assert!(service.watch(&id, 0).any(|event| event.name == "text"), "the agent says nothing");
    commands_leave_it_alone(&copy_of(&home), &["stop", "--all"], &id, &home);
    service.kill();
    // Nobody holds a lock now, in either of the two.
    let copy = copy_of(&home);
    let container = home.containers();
    let second = Service::start(&copy);
    assert!(second.said().contains("is a copy of another one"), "{}", second.said());
    assert_eq!(second.get(&format!("/sessions/{id}")).json()["status"], "cancelled");
    assert!(second.stop().success());
    assert_eq!(home.containers(), container);
    let service = Service::start(&home);
    home.put("go", "");
    assert_eq!(service.wait_for_end(&home, &id)["reason"], "finished");
    assert!(service.stop().success());
}

#[test]
fn a_copied_database_leaves_the_sessions_of_its_original_alone() {
    let Some(home) = Home::open() else { return };
    let run = home.command(WAIT).start();
    run.wait_for_text("up");
    commands_leave_it_alone(&database_of(&home), &["stop", "--all"], &run.session(), &home);
    home.put("go", "");
    run.finish().expect(Expect::FINISHED);
}

#[test]
fn a_data_directory_that_is_moved_keeps_its_sessions() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let id = service.create(&command(&home, WAIT));
    assert!(service.watch(&id, 0).any(|event| event.name == "text"), "the agent says nothing");
    service.kill();
    // There and back: what a session mounts are the files, wherever they are.
    let elsewhere = home.root().join("elsewhere");
    fs::rename(home.data(), &elsewhere).unwrap();
    let mut ps = home.aigo_command(["ps", "--json"]);
    let said = ps.env("AIGO_DATA_DIR", &elsewhere).output().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).contains(&id) && said.stderr.is_empty(), "{said:?}");
    fs::rename(&elsewhere, home.data()).unwrap();
    let service = Service::start(&home);
    home.put("go", "");
    assert_eq!(service.wait_for_end(&home, &id)["reason"], "finished");
    assert!(service.stop().success());
}
