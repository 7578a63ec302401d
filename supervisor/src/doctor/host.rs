//! This machine: data directory, disk space, inotify limits.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use super::check::Check;
use crate::dirs::{DataDir, DirError, OTHERS};
use crate::engine::EngineInfo;
use crate::error_chain::chain;
use crate::units::format_size;

const DATA: &str = "data directory";
const DATA_DISK: &str = "data disk";
const ENGINE_DISK: &str = "engine disk";
const INOTIFY: &str = "inotify";

/// Below this an image build or a session's own files will fail.
const FAILING: u64 = 1 << 30;
/// The image and its build take about 4 GiB, an agent's own installations more.
const TIGHT: u64 = 5 << 30;
/// The kernel's default. A session uses two of each, shared by all containers of one uid (inotify(7)).
const FEW_INSTANCES: u64 = 128;
/// The kernel's default on the smallest machines.
const FEW_WATCHES: u64 = 8192;

/// Whether the data directory can be used, and only by its owner.
#[must_use]
pub fn data_directory(dirs: &Result<DataDir, DirError>) -> Check {
    let dirs = match dirs {
        Ok(dirs) => dirs,
        Err(error) => return Check::failed(DATA, chain(error), "name another one with --data-dir or AIGO_DATA_DIR"),
    };
    let root = dirs.root();
    if let Err(error) = tempfile::NamedTempFile::new_in(root) {
        return Check::failed(
            DATA,
            format!("cannot write in {}: {error}", root.display()),
            "mend its permissions, or name another one with --data-dir",
        );
    }
    match fs::metadata(root) {
        Ok(metadata) if metadata.uid() != geteuid().as_raw() => Check::warning(
            DATA,
            format!("{} belongs to uid {}, not to you", root.display(), metadata.uid()),
            "give it to the user who runs aigo (chown -R), or name another one with --data-dir",
        ),
        Ok(metadata) if metadata.mode() & OTHERS != 0 => Check::warning(
            DATA,
            format!("{} is open to others (mode {:o})", root.display(), metadata.mode() & 0o777),
            "it holds transcripts: chmod 700 it",
        ),
        Ok(_) => Check::ok(DATA, root.display().to_string()),
        Err(error) => Check::failed(DATA, format!("cannot read {}: {error}", root.display()), "mend its permissions"),
    }
}

/// Room where we and the engine keep things.
#[must_use]
pub fn disk(dirs: Option<&DataDir>, info: Option<&EngineInfo>) -> Vec<Check> {
    let data = match dirs {
        Some(dirs) => room(DATA_DISK, dirs.root(), "remove old sessions, or move it with --data-dir"),
        None => Check::skipped(DATA_DISK, "there is no data directory"),
    };
    let engine = match info {
        // Behind a VM or over TCP the path means nothing here.
        Some(info) if info.root_dir.is_absolute() && info.endpoint.starts_with("unix://") && info.root_dir.exists() => {
            room(
                ENGINE_DISK,
                &info.root_dir,
                "docker system df shows what is used, docker image prune removes old images",
            )
        }
        Some(_) => Check::skipped(ENGINE_DISK, "the engine keeps its data where this user cannot look"),
        None => Check::skipped(ENGINE_DISK, "no engine answers"),
    };
    vec![data, engine]
}

fn room(name: &'static str, path: &Path, remedy: &str) -> Check {
    match statvfs(path) {
        // The types differ between systems.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        Ok(stat) => {
            let free = (stat.blocks_available() as u64).saturating_mul(stat.fragment_size() as u64);
            judge_room(name, path, free, remedy)
        }
        Err(error) => Check::skipped(name, format!("cannot look at {}: {error}", path.display())),
    }
}

fn judge_room(name: &'static str, path: &Path, free: u64, remedy: &str) -> Check {
    let detail = format!("{} free in {}", format_size(free), path.display());
    if free < FAILING {
        Check::failed(name, detail, format!("free some: {remedy}"))
    } else if free < TIGHT {
        Check::warning(name, detail, format!("an image build needs about 4 GiB: {remedy}"))
    } else {
        Check::ok(name, detail)
    }
}

/// The kernel's limits on file watching, in `fs/inotify` below `settings` (`/proc/sys`).
#[must_use]
pub fn inotify(settings: &Path) -> Check {
    let read = |name: &str| -> Option<u64> {
        let path: PathBuf = settings.join("fs/inotify").join(name);
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let (Some(instances), Some(watches)) = (read("max_user_instances"), read("max_user_watches")) else {
        return Check::skipped(INOTIFY, "this system has no inotify limits");
    };
    let detail = format!("{instances} instances and {watches} watches for each user");
    if instances < FEW_INSTANCES || watches < FEW_WATCHES {
        return Check::warning(
            INOTIFY,
            format!("{detail}: with many sessions aigo polls instead, which is slower"),
            "sysctl -w fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288, and the same in /etc/sysctl.d",
        );
    }
    Check::ok(INOTIFY, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn room_is_judged() {
        let verdict = |free| judge_room(DATA_DISK, Path::new("/x"), free, "r").status;
        assert_eq!(
            [verdict(1 << 20), verdict(2 << 30), verdict(50 << 30)],
            [Verdict::Failed, Verdict::Warning, Verdict::Ok]
        );
    }

    #[test]
    fn inotify_is_judged() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(inotify(folder.path()).status, Verdict::Skipped);
        let settings = folder.path().join("fs/inotify");
        fs::create_dir_all(&settings).unwrap();
        for (instances, verdict) in [("128\n", Verdict::Ok), ("16\n", Verdict::Warning)] {
            fs::write(settings.join("max_user_instances"), instances).unwrap();
            fs::write(settings.join("max_user_watches"), "65536\n").unwrap();
            assert_eq!(inotify(folder.path()).status, verdict);
        }
    }

    #[test]
    fn an_unusable_data_directory_fails() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let check = data_directory(&DataDir::open(Some(&file), |_| None));
        assert_eq!(check.status, Verdict::Failed);
        assert!(check.detail.contains("file") && check.remedy.unwrap().contains("--data-dir"));
        let good = data_directory(&DataDir::open(Some(&folder.path().join("d")), |_| None));
        assert_eq!(good.status, Verdict::Ok);
    }
}
