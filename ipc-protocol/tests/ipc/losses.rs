//! What the container removes from the mailbox is made again, and an input reaches the runner once.

use std::fs;

use ipc_protocol::dir::SafeDir;
use ipc_protocol::git_mark;
use ipc_protocol::host::{HostDirs, HostIpc};
use ipc_protocol::mailbox::Outbox;

use crate::common::{MESSAGE, Session, text};

/// What the supervisor does at each look, where no answer was heard in between.
fn repair(outbox: &mut Outbox) -> usize {
    let missing = outbox.missing().unwrap();
    outbox.repair(missing).unwrap()
}

#[test]
fn folders_and_the_mark_that_are_gone_or_replaced_are_made_again() {
    let mut session = Session::new();
    assert!(session.host.repair().names.is_empty());
    fs::remove_dir(session.path("messages")).unwrap();
    fs::remove_dir(session.path("tasks")).unwrap();
    fs::write(session.path("tasks"), "a file").unwrap();
    fs::remove_dir_all(session.path(".git")).unwrap();
    std::os::unix::fs::symlink("/etc", session.path(".git")).unwrap();
    let repaired = session.host.repair();
    assert_eq!(repaired.names, ["messages", "tasks", ".git"]);
    assert!(repaired.failed.is_none(), "{:?}", repaired.failed);
    assert!(session.host.repair().names.is_empty(), "once");
    fs::write(session.path("messages/m.json"), MESSAGE).unwrap();
    assert_eq!(session.host.messages().scan().items.len(), 1);
    assert!(git_mark::is_there(&SafeDir::open(&session.path("")).unwrap()) && fs::read_dir("/etc").is_ok());
}

#[test]
fn an_input_is_written_again_until_it_is_answered() {
    let session = Session::new();
    let mut outbox = session.host.input().unwrap();
    let sent = outbox.send(None, text("one")).unwrap();
    assert_eq!(repair(&mut outbox), 0);
    for _ in 0..3 {
        fs::remove_dir_all(session.path("input")).unwrap();
        assert_eq!(repair(&mut outbox), 1);
        assert_eq!(session.runner.input().scan().scan.items.len(), 1);
    }
    outbox.settle(sent.id.as_str());
    fs::remove_dir_all(session.path("input")).unwrap();
    assert_eq!(repair(&mut outbox), 0);
    outbox.close().unwrap();
    fs::remove_file(session.path("input/_close")).unwrap();
    assert_eq!(repair(&mut outbox), 1);
    assert!(session.path("input/_close").exists());
    outbox.close_heard();
    assert!(!outbox.is_owed());
}

#[test]
fn what_the_runner_has_answered_meanwhile_is_not_missed() {
    let session = Session::new();
    let mut outbox = session.host.input().unwrap();
    let sent = outbox.send(None, text("one")).unwrap();
    fs::remove_dir_all(session.path("input")).unwrap();
    let missing = outbox.missing().unwrap();
    outbox.settle(sent.id.as_str());
    assert_eq!(outbox.repair(missing).unwrap(), 0);
}

#[test]
fn a_close_does_not_overtake_an_input_that_was_removed() {
    let session = Session::new();
    let mut outbox = session.host.input().unwrap();
    outbox.send(None, text("one")).unwrap();
    fs::remove_dir_all(session.path("input")).unwrap();
    outbox.close().unwrap();
    assert_eq!(session.names("input").len(), 2);
}

#[test]
fn rights_that_a_recursive_chmod_has_taken_are_given_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut session = Session::new();
    for name in ["", "input", "messages"] {
        fs::set_permissions(session.path(name), fs::Permissions::from_mode(0o500)).unwrap();
    }
    session.host.repair();
    for name in ["", "input", "messages"] {
        assert_eq!(fs::metadata(session.path(name)).unwrap().permissions().mode() & 0o777, 0o700, "{name}");
    }
}

#[test]
fn another_supervisor_knows_what_was_not_answered() {
    let session = Session::new();
    let mut outbox = session.host.input().unwrap();
    let (first, second) = (outbox.send(None, text("one")).unwrap(), outbox.send(None, text("two")).unwrap());
    outbox.close().unwrap();
    drop(outbox);
    fs::remove_dir_all(session.path("input")).unwrap();
    let host = HostIpc::open(&HostDirs::below(session.temp.path())).unwrap();
    let mut outbox = host.input().unwrap();
    assert!(outbox.is_closed() && outbox.is_owed());
    outbox.keep(|id| *id != first.id);
    assert_eq!(repair(&mut outbox), 2, "the second input and the close");
    let scan = session.runner.input().scan();
    assert!(scan.close);
    let ids: Vec<_> = scan.scan.items.iter().map(|item| item.id.clone()).collect();
    assert_eq!(ids, [second.id]);
}

#[test]
fn a_session_of_the_first_generation_has_its_journal_in_the_mailbox() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = HostDirs::below(temp.path());
    drop(HostIpc::create(&dirs, None).unwrap());
    fs::remove_dir_all(&dirs.record).unwrap();
    fs::create_dir(dirs.mailbox.join("events")).unwrap();
    let line = "{\"seq\":1,\"at\":1,\"kind\":\"ready\"}\n";
    fs::write(dirs.mailbox.join("events/00000001.jsonl"), line).unwrap();
    let host = HostIpc::open(&dirs).unwrap();
    assert_eq!(host.journal(ipc_protocol::journal::Cursor::START).read().events.len(), 1);
}

#[test]
fn what_root_has_made_is_handed_to_the_folders_owner() {
    use std::os::unix::fs::MetadataExt as _;
    if !crate::common::is_root_or_skipped("what_root_has_made_is_handed_to_the_folders_owner") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("mailbox");
    fs::create_dir_all(folder.join("a/b")).unwrap();
    fs::write(folder.join("a/b/file"), "").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("a/link")).unwrap();
    let owner = ipc_protocol::dir::Owner { uid: 4321, gid: 4321 };
    SafeDir::open(&folder).unwrap().hand_over(owner, 100).unwrap();
    for name in ["", "a", "a/b", "a/b/file", "a/link"] {
        assert_eq!(fs::symlink_metadata(folder.join(name)).unwrap().uid(), 4321, "{name}");
    }
    assert_eq!(fs::metadata("/etc/passwd").unwrap().uid(), 0);
}
