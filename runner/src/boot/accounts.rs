//! Entries of passwd(5) and group(5).

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The agent's name.
pub(super) const AGENT: &str = "agent";

/// The content of `passwd` in which `uid` is `agent`; `None` if it is so already.
///
/// The entry comes before others of the same uid, since the first one names the uid. A `*` as password needs no entry in
/// `shadow` and lets nobody log in.
pub(super) fn passwd(old: &str, uid: u32, gid: u32, home: &str) -> Option<String> {
    let mine = old.lines().find(|line| name(line) == AGENT);
    let kept: Vec<&str> = mine.map(|line| line.split(':').collect()).unwrap_or_default();
    let field = |at: usize, default: &'static str| kept.get(at).copied().filter(|f| !f.is_empty()).unwrap_or(default);
    let entry = format!("{AGENT}:{}:{uid}:{gid}:{}:{home}:{}", field(1, "*"), field(4, ""), field(6, "/bin/sh"));
    place(old, &entry, 2, uid)
}

/// The content of `group` in which `gid` has a name; `None` if it has one.
pub(super) fn group(old: &str, gid: u32) -> Option<String> {
    if old.lines().any(|line| number(line, 2) == Some(gid)) {
        return None;
    }
    place(old, &format!("{AGENT}:*:{gid}:"), 2, gid)
}

/// `old` with `entry` in place of the entry of the same name, before any other with the same number.
fn place(old: &str, entry: &str, column: usize, id: u32) -> Option<String> {
    let mut lines: Vec<&str> = old.lines().filter(|line| name(line) != AGENT).collect();
    let at = lines.iter().position(|line| number(line, column) == Some(id)).unwrap_or(lines.len());
    lines.insert(at, entry);
    let mut new = lines.join("\n");
    new.push('\n');
    let first = |text: &str| text.lines().find(|line| number(line, column) == Some(id)).map(str::to_owned);
    let done = first(old).as_deref() == Some(entry) && old.lines().filter(|line| name(line) == AGENT).count() == 1;
    (!done).then_some(new)
}

fn name(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

fn number(line: &str, column: usize) -> Option<u32> {
    line.split(':').nth(column)?.parse().ok()
}

/// Replaces a file in one step: others see the old content or the new one.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_file_name(format!(".aigo-{}", std::process::id()));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // Nothing more can be done about it, and the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nnode:x:1000:1000::/home/node:/bin/bash\n";

    #[test]
    fn a_new_uid_is_added_at_the_end() {
        let new = passwd(PASSWD, 501, 20, "/home/agent").unwrap();
        assert_eq!(new, format!("{PASSWD}agent:*:501:20::/home/agent:/bin/sh\n"));
        assert_eq!(passwd(&new, 501, 20, "/home/agent"), None);
    }

    #[test]
    fn a_taken_uid_gets_our_name_first() {
        let new = passwd(PASSWD, 1000, 1000, "/home/agent").unwrap();
        let names: Vec<&str> = new.lines().map(name).collect();
        assert_eq!(names, ["root", "agent", "node"]);
        assert_eq!(passwd(&new, 1000, 1000, "/home/agent"), None);
    }

    #[test]
    fn the_image_s_agent_moves_and_keeps_its_shell() {
        let old = format!("agent:x:1234:1234:An Agent:/home/agent:/bin/bash\n{PASSWD}");
        let new = passwd(&old, 1000, 1000, "/home/agent").unwrap();
        assert!(new.contains("\nagent:x:1000:1000:An Agent:/home/agent:/bin/bash\nnode"), "{new}");
        assert_eq!(new.matches("agent:x").count(), 1);
    }

    #[test]
    fn groups() {
        assert_eq!(group("root:x:0:\nstaff:x:20:\n", 20), None);
        assert_eq!(group("agent:x:7:\n", 20).unwrap(), "agent:*:20:\n");
        assert_eq!(group("", 5).unwrap(), "agent:*:5:\n");
    }

    #[test]
    fn a_file_is_replaced_with_its_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        replace(&path, b"one", 0o440).unwrap();
        replace(&path, b"two", 0o440).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o440);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
