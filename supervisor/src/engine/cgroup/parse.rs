//! The texts of cgroups(7), proc(5) and cgroup-v2.rst, as values. Lines that make no sense are left out: the files are
//! the kernel's, and a newer one may say more.

/// A line of `/proc/PID/cgroup`: `hierarchy:controllers:path`, without controllers for v2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) controllers: Vec<String>,
    pub(super) path: String,
}

pub(super) fn memberships(text: &str) -> Vec<Membership> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let controllers = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            Some(Membership { controllers, path: path.to_owned() })
        })
        .collect()
}

/// A cgroup mount of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The cgroup that is mounted, as a path in its hierarchy.
    pub(super) root: String,
    pub(super) point: String,
    /// `None` for v2.
    pub(super) controllers: Option<Vec<String>>,
}

pub(super) fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            // Optional fields end at a lone dash.
            let (before, after) = line.split_once(" - ")?;
            let mut before = before.split(' ').skip(3);
            let (root, point) = (unescape(before.next()?), unescape(before.next()?));
            let mut after = after.split(' ');
            let controllers = match after.next()? {
                "cgroup2" => None,
                "cgroup" => Some(after.nth(1)?.split(',').map(str::to_owned).collect()),
                _ => return None,
            };
            Some(Mount { root, point, controllers })
        })
        .collect()
}

/// Space, tab, newline and backslash are written in octal there.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// A file of one number; `max` is none.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number behind a key in a file of `key number` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        if name == key { value.trim().parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_parsed() {
        assert_eq!(number("12\n"), Some(12));
        assert_eq!(number("max\n"), None);
        let events = "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 9\n";
        assert_eq!(keyed(events, "oom_kill"), Some(2));
        assert_eq!(keyed(events, "nothing"), None);
        assert_eq!(keyed("oom_kill_disable 1\nunder_oom 0\noom_kill 4\n", "oom_kill"), Some(4));
        assert_eq!(memberships("junk\n0::/a:b\n"), [Membership { controllers: vec![], path: "/a:b".into() }]);
        let found = mounts("1 2 0:3 /x /sys/fs/a\\040b rw shared:1 master:2 - cgroup none rw,cpu,cpuacct\nx\n");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].root.as_str(), found[0].point.as_str()), ("/x", "/sys/fs/a b"));
        assert!(found[0].controllers.as_ref().unwrap().contains(&"cpuacct".to_owned()));
    }
}
