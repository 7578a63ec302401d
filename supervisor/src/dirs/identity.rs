//! The identity of a data directory: the name that marks its objects on the engine, bound to the folder itself.
//!
//! Whoever has this name may remove what carries it. A name that lies in a file travels with every copy of the folder
//! (`cp -a`, a backup that is put back, a cloned home), and the copy would end the sessions of the original. So the file
//! holds beside the name where the folder is: the machine, the device, inodes and the time of birth, none of which a
//! copy has. A folder that is not where its file says gets a new name.
//!
//! ```text
//! file `instance`      5f3a9c0b12de            the name, the label `aigo.instance`
//!                      machine 9d3c…           a hash of machine-id(5); left out on file systems of the network
//!                      device 2049             st_dev; may change when the machine starts again
//!                      inode 1311              of the folder
//!                      sessions 1312           inode of the folder `sessions` in it
//!                      born 17642…             statx(2): stx_btime in nanoseconds, where the file system has it
//!                      volume 77…              statfs(2): f_fsid, on file systems whose snapshots keep inodes and births
//! ```
//!
//! A folder that is moved within its file system keeps its inode, and so its name.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::{DataDir, DirError};
use crate::session::{SessionId, lock};

/// How long another process may take to give the folder its name.
const TURN: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const TURN_POLL: Duration = Duration::from_millis(5);
/// Bytes of the file that are read; it has some 150.
const MAX: u64 = 4096;

/// Where a machine keeps a name that outlives its starts: machine-id(5), and D-Bus's older place of it.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// The identity of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Marks what is of this data directory on the engine.
    pub name: String,
    /// The folder had no name before this opening.
    pub is_new: bool,
    /// The name that the folder came with, if it is a copy: that one belongs to the original.
    pub original: Option<String>,
}

impl Identity {
    fn known(name: String) -> Self {
        Self { name, is_new: false, original: None }
    }
}

impl DataDir {
    /// The identity of this data directory. A folder without one is given one; one that is a copy is given another one.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn identity(&self) -> Result<Identity, DirError> {
        let file = self.instance_file();
        of(&file, &Place::of(self), || self.is_in_use())
            .map_err(|source| DirError::Unusable { path: file.clone(), source })
    }

    /// The name of [`DataDir::identity`].
    ///
    /// # Errors
    /// As there.
    pub fn instance(&self) -> Result<String, DirError> {
        self.identity().map(|identity| identity.name)
    }

    fn instance_file(&self) -> PathBuf {
        self.root.join("instance")
    }

    /// Whether a service or a session holds a lock in this folder. Locks are of the files themselves: nobody holds one in
    /// a copy.
    fn is_in_use(&self) -> bool {
        let sessions = fs::read_dir(self.sessions()).into_iter().flatten().flatten();
        lock::is_held(&self.daemon_lock())
            || sessions.into_iter().any(|entry| lock::is_held(&entry.path().join("lock")))
    }
}

/// Reads the file, and brings it up to date with `here`.
fn of(file: &Path, here: &Place, is_in_use: impl Fn() -> bool) -> io::Result<Identity> {
    if let Some((name, place)) = read(file)?
        && place == *here
    {
        return Ok(Identity::known(name));
    }
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let _turn = take_turn(folder)?;
    // Somebody else may have had the turn before.
    match read(file)? {
        Some((name, place)) if place == *here => Ok(Identity::known(name)),
        Some((name, place)) if place.is_unknown() || place.is_same(here) => {
            // On a disk that is full or read-only the name holds all the same.
            if let Err(error) = write(file, &name, here) {
                tracing::debug!("{} keeps where the folder was before: {error}", file.display());
            }
            Ok(Identity::known(name))
        }
        // Seen from another machine, such as a home on a server: whoever works with it goes on as before.
        Some((name, _)) if is_in_use() => Ok(Identity::known(name)),
        None => {
            let name = SessionId::random().to_string();
            match write_new(file, &name, here) {
                Ok(()) => Ok(Identity { name, is_new: true, original: None }),
                // Where folders have no locks, another process was quicker.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match read(file)? {
                    Some((name, _)) => Ok(Identity::known(name)),
                    None => {
                        write(file, &name, here)?;
                        Ok(Identity { name, is_new: true, original: None })
                    }
                },
                Err(error) => Err(error),
            }
        }
        Some((original, _)) => {
            let name = SessionId::random().to_string();
            write(file, &name, here)?;
            Ok(Identity { name, is_new: false, original: Some(original) })
        }
    }
}

/// Two first openings at once must not both give the folder a name: a flock(2) on the folder keeps them apart.
fn take_turn(folder: &Path) -> io::Result<Option<File>> {
    let folder = File::open(folder)?;
    let deadline = Instant::now() + TURN;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            // A file system without locks on folders, such as NFS: the last one to write gives the name.
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(TURN_POLL),
            Err(TryLockError::WouldBlock) => {
                let why = format!("another process has kept the folder locked for more than {TURN:?}; is it stuck?");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }
}

/// The name, and where the folder was when it was given. `None` if there is no name.
fn read(file: &Path) -> io::Result<Option<(String, Place)>> {
    use io::Read;
    let mut text = String::new();
    match File::open(file) {
        Ok(file) => drop(file.take(MAX).read_to_string(&mut text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut lines = text.lines();
    let name = lines.next().unwrap_or_default().trim();
    Ok((!name.is_empty()).then(|| (name.to_owned(), Place::parse(lines))))
}

/// Replaces the file as a whole: one that is a hard link to the original's stays as it is there.
fn write(file: &Path, name: &str, place: &Place) -> io::Result<()> {
    content(file, name, place)?.persist(file).map_err(|error| error.error)?;
    Ok(())
}

/// Makes the file where there is none.
fn write_new(file: &Path, name: &str, place: &Place) -> io::Result<()> {
    content(file, name, place)?.persist_noclobber(file).map_err(|error| error.error)?;
    Ok(())
}

fn content(file: &Path, name: &str, place: &Place) -> io::Result<tempfile::NamedTempFile> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut new, format!("{name}\n{}", place.lines()).as_bytes())?;
    Ok(new)
}

/// Where a data directory is, as far as it can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    machine: Option<u64>,
    device: Option<u64>,
    inode: Option<u64>,
    sessions: Option<u64>,
    born: Option<u128>,
    volume: Option<u64>,
}

impl Place {
    fn of(dirs: &DataDir) -> Self {
        let (root, sessions) = (fs::metadata(&dirs.root).ok(), fs::metadata(dirs.sessions()).ok());
        let born = root.as_ref().and_then(|root| root.created().ok());
        Self {
            // Where several machines have the folder, it is the same one on each.
            machine: if is_shared(&dirs.root) { None } else { machine() },
            device: root.as_ref().map(MetadataExt::dev),
            inode: root.as_ref().map(MetadataExt::ino),
            sessions: sessions.as_ref().map(MetadataExt::ino),
            born: born.and_then(|born| born.duration_since(UNIX_EPOCH).ok()).map(|born| born.as_nanos()),
            volume: volume(&dirs.root),
        }
    }

    /// Written by an aigo that did not bind names to folders.
    fn is_unknown(&self) -> bool {
        self.inode.is_none()
    }

    /// Whether the folder that was there is the one that is here. The device alone proves nothing: disks, logical volumes
    /// and network file systems get another number when the machine starts again.
    fn is_same(&self, here: &Self) -> bool {
        fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.zip(other).is_some_and(|(one, other)| one != other)
        }
        if differ(self.machine, here.machine) || self.inode != here.inode || differ(self.volume, here.volume) {
            return false;
        }
        match (self.born, here.born) {
            (Some(then), Some(now)) => then == now,
            (None, _) | (_, None) => self.device == here.device || self.sessions == here.sessions,
        }
    }

    fn lines(&self) -> String {
        let Self { machine, device, inode, sessions, born, volume } = self;
        let line = |name: &str, value: Option<u128>| value.map(|value| format!("{name} {value}\n")).unwrap_or_default();
        [
            line("machine", machine.map(u128::from)),
            line("device", device.map(u128::from)),
            line("inode", inode.map(u128::from)),
            line("sessions", sessions.map(u128::from)),
            line("born", *born),
            line("volume", volume.map(u128::from)),
        ]
        .concat()
    }

    /// Reads [`Place::lines`]. What is not known stays unknown: a newer aigo may write more.
    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut place = Self::default();
        for (name, value) in lines.filter_map(|line| line.split_once(' ')) {
            let number = value.trim().parse().ok();
            match name {
                "machine" => place.machine = number,
                "device" => place.device = number,
                "inode" => place.inode = number,
                "sessions" => place.sessions = number,
                "born" => place.born = value.trim().parse().ok(),
                "volume" => place.volume = number,
                _ => {}
            }
        }
        place
    }
}

/// A hash of the machine's name: machine-id(5) asks programs not to pass the name itself on.
fn machine() -> Option<u64> {
    let id = MACHINE_IDS.iter().map(Path::new).find_map(|path| {
        if is_transient(path) {
            return None;
        }
        let text = fs::read_to_string(path).ok()?;
        let id = text.trim();
        // A machine that has not been started yet has the second one.
        (!id.is_empty() && id != "uninitialized").then(|| id.to_ascii_lowercase().replace('-', ""))
    })?;
    // FNV-1a, which has to stay the same in all versions of aigo: the standard library's hash may change.
    Some(
        format!("aigo {id}")
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)),
    )
}

/// Whether a name is made anew at each start of the machine: systemd mounts one from memory where it cannot be written.
#[cfg(target_os = "linux")]
fn is_transient(path: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC)
}

#[cfg(not(target_os = "linux"))]
fn is_transient(_: &Path) -> bool {
    false
}

/// Whether other machines see the same folder, on a file system of the network: then the machine says nothing.
#[cfg(target_os = "linux")]
fn is_shared(root: &Path) -> bool {
    use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};
    // CIFS, SMB 2 and later, Ceph, 9p (linux/magic.h).
    const OTHERS: [FsType; 4] = [FsType(0xff53_4d42), FsType(0xfe53_4d42), FsType(0x00c3_6400), FsType(0x0102_1997)];
    statfs(root).is_ok_and(|stat| {
        let kind = stat.filesystem_type();
        [FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC].contains(&kind) || OTHERS.contains(&kind)
    })
}

#[cfg(not(target_os = "linux"))]
fn is_shared(_: &Path) -> bool {
    false
}

/// The file system's own name of the volume, on Btrfs and ZFS: a snapshot there has the inodes and the births of its
/// original, and the device number is made up when it is mounted.
#[cfg(target_os = "linux")]
fn volume(root: &Path) -> Option<u64> {
    use nix::sys::statfs::{BTRFS_SUPER_MAGIC, FsType, statfs};
    use nix::sys::statvfs::statvfs;
    const ZFS: FsType = FsType(0x2fc1_2fc1);
    let kind = statfs(root).ok()?.filesystem_type();
    if kind != BTRFS_SUPER_MAGIC && kind != ZFS {
        return None;
    }
    // The types differ between systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    statvfs(root).ok().map(|stat| stat.filesystem_id() as u64)
}

/// A snapshot of APFS cannot be written to, so that nothing is done with one.
#[cfg(not(target_os = "linux"))]
fn volume(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn open(path: &Path) -> DataDir {
        DataDir::open(Some(path), |_| None).unwrap()
    }

    fn run(program: &str, arguments: &[&Path]) {
        assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
    }

    #[test]
    fn a_copy_gets_an_identity_of_its_own_and_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copy) = (dir.path().join("original"), dir.path().join("copy"));
        let first = open(&original).identity().unwrap();
        assert!(first.is_new && first.original.is_none());
        let name = Identity::known(first.name.clone());
        assert_eq!(open(&original).identity().unwrap(), name);

        run("cp", &["-a".as_ref(), &original, &copy]);
        let second = open(&copy).identity().unwrap();
        assert_eq!((second.original.as_deref(), second.is_new), (Some(&*first.name), false));
        assert_ne!(second.name, first.name);
        assert_eq!(open(&copy).identity().unwrap(), Identity::known(second.name), "it is said once");
        assert_eq!(open(&original).identity().unwrap(), name, "the original stays what it was");
    }

    #[test]
    fn a_folder_that_is_moved_or_reached_by_another_path_keeps_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there, link) = (dir.path().join("here"), dir.path().join("there"), dir.path().join("link"));
        let name = open(&here).instance().unwrap();
        fs::rename(&here, &there).unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        for path in [&there, &link] {
            assert_eq!(open(path).identity().unwrap(), Identity::known(name.clone()));
        }
    }

    #[test]
    fn a_folder_of_an_older_aigo_is_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = open(dir.path());
        fs::write(dirs.instance_file(), "0123456789ab").unwrap();
        assert_eq!(dirs.identity().unwrap(), Identity::known("0123456789ab".into()));
        let text = fs::read_to_string(dirs.instance_file()).unwrap();
        assert!(text.starts_with("0123456789ab\n") && text.contains("\ninode "), "{text}");
    }

    #[test]
    fn a_folder_in_which_somebody_holds_a_lock_is_no_copy() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = open(dir.path());
        let name = dirs.instance().unwrap();
        let elsewhere = fs::read_to_string(dirs.instance_file()).unwrap().replace("inode ", "inode 1");
        fs::write(dirs.instance_file(), &elsewhere).unwrap();
        let session = dirs.session(&SessionId::random());
        fs::create_dir(session.root()).unwrap();
        let held = lock::take(&session.lock()).unwrap().unwrap();
        assert_eq!(dirs.identity().unwrap(), Identity::known(name.clone()));
        drop(held);
        assert_eq!(dirs.identity().unwrap().original, Some(name));
    }

    #[test]
    fn openings_at_once_agree_on_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = open(dir.path());
        let old = dirs.instance().unwrap();
        for fresh in [true, false] {
            if fresh {
                fs::remove_file(dirs.instance_file()).unwrap();
            } else {
                fs::write(dirs.instance_file(), format!("{old}\ninode 1\n")).unwrap();
            }
            let threads: Vec<_> = (0..16)
                .map(|_| {
                    let dirs = dirs.clone();
                    std::thread::spawn(move || dirs.identity().unwrap())
                })
                .collect();
            let all: Vec<Identity> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert!(all.iter().all(|identity| identity.name == all[0].name), "{all:?}");
            assert_eq!(
                all.iter().filter(|identity| identity.is_new || identity.original.is_some()).count(),
                1,
                "{all:?}"
            );
        }
    }

    #[test]
    fn a_place_is_the_same_as_long_as_nothing_that_lasts_differs() {
        let place =
            Place { machine: Some(1), device: Some(2), inode: Some(3), sessions: Some(4), born: Some(5), volume: None };
        let with = |change: &dyn Fn(&mut Place)| {
            let mut other = place.clone();
            change(&mut other);
            place.is_same(&other)
        };
        assert!(with(&|_| {}));
        assert!(with(&|other| other.device = Some(9)), "disks are numbered anew at each start");
        assert!(with(&|other| other.sessions = Some(9)), "somebody removed the folder while nothing ran");
        assert!(with(&|other| other.machine = None));
        assert!(with(&|other| (other.device, other.born) = (Some(9), None)), "a network file system without births");
        assert!(!with(&|other| (other.device, other.sessions, other.born) = (Some(9), Some(9), None)));
        assert!(!with(&|other| other.inode = Some(9)));
        assert!(!with(&|other| other.machine = Some(9)));
        assert!(!with(&|other| other.born = Some(9)), "an inode number is used again after a removal");
        let volume = Place { volume: Some(6), ..place.clone() };
        assert!(!volume.is_same(&Place { volume: Some(7), device: Some(9), ..place.clone() }), "a snapshot");
        assert!(volume.is_same(&Place { device: Some(9), ..volume.clone() }), "mounted again");
    }

    #[test]
    fn a_place_reads_back_as_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::of(&open(dir.path()));
        assert!(place.inode.is_some() && place.sessions.is_some());
        assert_eq!(Place::parse(place.lines().lines()), place);
        let odd = Place::parse("inode x\nlater 1\n\nborn 7".lines());
        assert_eq!(odd, Place { born: Some(7), ..Place::default() });
    }
}
