//! What a container plants where the host (or the runner) writes and removes: it is replaced, never followed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use ipc_protocol::clip::ClippedText;
use ipc_protocol::dir::SafeDir;
use ipc_protocol::event::EventKind;
use ipc_protocol::host::Snapshot;
use ipc_protocol::journal::{Cursor, OpenError};
use ipc_protocol::mailbox::SendError;
use ipc_protocol::reply::Reply;
use nix::sys::stat::Mode;

use crate::common::{MESSAGE, Outside, Session, Tmpfs, is_root_or_skipped, os, promptly, text};

fn reply() -> Reply {
    Reply::done("r1".parse().unwrap(), serde_json::json!(1))
}

#[test]
fn planted_links_where_the_host_writes_are_replaced() {
    let session = Session::new();
    let outside = Outside::new(&session);
    for name in ["input/_close", "replies/r1.json", "current_tasks.json", "available_groups.json"] {
        symlink(outside.secret(), session.path(name)).unwrap();
    }
    let mut outbox = session.host.input().unwrap();
    assert!(outbox.is_closed(), "the runner sees a planted _close as well");
    outbox.close().unwrap();
    session.host.reply(&reply()).unwrap();
    session.host.snapshot(Snapshot::CurrentTasks, &1).unwrap();
    session.host.snapshot(Snapshot::AvailableGroups, &2).unwrap();
    outside.assert_untouched();
    for (name, content) in [
        ("input/_close", ""),
        ("replies/r1.json", r#"{"requestId":"r1","ok":true,"result":1}"#),
        ("current_tasks.json", "1"),
        ("available_groups.json", "2"),
    ] {
        assert!(fs::symlink_metadata(session.path(name)).unwrap().is_file(), "{name}");
        assert_eq!(fs::read_to_string(session.path(name)).unwrap(), content);
        assert_eq!(fs::metadata(session.path(name)).unwrap().permissions().mode() & 0o777, 0o644, "{name}");
    }
}

#[test]
fn planted_fifos_and_folders_where_the_host_writes_are_replaced() {
    let session = Session::new();
    nix::unistd::mkfifo(&session.path("replies/r1.json"), Mode::S_IRWXU).unwrap();
    fs::create_dir_all(session.path("current_tasks.json/not/empty")).unwrap();
    promptly(|| session.host.reply(&reply())).unwrap();
    session.host.snapshot(Snapshot::CurrentTasks, &1).unwrap();
    assert!(fs::metadata(session.path("replies/r1.json")).unwrap().is_file());
    assert_eq!(fs::read_to_string(session.path("current_tasks.json")).unwrap(), "1");
}

#[test]
fn folders_replaced_by_links_are_not_written_through() {
    let session = Session::new();
    let outside = Outside::new(&session);
    let mut outbox = session.host.input().unwrap();
    for name in ["input", "replies"] {
        fs::remove_dir(session.path(name)).unwrap();
        symlink(&outside.0, session.path(name)).unwrap();
    }
    outbox.send(None, text("hello")).unwrap();
    session.host.reply(&reply()).unwrap();
    outside.assert_untouched();
    assert_eq!(session.names("input").len(), 1);
    assert_eq!(session.names("replies"), ["r1.json"]);
}

#[test]
fn an_input_folder_that_was_made_anew_is_used() {
    let session = Session::new();
    let mut outbox = session.host.input().unwrap();
    let mut input = session.runner.input();
    outbox.send(None, text("one")).unwrap();
    fs::remove_dir_all(session.path("input")).unwrap();
    outbox.send(None, text("two")).unwrap();
    assert_eq!(input.scan().scan.items.len(), 1);
}

#[test]
fn inputs_that_nobody_takes_are_bounded() {
    let session = Session::new();
    for n in 0..ipc_protocol::limits::MAX_PENDING_INPUTS {
        fs::write(session.path(&format!("input/{n}.json")), "").unwrap();
    }
    assert!(matches!(session.host.input().unwrap().send(None, text("x")), Err(SendError::Backlog(_))));
}

#[test]
fn the_runner_reports_planted_inputs_once_and_does_not_loop() {
    let session = Session::new();
    let outside = Outside::new(&session);
    symlink(outside.secret(), session.path("input/a.json")).unwrap();
    fs::create_dir_all(session.path("input/b.json/full")).unwrap();
    fs::write(session.path("input/c.json"), "[]").unwrap();
    nix::unistd::mkfifo(&session.path("input/d.json"), Mode::S_IRWXU).unwrap();
    fs::write(session.path("input/e.json"), MESSAGE).unwrap();
    let mut input = session.runner.input();
    let scan = promptly(|| input.scan().scan);
    assert_eq!((scan.items.len(), scan.refused.len()), (1, 4));
    let again = promptly(|| input.scan().scan);
    assert!(again.items.is_empty() && again.refused.is_empty() && again.again_in.is_none());
    // A runner that died before it could report sees them again.
    assert_eq!(session.runner.input().scan().scan.refused.len(), 4);
    for refused in scan.refused {
        assert_eq!(input.remove(&refused.name), None);
    }
    assert_eq!(session.names("input"), ["e.json"]);
    assert!(session.runner.input().scan().scan.refused.is_empty());
    outside.assert_untouched();
}

#[test]
fn the_runner_does_not_write_its_journal_through_what_was_planted() {
    for planted in ["link", "hard link", "fifo", "folder"] {
        let session = Session::new();
        let outside = Outside::new(&session);
        let segment = session.path("events/00000001.jsonl");
        match planted {
            "link" => symlink(outside.secret(), segment).unwrap(),
            "hard link" => fs::hard_link(outside.secret(), segment).unwrap(),
            "fifo" => nix::unistd::mkfifo(&segment, Mode::S_IRWXU).unwrap(),
            _ => fs::create_dir(segment).unwrap(),
        }
        let opened = promptly(|| session.runner.journal());
        assert!(matches!(opened, Err(OpenError::Refused { .. })), "{planted}");
        outside.assert_untouched();
    }
}

#[test]
fn any_tree_that_a_container_can_build_is_cleared() {
    let session = Session::new();
    let outside = Outside::new(&session);
    symlink(&outside.0, session.path("messages/link")).unwrap();
    fs::hard_link(outside.secret(), session.path("messages/hard")).unwrap();
    fs::create_dir_all(session.path("tasks/closed/inner")).unwrap();
    fs::set_permissions(session.path("tasks/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    // Deeper than any path can name: each level is put around the one before.
    fs::create_dir(session.path("deep")).unwrap();
    for _ in 0..6000 {
        fs::create_dir(session.path("next")).unwrap();
        fs::rename(session.path("deep"), session.path("next/deep")).unwrap();
        fs::rename(session.path("next"), session.path("deep")).unwrap();
    }
    let mailbox = SafeDir::open(&session.path("")).unwrap();
    assert!(!mailbox.clear(100).unwrap(), "the budget was not kept");
    assert!(mailbox.clear(1_000_000).unwrap());
    fs::remove_dir(session.path("")).unwrap();
    outside.assert_untouched();
}

#[test]
fn disk_full_is_an_error_and_nothing_half_written_stays() {
    if !is_root_or_skipped("disk_full_is_an_error_and_nothing_half_written_stays") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let _disk = Tmpfs::mount(temp.path().to_owned(), "256k");
    let session = Session::at(temp);
    let event = |n: usize| EventKind::Text { body: ClippedText::new("x".repeat(n), n), parent_call: None };
    let (mut writer, _) = session.runner.journal().unwrap();
    writer.append(1, event(10)).unwrap();
    let filler = session.path("filler");
    let mut reader = session.host.journal(Cursor::START);
    let mut outbox = session.host.input().unwrap();
    // Leaves two pages and a half: a part of a line fits.
    fs::write(&filler, vec![0; 200 * 1024]).unwrap();
    assert!(writer.append(2, event(60_000)).is_err());
    assert!(matches!(outbox.send(None, text(&"x".repeat(100_000))), Err(SendError::Dir(_))));
    assert_eq!(session.names("input"), [] as [&str; 0]);
    assert_eq!(fs::read_dir(session.path("input")).unwrap().count(), 0, "a temporary file stayed");
    // Refusing still works, with or without room for the reason.
    fs::write(session.path("messages/x.json"), "[]").unwrap();
    assert_eq!(session.host.messages().scan().refused.len(), 1);
    assert!(session.names("messages").is_empty());
    fs::remove_file(&filler).unwrap();
    assert_eq!(writer.append(3, event(60_000)).unwrap(), 2);
    outbox.send(None, text("x")).unwrap();
    let batch = reader.read();
    assert!(batch.fault.is_none(), "{:?}", batch.fault);
    assert_eq!(batch.events.iter().map(|event| (event.seq, event.at)).collect::<Vec<_>>(), [(1, 1), (2, 3)]);
}

#[test]
fn dead_letters_on_another_file_system_are_removed_with_their_reason_kept() {
    if !is_root_or_skipped("dead_letters_on_another_file_system_are_removed_with_their_reason_kept") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let _disk = Tmpfs::mount(temp.path().join("dead-letters"), "256k");
    let session = Session::at(temp);
    fs::write(session.path("messages/x.json"), "[]").unwrap();
    let scan = session.host.messages().scan();
    assert!(scan.warnings.is_empty() && scan.refused[0].letter.is_some(), "{scan:?}");
    assert!(session.names("messages").is_empty());
    assert_eq!(session.reasons().len(), 1);
}

#[test]
fn a_file_that_cannot_be_unlinked_is_one_warning() {
    if !is_root_or_skipped("a_file_that_cannot_be_unlinked_is_one_warning") {
        return;
    }
    let session = Session::new();
    // A mount point can be neither unlinked nor renamed (EBUSY), by nobody.
    for (name, body) in [("good.json", MESSAGE), ("bad.json", "[]")] {
        let path = session.path("messages").join(name);
        fs::write(&path, body).unwrap();
        let none: Option<&str> = None;
        nix::mount::mount(Some(&path), &path, none, nix::mount::MsFlags::MS_BIND, none).expect("root can bind-mount");
    }
    let mut inbox = session.host.messages();
    let scan = promptly(|| inbox.scan());
    let warning = inbox.remove(os("good.json")).expect("a warning");
    let again = promptly(|| inbox.scan());
    fs::write(session.path("messages/next.json"), MESSAGE).unwrap();
    let next = inbox.scan();
    for name in ["good.json", "bad.json"] {
        nix::mount::umount2(&session.path("messages").join(name), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    assert_eq!((scan.items.len(), scan.refused.len(), scan.warnings.len()), (1, 1, 1), "{scan:?}");
    assert!(warning.to_string().contains("EBUSY"), "{warning}");
    assert!(again.items.is_empty() && again.refused.is_empty() && again.warnings.is_empty(), "{again:?}");
    assert_eq!(next.items.len(), 1, "one stuck file stops the rest");
}
