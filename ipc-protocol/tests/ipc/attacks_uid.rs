//! Files of another uid than the host's. Staged by root, played by a child process without root.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ipc_protocol::dir::Refused;
use ipc_protocol::host::{HostDirs, HostIpc};
use ipc_protocol::mailbox::Warning;

use crate::common::{MESSAGE, Session, is_root_or_skipped, os};

const HOST_UID: u32 = 12_345;
const OTHER_UID: u32 = 23_456;
const CHILD_ENV: &str = "IPC_TEST_CHILD_DIR";

/// Runs one test of this file as another user, on the session's directory.
fn as_host_user(session: &Session, test: &str) {
    fs::set_permissions(session.temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The test program may lie where that user cannot reach it.
    let program = session.temp.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new(&program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD_ENV, session.temp.path())
        .current_dir("/")
        .uid(HOST_UID)
        .gid(HOST_UID)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// In the child: the directory. Elsewhere there is nothing to play.
fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_ENV).map(PathBuf::from)
}

fn open(dir: &Path) -> HostIpc {
    HostIpc::open(&HostDirs::below(dir)).unwrap()
}

fn give(session: &Session, names: &[&str], uid: u32) {
    for name in names {
        chown(session.temp.path().join(name), Some(uid), Some(uid)).unwrap();
    }
}

#[test]
fn unreadable_file_in_our_folder_is_dead_lettered() {
    if child_dir().is_some() || !is_root_or_skipped("unreadable_file_in_our_folder_is_dead_lettered") {
        return;
    }
    let session = Session::new();
    give(&session, &["ipc", "ipc/messages", "dead-letters", "sent", "record"], HOST_UID);
    fs::write(session.path("messages/x.json"), MESSAGE).unwrap();
    fs::set_permissions(session.path("messages/x.json"), fs::Permissions::from_mode(0o600)).unwrap();
    as_host_user(&session, "attacks_uid::child_dead_letters_what_it_cannot_read");
    assert!(session.names("messages").is_empty());
}

#[test]
fn child_dead_letters_what_it_cannot_read() {
    let Some(dir) = child_dir() else { return };
    let host = open(&dir);
    let mut inbox = host.messages();
    let scan = inbox.scan();
    let reason = &scan.refused[0].reason;
    assert!(matches!(reason, Refused::Unreadable { uid: HOST_UID, .. }), "{scan:?}");
    assert!(reason.to_string().contains("mode 0644"), "no remedy: {reason}");
    assert!(inbox.scan().refused.is_empty());
}

#[test]
fn file_in_a_folder_of_another_uid_is_one_warning() {
    if child_dir().is_some() || !is_root_or_skipped("file_in_a_folder_of_another_uid_is_one_warning") {
        return;
    }
    let session = Session::new();
    give(&session, &["ipc", "dead-letters", "sent", "record"], HOST_UID);
    give(&session, &["ipc/messages"], OTHER_UID);
    fs::set_permissions(session.path("messages"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(session.path("messages/closed.json"), MESSAGE).unwrap();
    fs::set_permissions(session.path("messages/closed.json"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(session.path("messages/open.json"), MESSAGE).unwrap();
    as_host_user(&session, "attacks_uid::child_warns_once");
    assert_eq!(session.names("messages").len(), 2);
}

#[test]
fn child_warns_once() {
    let Some(dir) = child_dir() else { return };
    let host = open(&dir);
    let mut inbox = host.messages();
    let scan = inbox.scan();
    assert_eq!((scan.items.len(), scan.refused.len()), (1, 1), "{scan:?}");
    let [Warning::Stuck { name, .. }] = &scan.warnings[..] else { panic!("{scan:?}") };
    assert_eq!(name, "closed.json");
    let warning = inbox.remove(os("open.json")).expect("a warning");
    assert!(warning.to_string().contains("remove it on the host"), "no remedy: {warning}");
    for _ in 0..3 {
        let again = inbox.scan();
        assert!(again.items.is_empty() && again.refused.is_empty() && again.warnings.is_empty(), "{again:?}");
    }
}

#[test]
fn folder_that_cannot_be_listed_is_one_warning() {
    if child_dir().is_some() || !is_root_or_skipped("folder_that_cannot_be_listed_is_one_warning") {
        return;
    }
    let session = Session::new();
    give(&session, &["ipc", "dead-letters", "sent", "record"], HOST_UID);
    give(&session, &["ipc/messages"], OTHER_UID);
    as_host_user(&session, "attacks_uid::child_warns_once_about_the_folder");
}

#[test]
fn child_warns_once_about_the_folder() {
    let Some(dir) = child_dir() else { return };
    let host = open(&dir);
    let mut inbox = host.messages();
    let [Warning::FolderLost { reason, .. }] = &inbox.scan().warnings[..] else { panic!("no warning") };
    assert!(reason.contains("EACCES"), "{reason}");
    assert!(inbox.scan().warnings.is_empty());
}

#[test]
fn the_directory_belongs_to_the_agent_whatever_the_umask() {
    if child_dir().is_some() || !is_root_or_skipped("the_directory_belongs_to_the_agent_whatever_the_umask") {
        return;
    }
    use std::os::unix::fs::MetadataExt as _;
    let temp = tempfile::tempdir().unwrap();
    let owner = ipc_protocol::dir::Owner { uid: OTHER_UID, gid: OTHER_UID };
    let host = HostIpc::create(&HostDirs::below(temp.path()), Some(owner)).unwrap();
    for name in ["ipc", "ipc/input", "ipc/messages", "ipc/tasks", "ipc/replies"] {
        let metadata = fs::metadata(temp.path().join(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (OTHER_UID, 0o700), "{name}");
    }
    assert_eq!(fs::metadata(temp.path().join("dead-letters")).unwrap().uid(), 0);
    host.input().unwrap().close().unwrap();
    let close = fs::metadata(temp.path().join("ipc/input/_close")).unwrap();
    assert_eq!((close.uid(), close.mode() & 0o777), (OTHER_UID, 0o644));
}

/// Not an attack on the files, but on the host: whoever makes it run out of descriptors must not gain that messages are
/// thrown away or journals closed.
#[test]
fn a_host_without_descriptors_loses_nothing() {
    let session = Session::new();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "attacks_uid::child_runs_out_of_descriptors", "--nocapture", "--test-threads=1"])
        .env(CHILD_ENV, session.temp.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(session.reasons().is_empty());
}

#[test]
fn child_runs_out_of_descriptors() {
    use ipc_protocol::journal::Cursor;
    use nix::sys::resource::{Resource, setrlimit};
    let Some(dir) = child_dir() else { return };
    let host = open(&dir);
    let (mut inbox, mut reader) = (host.messages(), host.journal(Cursor::START));
    let mut late = HostIpc::open(&HostDirs::below(&dir)).unwrap().tasks();
    assert!(inbox.scan().items.is_empty() && reader.read().events.is_empty());
    fs::write(dir.join("ipc/messages/x.json"), MESSAGE).unwrap();
    fs::write(dir.join("ipc/tasks/x.json"), r#"{"type":"list_tasks"}"#).unwrap();
    fs::write(dir.join("record/events/00000001.jsonl"), "{\"seq\":1,\"at\":1,\"kind\":\"ready\"}\n").unwrap();
    // None left at all, then one (enough to list, not to read), then two.
    let mut spare: Vec<fs::File> = Vec::new();
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    while let Ok(file) = fs::File::open("/dev/null") {
        spare.push(file);
    }
    for _ in 0..3 {
        let (scan, tasks, batch) = (inbox.scan(), late.scan(), reader.read());
        assert!(scan.refused.is_empty() && tasks.refused.is_empty(), "{scan:?} {tasks:?}");
        assert!(batch.fault.is_none(), "{:?}", batch.fault);
        for item in scan.items {
            inbox.put_back(&item.name);
        }
        for item in tasks.items {
            late.put_back(&item.name);
        }
        spare.pop();
    }
    spare.clear();
    assert_eq!(inbox.scan().items.len(), 1);
    assert_eq!(late.scan().items.len(), 1);
    assert_eq!(reader.cursor().seq as usize + reader.read().events.len(), 1);
}

#[test]
fn a_journal_that_cannot_be_read_for_a_moment_is_waited_for() {
    if child_dir().is_some() || !is_root_or_skipped("a_journal_that_cannot_be_read_for_a_moment_is_waited_for") {
        return;
    }
    let session = Session::new();
    give(&session, &["ipc", "dead-letters", "sent", "record", "record/events"], HOST_UID);
    let segment = session.path("events/00000001.jsonl");
    fs::write(&segment, "{\"seq\":1,\"at\":1,\"kind\":\"ready\"}\n").unwrap();
    fs::set_permissions(&segment, fs::Permissions::from_mode(0o600)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            fs::set_permissions(&segment, fs::Permissions::from_mode(0o644)).unwrap();
        });
        as_host_user(&session, "attacks_uid::child_waits_for_a_journal");
    });
}

#[test]
fn child_waits_for_a_journal() {
    use ipc_protocol::journal::Cursor;
    let Some(dir) = child_dir() else { return };
    let mut reader = open(&dir).journal(Cursor::START);
    let begun = std::time::Instant::now();
    loop {
        let batch = reader.read();
        assert!(batch.fault.is_none(), "{:?} after {:?}", batch.fault, begun.elapsed());
        if batch.events.len() == 1 {
            return;
        }
        assert!(begun.elapsed().as_secs() < 2, "not read");
        std::thread::sleep(batch.again_in.unwrap());
    }
}
