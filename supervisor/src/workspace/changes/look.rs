//! One look at a folder, in a compact form that is the same in memory and in a file.
//!
//! ```text
//! header   MAGIC, device, inode, stamp of the folder, paths that are left out
//! blocks   one for each folder, in the order in which the folders are found (breadth first: the folder itself is 0, and
//!          the n-th folder that is an entry of some block is n)
//!          state · number of entries · entries, sorted by name
//! entry    mode · length of the name · name · uid, gid · for anything but a folder: size, mtime, ctime
//! ```
//!
//! Names are stored as the bytes that they are, and once per folder, not as full paths: 90,000 files below a path of
//! 3,750 bytes take 4 MB, not 350 MB.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{FileStat, SFlag};

/// The first bytes of a stored look; the number changes with the format.
const MAGIC: &[u8] = b"aigo look 2\n";
/// The largest stored look that is read; more than [`walk::Bounds`](super::walk::Bounds) lets come about.
const MAX_STORED: usize = 128 << 20;

/// What is compared of a file or folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Type and permissions, inode(7); 0 if the entry could not be looked at.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of a file, a digest of a link's target, the number of a device; 0 of a folder.
    pub(super) size: u64,
    /// Nanoseconds since 1970; 0 of a folder, whose times change with each file that is made in it.
    pub(super) mtime: i64,
    pub(super) ctime: i64,
}

/// How far a folder was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// All its entries are known.
    Listed,
    /// All its entries are known by name; some could not be looked at, because of this errno.
    Partly(i32),
    /// It could not be listed, because of this errno.
    Unread(i32),
    /// The time was used up before.
    OutOfTime,
    /// The room for names was used up before.
    OutOfRoom,
}

/// An entry of a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) stamp: Stamp,
    /// The number of the folder that it is.
    pub(super) folder: Option<u32>,
}

/// Where a folder's name and block are.
#[derive(Clone, Copy, Debug)]
struct Place {
    parent: u32,
    name: (u32, u16),
    block: u32,
    /// The number of the first folder among its entries.
    first: u32,
}

/// One look at a folder.
#[derive(Debug)]
pub(super) struct Look {
    /// Device and inode of the folder.
    pub(super) id: (u64, u64),
    pub(super) stamp: Stamp,
    /// Paths, relative to the folder, that were not looked at because they are mount points of the session.
    pub(super) left_out: Vec<PathBuf>,
    blocks: Vec<u8>,
    places: Vec<Place>,
}

impl Stamp {
    /// What is compared of a file. `target` is that of a link.
    #[allow(clippy::useless_conversion, reason = "the widths of these fields differ between targets")]
    pub(super) fn of(stat: &FileStat, target: Option<&OsStr>) -> Self {
        let nanoseconds = |seconds: i64, more: i64| seconds.saturating_mul(1_000_000_000).saturating_add(more);
        // Sixteen bits hold the type and the permissions; the kernel has no more.
        let mode = u16::try_from(u32::from(stat.st_mode) & 0xffff).unwrap_or_default();
        let owner = Self { mode, uid: stat.st_uid, gid: stat.st_gid, ..Self::default() };
        if owner.is_folder() {
            return owner;
        }
        let size = match (target, owner.is(SFlag::S_IFCHR) || owner.is(SFlag::S_IFBLK)) {
            (Some(target), _) => digest(target.as_bytes()),
            (None, true) => u64::from(stat.st_rdev),
            (None, false) => u64::try_from(stat.st_size).unwrap_or_default(),
        };
        Self {
            size,
            mtime: nanoseconds(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
            ctime: nanoseconds(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
            ..owner
        }
    }

    fn is(&self, kind: SFlag) -> bool {
        u32::from(self.mode) & SFlag::S_IFMT.bits() == kind.bits()
    }

    /// Type, size or modification time differ; these say that the content may differ.
    pub(super) fn has_other_content(&self, other: &Self) -> bool {
        let content = |stamp: &Self| (u32::from(stamp.mode) & SFlag::S_IFMT.bits(), stamp.size, stamp.mtime);
        content(self) != content(other)
    }

    /// Permissions or owner differ.
    pub(super) fn has_other_rights(&self, other: &Self) -> bool {
        (self.mode, self.uid, self.gid) != (other.mode, other.uid, other.gid)
    }

    pub(super) fn is_known(&self) -> bool {
        self.mode != 0
    }

    pub(super) fn is_folder(&self) -> bool {
        self.is(SFlag::S_IFDIR)
    }

    pub(super) fn is_file(&self) -> bool {
        self.is(SFlag::S_IFREG)
    }
}

/// FNV-1a with 64 bits: the same in every version of aigo, which the standard library's hasher does not promise.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Look {
    /// A look that has not seen anything yet but the folder itself, which is number 0.
    pub(super) fn new(id: (u64, u64), stamp: Stamp, left_out: Vec<PathBuf>) -> Self {
        let root = Place { parent: 0, name: (0, 0), block: 0, first: 0 };
        Self { id, stamp, left_out, blocks: Vec::new(), places: vec![root] }
    }

    /// Adds the block of the next folder in turn. The entries must be sorted by name.
    pub(super) fn push<'a>(
        &mut self,
        folder: u32,
        state: State,
        entries: impl ExactSizeIterator<Item = (&'a [u8], Stamp)>,
    ) {
        let (block, first) = (self.blocks.len(), self.places.len());
        if let Some(place) = self.places.get_mut(folder as usize) {
            (place.block, place.first) = (block as u32, first as u32);
        }
        let out = &mut self.blocks;
        state.encode(out);
        if !matches!(state, State::Listed | State::Partly(_)) {
            return;
        }
        out.extend((entries.len() as u32).to_le_bytes());
        for (name, stamp) in entries {
            out.extend(stamp.mode.to_le_bytes());
            // The kernel's NAME_MAX is 255 bytes.
            let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
            out.extend(length.to_le_bytes());
            if stamp.is_folder() {
                let name = (out.len() as u32, length);
                self.places.push(Place { parent: folder, name, block: 0, first: 0 });
            }
            out.extend(&name[..usize::from(length)]);
            stamp.encode(out);
        }
    }

    /// How many bytes the blocks have so far.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// How many folders were found so far.
    pub(super) fn folders(&self) -> u32 {
        self.places.len() as u32
    }

    /// The folder's path, relative; empty for the folder itself.
    pub(super) fn path(&self, folder: u32) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = folder;
        while at != 0
            && let Some(place) = self.places.get(at as usize)
        {
            let from = place.name.0 as usize;
            names.push(self.blocks.get(from..from + usize::from(place.name.1)).unwrap_or_default());
            // A parent is found before its child.
            at = place.parent.min(at - 1);
        }
        names.reverse();
        names.join(&b'/')
    }

    /// How far the folder was looked at.
    pub(super) fn state(&self, folder: u32) -> State {
        self.block(folder).and_then(|mut block| State::decode(&mut block)).unwrap_or(State::OutOfTime)
    }

    /// The folder's entries, sorted by name; none if it was not listed.
    pub(super) fn entries(&self, folder: u32) -> impl Iterator<Item = Entry<'_>> {
        let mut block = self.block(folder).unwrap_or_default();
        let listed = matches!(State::decode(&mut block), Some(State::Listed | State::Partly(_)));
        let count = if listed { u32_of(&mut block).unwrap_or_default() } else { 0 };
        let mut next = self.places.get(folder as usize).map_or(0, |place| place.first);
        (0..count).map_while(move |_| {
            let (name, stamp) = entry(&mut block)?;
            let folder = stamp.is_folder().then_some(next);
            next += u32::from(folder.is_some());
            Some(Entry { name, stamp, folder })
        })
    }

    fn block(&self, folder: u32) -> Option<&[u8]> {
        self.blocks.get(self.places.get(folder as usize)?.block as usize..)
    }

    /// The look as bytes for a file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.blocks.len() + 256);
        out.extend(MAGIC);
        out.extend(self.id.0.to_le_bytes());
        out.extend(self.id.1.to_le_bytes());
        out.extend(self.stamp.mode.to_le_bytes());
        self.stamp.encode(&mut out);
        out.extend((self.left_out.len() as u32).to_le_bytes());
        for path in &self.left_out {
            let path = path.as_os_str().as_bytes();
            out.extend((path.len() as u32).to_le_bytes());
            out.extend(path);
        }
        out.extend((self.blocks.len() as u32).to_le_bytes());
        out.extend(&self.blocks);
        out
    }

    /// Reads what [`Look::encode`] wrote. `None`: it is something else, or not whole.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        if rest.len() > MAX_STORED || take(rest, MAGIC.len())? != MAGIC {
            return None;
        }
        let id = (u64_of(rest)?, u64_of(rest)?);
        let stamp = Stamp::decode(u16_of(rest)?, rest)?;
        let count = u32_of(rest)?;
        let mut left_out = Vec::new();
        for _ in 0..count {
            let length = u32_of(rest)? as usize;
            left_out.push(Path::new(OsStr::from_bytes(take(rest, length)?)).to_owned());
        }
        let length = u32_of(rest)? as usize;
        let mut look = Self::new(id, stamp, left_out);
        look.blocks = take(rest, length)?.to_vec();
        if !rest.is_empty() {
            return None;
        }
        look.index()?;
        Some(look)
    }

    /// Finds the places of all folders. `None` if the blocks do not fit together.
    fn index(&mut self) -> Option<()> {
        let all = self.blocks.len();
        let mut rest = self.blocks.as_slice();
        let mut folder = 0;
        while folder < self.places.len() {
            let (block, first) = ((all - rest.len()) as u32, self.places.len() as u32);
            let place = self.places.get_mut(folder)?;
            (place.block, place.first) = (block, first);
            if matches!(State::decode(&mut rest)?, State::Listed | State::Partly(_)) {
                for _ in 0..u32_of(&mut rest)? {
                    let from = all - rest.len();
                    let (name, stamp) = entry(&mut rest)?;
                    if stamp.is_folder() {
                        // Behind mode and length.
                        let name = ((from + 4) as u32, name.len() as u16);
                        self.places.push(Place { parent: folder as u32, name, block: 0, first: 0 });
                    }
                }
            }
            folder += 1;
        }
        rest.is_empty().then_some(())
    }
}

impl Stamp {
    /// Everything but the mode, which stands before the name.
    fn encode(&self, out: &mut Vec<u8>) {
        if !self.is_known() {
            return;
        }
        out.extend(self.uid.to_le_bytes());
        out.extend(self.gid.to_le_bytes());
        if !self.is_folder() {
            out.extend(self.size.to_le_bytes());
            out.extend(self.mtime.to_le_bytes());
            out.extend(self.ctime.to_le_bytes());
        }
    }

    fn decode(mode: u16, rest: &mut &[u8]) -> Option<Self> {
        let mut stamp = Self { mode, ..Self::default() };
        if stamp.is_known() {
            (stamp.uid, stamp.gid) = (u32_of(rest)?, u32_of(rest)?);
            if !stamp.is_folder() {
                let mut time = || u64_of(rest).map(u64::cast_signed);
                (stamp.size, stamp.mtime, stamp.ctime) = (time()?.cast_unsigned(), time()?, time()?);
            }
        }
        Some(stamp)
    }
}

impl State {
    fn encode(self, out: &mut Vec<u8>) {
        let (word, errno) = match self {
            Self::Listed => (0, None),
            Self::Partly(errno) => (1, Some(errno)),
            Self::Unread(errno) => (2, Some(errno)),
            Self::OutOfTime => (3, None),
            Self::OutOfRoom => (4, None),
        };
        out.push(word);
        out.extend(errno.into_iter().flat_map(i32::to_le_bytes));
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        let [word] = array::<1>(rest)?;
        Some(match word {
            0 => Self::Listed,
            1 => Self::Partly(u32_of(rest)?.cast_signed()),
            2 => Self::Unread(u32_of(rest)?.cast_signed()),
            3 => Self::OutOfTime,
            4 => Self::OutOfRoom,
            _ => return None,
        })
    }
}

fn entry<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Stamp)> {
    let mode = u16_of(rest)?;
    let length = u16_of(rest)?;
    let name = take(rest, usize::from(length))?;
    Some((name, Stamp::decode(mode, rest)?))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

fn u16_of(rest: &mut &[u8]) -> Option<u16> {
    array(rest).map(u16::from_le_bytes)
}

fn u32_of(rest: &mut &[u8]) -> Option<u32> {
    array(rest).map(u32::from_le_bytes)
}

fn u64_of(rest: &mut &[u8]) -> Option<u64> {
    array(rest).map(u64::from_le_bytes)
}
