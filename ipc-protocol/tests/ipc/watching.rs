//! Wakes come at once where there are file events, and still come where there are none.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ipc_protocol::host::{HostIpc, Snapshot};
use ipc_protocol::limits::RESCAN;
use ipc_protocol::watch::{Mode, Watch};

use crate::common::{MESSAGE, Session, is_root_or_skipped, text};

const PATIENCE: Duration = Duration::from_secs(10);

fn watch(host: &HostIpc) -> (Watch, Receiver<()>) {
    let (wake, woken) = channel();
    let watch = host.watch(move || wake.send(()).unwrap_or_default()).unwrap();
    woken.recv_timeout(PATIENCE).expect("a wake at the start");
    (watch, woken)
}

/// How long until something is delivered after a wake.
fn delivery(session: &Session, woken: &Receiver<()>, name: &str) -> Duration {
    while woken.try_recv().is_ok() {}
    let begun = Instant::now();
    let folder = session.path("messages");
    fs::write(folder.join(".tmp"), MESSAGE).unwrap();
    fs::rename(folder.join(".tmp"), folder.join(name)).unwrap();
    while begun.elapsed() < PATIENCE {
        woken.recv_timeout(PATIENCE).expect("a wake");
        if session.host.messages().scan().items.iter().any(|item| item.name == name) {
            return begun.elapsed();
        }
    }
    panic!("never delivered");
}

#[test]
fn a_folder_that_was_made_anew_is_watched_again() {
    let session = Session::new();
    let (_watch, woken) = watch(&session.host);
    fs::remove_dir(session.path("messages")).unwrap();
    fs::create_dir(session.path("messages")).unwrap();
    std::thread::sleep(2 * RESCAN + RESCAN / 2);
    // Several, since a re-scan that happens to come now proves nothing.
    let quickest = (0..5).map(|n| delivery(&session, &woken, &format!("{n}.json"))).min().unwrap();
    assert!(quickest < RESCAN / 4, "{quickest:?}");
}

/// Wakes within some re-scans.
fn wakes(woken: &Receiver<()>) -> usize {
    while woken.try_recv().is_ok() {}
    std::thread::sleep(4 * RESCAN);
    woken.try_iter().count()
}

#[test]
fn who_is_silent_is_left_alone_once_events_have_come() {
    let session = Session::new();
    let (watch, woken) = watch(&session.host);
    assert!(wakes(&woken) >= 3, "nothing has shown yet that events come");
    delivery(&session, &woken, "0.json");
    std::thread::sleep(2 * RESCAN);
    assert_eq!((wakes(&woken), watch.mode()), (0, Mode::Events));
    session.host.snapshot(Snapshot::CurrentTasks, &0).unwrap();
    assert!(woken.recv_timeout(RESCAN / 2).is_err(), "there is nothing to read in what is ours");
    let quickest = (1..6).map(|n| delivery(&session, &woken, &format!("{n}.json"))).min().unwrap();
    assert!(quickest < RESCAN / 4, "{quickest:?}");
}

#[test]
fn our_own_files_do_not_show_that_events_come() {
    let session = Session::new();
    let (_watch, woken) = watch(&session.host);
    for n in 0..3 {
        session.host.snapshot(Snapshot::CurrentTasks, &n).unwrap();
        std::thread::sleep(RESCAN);
    }
    assert!(wakes(&woken) >= 3, "the other side's files would wait");
}

#[test]
fn a_wake_is_not_lost_between_two_others_and_dropping_ends_it() {
    let session = Session::new();
    let (wake, woken) = channel();
    let watch = session.runner.watch(move || wake.send(()).unwrap_or_default()).unwrap();
    let (mut outbox, mut input, mut got) = (session.host.input().unwrap(), session.runner.input(), 0);
    for n in 0..50 {
        outbox.send(None, text(&n.to_string())).unwrap();
        if n % 7 == 0 {
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    while got < 50 {
        woken.recv_timeout(PATIENCE).expect("a wake");
        got += input.scan().scan.items.len();
    }
    drop(watch);
    while woken.try_recv().is_ok() {}
    assert!(woken.recv_timeout(RESCAN * 2).is_err(), "wakes after the end");
}

const CHILD_ENV: &str = "IPC_TEST_WATCH_CHILD";

#[test]
fn without_an_inotify_instance_it_polls() {
    if std::env::var_os(CHILD_ENV).is_some() || !is_root_or_skipped("without_an_inotify_instance_it_polls") {
        return;
    }
    // A user of its own, whose instances are nobody else's.
    let temp = tempfile::tempdir().unwrap();
    let program = temp.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::os::unix::fs::chown(temp.path(), Some(34_567), Some(34_567)).unwrap();
    let output = Command::new(&program)
        .args(["--exact", "watching::child_uses_up_its_instances", "--nocapture"])
        .env(CHILD_ENV, "1")
        .env("TMPDIR", temp.path())
        .current_dir("/")
        .uid(34_567)
        .gid(34_567)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn child_uses_up_its_instances() {
    if std::env::var_os(CHILD_ENV).is_none() {
        return;
    }
    let allowed: usize = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap().trim().parse().unwrap();
    let session = Session::new();
    let mut watches = Vec::new();
    // Descriptors may run out first, which is the same error.
    for _ in 0..=allowed.min(2000) {
        let (watch, woken) = watch(&session.host);
        let polling = matches!(watch.mode(), Mode::Polling(_));
        watches.push((watch, woken));
        if polling {
            break;
        }
    }
    let (watch, woken) = watches.pop().unwrap();
    let Mode::Polling(why) = watch.mode() else { panic!("still instances left after {}", watches.len()) };
    watches.truncate(0);
    assert!(!why.is_empty());
    let quickest = (0..5).map(|n| delivery(&session, &woken, &format!("{n}.json"))).min().unwrap();
    assert!(quickest < RESCAN / 4, "{quickest:?}");
}
