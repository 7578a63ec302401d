//! Ending every process that the agent has left behind: orphans, `setsid` children, fork bombs.
//!
//! As PID 1 one `kill(-1)` reaches the whole PID namespace at once; the kernel walks the process table under a lock that
//! a fork needs too, so no child slips through. Elsewhere the descendants are read from `/proc`, again and again.

use std::collections::{HashMap, HashSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use crate::log::say;

/// Time for leftovers to end after SIGTERM; the agent itself had its own grace before.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);

/// Time for SIGKILL to take effect. What survives it (a process stuck in the kernel) ends with the PID namespace.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Whom this process may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Territory {
    /// Everybody in the PID namespace.
    Namespace,
    /// Descendants only.
    Descendants,
}

/// SIGTERM, a grace, SIGKILL.
pub(super) fn end_all(territory: Territory) {
    if reap_all() {
        return;
    }
    signal(territory, Signal::SIGTERM);
    let deadline = Instant::now() + LEFTOVER_GRACE;
    while Instant::now() < deadline {
        if reap_all() {
            return;
        }
        sleep(LOOK);
    }
    kill_all(territory);
}

/// SIGKILL until nobody is left.
pub(super) fn kill_all(territory: Territory) {
    let deadline = Instant::now() + KILL_DEADLINE;
    while Instant::now() < deadline {
        signal(territory, Signal::SIGKILL);
        if reap_all() {
            return;
        }
        sleep(LOOK);
    }
    say(format_args!("processes are left {} s after SIGKILL", KILL_DEADLINE.as_secs()));
}

/// Reaps whoever has ended; whether nobody is left. Orphans become our children, so the last one's end is seen here.
fn reap_all() -> bool {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return false,
            Err(Errno::ECHILD) => return true,
            Ok(_) | Err(_) => {}
        }
    }
}

fn signal(territory: Territory, signal: Signal) {
    // Nobody there (ESRCH) is fine; `reap_all` says when to stop.
    match territory {
        Territory::Namespace => {
            let _ = kill(Pid::from_raw(-1), signal);
        }
        Territory::Descendants => {
            for pid in descendants(getpid(), &parents()) {
                let _ = kill(pid, signal);
            }
        }
    }
}

/// Each process's parent, from `/proc/<pid>/stat` (proc_pid_stat(5)).
fn parents() -> HashMap<Pid, Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return HashMap::new() };
    let process = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read(entry.path().join("stat")).ok()?;
        Some((Pid::from_raw(pid), parent_in(&String::from_utf8_lossy(&stat))?))
    };
    entries.flatten().filter_map(process).collect()
}

/// The parent in a `stat` line. The second field is the program's name in parentheses, which may hold anything.
fn parent_in(stat: &str) -> Option<Pid> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}

fn descendants(root: Pid, parents: &HashMap<Pid, Pid>) -> HashSet<Pid> {
    let mut found = HashSet::new();
    let mut frontier = vec![root];
    while let Some(parent) = frontier.pop() {
        for (&child, _) in parents.iter().filter(|&(_, &of)| of == parent) {
            if child != root && found.insert(child) {
                frontier.push(child);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_program_name_does_not_hide_the_parent() {
        assert_eq!(parent_in("7 (a) S 99 (x) R 5 7 7"), Some(Pid::from_raw(5)));
        assert_eq!(parent_in("7 (a"), None);
    }

    #[test]
    fn descendants_of_all_generations() {
        let pid = Pid::from_raw;
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (1, 0), (9, 8)].map(|(a, b)| (pid(a), pid(b))).into();
        assert_eq!(descendants(pid(2), &parents), [pid(3), pid(4)].into());
    }
}
