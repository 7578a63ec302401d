//! What a service and its sessions hold on this host: looked at before and after, it shows what leaks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use nix::unistd::Pid;

use crate::engine::{self, Kind};
use crate::home::Home;

/// Where the kernel shows cgroups, of either version.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The mounts that this process sees, `proc_pid_mountinfo(5)`.
const MOUNTS: &str = "/proc/self/mountinfo";

/// What sessions hold. Nothing of it may grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Of the instance: containers, networks, volumes, cgroups. Of the host: mounts with the test's folder in them. Of the
    /// data directory and the workspace: folders of sessions and for mount points.
    pub counts: BTreeMap<&'static str, usize>,
    /// Volumes without a name, of anybody's containers: they carry no mark of whose they are.
    pub anonymous: BTreeSet<String>,
}

impl Held {
    /// What there is now.
    ///
    /// # Panics
    /// If this host cannot be looked at.
    pub fn by(home: &Home) -> Self {
        let instance = home.instance();
        let objects = |kind| instance.as_deref().map_or(0, |instance| engine::objects(kind, instance).len());
        let root = home.root().to_string_lossy().into_owned();
        let mounts = fs::read_to_string(MOUNTS).expect("this process's mounts");
        let counts = BTreeMap::from([
            ("containers", objects(Kind::Container)),
            ("networks", objects(Kind::Network)),
            ("volumes", objects(Kind::Volume)),
            ("mounts", mounts.lines().filter(|line| line.contains(&root)).count()),
            ("cgroups", instance.as_deref().map_or(0, |instance| folders_with(Path::new(CGROUPS), instance))),
            ("session folders", home.sessions().len()),
            ("folders in the workspace", fs::read_dir(home.workspace()).expect("our own workspace").count()),
        ]);
        Self { counts, anonymous: engine::anonymous_volumes() }
    }

    /// What there is more of than before, in words.
    pub fn more_than(&self, before: &Self) -> Vec<String> {
        let mut more = grown(&self.counts, &before.counts);
        more.extend(self.anonymous.difference(&before.anonymous).map(|volume| format!("anonymous volume {volume}")));
        more
    }
}

/// What the service's process holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Threads.
    pub threads: usize,
    /// Open descriptors by what they are: `socket`, `anon_inode:[eventpoll]`, a path.
    pub descriptors: BTreeMap<String, usize>,
}

impl Process {
    /// What it holds now.
    ///
    /// # Panics
    /// If it does not run.
    pub fn of(pid: Pid) -> Self {
        let listed = |what| fs::read_dir(format!("/proc/{pid}/{what}")).expect("a process that runs").flatten();
        let mut descriptors = BTreeMap::new();
        // One that is closed meanwhile has no target any more.
        for target in listed("fd").filter_map(|entry| fs::read_link(entry.path()).ok()) {
            let target = target.to_string_lossy();
            // `socket:[12345]` and `pipe:[12345]` have a number of their own each.
            let kind = target.split(":[").next().filter(|kind| !kind.starts_with('/')).unwrap_or(&target);
            *descriptors.entry(kind.to_owned()).or_default() += 1;
        }
        Self { threads: listed("task").count(), descriptors }
    }

    /// How many descriptors are open.
    pub fn open(&self) -> usize {
        self.descriptors.values().sum()
    }

    /// What it holds more of than before, in words.
    pub fn more_than(&self, before: &Self) -> Vec<String> {
        let counts = |process: &Self| BTreeMap::from([("threads".to_owned(), process.threads)]);
        let mut more = grown(&self.descriptors, &before.descriptors);
        more.extend(grown(&counts(self), &counts(before)));
        more
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            write!(f, "{what} {count}, ")?;
        }
        write!(f, "anonymous volumes {}", self.anonymous.len())
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "threads {}, descriptors {}", self.threads, self.open())
    }
}

fn grown<K: Ord + fmt::Display>(now: &BTreeMap<K, usize>, before: &BTreeMap<K, usize>) -> Vec<String> {
    let was = |what| before.get(what).copied().unwrap_or_default();
    let more = now.iter().filter(|(what, count)| **count > was(what));
    more.map(|(what, count)| format!("{what}: {count}, before {}", was(what))).collect()
}

/// Folders below this one that have the word in their path; links are not followed.
fn folders_with(folder: &Path, word: &str) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .map(|entry| {
            let path = entry.path();
            usize::from(path.to_string_lossy().contains(word)) + folders_with(&path, word)
        })
        .sum()
}
