//! What people should hear about a mailbox, once each.

use crate::limits::{MAX_FILES_PER_SECOND, MAX_LISTED_NAMES, MAX_SCAN_FILES};

/// A condition of a mailbox; each is reported when it begins, not at every scan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The container has put another folder there.
    #[error("the container has replaced the folder {folder}; what was in the old one is not read")]
    FolderReplaced {
        /// The folder's name in the IPC directory.
        folder: &'static str,
    },
    /// There is no folder to read.
    #[error("the folder {folder} of the session cannot be read ({reason}); make it a folder again, then it is read")]
    FolderLost {
        /// The folder's name in the IPC directory.
        folder: &'static str,
        /// Why not.
        reason: String,
    },
    /// More files than we take in a second.
    #[error("the container writes more than {MAX_FILES_PER_SECOND} files a second; {folder} is read more slowly")]
    RateLimited {
        /// The folder's name in the IPC directory.
        folder: &'static str,
    },
    /// More files than one scan looks at.
    #[error(
        "more than {MAX_SCAN_FILES} messages wait in {folder}; they are taken in order, {MAX_LISTED_NAMES} names \
         looked at in one scan"
    )]
    Backlog {
        /// The folder's name in the IPC directory.
        folder: &'static str,
    },
    /// A file that can be neither removed nor moved.
    #[error(
        "{folder}/{name} cannot be removed ({reason}) and is ignored from now on; remove it on the host, or give the \
         folder to the user that runs the supervisor"
    )]
    Stuck {
        /// The folder's name in the IPC directory.
        folder: &'static str,
        /// The file, fit to be shown.
        name: String,
        /// Why not.
        reason: String,
    },
    /// Too many of those.
    #[error("{MAX_SCAN_FILES} files in {folder} cannot be removed; the folder is not read any more in this session")]
    Halted {
        /// The folder's name in the IPC directory.
        folder: &'static str,
    },
}

impl Warning {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::FolderReplaced { .. } => "ipc_folder_replaced",
            Self::FolderLost { .. } => "ipc_folder_lost",
            Self::RateLimited { .. } => "ipc_rate_limited",
            Self::Backlog { .. } => "ipc_backlog",
            Self::Stuck { .. } => "ipc_file_stuck",
            Self::Halted { .. } => "ipc_folder_halted",
        }
    }
}
