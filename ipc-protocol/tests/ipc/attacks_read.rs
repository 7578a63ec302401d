//! Files that a container plants where the host reads: none is followed, none blocks, each is out of the way at once,
//! with a reason, and said once.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use ipc_protocol::dir::{FileKind, Folder, Refused, SafeDir};
use ipc_protocol::limits::{MAX_DEAD_LETTERS, MAX_FILES_PER_SECOND, MAX_MESSAGE_BYTES, MAX_SCAN_FILES, TORN_GRACE};
use ipc_protocol::mailbox::{Inbox, Unwanted, Warning};
use ipc_protocol::outgoing::{Outgoing, OutgoingFile};
use nix::sys::stat::{Mode, SFlag, mknod};

use crate::common::{MESSAGE, Outside, Session, is_root_or_skipped, names, os, promptly};

/// The one refusal of a scan that finds `x.json`; afterwards the folder is empty and nothing more is said.
fn refused(session: &Session) -> Refused {
    let mut inbox = session.host.messages();
    let scan = promptly(|| inbox.scan());
    assert!(scan.items.is_empty() && scan.warnings.is_empty(), "{scan:?}");
    let [refused] = &scan.refused[..] else { panic!("{scan:?}") };
    assert!(refused.letter.is_some());
    assert_eq!(session.reasons(), [refused.reason.to_string()]);
    assert!(session.names("messages").is_empty(), "still there");
    let again = promptly(|| inbox.scan());
    assert!(again.items.is_empty() && again.refused.is_empty() && again.warnings.is_empty());
    refused.reason.clone()
}

#[test]
fn symlink_to_a_host_file_is_not_followed() {
    let session = Session::new();
    let outside = Outside::new(&session);
    symlink(outside.secret(), session.path("messages/x.json")).unwrap();
    assert_eq!(refused(&session), Refused::Kind(FileKind::Symlink));
    outside.assert_untouched();
}

#[test]
fn symlinks_that_dangle_or_loop_are_refused() {
    for target in ["/nonexistent", "x.json", "/proc/self/fd/0", "/dev/zero"] {
        let session = Session::new();
        symlink(target, session.path("messages/x.json")).unwrap();
        assert_eq!(refused(&session), Refused::Kind(FileKind::Symlink), "{target}");
    }
}

#[test]
fn fifo_does_not_block() {
    let session = Session::new();
    nix::unistd::mkfifo(&session.path("messages/x.json"), Mode::S_IRWXU).unwrap();
    assert_eq!(refused(&session), Refused::Kind(FileKind::Fifo));
}

#[test]
fn socket_is_refused() {
    let session = Session::new();
    let _listener = UnixListener::bind(session.path("messages/x.json")).unwrap();
    assert_eq!(refused(&session), Refused::Kind(FileKind::Socket));
}

#[test]
fn device_is_not_opened() {
    if !is_root_or_skipped("device_is_not_opened") {
        return;
    }
    for (kind, major, minor) in [(SFlag::S_IFCHR, 1, 5), (SFlag::S_IFCHR, 10, 130), (SFlag::S_IFBLK, 7, 0)] {
        let session = Session::new();
        let device = nix::sys::stat::makedev(major, minor);
        mknod(&session.path("messages/x.json"), kind, Mode::S_IRWXU, device).unwrap();
        assert_eq!(refused(&session), Refused::Kind(FileKind::Device));
    }
}

#[test]
fn directory_in_place_of_a_file_is_moved_whole() {
    let session = Session::new();
    fs::create_dir_all(session.path("messages/x.json/deep/er")).unwrap();
    fs::write(session.path("messages/x.json/deep/file"), "x").unwrap();
    assert_eq!(refused(&session), Refused::Kind(FileKind::Directory));
}

#[test]
fn hard_link_to_a_host_file_is_not_read() {
    let session = Session::new();
    let outside = Outside::new(&session);
    fs::hard_link(outside.secret(), session.path("messages/x.json")).unwrap();
    assert_eq!(refused(&session), Refused::HardLink(2));
    outside.assert_untouched();
}

#[test]
fn oversized_file_is_not_read() {
    let session = Session::new();
    let file = fs::File::create(session.path("messages/x.json")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_eq!(refused(&session), Refused::TooLarge { size: 1 << 40, limit: MAX_MESSAGE_BYTES });
}

#[test]
fn the_largest_message_is_taken_and_one_byte_more_is_not() {
    let session = Session::new();
    let frame = r#"{"type":"message","text":""}"#.len();
    let fill = usize::try_from(MAX_MESSAGE_BYTES).unwrap() - frame;
    let body = |n: usize| format!(r#"{{"type":"message","text":"{}"}}"#, "x".repeat(n));
    fs::write(session.path("messages/a.json"), body(fill)).unwrap();
    fs::write(session.path("messages/b.json"), body(fill + 1)).unwrap();
    let scan = session.host.messages().scan();
    assert_eq!(scan.items.len(), 1);
    assert!(matches!(scan.refused[0].reason, Refused::TooLarge { .. }));
}

#[test]
fn what_is_no_message_is_refused() {
    let deep = format!(r#"{{"type":"message","text":"x","more":{}"#, "[".repeat(500_000));
    let nested = format!(r#"{{"type":"message","text":"x","a":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let bodies: [&[u8]; 9] = [
        deep.as_bytes(),
        nested.as_bytes(),
        b"\x00\x01\x02\xff",
        b"[]",
        b"null",
        br#"{"type":"fly_to_the_moon"}"#,
        br#"{"text":"no type"}"#,
        br#"{"type":"message","text":"x","id":"../../etc/passwd"}"#,
        br#"{"type":"message","text":"x"}{"type":"message","text":"y"}"#,
    ];
    for body in bodies {
        let session = Session::new();
        fs::write(session.path("messages/x.json"), body).unwrap();
        assert!(matches!(refused(&session), Refused::Json(_)));
    }
}

#[test]
fn what_is_shown_of_a_refusal_is_harmless_to_a_terminal() {
    let session = Session::new();
    let name = "\u{1b}]0;owned\u{7}\u{202e}.json";
    fs::write(session.path("messages").join(name), "{\"type\":\"\\u001b[2J\u{9b}\"}").unwrap();
    let scan = session.host.messages().scan();
    let shown = scan.refused[0].to_string();
    assert!(shown.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{shown:?}");
}

#[test]
fn a_name_that_is_not_utf8_is_refused() {
    let session = Session::new();
    fs::write(session.path("messages").join(OsStr::from_bytes(b"\xff\xfe.json")), MESSAGE).unwrap();
    assert_eq!(refused(&session), Refused::Name);
}

#[test]
fn torn_file_gets_time_to_become_whole() {
    let session = Session::new();
    let mut inbox = session.host.messages();
    for cut in [0, 1, MESSAGE.len() - 1] {
        fs::write(session.path("messages/x.json"), &MESSAGE[..cut]).unwrap();
        let scan = inbox.scan();
        assert!(scan.items.is_empty() && scan.refused.is_empty());
        assert!(scan.again_in.is_some(), "must be looked at again");
    }
    fs::write(session.path("messages/x.json"), MESSAGE).unwrap();
    assert_eq!(inbox.scan().items.len(), 1);
}

#[test]
fn torn_file_is_refused_after_its_time_and_holds_nothing_up() {
    let session = Session::new();
    let mut inbox = session.host.messages();
    fs::write(session.path("messages/a.json"), &MESSAGE[..9]).unwrap();
    fs::write(session.path("messages/b.json"), MESSAGE).unwrap();
    let scan = inbox.scan();
    assert_eq!(scan.items.len(), 1, "a torn file held up the next one");
    // Rewriting it does not give it more time.
    let begun = Instant::now();
    let refused = loop {
        fs::write(session.path("messages/a.json"), &MESSAGE[..9]).unwrap();
        let scan = inbox.scan();
        if let [refused] = &scan.refused[..] {
            break refused.reason.clone();
        }
        assert!(begun.elapsed() < 2 * TORN_GRACE, "never refused");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(matches!(refused, Refused::Torn(_)));
    assert_eq!(session.names("messages"), ["b.json"]);
}

#[test]
fn replaced_folder_is_noticed_and_read() {
    let session = Session::new();
    let mut inbox = session.host.messages();
    inbox.scan();
    fs::rename(session.path("messages"), session.path("gone")).unwrap();
    fs::create_dir(session.path("messages")).unwrap();
    fs::write(session.path("messages/x.json"), MESSAGE).unwrap();
    let scan = inbox.scan();
    assert_eq!(scan.warnings, [Warning::FolderReplaced { folder: "messages" }]);
    assert_eq!(scan.items.len(), 1);
    assert!(inbox.scan().warnings.is_empty());
}

#[test]
fn folder_replaced_by_a_link_is_not_followed() {
    let session = Session::new();
    let outside = Outside::new(&session);
    let mut inbox = session.host.messages();
    fs::remove_dir(session.path("messages")).unwrap();
    for planted in ["link", "file", "nothing"] {
        match planted {
            "link" => symlink(&outside.0, session.path("messages")).unwrap(),
            "file" => fs::write(session.path("messages"), "x").unwrap(),
            _ => {}
        }
        let scan = promptly(|| inbox.scan());
        assert!(scan.items.is_empty() && scan.refused.is_empty(), "{planted}");
        if planted == "link" {
            assert!(matches!(&scan.warnings[..], [Warning::FolderLost { .. }]), "{scan:?}");
        } else {
            assert!(scan.warnings.is_empty(), "said twice");
        }
        let _ = fs::remove_file(session.path("messages"));
    }
    fs::create_dir(session.path("messages")).unwrap();
    fs::write(session.path("messages/x.json"), MESSAGE).unwrap();
    assert_eq!(inbox.scan().items.len(), 1);
    outside.assert_untouched();
}

#[test]
fn ten_thousand_files_are_taken_in_order_and_bounded() {
    let session = Session::new();
    for n in (0..10_000).rev() {
        fs::write(session.path(&format!("messages/{n:05}.json")), format!(r#"{{"type":"message","text":"{n}"}}"#))
            .unwrap();
    }
    // Without the rate limit, to see all of them.
    let root = std::sync::Arc::new(SafeDir::open(&session.path("")).unwrap());
    let mut inbox: Inbox<OutgoingFile> = Inbox::new(Folder::new(root, "messages"), Unwanted::Keep, None);
    let (mut texts, mut warnings) = (Vec::new(), Vec::new());
    while texts.len() < 10_000 {
        let scan = promptly(|| inbox.scan());
        assert!(scan.items.len() <= MAX_SCAN_FILES);
        warnings.extend(scan.warnings);
        for item in scan.items {
            let Outgoing::Message { text, .. } = item.body.outgoing else { panic!("not a message") };
            texts.push(text);
            assert_eq!(inbox.remove(&item.name), None);
        }
        std::thread::sleep(scan.again_in.unwrap_or_default());
    }
    assert_eq!(texts, (0..10_000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(warnings, [Warning::Backlog { folder: "messages" }]);
    assert!(session.names("messages").is_empty());
}

#[test]
fn the_rate_is_bounded_over_both_folders_and_said_once() {
    let session = Session::new();
    let most = MAX_FILES_PER_SECOND as usize;
    for n in 0..most {
        for half in 0..2 {
            fs::write(session.path(&format!("messages/{half}-{n:05}.json")), MESSAGE).unwrap();
        }
        fs::write(session.path(&format!("tasks/{n:05}.json")), r#"{"type":"list_tasks"}"#).unwrap();
    }
    let (mut messages, mut tasks) = (session.host.messages(), session.host.tasks());
    let begun = Instant::now();
    let (mut got, mut limited) = (0, 0);
    while got < 3 * most {
        let (first, second) = (messages.scan(), tasks.scan());
        got += first.items.len() + second.items.len();
        limited += first.warnings.len() + second.warnings.len();
        let whole_seconds = begun.elapsed().as_secs() as usize;
        assert!(got <= (whole_seconds + 2) * most);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() > Duration::from_millis(500), "no limit at all");
    assert!((1..=2).contains(&limited), "{limited} warnings");
}

#[test]
fn dead_letters_are_bounded_and_the_latest_stay() {
    let session = Session::new();
    let root = std::sync::Arc::new(SafeDir::open(&session.path("")).unwrap());
    let dead = ipc_protocol::mailbox::DeadLetters::open(&session.temp.path().join("dead-letters")).unwrap();
    let unwanted = Unwanted::DeadLetter(std::sync::Arc::new(std::sync::Mutex::new(dead)));
    let mut inbox: Inbox<OutgoingFile> = Inbox::new(Folder::new(root, "messages"), unwanted, None);
    for n in 0..MAX_DEAD_LETTERS + 50 {
        let path = session.path(&format!("messages/{n:05}.json"));
        if n % 3 == 0 { fs::create_dir_all(path.join("sub")).unwrap() } else { fs::write(path, "[]").unwrap() }
    }
    assert_eq!(promptly(|| inbox.scan()).refused.len(), MAX_DEAD_LETTERS + 50);
    let kept = names(&session.temp.path().join("dead-letters"));
    assert_eq!(kept.len(), 2 * MAX_DEAD_LETTERS);
    let last = fs::read_to_string(session.temp.path().join("dead-letters").join(kept.last().unwrap())).unwrap();
    assert!(last.contains("00305.json"), "{last}");
}

#[test]
fn planted_status_is_refused_and_replaced_by_the_next_heartbeat() {
    let session = Session::new();
    let outside = Outside::new(&session);
    symlink(outside.secret(), session.path("status.json")).unwrap();
    assert_eq!(session.host.status().unwrap_err(), Refused::Kind(FileKind::Symlink));
    fs::remove_file(session.path("status.json")).unwrap();
    nix::unistd::mkfifo(&session.path("status.json"), Mode::S_IRWXU).unwrap();
    assert_eq!(promptly(|| session.host.status()).unwrap_err(), Refused::Kind(FileKind::Fifo));
    fs::remove_file(session.path("status.json")).unwrap();
    for bytes in ["", "{", "[]", r#"{"version":-1}"#] {
        fs::write(session.path("status.json"), bytes).unwrap();
        assert!(matches!(session.host.status(), Err(Refused::Json(_))), "{bytes}");
    }
}

#[test]
fn a_file_replaced_after_it_was_read_is_not_removed_unread() {
    let session = Session::new();
    let mut inbox = session.host.messages();
    fs::write(session.path("messages/x.json"), MESSAGE).unwrap();
    assert_eq!(inbox.scan().items.len(), 1);
    fs::write(session.path("messages/y"), r#"{"type":"message","text":"second"}"#).unwrap();
    fs::rename(session.path("messages/y"), session.path("messages/x.json")).unwrap();
    assert_eq!(inbox.remove(os("x.json")), None);
    let scan = inbox.scan();
    assert_eq!(scan.items[0].body.outgoing, Outgoing::Message { text: "second".into(), chat_jid: None });
}

#[test]
fn what_could_not_be_stored_is_handed_out_again() {
    let session = Session::new();
    let mut inbox = session.host.messages();
    fs::write(session.path("messages/x.json"), MESSAGE).unwrap();
    assert_eq!(inbox.scan().items.len(), 1);
    assert!(inbox.scan().items.is_empty());
    inbox.put_back(os("x.json"));
    assert_eq!(inbox.scan().items.len(), 1);
}
