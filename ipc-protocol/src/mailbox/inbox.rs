//! Reading a mailbox that an attacker can write to.

use std::collections::{BinaryHeap, HashMap};
use std::ffi::{OsStr, OsString};
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::body::{Body, Undecodable, decode_or_torn, derived_id};
use super::dead_letter::DeadLetters;
use super::rate::RateLimit;
use super::warning::Warning;
use crate::dir::{FileId, Folder, FolderState, Refused, SafeDir, printable};
use crate::id::MessageId;
use crate::limits::{MAX_LISTED_NAMES, MAX_MESSAGE_BYTES, MAX_SCAN_BYTES, MAX_SCAN_FILES, TORN_GRACE};

/// Pause after a look at more names than one scan takes.
const CROWDED_PAUSE: Duration = Duration::from_millis(100);

/// What happens to a file that is refused.
#[derive(Clone, Debug)]
pub enum Unwanted {
    /// Moved to the dead letters (the host).
    DeadLetter(Arc<Mutex<DeadLetters>>),
    /// Left where it is and not looked at again, until the caller has reported it and calls [`Inbox::remove`]
    /// (the runner, whose journal is the report).
    Keep,
}

/// One message.
#[derive(Debug)]
pub struct Item<T> {
    /// The file.
    pub name: OsString,
    /// The message's id: the writer's, or one derived from the file's name.
    pub id: MessageId,
    /// The message.
    pub body: T,
    /// The file's size in bytes.
    pub bytes: usize,
}

/// One file that is not taken.
#[derive(Debug)]
pub struct RefusedItem {
    /// The folder's name in the IPC directory.
    pub folder: &'static str,
    /// The file; for people use [`RefusedItem::to_string`].
    pub name: OsString,
    /// The id of the message in it as far as it can be told, so that the refusal can be answered.
    pub id: MessageId,
    /// Why.
    pub reason: Refused,
    /// Its name among the dead letters, if it was moved there.
    pub letter: Option<String>,
}

impl std::fmt::Display for RefusedItem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {}", self.folder, printable(&self.name), self.reason)
    }
}

/// What a look into a mailbox has brought.
#[derive(Debug)]
pub struct Scan<T> {
    /// Messages in the order of their names.
    pub items: Vec<Item<T>>,
    /// Files that are not taken; each is reported once.
    pub refused: Vec<RefusedItem>,
    /// Conditions of the mailbox; each is reported when it begins.
    pub warnings: Vec<Warning>,
    /// More is waiting: scan again after this time, also if no file event comes.
    pub again_in: Option<Duration>,
}

/// The reading end of a mailbox. Remembers in bounded memory what it has handed out.
#[derive(Debug)]
pub struct Inbox<T> {
    folder: Folder,
    unwanted: Unwanted,
    rate: Option<Arc<RateLimit>>,
    /// Handed out, not removed yet.
    taken: HashMap<OsString, Known>,
    /// Can be neither removed nor moved.
    stuck: HashMap<OsString, Known>,
    /// Incomplete, and since when.
    torn: HashMap<OsString, Instant>,
    /// After a look at too many names, not again before this: each look costs us more than it costs the attacker.
    not_before: Option<Instant>,
    said: Said,
    body: PhantomData<fn() -> T>,
}

/// A file that is not to be looked at again. Overlay file systems may list another inode than stat shows: each number
/// is compared with its own kind only.
#[derive(Debug)]
struct Known {
    listed: u64,
    file: Option<FileId>,
}

/// A name from a listing.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    name: OsString,
    ino: u64,
}

/// Conditions that were reported and go on.
#[derive(Debug, Default)]
struct Said {
    lost: bool,
    limited: bool,
    backlog: bool,
    halted: bool,
}

impl<T: Body> Inbox<T> {
    /// Reads `folder`. With a rate limit, files beyond it wait.
    pub fn new(folder: Folder, unwanted: Unwanted, rate: Option<Arc<RateLimit>>) -> Self {
        Self {
            folder,
            unwanted,
            rate,
            taken: HashMap::new(),
            stuck: HashMap::new(),
            torn: HashMap::new(),
            not_before: None,
            said: Said::default(),
            body: PhantomData,
        }
    }

    /// Takes what is there: never blocks, bounded in files, bytes and time. Problems come as warnings in the result.
    pub fn scan(&mut self) -> Scan<T> {
        self.scan_at(Instant::now())
    }

    pub(crate) fn scan_at(&mut self, now: Instant) -> Scan<T> {
        let mut scan = Scan { items: Vec::new(), refused: Vec::new(), warnings: Vec::new(), again_in: None };
        if self.said.halted {
            return scan;
        }
        if let Some(wait) = self.not_before.and_then(|at| at.checked_duration_since(now)).filter(|wait| !wait.is_zero())
        {
            scan.again_in = Some(wait);
            return scan;
        }
        self.not_before = None;
        let Some(waiting) = self.waiting(now, &mut scan) else { return scan };
        self.torn.retain(|name, _| waiting.binary_search_by(|listed| listed.name.cmp(name)).is_ok());
        let mut bytes = 0;
        let mut limited = false;
        for listed in waiting {
            if bytes >= MAX_SCAN_BYTES {
                scan.again_in = Some(Duration::ZERO);
                break;
            }
            if let Some(Err(wait)) = self.rate.as_ref().map(|rate| rate.take(now)) {
                if !self.said.limited {
                    scan.warnings.push(Warning::RateLimited { folder: self.folder.name() });
                }
                limited = true;
                scan.again_in = Some(wait);
                self.not_before = Some(now + wait);
                break;
            }
            match self.look(&listed, now) {
                Look::Message(item) => {
                    bytes += item.bytes;
                    scan.items.push(item);
                }
                Look::Later => scan.again_in = Some(scan.again_in.map_or(TORN_GRACE, |d| d.min(TORN_GRACE))),
                Look::Gone => {}
                Look::Refuse(id, reason) => self.refuse(listed, id, reason, &mut scan),
            }
            if self.said.halted {
                break;
            }
        }
        self.said.limited = limited;
        scan
    }

    /// The earliest names that are to be looked at, sorted; `None` if there is no folder.
    fn waiting(&mut self, now: Instant, scan: &mut Scan<T>) -> Option<Vec<Listed>> {
        let folder = self.folder.name();
        match self.folder.refresh() {
            FolderState::Current => self.said.lost = false,
            FolderState::Replaced => {
                self.said.lost = false;
                self.taken.clear();
                self.stuck.clear();
                scan.warnings.push(Warning::FolderReplaced { folder });
            }
            FolderState::Lost(error) => {
                self.lost(&error, scan);
                return None;
            }
        }
        let dir = self.folder.dir()?;
        let room = MAX_SCAN_FILES.saturating_sub(self.taken.len());
        let mut earliest: BinaryHeap<Listed> = BinaryHeap::new();
        let (mut seen, mut crowded) = (0_usize, false);
        let (taken, stuck) = (&self.taken, &self.stuck);
        let listed = dir.each(MAX_LISTED_NAMES, |name, ino| {
            seen += 1;
            let known = |map: &HashMap<OsString, Known>| map.get(name).is_some_and(|known| known.listed == ino);
            if is_message_name(name) && !known(taken) && !known(stuck) {
                if earliest.len() < room {
                    earliest.push(Listed { name: name.to_owned(), ino });
                } else {
                    crowded = true;
                    if let Some(mut last) = earliest.peek_mut()
                        && name < last.name.as_os_str()
                    {
                        *last = Listed { name: name.to_owned(), ino };
                    }
                }
            }
            ControlFlow::Continue(())
        });
        match listed {
            Ok(all) => {
                if crowded && room > 0 {
                    scan.again_in = Some(CROWDED_PAUSE);
                }
                crowded |= !all;
                if crowded && !self.said.backlog {
                    scan.warnings.push(Warning::Backlog { folder });
                }
                self.said.backlog = crowded;
                if seen > MAX_SCAN_FILES {
                    self.not_before = Some(now + CROWDED_PAUSE);
                }
                Some(earliest.into_sorted_vec())
            }
            Err(error) => {
                self.lost(&error, scan);
                None
            }
        }
    }

    fn lost(&mut self, error: &crate::dir::DirError, scan: &mut Scan<T>) {
        if !self.said.lost {
            let reason = error.errno().map_or_else(|| error.to_string(), |errno| errno.to_string());
            scan.warnings.push(Warning::FolderLost { folder: self.folder.name(), reason });
        }
        self.said.lost = true;
    }

    fn look(&mut self, listed: &Listed, now: Instant) -> Look<T> {
        let name = listed.name.as_os_str();
        let Some(dir) = self.folder.dir() else { return Look::Gone };
        if name.to_str().is_none() {
            return Look::Refuse(derived_id(name), Refused::Name);
        }
        let contents = match dir.read(name, MAX_MESSAGE_BYTES) {
            Ok(Some(contents)) => contents,
            Ok(None) => return Look::Gone,
            Err(reason) if reason.is_transient() => return Look::Later,
            Err(reason) => return Look::Refuse(derived_id(name), reason),
        };
        match decode_or_torn::<T>(&contents.bytes) {
            Ok(body) => {
                self.torn.remove(name);
                let known = Known { listed: listed.ino, file: Some(contents.id) };
                self.taken.insert(name.to_owned(), known);
                let id = body.id().cloned().unwrap_or_else(|| derived_id(name));
                Look::Message(Item { name: name.to_owned(), id, body, bytes: contents.bytes.len() })
            }
            Err(Undecodable::Torn(why)) => {
                // By our own clock and by name: the file's times and its inode are the writer's to change.
                let since = *self.torn.entry(name.to_owned()).or_insert(now);
                if now.saturating_duration_since(since) < TORN_GRACE {
                    return Look::Later;
                }
                Look::Refuse(derived_id(name), Refused::Torn(why))
            }
            Err(Undecodable::Wrong(reason, id)) => Look::Refuse(id.unwrap_or_else(|| derived_id(name)), reason),
        }
    }

    fn refuse(&mut self, listed: Listed, id: MessageId, reason: Refused, scan: &mut Scan<T>) {
        let Listed { name, ino } = listed;
        self.torn.remove(&name);
        let folder = self.folder.name();
        let Some(dir) = self.folder.dir() else { return };
        let letter = match &self.unwanted {
            Unwanted::Keep => {
                let known = Known { listed: ino, file: dir.id_of(&name).ok().flatten() };
                self.taken.insert(name.clone(), known);
                None
            }
            Unwanted::DeadLetter(letters) => {
                let mut letters = letters.lock().unwrap_or_else(PoisonError::into_inner);
                match letters.bury(dir, folder, &name, &reason) {
                    Ok(letter) => Some(letter),
                    Err(error) => {
                        drop(letters);
                        let known = Known { listed: ino, file: None };
                        scan.warnings.push(self.give_up(&name, known, &error));
                        None
                    }
                }
            }
        };
        scan.refused.push(RefusedItem { folder, name, id, reason, letter });
    }

    /// Removes a file that was handed out, once its message is stored (or its refusal reported). A file that was put
    /// there under the same name meanwhile stays. What cannot be removed is ignored from then on, with one warning.
    #[must_use = "the warning is reported once"]
    pub fn remove(&mut self, name: &OsStr) -> Option<Warning> {
        let known = self.taken.remove(name)?;
        let dir = self.folder.dir()?;
        match dir.id_of(name) {
            Ok(here) if here.is_some() && here == known.file => {}
            Ok(_) => return None,
            Err(error) => return Some(self.give_up(name, known, &error)),
        }
        match remove_or_hide(dir, name) {
            Ok(()) => None,
            Err(error) => Some(self.give_up(name, known, &error)),
        }
    }

    /// Lets a file be handed out again, since its message could not be stored.
    pub fn put_back(&mut self, name: &OsStr) {
        self.taken.remove(name);
    }

    /// Nothing that was handed out is waiting to be removed.
    pub fn is_settled(&self) -> bool {
        self.taken.is_empty()
    }

    fn give_up(&mut self, name: &OsStr, known: Known, error: &crate::dir::DirError) -> Warning {
        let folder = self.folder.name();
        if self.stuck.len() >= MAX_SCAN_FILES {
            self.said.halted = true;
            return Warning::Halted { folder };
        }
        self.stuck.insert(name.to_owned(), known);
        let reason = error.errno().map_or_else(|| error.to_string(), |errno| errno.to_string());
        Warning::Stuck { folder, name: printable(name), reason }
    }
}

/// A folder that is not empty cannot be removed in one step: it is hidden from every reader instead.
fn remove_or_hide(dir: &SafeDir, name: &OsStr) -> Result<(), crate::dir::DirError> {
    match dir.remove(name) {
        Ok(_) => Ok(()),
        Err(error) => match dir.set_aside(name) {
            Ok(_) => Ok(()),
            Err(_) => Err(error),
        },
    }
}

enum Look<T> {
    Message(Item<T>),
    /// Incomplete, or not to be opened for now.
    Later,
    Gone,
    Refuse(MessageId, Refused),
}

/// Any `<name>.json` is a message, so that agents need not know our form of names; dot files and others are not.
fn is_message_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    bytes.len() > ".json".len() && bytes.ends_with(b".json") && !bytes.starts_with(b".")
}
