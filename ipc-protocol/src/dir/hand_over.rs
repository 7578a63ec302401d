//! Giving somebody what others have made in a folder.
//!
//! Root of a container can leave folders in the mailbox that a supervisor without root cannot empty. The runner, which is root
//! of the container, too, gives them to the supervisor's user at the end, when no process of the agent is left.

use std::ffi::OsStr;

use nix::fcntl::AtFlags;
use nix::sys::stat::SFlag;
use nix::unistd::{Gid, Uid, fchownat};

use super::{DirError, Owner, SafeDir};

/// Levels of folders; deeper ones are left as they are. Each level holds one descriptor.
const MAX_DEPTH: usize = 32;

impl SafeDir {
    /// Gives this folder and everything in it to `owner`, at most `budget` entries. No link is followed. What cannot be given stays
    /// as it is.
    pub fn hand_over(&self, owner: Owner, budget: usize) -> Result<(), DirError> {
        let mut left = budget;
        if self.owner()? != owner {
            self.set_owner_and_mode(0o700, Some(owner))?;
        }
        self.hand_over_to(owner, &mut left, 0)
    }

    fn hand_over_to(&self, owner: Owner, left: &mut usize, depth: usize) -> Result<(), DirError> {
        let (names, _) = self.names(*left)?;
        for name in names {
            if *left == 0 {
                return Ok(());
            }
            *left -= 1;
            // One that cannot be opened keeps nobody else's owner.
            let _ = self.hand_over_one(&name, owner, left, depth);
        }
        Ok(())
    }

    fn hand_over_one(&self, name: &OsStr, owner: Owner, left: &mut usize, depth: usize) -> Result<(), DirError> {
        let Some(stat) = self.stat(name)? else { return Ok(()) };
        if (stat.st_uid, stat.st_gid) != (owner.uid, owner.gid) {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            // One that is immutable keeps its owner; the supervisor tells about what it cannot remove.
            let _ = fchownat(self, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW);
        }
        let is_folder = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
        if is_folder && depth < MAX_DEPTH {
            self.subdir(name)?.hand_over_to(owner, left, depth + 1)?;
        }
        Ok(())
    }
}
