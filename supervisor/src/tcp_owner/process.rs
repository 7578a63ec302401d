//! The process that holds a socket, by `/proc/PID/fd` (proc(5)).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Process;
use crate::cli::show::sanitize::one_line;

/// How long processes are looked through; a host may have very many.
const DEADLINE: Duration = Duration::from_secs(2);
/// Characters of a command line that are shown.
const COMMAND_CHARS: usize = 80;

/// A process that holds the socket with this inode. Those of other users can be seen by root only.
pub(super) fn holding(inode: u64) -> Option<Process> {
    let until = Instant::now() + DEADLINE;
    let link = PathBuf::from(format!("socket:[{inode}]"));
    let processes = fs::read_dir("/proc").ok()?.map_while(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().map_while(Result::ok);
        descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == link)
    };
    let pid = pids.take_while(|_| Instant::now() < until).find(holds)?;
    // Arguments end with a zero byte; a process may have written anything there.
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    Some(Process { pid, command: one_line(words.join(" ").trim_end(), COMMAND_CHARS) })
}
