//! A journal that somebody in the container has tampered with: one typed fault after the good events, then silence; bounded
//! work and memory, no panic, no endless loop.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;

use ipc_protocol::dir::{FileKind, Refused};
use ipc_protocol::event::EventKind;
use ipc_protocol::journal::{AppendError, Cursor, Fault, Reader};
use ipc_protocol::limits::MAX_LINE_BYTES;
use nix::sys::stat::Mode;

use crate::common::{Outside, Session, promptly};

fn line(seq: u64) -> String {
    format!("{{\"seq\":{seq},\"at\":{seq},\"kind\":\"ready\"}}\n")
}

fn segment(session: &Session, number: u32) -> std::path::PathBuf {
    session.path(&format!("events/{number:08}.jsonl"))
}

/// Reads until a fault; how many events came before it.
fn fault(reader: &mut Reader) -> (usize, Fault) {
    let mut events = 0;
    for _ in 0..100 {
        let batch = promptly(|| reader.read());
        events += batch.events.len();
        if let Some(fault) = batch.fault {
            assert!(matches!(reader.read().fault, Some(Fault::Closed)));
            return (events, fault);
        }
    }
    panic!("no fault after 100 reads");
}

#[test]
fn segment_that_is_no_plain_file_is_a_fault() {
    for planted in [FileKind::Symlink, FileKind::Fifo, FileKind::Directory] {
        let session = Session::new();
        let outside = Outside::new(&session);
        let path = segment(&session, 1);
        if planted == FileKind::Symlink {
            symlink(outside.secret(), path).unwrap();
        } else if planted == FileKind::Fifo {
            nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        } else {
            fs::create_dir(path).unwrap();
        }
        let (_, fault) = fault(&mut session.host.journal(Cursor::START));
        assert!(matches!(fault, Fault::Refused { refused: Refused::Kind(kind), .. } if kind == planted), "{fault:?}");
        outside.assert_untouched();
    }
}

#[test]
fn hard_link_is_a_fault_also_when_it_is_made_later() {
    let session = Session::new();
    fs::write(segment(&session, 1), line(1)).unwrap();
    let mut reader = session.host.journal(Cursor::START);
    assert_eq!(reader.read().events.len(), 1);
    fs::hard_link(segment(&session, 1), session.path("other")).unwrap();
    assert!(matches!(fault(&mut reader).1, Fault::Refused { refused: Refused::HardLink(2), .. }));
    let (_, fault) = fault(&mut session.host.journal(Cursor::START));
    assert!(matches!(fault, Fault::Refused { refused: Refused::HardLink(2), .. }));
}

#[test]
fn gap_duplicate_and_wrong_line_are_faults_after_the_good_events() {
    for bad in [line(4), line(2), line(1), line(0), line(u64::MAX), "\n".into(), "null\n".into(), "\u{0}\n".into()] {
        let session = Session::new();
        fs::write(segment(&session, 1), line(1) + &line(2) + &bad + &line(3)).unwrap();
        let (events, fault) = fault(&mut session.host.journal(Cursor::START));
        assert_eq!(events, 2, "{bad:?}");
        assert!(matches!(fault, Fault::Sequence { expected: 3, .. } | Fault::Line { .. }), "{bad:?} {fault:?}");
    }
}

#[test]
fn binary_and_deeply_nested_lines_are_faults() {
    for bad in [vec![0xff; 1000], [vec![b'['; 500_000], vec![b'\n']].concat()] {
        let session = Session::new();
        fs::write(segment(&session, 1), [bad, b"\n".to_vec()].concat()).unwrap();
        assert!(matches!(fault(&mut session.host.journal(Cursor::START)), (0, Fault::Line { .. })));
    }
}

#[test]
fn endless_line_is_a_fault_and_never_held_in_memory() {
    let session = Session::new();
    fs::write(segment(&session, 1), line(1)).unwrap();
    OpenOptions::new().append(true).open(segment(&session, 1)).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(fault(&mut session.host.journal(Cursor::START)), (1, Fault::LineTooLong(_))));
}

#[test]
fn the_longest_line_is_taken_and_one_byte_more_is_not() {
    for more in [0, 1] {
        let session = Session::new();
        let frame = "{\"seq\":1,\"at\":1,\"kind\":\"text\",\"text\":\"\"}\n".len();
        let text = "x".repeat(MAX_LINE_BYTES - frame + more);
        let long = format!("{{\"seq\":1,\"at\":1,\"kind\":\"text\",\"text\":\"{text}\"}}\n");
        fs::write(segment(&session, 1), long + &line(2)).unwrap();
        let mut reader = session.host.journal(Cursor::START);
        if more == 0 {
            assert_eq!(reader.read().events.len() + reader.read().events.len(), 2);
        } else {
            assert!(matches!(fault(&mut reader), (0, Fault::LineTooLong(_))));
        }
    }
}

#[test]
fn truncated_removed_and_replaced_segments_are_faults() {
    for how in ["truncated", "removed", "replaced"] {
        let session = Session::new();
        fs::write(segment(&session, 1), line(1) + &line(2)).unwrap();
        let mut reader = session.host.journal(Cursor::START);
        let cursor = reader.read().cursor;
        match how {
            "truncated" => fs::write(segment(&session, 1), line(1)).unwrap(),
            "removed" => fs::remove_file(segment(&session, 1)).unwrap(),
            _ => {
                fs::write(session.path("new"), line(1) + &line(2) + &line(3)).unwrap();
                fs::rename(session.path("new"), segment(&session, 1)).unwrap();
            }
        }
        let (_, found) = fault(&mut reader);
        let after_restart = session.host.journal(cursor).read();
        match how {
            "truncated" => {
                assert!(matches!(found, Fault::Truncated { .. }));
                assert!(matches!(after_restart.fault, Some(Fault::Truncated { .. })));
            }
            "removed" => {
                assert!(matches!(found, Fault::Missing(_)));
                assert!(matches!(after_restart.fault, Some(Fault::Missing(_))));
            }
            _ => assert!(matches!(found, Fault::Replaced(_))),
        }
    }
}

#[test]
fn unfinished_empty_and_missing_segments_before_the_next_are_faults() {
    for (first, expected_events) in [(Some(line(1) + "{\"seq\":2"), 1), (Some(String::new()), 0), (None, 0)] {
        let session = Session::new();
        if let Some(first) = &first {
            fs::write(segment(&session, 1), first).unwrap();
        }
        fs::write(segment(&session, 2), line(2)).unwrap();
        let (events, fault) = fault(&mut session.host.journal(Cursor::START));
        assert_eq!(events, expected_events);
        assert!(matches!(fault, Fault::Unfinished(_) | Fault::Missing(_)), "{fault:?}");
    }
}

#[test]
fn replaced_folder_is_a_fault() {
    let session = Session::new();
    let mut reader = session.host.journal(Cursor::START);
    reader.read();
    fs::rename(session.path("events"), session.path("old")).unwrap();
    fs::create_dir(session.path("events")).unwrap();
    assert!(matches!(fault(&mut reader).1, Fault::FolderReplaced));
    fs::remove_dir(session.path("events")).unwrap();
    symlink("old", session.path("events")).unwrap();
    assert!(matches!(fault(&mut session.host.journal(Cursor::START)).1, Fault::FolderReplaced));
}

#[test]
fn torn_tail_waits_and_a_growing_one_does_not_keep_the_host_busy() {
    let session = Session::new();
    fs::write(segment(&session, 1), line(1)).unwrap();
    let mut file = OpenOptions::new().append(true).open(segment(&session, 1)).unwrap();
    let mut reader = session.host.journal(Cursor::START);
    assert_eq!(reader.read().events.len(), 1);
    file.write_all(b"{\"seq\":2,\"at\":1,\"kind\":\"text\",\"text\":\"").unwrap();
    let batch = reader.read();
    assert!(batch.events.is_empty() && batch.again_in.is_none() && batch.fault.is_none());
    file.write_all("x".repeat(200_000).as_bytes()).unwrap();
    assert!(reader.read().again_in.is_some_and(|wait| !wait.is_zero()));
    file.write_all(b"\"}\n").unwrap();
    let first = reader.read();
    std::thread::sleep(first.again_in.unwrap_or_default());
    assert_eq!(first.events.len() + reader.read().events.len(), 1);
}

#[test]
fn an_unknown_kind_of_a_newer_runner_is_kept() {
    let session = Session::new();
    fs::write(segment(&session, 1), "{\"seq\":1,\"at\":1,\"kind\":\"from_the_future\",\"x\":1}\n").unwrap();
    let batch = session.host.journal(Cursor::START).read();
    assert!(matches!(&batch.events[0].kind, EventKind::Raw { source, .. } if source == "journal:from_the_future"));
}

#[test]
fn the_runner_does_not_go_on_after_a_damaged_journal() {
    for bad in ["garbage\n".to_owned(), line(1) + &line(3), "x".repeat(MAX_LINE_BYTES + 1)] {
        let session = Session::new();
        fs::write(segment(&session, 1), bad).unwrap();
        assert!(promptly(|| session.runner.journal()).is_err());
    }
}

#[test]
fn the_runner_does_not_count_beyond_the_last_number() {
    let session = Session::new();
    fs::write(segment(&session, 1), line(u64::MAX)).unwrap();
    let (mut writer, recovered) = session.runner.journal().unwrap();
    assert_eq!(recovered.last_seq, u64::MAX);
    assert!(matches!(writer.append(0, EventKind::Ready {}), Err(AppendError::Full)));
}

/// A supervisor of another user is told of a segment by its name, and opens it at once.
#[test]
fn a_segment_is_readable_as_soon_as_it_is_visible() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};
    let session = Session::new();
    let events = session.path("events");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut seen = 0;
            while !stop.load(Ordering::Relaxed) {
                for entry in fs::read_dir(&events).unwrap().flatten() {
                    let is_segment = entry.file_name().to_string_lossy().ends_with(".jsonl");
                    if let (true, Ok(meta)) = (is_segment, entry.metadata()) {
                        assert_eq!(meta.permissions().mode() & 0o777, 0o644);
                        seen += 1;
                    }
                }
            }
            seen
        });
        let dir = ipc_protocol::dir::SafeDir::open(&events).unwrap();
        let (mut writer, _) = ipc_protocol::journal::Writer::open_sized(dir, 1).unwrap();
        for _ in 0..500 {
            writer.append(1, EventKind::Ready {}).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(looker.join().unwrap() > 0, "nothing was looked at");
    });
}
