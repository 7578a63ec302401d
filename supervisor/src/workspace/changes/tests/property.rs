//! Whatever is done to a folder, the comparison says what the same question path by path says.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;

use super::{Tree, differ};
use crate::workspace::changes::compare::compare;
use crate::workspace::changes::look::Look;

/// What a script may do to a folder of a few names.
#[derive(Clone, Debug)]
enum Act {
    Write(usize, u8),
    Folder(usize),
    Remove(usize),
    Chmod(usize, bool),
    Link(usize, u8),
}

const NAMES: [&str; 9] = ["a", "b", "a/x", "a/y", "a/z", "a/z/w", "b/x", "c/d/e", "c/d"];

fn act() -> impl Strategy<Value = Act> {
    let name = 0..NAMES.len();
    prop_oneof![
        (name.clone(), 0..3u8).prop_map(|(name, length)| Act::Write(name, length)),
        name.clone().prop_map(Act::Folder),
        name.clone().prop_map(Act::Remove),
        (name.clone(), any::<bool>()).prop_map(|(name, open)| Act::Chmod(name, open)),
        (name, 0..3u8).prop_map(|(name, target)| Act::Link(name, target)),
    ]
}

/// Does it as far as that can be done.
fn perform(tree: &Tree, act: &Act) {
    let (Act::Write(name, _) | Act::Folder(name) | Act::Remove(name) | Act::Chmod(name, _) | Act::Link(name, _)) = act;
    let path = tree.path(NAMES[*name]);
    // No link is followed: the names behind it would be other files.
    let is_real = |path: &Path| path.ancestors().all(|path| !path.is_symlink());
    if !is_real(path.parent().unwrap()) {
        return;
    }
    let _ = match act {
        Act::Write(_, length) if is_real(&path) => {
            let _ = fs::create_dir_all(path.parent().unwrap());
            fs::write(&path, "x".repeat(usize::from(*length)))
        }
        Act::Folder(_) => fs::create_dir_all(&path),
        Act::Remove(_) => fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)),
        Act::Chmod(_, open) if is_real(&path) => {
            fs::set_permissions(&path, PermissionsExt::from_mode(if *open { 0o755 } else { 0o700 }))
        }
        Act::Link(_, target) => symlink(format!("target{target}"), &path),
        Act::Write(..) | Act::Chmod(..) => Ok(()),
    };
}

/// What is known of one path: whether it is a folder, its rights, its content, its ctime.
type Seen = (bool, (u32, u32, u32), String, (i64, i64));

/// The same question asked of the standard library, path by path.
fn plain(root: &Path) -> BTreeMap<String, Seen> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let target = fs::read_link(&path).unwrap_or_default();
            let content = (meta.mode() & 0o170_000, meta.len(), target, meta.mtime(), meta.mtime_nsec());
            let ctime = (meta.ctime(), meta.ctime_nsec());
            let rights = (meta.mode(), meta.uid(), meta.gid());
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            seen.insert(name, (meta.is_dir(), rights, format!("{content:?}"), ctime));
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    seen
}

fn expected(before: &BTreeMap<String, Seen>, after: &BTreeMap<String, Seen>) -> Vec<String> {
    let is_folder = |seen: &BTreeMap<String, Seen>, name: &str| seen.get(name).map(|seen| seen.0);
    let is_empty = |seen: &BTreeMap<String, Seen>, name: &str| {
        !seen.keys().any(|other| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
    };
    let only = |sign: &str, these: &BTreeMap<String, Seen>, others: &BTreeMap<String, Seen>| {
        let mut lines = Vec::new();
        for (name, (folder, ..)) in these {
            match (folder, is_folder(others, name)) {
                (false, None | Some(true)) => lines.push(format!("{sign} {name}")),
                (true, None | Some(false)) if is_empty(these, name) => lines.push(format!("{sign} {name}/")),
                _ => {}
            }
        }
        lines
    };
    let mut lines = [only("+", after, before), only("-", before, after)].concat();
    for (name, old) in before {
        let Some(new) = after.get(name).filter(|new| new.0 == old.0) else { continue };
        if !new.0 && new.2 != old.2 {
            lines.push(format!("~ {name}"));
        } else if new.1 != old.1 {
            lines.push(format!("m {name}{}", if new.0 { "/" } else { "" }));
        } else if !new.0 && new.3 != old.3 {
            lines.push(format!("t {name}"));
        }
    }
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_comparison_says_what_path_by_path_says(
        first in proptest::collection::vec(act(), 0..25),
        second in proptest::collection::vec(act(), 0..12),
    ) {
        let tree = Tree::new();
        first.iter().for_each(|act| perform(&tree, act));
        let (before, plain_before) = (tree.look(), plain(tree.0.path()));
        second.iter().for_each(|act| perform(&tree, act));
        let (after, plain_after) = (tree.look(), plain(tree.0.path()));
        let stored = Look::decode(&before.encode()).unwrap();
        let mut said = differ(&stored, &after);
        prop_assert_eq!(&said, &differ(&before, &after));
        said.sort();
        prop_assert_eq!(said, expected(&plain_before, &plain_after));
    }

    #[test]
    fn no_bytes_make_reading_a_record_fail_badly(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..100usize) {
        let tree = Tree::new();
        tree.put("a/b", "1");
        let mut record = tree.look().encode();
        let at = at.min(record.len());
        record.splice(at.., bytes);
        if let Some(look) = Look::decode(&record) {
            let _ = compare(&look, &tree.look());
        }
    }
}
