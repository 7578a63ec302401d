//! What a user of the group `docker` gets who is not root. `tests/run.sh` runs these tests, and many of the others, a second
//! time with aigo as such a user (`AIGO_TEST_USER`); here aigo runs as whoever runs the tests.

use std::fs;
use std::os::unix::fs::MetadataExt;

use tests::service::command;
use tests::{Expect, Home, Look, Service};

/// Sessions one after the other: the journal was unreadable for a moment when it was made, which hit about one session in ten.
const SESSIONS: usize = 12;

/// Lines of a session that is long enough for a second file of the journal.
const LINES: usize = 60_000;

#[test]
fn an_agent_works_as_the_user_who_runs_aigo() {
    let Some(home) = Home::open() else { return };
    let old = home.put("folder/old", "old\n");
    let script = "set -e; id -u; echo new > new; mkdir -p made/deep; echo f > made/deep/file; echo more >> folder/old";
    let run = home.command(script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), [home.uid().to_string()]);
    assert_eq!(fs::read_to_string(old).unwrap(), "old\nmore\n");
    for name in ["new", "made", "made/deep", "made/deep/file", "folder/old", ""] {
        assert_eq!(fs::metadata(home.file(name)).unwrap().uid(), home.uid(), "{name:?}");
    }
}

#[test]
fn what_aigo_keeps_belongs_to_the_user_who_runs_aigo() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo up; read -r line; echo \"$line\"").steered().start();
    run.wait_for_text("up");
    let folder = home.data().join("sessions").join(run.session());
    for path in [home.data(), home.data().join("aigo.db"), home.data().join("instance"), folder] {
        assert_eq!(fs::metadata(&path).unwrap().uid(), home.uid(), "{}", path.display());
    }
    let mut run = run;
    run.type_line("over");
    assert_eq!(run.finish().expect(Expect::FINISHED).texts(), ["up", "over"]);
}

#[test]
fn no_session_in_a_row_is_lost() {
    let Some(home) = Home::open() else { return };
    for number in 0..SESSIONS {
        let run = home.command(&format!("echo {number}; exit 0")).finish().expect(Expect::FINISHED);
        assert_eq!(run.texts(), [number.to_string()]);
    }
}

#[test]
fn a_journal_of_several_files_is_read_to_its_end() {
    let Some(home) = Home::open() else { return };
    let script = format!("seq -f 'a line of the session with the number %.0f' {LINES}");
    let run = home.command(&script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts().len(), LINES);
    assert!(run.texts().last().is_some_and(|line| line.ends_with(&format!(" {LINES}"))));
}

#[test]
fn sessions_of_a_service_are_whole() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let ids: Vec<String> = (0..3).map(|_| service.create(&command(&home, "id -u; touch made"))).collect();
    for id in ids {
        let ended = service.wait_for_end(&home, &id);
        assert_eq!(ended["reason"], "finished", "{ended}");
        let uid = format!("\"text\":\"{}\"", home.uid());
        assert!(service.events(&id, 0).iter().any(|event| event.data.contains(&uid)));
    }
    assert_eq!(fs::metadata(home.file("made")).unwrap().uid(), home.uid());
    assert!(service.stop().success());
}

/// Root of the container is root of the host as far as files go (without user namespaces): nobody else may remove them.
#[test]
fn what_root_of_the_container_leaves_is_removed_or_named_with_the_remedy() {
    let Some(home) = Home::open() else { return };
    let script =
        "sudo mkdir -p ipc/roots/a; sudo touch ipc/roots/a/file; sudo chmod 0 ipc/roots/a ipc/roots; echo made";
    let run = home.command(script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["made"]);
    let left = home.sessions();
    assert!(left.is_empty() || home.uid() != 0, "root may remove them: {left:?}");
    for id in left {
        let folder = home.data().join("sessions").join(id);
        let remedy = format!("remove it with: sudo rm -rf {}", folder.display());
        assert!(run.stderr.contains(&remedy), "{}", run.stderr);
        fs::remove_dir_all(folder).unwrap();
    }
}
