//! The folders that are mounted are those that were judged.
//!
//! The supervisor judges a folder by its path, and the engine opens that path some time later. Somebody who may write above the
//! folder can put a link in its place in between. So the supervisor tells which folder it has judged, and the runner looks at
//! what is mounted, before anything of the container reads it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use ipc_protocol::config::MountedFolder;
use ipc_protocol::event::EventKind;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Another folder is mounted than the one that was judged, or none that can be looked at.
#[derive(Clone, Debug)]
pub(super) struct Mismatch {
    target: String,
    device: String,
    root: String,
    /// For people.
    pub(super) sentence: String,
}

impl Mismatch {
    /// For the supervisor, which can then remove what the engine has made in that folder.
    pub(super) fn event(&self) -> EventKind {
        let Self { target, device, root, sentence: _ } = self.clone();
        EventKind::MountMismatch { target, device, root }
    }
}

/// Compares every mount. Returns a note if they cannot be compared: in a virtual machine the folders of the host have other
/// numbers. The record tells that, since nobody but the supervisor can have replaced it.
pub(super) fn compare(mounts: &[MountedFolder], record: &str) -> Result<Option<String>, Mismatch> {
    let comparable = mounts.iter().any(|mount| mount.target == record && is_same(mount).unwrap_or(false));
    if !comparable {
        // A supervisor of generation 1 tells none.
        let note = "the mounted folders could not be compared with those of the host, which have other numbers here";
        return Ok((!mounts.is_empty()).then(|| note.to_owned()));
    }
    for mount in mounts {
        match is_same(mount) {
            Ok(true) => {}
            Ok(false) => return Err(mismatch(mount)),
            Err(error) => {
                let (target, device, root) = (mount.target.clone(), String::new(), String::new());
                let sentence = format!("cannot look at {target}: {error}");
                return Err(Mismatch { target, device, root, sentence });
            }
        }
    }
    Ok(None)
}

fn is_same(mount: &MountedFolder) -> io::Result<bool> {
    let found = fs::metadata(&mount.target)?;
    Ok((found.dev(), found.ino()) == (mount.device, mount.inode))
}

fn mismatch(mount: &MountedFolder) -> Mismatch {
    let target = mount.target.clone();
    // Without it the supervisor only cannot clean up.
    let (device, root) = fs::read_to_string(MOUNTINFO).ok().and_then(|text| find(&text, &target)).unwrap_or_default();
    let sentence = format!(
        "another folder is mounted at {target} than the one that was judged: somebody has replaced the folder, or one above \
         it, while the session began; the agent was not started"
    );
    Mismatch { target, device, root, sentence }
}

/// Device and root of the topmost mount at `target` (proc_pid_mountinfo(5), fields 3 to 5). Paths stay escaped as they are.
fn find(text: &str, target: &str) -> Option<(String, String)> {
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        (point == target).then(|| (device.to_owned(), root.to_owned()))
    };
    text.lines().filter_map(mount).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(path: &std::path::Path, inode: u64) -> MountedFolder {
        let device = fs::metadata(path).unwrap().dev();
        MountedFolder { target: path.to_str().unwrap().to_owned(), device, inode }
    }

    #[test]
    fn another_folder_is_found_and_another_machine_is_noted() {
        let temp = tempfile::tempdir().unwrap();
        let (record, work) = (temp.path().join("record"), temp.path().join("work"));
        let inode = |path: &std::path::Path| fs::metadata(path).unwrap().ino();
        for folder in [&record, &work] {
            fs::create_dir(folder).unwrap();
        }
        let name = record.to_str().unwrap();
        let good = [mounted(&record, inode(&record)), mounted(&work, inode(&work))];
        assert!(compare(&good, name).unwrap().is_none());
        let swapped = [mounted(&record, inode(&record)), mounted(&work, inode(&record))];
        assert!(compare(&swapped, name).unwrap_err().sentence.contains("another folder is mounted"));
        let elsewhere = [mounted(&record, inode(&work)), mounted(&work, inode(&record))];
        assert!(compare(&elsewhere, name).unwrap().is_some());
        assert!(compare(&[], name).unwrap().is_none());
        fs::remove_dir(&work).unwrap();
        assert!(compare(&swapped, name).unwrap_err().sentence.contains("cannot look at"));
    }

    #[test]
    fn the_topmost_mount_is_told() {
        let text =
            "1 0 8:1 / / rw - ext4 d rw\n2 1 8:2 /a /workspace rw - ext4 d rw\n3 1 8:3 /b /workspace rw - ext4 d rw\n";
        assert_eq!(find(text, "/workspace"), Some(("8:3".into(), "/b".into())));
        assert_eq!(find(text, "/other"), None);
    }
}
