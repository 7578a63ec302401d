//! The folders of the operating system: which are never mounted with anything in them, and which only not as a whole.
//!
//! A container's root writes to a mounted folder as its owner. A folder whose programs, units or packages the machine runs is
//! therefore as much as the machine, and is refused with all its subfolders. A folder that only gathers the folders of many
//! owners is refused as a whole, so that a forgotten `/project` gives nobody `/root`; what lies in it may be mounted.

use std::fmt;
use std::path::{Path, PathBuf};

/// What of a folder is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// The folder and everything in it.
    All,
    /// Exactly this folder.
    Whole,
    /// Nothing in it, though it lies in a folder of [`Extent::All`]: only the folder itself.
    Inside,
}

use Extent::{All, Inside, Whole};

/// Folders, what of each is refused, and what the folder is. A `*` stands for one name. Paths are canonical when they are
/// judged, so links such as `/var/run` or, on merged systems, `/bin` come here as what they lead to.
const TABLE: &[(&str, Extent, &str)] = &[
    // The kernel's own.
    ("/proc", All, "the kernel's view of processes"),
    ("/sys", All, "the kernel's view of devices"),
    ("/dev", All, "the machine's devices"),
    // What the machine starts from and runs.
    ("/boot", All, "the kernel and its boot loader"),
    ("/efi", All, "the boot loader"),
    ("/etc", All, "the machine's configuration"),
    ("/bin", All, "the machine's programs"),
    ("/sbin", All, "the machine's programs"),
    ("/lib", All, "the machine's libraries"),
    ("/lib32", All, "the machine's libraries"),
    ("/lib64", All, "the machine's libraries"),
    ("/libx32", All, "the machine's libraries"),
    ("/usr", All, "the machine's programs and libraries"),
    ("/usr/local/src", Inside, "sources of the machine's own programs"),
    ("/snap", All, "the machine's programs"),
    ("/nix", All, "the machine's programs"),
    ("/gnu", All, "the machine's programs"),
    ("/ostree", All, "the machine's system images"),
    ("/sysroot", All, "the machine's system images"),
    // What services of the machine believe: sockets, units, jobs, packages, containers.
    ("/run", All, "sockets and state of the machine's services"),
    ("/run/media", Inside, "disks that people have plugged in"),
    ("/run/user/*/gvfs", Inside, "network folders of a person's desktop"),
    ("/var/run", All, "sockets and state of the machine's services"),
    ("/var/lib/containerd", All, "the containers of an engine"),
    ("/var/lib/containers", All, "the containers of an engine"),
    ("/var/lib/docker", All, "the containers of an engine"),
    ("/var/lib/kubelet", All, "the containers of an engine"),
    ("/var/lib/incus", All, "the containers of an engine"),
    ("/var/lib/lxc", All, "the containers of an engine"),
    ("/var/lib/lxd", All, "the containers of an engine"),
    ("/var/lib/machines", All, "the machine's system images"),
    ("/var/lib/portables", All, "the machine's system images"),
    ("/var/lib/extensions", All, "the machine's system images"),
    ("/var/lib/libvirt", All, "the disks of virtual machines"),
    ("/var/lib/cloud", All, "the machine's configuration"),
    ("/var/lib/NetworkManager", All, "the machine's configuration"),
    ("/var/lib/systemd", All, "the state of the machine's services"),
    ("/var/lib/apt", All, "the machine's packages"),
    ("/var/lib/dpkg", All, "the machine's packages"),
    ("/var/lib/flatpak", All, "the machine's packages"),
    ("/var/lib/pacman", All, "the machine's packages"),
    ("/var/lib/rpm", All, "the machine's packages"),
    ("/var/lib/snapd", All, "the machine's packages"),
    ("/var/lib/polkit-1", All, "rules about who may administer the machine"),
    ("/var/lib/sudo", All, "records of who may administer the machine"),
    ("/var/backups", All, "copies of the machine's user database"),
    ("/var/spool/anacron", All, "jobs that the machine runs"),
    ("/var/spool/at", All, "jobs that the machine runs"),
    ("/var/spool/cron", All, "jobs that the machine runs"),
    ("/var/spool/incron", All, "jobs that the machine runs"),
    ("/var/usrlocal", All, "the machine's programs"),
    // Those of macOS.
    ("/System", All, "the machine's programs and libraries"),
    ("/Library", All, "the machine's programs and settings"),
    ("/private/etc", All, "the machine's configuration"),
    ("/private/var/db", All, "the state of the machine's services"),
    ("/private/var/run", All, "sockets and state of the machine's services"),
    // Folders that gather what belongs to many.
    ("/", Whole, "the whole machine"),
    ("/root", Whole, "what belongs to the machine's administrator"),
    ("/home", Whole, "the homes of all people"),
    ("/opt", Whole, "programs of many makers"),
    ("/srv", Whole, "the data of all services"),
    ("/mnt", Whole, "other disks"),
    ("/media", Whole, "other disks"),
    ("/tmp", Whole, "temporary files and sockets of everybody"),
    ("/lost+found", Whole, "pieces of damaged files of everybody"),
    ("/var", Whole, "the data of all services"),
    ("/var/cache", Whole, "the data of all services"),
    ("/var/home", Whole, "the homes of all people"),
    ("/var/lib", Whole, "the data of all services"),
    ("/var/local", Whole, "the data of all services"),
    ("/var/log", Whole, "the logs of all services"),
    ("/var/mail", Whole, "everybody's mail"),
    ("/var/mnt", Whole, "other disks"),
    ("/var/opt", Whole, "the data of many makers' programs"),
    ("/var/roothome", Whole, "what belongs to the machine's administrator"),
    ("/var/spool", Whole, "jobs and mail of everybody"),
    ("/var/spool/mail", Whole, "everybody's mail"),
    ("/var/srv", Whole, "the data of all services"),
    ("/var/tmp", Whole, "temporary files of everybody"),
    ("/Applications", Whole, "everybody's programs"),
    ("/Users", Whole, "the homes of all people"),
    ("/Volumes", Whole, "other disks"),
    ("/private", Whole, "the data of all services"),
    ("/private/tmp", Whole, "temporary files and sockets of everybody"),
    ("/private/var", Whole, "the data of all services"),
    ("/private/var/folders", Whole, "temporary files of everybody"),
    ("/private/var/root", Whole, "what belongs to the machine's administrator"),
    ("/private/var/tmp", Whole, "temporary files of everybody"),
];

/// Folders of a person, wherever their home is, whose files the machine runs as that person.
const STARTED: &[(&str, &str)] = &[
    (".config/autostart", "programs that start when their owner logs in"),
    (".config/systemd", "services that run as their owner"),
    (".local/share/systemd", "services that run as their owner"),
    ("Library/LaunchAgents", "services that run as their owner"),
];

/// Why a folder of the system may not be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemPath {
    path: PathBuf,
    /// The folder that the rule is about.
    rule: String,
    what: &'static str,
    /// Something in the folder may be mounted.
    whole: bool,
}

impl fmt::Display for SystemPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, rule, what, whole } = self;
        let shown = path.display();
        let is_rule = path.as_path() == Path::new(rule);
        match (whole, is_rule) {
            (true, true) => write!(f, "{shown} holds {what} and is never mounted as a whole; name a folder in it"),
            (true, false) => write!(
                f,
                "{shown} contains {rule}, which holds {what}, and is never mounted as a whole; name a folder in it"
            ),
            (false, true) => write!(f, "{shown} holds {what} and is never mounted; choose a folder of your own"),
            (false, false) => {
                write!(
                    f,
                    "{shown} lies in {rule}, which holds {what} and is never mounted; choose a folder of your own"
                )
            }
        }
    }
}

/// Where a path lies as seen from a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// The path is the folder.
    Same,
    /// The path is in the folder.
    In,
    /// The folder is in the path.
    Contains,
    /// Neither.
    Apart,
}

/// Judges a canonical path. The longest folder of the table that has the path decides.
pub(super) fn check(path: &Path) -> Result<(), SystemPath> {
    let refuse =
        |rule: &str, what, whole| Err(SystemPath { path: path.to_owned(), rule: rule.to_owned(), what, whole });
    let mut nearest: Option<(usize, &(&str, Extent, &'static str))> = None;
    for row in TABLE {
        let depth = Path::new(row.0).components().count();
        if matches!(relation(path, row.0), Relation::Same | Relation::In)
            && nearest.is_none_or(|(most, _)| depth > most)
        {
            nearest = Some((depth, row));
        }
    }
    if let Some((_, (rule, extent, what))) = nearest {
        match (extent, relation(path, rule)) {
            (All, _) => return refuse(rule, what, false),
            (Whole | Inside, Relation::Same) => return refuse(&path.to_string_lossy(), what, true),
            // The `*` of the rule may be a name that the table does not foresee, but it is never empty.
            (Whole | Inside, _) => {}
        }
    }
    // A folder that holds one that is refused with everything in it.
    let contains = |row: &&(&str, Extent, &str)| row.1 == All && relation(path, row.0) == Relation::Contains;
    if let Some((rule, _, what)) = TABLE.iter().find(contains) {
        return refuse(rule, what, true);
    }
    match STARTED.iter().find(|(folder, _)| holds(path, folder)) {
        Some((folder, what)) => refuse(folder, what, false),
        None => Ok(()),
    }
}

fn relation(path: &Path, folder: &str) -> Relation {
    let mut names = path.components();
    for wanted in Path::new(folder).components() {
        match names.next() {
            None => return Relation::Contains,
            Some(name) if name == wanted || wanted.as_os_str() == "*" => {}
            Some(_) => return Relation::Apart,
        }
    }
    if names.next().is_none() { Relation::Same } else { Relation::In }
}

/// Whether the names of `folder` follow each other in the path.
fn holds(path: &Path, folder: &str) -> bool {
    let names: Vec<_> = path.components().collect();
    let wanted: Vec<_> = Path::new(folder).components().collect();
    names.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_folders_are_refused_with_everything_in_them() {
        for bad in [
            "/proc",
            "/proc/1/root",
            "/sys/fs/cgroup",
            "/dev/shm",
            "/dev/shm/x",
            "/boot",
            "/etc",
            "/etc/systemd/system",
            "/bin",
            "/sbin/x",
            "/lib",
            "/lib/systemd/system",
            "/lib64",
            "/usr",
            "/usr/bin",
            "/usr/lib/systemd/system",
            "/usr/local",
            "/usr/local/bin",
            "/usr/local/sbin/x",
            "/usr/src",
            "/usr/src/linux",
            "/usr/share/x",
            "/run",
            "/run/docker",
            "/run/systemd/system",
            "/run/user",
            "/run/user/1000",
            "/run/user/1000/bus",
            "/var/lib/docker",
            "/var/lib/docker/volumes/x",
            "/var/lib/containers/storage",
            "/var/spool/cron/crontabs",
            "/var/lib/systemd/linger",
            "/var/lib/dpkg/info",
            "/var/backups",
            "/snap/x",
            "/nix/store",
            "/home/u/.config/systemd/user",
            "/home/u/.config/systemd",
            "/root/.local/share/systemd/user/x",
            "/home/u/.config/autostart",
            "/System/Library",
            "/Library/LaunchDaemons",
            "/private/etc/sudoers.d",
            "/Users/u/Library/LaunchAgents",
        ] {
            let refused = check(Path::new(bad)).expect_err(bad);
            let said = refused.to_string();
            let remedy = ["choose a folder of your own", "name a folder in it"].iter().any(|text| said.contains(text));
            assert!(said.starts_with(bad) && remedy, "{said}");
        }
    }

    #[test]
    fn gathering_folders_are_refused_as_a_whole_only() {
        for folder in [
            "/root",
            "/home",
            "/opt",
            "/srv",
            "/mnt",
            "/media",
            "/tmp",
            "/var",
            "/var/lib",
            "/var/tmp",
            "/var/log",
            "/var/home",
            "/run/media",
            "/run/user/1000/gvfs",
            "/usr/local/src",
            "/Users",
            "/Volumes",
            "/private/tmp",
        ] {
            let said = check(Path::new(folder)).expect_err(folder).to_string();
            assert!(said.contains("as a whole") && said.ends_with("name a folder in it"), "{said}");
            assert_eq!(check(&Path::new(folder).join("project")), Ok(()), "{folder}/project");
        }
        assert!(check(Path::new("/")).unwrap_err().to_string().contains("as a whole"));
    }

    #[test]
    fn folders_of_people_and_of_continuous_integration_stay_allowed() {
        for good in [
            "/home/u",
            "/home/u/project",
            "/root/project",
            "/var/www/x",
            "/opt/x",
            "/srv/x",
            "/tmp/x/workspace",
            "/var/lib/jenkins/workspace/x",
            "/var/lib/buildkite-agent/builds/x",
            "/work/x",
            "/workspace",
            "/workspaces/x",
            "/builds/group/project",
            "/data",
            "/app",
            "/mnt/disk",
            "/mnt/c/Users/u/project",
            "/media/u/disk",
            "/run/media/u/disk",
            "/run/user/1000/gvfs/smb-share:server=s",
            "/usr/local/src/x",
            "/var/home/u/project",
            "/Users/u/project",
            "/private/var/folders/x/y/T/z",
            "/home/u/.config",
            "/home/u/systemd",
            "/etcetera",
            "/home/u/etc",
            "/home/u/usr/bin",
        ] {
            assert_eq!(check(Path::new(good)), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_folder_that_contains_a_system_folder_is_refused_as_a_whole() {
        let said = check(Path::new("/var/spool")).unwrap_err().to_string();
        assert!(said.contains("as a whole"), "{said}");
        assert_eq!(check(Path::new("/var/spool/postfix")), Ok(()));
        for (folder, _, _) in TABLE.iter().filter(|(folder, _, _)| !folder.contains('*')) {
            for above in Path::new(folder).ancestors() {
                assert!(check(above).is_err(), "{} lets {folder} in", above.display());
            }
        }
    }
}
