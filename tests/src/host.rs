//! The host that everything runs on: its processes, and waiting for things that it does not announce.

use std::fs;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

/// Longest wait for anything; a loaded machine with two cores needs seconds, not this.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pace of looking at what does not announce itself.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `look` finds something.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(LOOK);
    }
}

/// A word that nothing else on this host has in its arguments or files.
pub fn unique(stem: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{stem}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Processes, of containers too, that have `marker` in their arguments. Zombies have none.
///
/// A `sh -c` around the marked process is found as well; processes of the test itself are not.
pub fn processes_with(marker: &str) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id().to_string();
    let matches = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let pid: i32 = name.to_str()?.parse().ok()?;
        let arguments = fs::read(entry.path().join("cmdline")).ok()?;
        // aigo itself is given the script that holds the marker.
        let aigo = arguments.split(|&byte| byte == 0).next().is_some_and(|program| program.ends_with(b"aigo"));
        let found = !aigo
            && name.to_str() != Some(&own)
            && arguments.windows(marker.len()).any(|window| window == marker.as_bytes());
        found.then(|| Pid::from_raw(pid))
    };
    entries.flatten().filter_map(matches).collect()
}

/// A number of kilobytes from a process's `status` (`proc_pid_status(5)`), such as `VmHWM`, its largest resident size.
pub fn status_kib(pid: Pid, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field) && line[field.len()..].starts_with(':'))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}
