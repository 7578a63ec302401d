use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipc_protocol::dir::SafeDir;
use nix::errno::Errno;

use super::compare::compare;
use super::look::{Look, Stamp, State};
use super::walk::{Bounds, walk};
use super::*;

mod property;

/// A folder of a test.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: impl AsRef<Path>, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn folder(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    /// What `git init --bare` makes.
    fn bare(&self, name: &str) {
        self.put(format!("{name}/HEAD"), "ref: refs/heads/main\n");
        self.put(format!("{name}/config"), "[core]\n");
        self.folder(&format!("{name}/objects/info"));
        self.folder(&format!("{name}/refs/heads"));
    }

    fn look(&self) -> Look {
        self.look_within(Bounds::default(), &[])
    }

    fn look_within(&self, bounds: Bounds, left_out: &[PathBuf]) -> Look {
        walk(&SafeDir::open(self.0.path()).unwrap(), left_out, bounds).unwrap()
    }
}

/// The changes as lines: a sign for each kind, the name, and nothing else.
fn lines(changes: &Changes) -> Vec<String> {
    let kinds = [
        ("+", &changes.added),
        ("~", &changes.modified),
        ("m", &changes.mode_changed),
        ("t", &changes.touched),
        ("-", &changes.removed),
    ];
    let mut lines = Vec::new();
    for (sign, names) in kinds {
        assert_eq!(names.count, names.names.len());
        lines.extend(names.names.iter().map(|name| format!("{sign} {name}")));
    }
    lines.extend(changes.git.folders.iter().map(|folder| format!("git {} {:?}", folder.path, folder.change)));
    lines.extend(changes.left_out.folders.iter().map(|folder| format!("? {} {}", folder.path, folder.reason)));
    assert_eq!(changes.incomplete, changes.left_out.count > 0);
    lines
}

fn differ(before: &Look, after: &Look) -> Vec<String> {
    lines(&compare(before, after))
}

/// The kernel stamps files with the time of its last tick, 10 ms at most.
fn tick() {
    std::thread::sleep(Duration::from_millis(25));
}

#[test]
fn content_type_mode_and_link_target_are_compared() {
    let tree = Tree::new();
    for name in ["same", "edited", "gone", "run.sh", "was-file", "was-link", "deep/down/here"] {
        tree.put(name, "1");
    }
    tree.folder("closed");
    symlink("one", tree.path("link")).unwrap();
    let before = tree.look();
    tick();
    assert_eq!(differ(&before, &tree.look()), [""; 0]);
    tree.put("edited", "22");
    tree.put("src/new", "1");
    tree.chmod("run.sh", 0o755);
    tree.chmod("closed", 0o700);
    fs::remove_file(tree.path("gone")).unwrap();
    fs::remove_file(tree.path("link")).unwrap();
    symlink("two", tree.path("link")).unwrap();
    fs::remove_file(tree.path("was-link")).unwrap();
    symlink("x", tree.path("was-link")).unwrap();
    fs::remove_file(tree.path("was-file")).unwrap();
    tree.put("was-file/inside", "1");
    fs::remove_dir_all(tree.path("deep")).unwrap();
    let expected = [
        "+ src/new",
        "+ was-file/inside",
        "~ edited",
        "~ link",
        "~ was-link",
        "m closed/",
        "m run.sh",
        "- gone",
        "- was-file",
        "- deep/down/here",
    ];
    assert_eq!(differ(&before, &tree.look()), expected);
}

#[test]
fn a_modification_time_that_is_put_back_hides_nothing() {
    let tree = Tree::new();
    tree.put("file", "one");
    let time = fs::metadata(tree.path("file")).unwrap().modified().unwrap();
    let before = tree.look();
    tick();
    tree.put("file", "two");
    fs::File::options().write(true).open(tree.path("file")).unwrap().set_modified(time).unwrap();
    assert_eq!(differ(&before, &tree.look()), ["t file"]);
    let before = tree.look();
    tick();
    let mode = fs::metadata(tree.path("file")).unwrap().mode();
    tree.chmod("file", mode);
    assert_eq!(differ(&before, &tree.look()), ["t file"], "nor is it called an edit to set the same mode again");
}

#[test]
fn empty_folders_are_told_and_others_by_their_files() {
    let tree = Tree::new();
    tree.folder("a/b");
    tree.put("c/file", "1");
    let before = tree.look();
    fs::remove_dir_all(tree.path("a")).unwrap();
    tree.folder("d/e");
    fs::remove_file(tree.path("c/file")).unwrap();
    assert_eq!(differ(&before, &tree.look()), ["+ d/e/", "- a/b/", "- c/file"]);
}

#[test]
fn only_the_sessions_own_mount_points_are_left_out() {
    let points = ["ipc", "extra/data"].map(PathBuf::from);
    let tree = Tree::new();
    let look = || tree.look_within(Bounds::default(), &points);
    let before = look();
    tree.put("ipc/input/1.json", "");
    tree.put("extra/data/x", "");
    assert_eq!(differ(&before, &look()), [""; 0], "nor is the folder that was made above one");
    tree.put("extra/mine", "");
    tree.put("sub/ipc/x", "");
    tree.put("sub/extra/x", "");
    assert_eq!(differ(&before, &look()), ["+ extra/mine", "+ sub/extra/x", "+ sub/ipc/x"]);
    assert_eq!(differ(&look(), &before), ["- extra/mine", "- sub/extra/x", "- sub/ipc/x"]);
}

#[test]
fn a_repository_is_one_line() {
    let tree = Tree::new();
    for name in [".git", "lib/.git", "gone/.git"] {
        tree.bare(name);
        tree.put(format!("{name}/modules/sub/HEAD"), "1");
    }
    tree.put("lib/code.rs", "1");
    tree.put("gone/file", "1");
    tree.put("sub/.git", "gitdir: ../.git/modules/sub");
    let before = tree.look();
    tick();
    assert_eq!(differ(&before, &tree.look()), [""; 0]);
    tree.put("lib/code.rs", "22");
    for n in 0..100 {
        tree.put(format!("lib/.git/objects/{n:02x}/object"), "1");
    }
    tree.put(".git/modules/sub/HEAD", "22");
    fs::remove_dir_all(tree.path("gone/.git")).unwrap();
    tree.bare("new/.git");
    tree.put("sub/.git", "gitdir: elsewhere");
    let expected = [
        "~ lib/code.rs",
        "~ sub/.git",
        "git gone/.git Removed",
        "git new/.git Added",
        "git .git Changed",
        "git lib/.git Changed",
    ];
    assert_eq!(differ(&before, &tree.look()), expected);
    fs::remove_dir_all(tree.path(".git")).unwrap();
    let changes = compare(&before, &tree.look());
    assert_eq!(changes.git.folders[0], GitFolder { path: ".git".into(), change: GitChange::Removed });
    fs::remove_dir_all(tree.path("new/.git")).unwrap();
    fs::remove_file(tree.path("sub/.git")).unwrap();
    fs::create_dir(tree.path("sub/.git")).unwrap();
    let changes = differ(&before, &tree.look());
    assert!(changes.contains(&"- sub/.git".into()) && changes.contains(&"git sub/.git Added".into()), "{changes:?}");
}

#[test]
fn a_bare_repository_is_one_line_and_hides_no_working_tree() {
    let tree = Tree::new();
    tree.bare("store.git");
    tree.bare("old.git");
    tree.put("store.git/main/code.rs", "1");
    tree.put("src/config", "1");
    tree.put("src/lib.rs", "1");
    let before = tree.look();
    tick();
    tree.put("store.git/objects/ab/cdef", "1");
    tree.put("store.git/main/code.rs", "22");
    fs::remove_dir_all(tree.path("old.git")).unwrap();
    tree.bare("fresh.git");
    // What was there before is no part of a repository that appears around it.
    tree.bare("src");
    tree.put("src/config", "22");
    tree.put("src/lib.rs", "22");
    let expected = [
        "~ src/config",
        "~ src/lib.rs",
        "~ store.git/main/code.rs",
        "git fresh.git Added",
        "git old.git Removed",
        "git src Added",
        "git store.git Changed",
    ];
    assert_eq!(differ(&before, &tree.look()), expected);
    let itself = Tree::new();
    for name in ["HEAD", "config"] {
        itself.put(name, "1");
    }
    itself.folder("objects");
    itself.folder("refs");
    let before = itself.look();
    itself.put("objects/ab/c", "1");
    assert_eq!(differ(&before, &itself.look()), ["git ./ Changed"]);
}

#[test]
fn a_repository_that_is_faked_hides_neither_what_goes_nor_what_comes() {
    let tree = Tree::new();
    for name in ["config", "index", "hooks/run.sh"] {
        tree.put(name, "1");
    }
    let before = tree.look();
    for name in ["config", "index"] {
        fs::remove_file(tree.path(name)).unwrap();
    }
    tree.put("HEAD", "ref: refs/heads/main\n");
    tree.folder("objects");
    tree.folder("refs");
    let with = tree.look();
    assert_eq!(differ(&before, &with), ["- config", "- index", "git ./ Added"]);
    fs::remove_file(tree.path("HEAD")).unwrap();
    tree.put("description", "1");
    assert_eq!(differ(&with, &tree.look()), ["+ description", "- HEAD"]);
}

#[test]
fn folders_without_entries_are_bounded_as_well() {
    let tree = Tree::new();
    for number in 0..50 {
        tree.folder(&format!("{number}"));
    }
    let look = tree.look_within(Bounds { bytes: 600, ..Bounds::default() }, &[]);
    let states: Vec<State> = (0..look.folders()).map(|folder| look.state(folder)).collect();
    assert!(states.iter().any(|state| matches!(state, State::OutOfRoom)), "{states:?}");
}

/// A look at `a/x` and `b`, the folder `a` in this state.
fn made_up(state: State) -> Look {
    let stamp = |mode: u16| Stamp { mode, ..Stamp::default() };
    let mut look = Look::new((1, 2), stamp(0o40755), Vec::new());
    look.push(0, State::Listed, [(&b"a"[..], stamp(0o40755)), (&b"b"[..], stamp(0o100644))].into_iter());
    look.push(1, state, [(&b"x"[..], stamp(0o100644))].into_iter());
    look
}

#[test]
fn what_was_not_looked_at_is_never_said_to_be_removed() {
    let (whole, unread) = (made_up(State::Listed), made_up(State::Unread(Errno::EACCES as i32)));
    assert_eq!(differ(&whole, &unread), ["? a/ it cannot be read: Permission denied"]);
    assert_eq!(differ(&unread, &whole), ["? a/ it cannot be read: Permission denied"]);
    assert_eq!(differ(&unread, &unread), ["? a/ it cannot be read: Permission denied"]);
    assert_eq!(differ(&whole, &made_up(State::OutOfTime)), ["? a/ the time for looking was used up"]);
    let empty = Look::new((1, 2), Stamp { mode: 0o40755, ..Stamp::default() }, Vec::new());
    let mut nothing = empty;
    nothing.push(0, State::Listed, [].into_iter());
    assert_eq!(differ(&unread, &nothing), ["- b", "- a/", "? a/ it cannot be read: Permission denied"]);
    // Its names are known, not what they are.
    let mut partly = Look::new((1, 2), Stamp { mode: 0o40755, ..Stamp::default() }, Vec::new());
    partly.push(
        0,
        State::Partly(Errno::EACCES as i32),
        [(&b"a"[..], Stamp::default()), (&b"b"[..], Stamp::default())].into_iter(),
    );
    assert_eq!(differ(&whole, &partly), ["? ./ some of its files cannot be looked at: Permission denied"]);
}

#[test]
fn a_folder_that_may_not_be_read_is_left_out() {
    let tree = Tree::new();
    tree.put("closed/a", "1");
    tree.put("names-only/b", "1");
    tree.put("open/c", "1");
    tree.chmod("", 0o755);
    let before = tree.look();
    tree.put("open/d", "1");
    tree.chmod("closed", 0);
    tree.chmod("names-only", 0o444);
    // Opened before the agent took the right to read it away.
    let opened = SafeDir::open(tree.0.path()).unwrap();
    let as_nobody = || {
        // Root may read everything. This holds for the one thread (setfsuid(2)).
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(4242));
        differ(&before, &walk(&opened, &[], Bounds::default()).unwrap())
    };
    let said = std::thread::scope(|scope| scope.spawn(as_nobody).join().unwrap());
    let expected = [
        "+ open/d",
        "m closed/",
        "m names-only/",
        "? closed/ it cannot be read: Permission denied",
        "? names-only/ it cannot be read: Permission denied",
    ];
    assert_eq!(said, expected);
    tree.chmod("", 0);
    let said = std::thread::scope(|scope| scope.spawn(as_nobody).join().unwrap());
    assert_eq!(said, ["m ./", "? ./ it cannot be read: Permission denied"]);
    for name in ["", "closed", "names-only"] {
        tree.chmod(name, 0o755);
    }
}

#[test]
fn a_bound_leaves_out_what_is_deep_and_says_so() {
    let tree = Tree::new();
    tree.put("top", "1");
    for n in 0..40 {
        tree.put(format!("a/deep/{n}"), "1");
    }
    let before = tree.look();
    tick();
    tree.put("top", "22");
    tree.put("a/deep/0", "22");
    let late = tree.look_within(Bounds { time: Duration::ZERO, ..Bounds::default() }, &[]);
    assert_eq!(differ(&before, &late), ["? ./ the time for looking was used up"]);
    let small = tree.look_within(Bounds { bytes: 300, ..Bounds::default() }, &[]);
    assert_eq!(differ(&before, &small), ["~ top", "? a/deep/ there are too many files"]);
}

#[test]
fn long_paths_are_kept_once() {
    let tree = Tree::new();
    let long: PathBuf = (0..14).map(|_| "d".repeat(250)).collect();
    fs::create_dir_all(tree.path(&long)).unwrap();
    let dir = SafeDir::open(tree.0.path()).unwrap().descend(&long).unwrap();
    for n in 0..5_000 {
        let name = format!("f{n}");
        let flags = nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_CLOEXEC;
        nix::fcntl::openat(&dir, name.as_str(), flags, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    }
    let look = tree.look();
    assert!(look.len() < 5_000 * 50 + 14 * 300, "{} bytes", look.len());
}

#[test]
fn names_that_are_not_utf8_survive_and_are_shown_escaped() {
    let tree = Tree::new();
    let name = |bytes: &'static [u8]| Path::new(OsStr::from_bytes(bytes));
    tree.put(name(b"caf\xe9"), "1");
    tree.put(name(b"\xff\xfe/x"), "1");
    let before = Look::decode(&tree.look().encode()).unwrap();
    assert_eq!(differ(&before, &tree.look()), [""; 0]);
    tick();
    tree.put(name(b"caf\xe9"), "22");
    tree.put(name(b"caf\xe8"), "1");
    fs::remove_dir_all(tree.path(name(b"\xff\xfe"))).unwrap();
    assert_eq!(differ(&before, &tree.look()), ["+ caf\\xe8", "~ caf\\xe9", "- \\xff\\xfe/x"]);
}

#[test]
fn a_record_that_is_not_whole_or_not_ours_is_refused() {
    let tree = Tree::new();
    tree.put("a/b/c", "1");
    let whole = tree.look().encode();
    assert!(Look::decode(&whole).is_some());
    for length in 0..whole.len() {
        assert!(Look::decode(&whole[..length]).is_none(), "{length}");
    }
    assert!(Look::decode(&[&whole[..], b"x"].concat()).is_none());
    assert!(Look::decode(br#"{"files":{"a":{"inode":1,"size":1,"mtime":[1,2]}}}"#).is_none(), "of an old aigo");
}

#[test]
fn a_folder_that_is_swapped_for_a_link_shows_nothing_of_its_target() {
    let tree = Tree::new();
    let secret = Tree::new();
    secret.put("SECRET", "1");
    for n in 0..200 {
        tree.put(format!("f{n}/x"), "1");
    }
    tree.folder("real");
    symlink(secret.0.path(), tree.path("link")).unwrap();
    fs::rename(tree.path("real"), tree.path("q")).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fs::rename(tree.path("q"), tree.path("real")).unwrap();
                fs::rename(tree.path("link"), tree.path("q")).unwrap();
                fs::rename(tree.path("q"), tree.path("link")).unwrap();
                fs::rename(tree.path("real"), tree.path("q")).unwrap();
            }
        });
        for _ in 0..100 {
            let look = tree.look().encode();
            assert!(memchr::memmem::find(&look, b"SECRET").is_none());
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_folder_that_is_renamed_while_it_is_open_is_compared_all_the_same() {
    let tree = Tree::new();
    tree.put("work/a", "1");
    let record = tree.path("look");
    let before = Before::take(&tree.path("work"), &[], &record, &AtomicBool::new(false));
    fs::rename(tree.path("work"), tree.path("moved")).unwrap();
    tree.put("moved/b", "1");
    assert_eq!(lines(&before.compare().unwrap()), ["+ b"]);
}

#[test]
fn another_process_compares_only_the_folder_that_it_was() {
    let tree = Tree::new();
    tree.put("work/a", "1");
    let (work, record) = (tree.path("work"), tree.path("look"));
    drop(Before::take(&work, &["ipc".into()], &record, &AtomicBool::new(false)));
    tree.put("work/ipc/x", "1");
    tree.put("work/b", "1");
    let again = || Before::reopen(&work, &record).compare();
    assert_eq!(lines(&again().unwrap()), ["+ b"]);
    fs::rename(&work, tree.path("moved")).unwrap();
    assert!(again().unwrap_err().contains("was moved or replaced"));
    tree.folder("work");
    assert!(again().unwrap_err().contains("was moved or replaced"));
    fs::remove_dir(&work).unwrap();
    fs::rename(tree.path("moved"), &work).unwrap();
    assert_eq!(lines(&again().unwrap()), ["+ b"]);
    fs::write(&record, r#"{"files":{}}"#).unwrap();
    assert!(again().unwrap_err().contains("is not known"));
    fs::remove_file(&record).unwrap();
    assert!(again().unwrap_err().contains("is not known"));
}

#[test]
fn a_record_that_cannot_be_written_is_kept_in_memory() {
    let tree = Tree::new();
    tree.put("work/a", "1");
    let before = Before::take(&tree.path("work"), &[], &tree.path("none/look"), &AtomicBool::new(false));
    tree.put("work/b", "1");
    assert_eq!(lines(&before.compare().unwrap()), ["+ b"]);
}

#[test]
fn changes_of_older_versions_can_be_read_and_new_fields_are_absent_if_empty() {
    let old =
        r#"{"added":{"count":1,"names":["a"]},"modified":{"count":0,"names":[]},"removed":{"count":0,"names":[]}}"#;
    let changes: Changes = serde_json::from_str(old).unwrap();
    assert_eq!((changes.added.count, changes.incomplete), (1, false));
    assert_eq!(serde_json::to_string(&changes).unwrap(), old);
}
