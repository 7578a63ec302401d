//! Compares two looks at one folder.
//!
//! Both trees are walked together, folder by folder. What only one of them has is added or removed; what both have is
//! compared by its stamp. A folder that one of the looks could not list is left out, with everything below it.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::git::{self, Bare};
use super::look::{Entry, Look, State};
use super::{Changes, GitChange, printed};

/// What differs in `after`.
pub(super) fn compare(before: &Look, after: &Look) -> Changes {
    // Folders above the session's mount points may have been made for it, and are taken away at its end.
    let points = before.left_out.iter().chain(&after.left_out);
    let above = points.filter_map(|point| point.parent()).flat_map(Path::ancestors);
    let made = above.map(|path| path.as_os_str().as_bytes().to_vec()).filter(|path| !path.is_empty()).collect();
    let looks = Looks { before, after };
    let mut comparison = Comparison { looks, made, changes: Changes::default(), git: Vec::new(), stack: Vec::new() };
    if before.stamp.has_other_rights(&after.stamp) {
        comparison.changes.mode_changed.add(|| "./".to_owned());
    }
    comparison.stack.push(Pair { before: Some(0), after: Some(0), git: None });
    while let Some(pair) = comparison.stack.pop() {
        comparison.folder(pair);
    }
    comparison.finish()
}

/// A folder as it was and as it is.
#[derive(Clone, Copy, Debug)]
struct Pair {
    before: Option<u32>,
    after: Option<u32>,
    /// The repository that it is a part of.
    git: Option<usize>,
}

/// A repository whose own folder both looks have.
struct Repository {
    folder: Folder,
    differs: bool,
}

/// A folder of one of the looks.
#[derive(Clone, Copy)]
enum Folder {
    Before(u32),
    After(u32),
}

/// The names of a change.
#[derive(Clone, Copy)]
enum Kind {
    Added,
    Modified,
    Removed,
    ModeChanged,
    Touched,
}

/// What is compared.
#[derive(Clone, Copy)]
struct Looks<'a> {
    before: &'a Look,
    after: &'a Look,
}

struct Comparison<'a> {
    looks: Looks<'a>,
    /// Folders that may have been made for the session.
    made: BTreeSet<Vec<u8>>,
    changes: Changes,
    git: Vec<Repository>,
    stack: Vec<Pair>,
}

impl Looks<'_> {
    /// The path of the entry `name` of a folder; without a name, of the folder itself.
    fn path(&self, folder: Folder, name: Option<&[u8]>) -> Vec<u8> {
        let mut path = match folder {
            Folder::Before(folder) => self.before.path(folder),
            Folder::After(folder) => self.after.path(folder),
        };
        if let Some(name) = name {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name);
        }
        path
    }
}

impl Comparison<'_> {
    fn folder(&mut self, pair: Pair) {
        let Some(here) = pair.here() else { return };
        let looks = self.looks;
        let states =
            [pair.before.map(|folder| looks.before.state(folder)), pair.after.map(|folder| looks.after.state(folder))];
        let reason = states.iter().flatten().find_map(|state| why(*state));
        if let Some(reason) = reason {
            self.changes.left_out.add(|| reason, || as_folder(looks.path(here, None)));
        }
        if states.iter().flatten().any(|state| !matches!(state, State::Listed | State::Partly(_))) {
            // It is known that the folder came or went, though not with which files.
            match pair {
                Pair { before: Some(_), after: Some(_), .. } => {}
                Pair { before: None, .. } => self.note(Kind::Added, here, None, pair.git),
                Pair { after: None, .. } => self.note(Kind::Removed, here, None, pair.git),
            }
            return;
        }
        let repository = self.repository(pair, here);
        self.entries(pair, here, repository);
    }

    /// What the folder's own entries of Git belong to, if it is a bare repository.
    fn repository(&mut self, pair: Pair, here: Folder) -> Option<Belongs> {
        if pair.git.is_some() {
            return None;
        }
        let whole = match (git::bare(self.looks.before, pair.before), git::bare(self.looks.after, pair.after)) {
            (Bare::Whole, Bare::Whole) => return Some(Belongs::To(self.watch(here))),
            (Bare::Not, Bare::Whole) => GitChange::Added,
            (Bare::Whole, Bare::Not) => GitChange::Removed,
            _ => return None,
        };
        let side = if whole == GitChange::Added { Ordering::Greater } else { Ordering::Less };
        self.git_change(here, None, whole);
        Some(Belongs::Whole(side))
    }

    fn entries(&mut self, pair: Pair, here: Folder, repository: Option<Belongs>) {
        let Looks { before, after } = self.looks;
        let mut old = pair.before.into_iter().flat_map(|folder| before.entries(folder)).peekable();
        let mut new = pair.after.into_iter().flat_map(|folder| after.entries(folder)).peekable();
        let (mut is_empty, from) = (true, self.stack.len());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.name.cmp(new.name),
            };
            let both = (if order.is_le() { old.next() } else { None }, if order.is_ge() { new.next() } else { None });
            is_empty = false;
            let name = both.0.or(both.1).map(|entry| entry.name).unwrap_or_default();
            let git = match &repository {
                Some(Belongs::To(repository)) if git::is_own(name) => Some(*repository),
                // Only what came or went with the repository is told with it: the rest was there without it, and is compared.
                Some(Belongs::Whole(side)) if git::is_own(name) && order == *side => continue,
                Some(_) | None => pair.git,
            };
            self.entry(both, here, git);
        }
        if is_empty {
            match pair {
                Pair { before: Some(_), after: Some(_), .. } => {}
                Pair { before: None, .. } => self.note(Kind::Added, here, None, pair.git),
                Pair { after: None, .. } => self.note(Kind::Removed, here, None, pair.git),
            }
        }
        // The first of them is the next.
        self.stack[from..].reverse();
    }

    fn entry(&mut self, both: (Option<Entry<'_>>, Option<Entry<'_>>), here: Folder, git: Option<usize>) {
        let (old, new) = both;
        if [old, new].into_iter().flatten().any(|entry| !entry.stamp.is_known()) {
            // Its folder is among those left out.
            return;
        }
        let (before, after) = (old.and_then(|entry| entry.folder), new.and_then(|entry| entry.folder));
        let name = old.or(new).map(|entry| entry.name).unwrap_or_default();
        if git.is_none() && name == git::DOT_GIT && (before.is_some() || after.is_some()) {
            match (before, after) {
                (Some(_), None) => self.git_change(here, Some(name), GitChange::Removed),
                (None, Some(_)) => self.git_change(here, Some(name), GitChange::Added),
                (Some(folder), Some(_)) => {
                    let git = Some(self.watch(Folder::Before(folder)));
                    self.both_folders(old, new, here, git);
                }
                (None, None) => {}
            }
        } else if before.is_some() && after.is_some() {
            self.both_folders(old, new, here, git);
        } else if before.is_some() || after.is_some() {
            self.stack.push(Pair { before, after, git });
        }
        // What is no folder, on either side.
        match (old.filter(|_| before.is_none()), new.filter(|_| after.is_none())) {
            (None, None) => {}
            (Some(_), None) => self.note(Kind::Removed, here, Some(name), git),
            (None, Some(_)) => self.note(Kind::Added, here, Some(name), git),
            (Some(old), Some(new)) => {
                let (old, new) = (old.stamp, new.stamp);
                // A change of the rights changes ctime, too.
                if new.has_other_content(&old) {
                    self.note(Kind::Modified, here, Some(name), git);
                } else if new.has_other_rights(&old) {
                    self.note(Kind::ModeChanged, here, Some(name), git);
                } else if new.ctime != old.ctime {
                    self.note(Kind::Touched, here, Some(name), git);
                }
            }
        }
    }

    fn both_folders(&mut self, old: Option<Entry<'_>>, new: Option<Entry<'_>>, here: Folder, git: Option<usize>) {
        let (Some(old), Some(new)) = (old, new) else { return };
        if new.stamp.has_other_rights(&old.stamp) {
            let name = [old.name, b"/"].concat();
            self.note(Kind::ModeChanged, here, Some(&name), git);
        }
        self.stack.push(Pair { before: old.folder, after: new.folder, git });
    }

    /// Notes a change of the entry `name` of a folder; without a name, of the folder itself.
    fn note(&mut self, kind: Kind, folder: Folder, name: Option<&[u8]>, git: Option<usize>) {
        if let Some(repository) = git.and_then(|index| self.git.get_mut(index)) {
            repository.differs = true;
            return;
        }
        let looks = self.looks;
        if name.is_none() && self.made.contains(&looks.path(folder, None)) {
            return;
        }
        let names = match kind {
            Kind::Added => &mut self.changes.added,
            Kind::Modified => &mut self.changes.modified,
            Kind::Removed => &mut self.changes.removed,
            Kind::ModeChanged => &mut self.changes.mode_changed,
            Kind::Touched => &mut self.changes.touched,
        };
        names.add(|| match name {
            Some(_) => printed(&looks.path(folder, name)),
            None => as_folder(looks.path(folder, None)),
        });
    }

    fn git_change(&mut self, folder: Folder, name: Option<&[u8]>, change: GitChange) {
        let looks = self.looks;
        self.changes.git.add(change, || {
            let path = looks.path(folder, name);
            if path.is_empty() { "./".to_owned() } else { printed(&path) }
        });
    }

    /// Has what differs in a repository become one line.
    fn watch(&mut self, folder: Folder) -> usize {
        self.git.push(Repository { folder, differs: false });
        self.git.len() - 1
    }

    fn finish(mut self) -> Changes {
        for Repository { folder, differs } in std::mem::take(&mut self.git) {
            if differs {
                self.git_change(folder, None, GitChange::Changed);
            }
        }
        self.changes.incomplete = self.changes.left_out.count > 0;
        self.changes
    }
}

/// To which line an entry of Git's own belongs.
enum Belongs {
    /// To that of the repository, if it differs.
    To(usize),
    /// To that of the repository as a whole, which came ([`Ordering::Greater`]) or went ([`Ordering::Less`]).
    Whole(Ordering),
}

impl Pair {
    fn here(&self) -> Option<Folder> {
        self.before.map(Folder::Before).or(self.after.map(Folder::After))
    }
}

/// Why a folder was not looked at as a whole.
fn why(state: State) -> Option<String> {
    match state {
        State::Listed => None,
        State::Partly(errno) => Some(format!("some of its files cannot be looked at: {}", words(errno))),
        State::Unread(errno) => Some(format!("it cannot be read: {}", words(errno))),
        State::OutOfTime => Some("the time for looking was used up".to_owned()),
        State::OutOfRoom => Some("there are too many files".to_owned()),
    }
}

fn words(errno: i32) -> &'static str {
    Errno::from_raw(errno).desc()
}

fn as_folder(path: Vec<u8>) -> String {
    if path.is_empty() { "./".to_owned() } else { printed(&path) + "/" }
}
