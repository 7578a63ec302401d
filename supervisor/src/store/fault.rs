//! What SQLite's errors mean for a person, and what to do about each.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use super::writer::BUSY;

/// The error as one sentence with its remedy. SQLite's own words are in it only where they add something.
pub(super) fn sentence(path: &Path, error: &Error) -> String {
    let database = path.display();
    let folder = path.parent().unwrap_or(path).display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => format!(
            "the database {database} has been locked by another program for more than {BUSY:?}; end what holds it (a backup, \
             a database browser, a stuck aigo), and try again"
        ),
        Some(ErrorCode::DiskFull) => {
            format!("the database {database} cannot grow: the disk is full; make room on the file system of {folder}")
        }
        Some(ErrorCode::DatabaseCorrupt) => format!(
            "the database {database} is damaged ({error}); stop every aigo that uses it and restore it from a backup, repair \
             it with `sqlite3 {database} .recover`, or move it away to begin with an empty history"
        ),
        Some(ErrorCode::NotADatabase) => format!(
            "the file {database} is not a database of aigo's; move it away, or name another data directory with --data-dir"
        ),
        Some(ErrorCode::ReadOnly) => format!(
            "the database {database} cannot be written to; give the file and the folder {folder} to the user who runs aigo, \
             make the file system writable, or name another data directory with --data-dir"
        ),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => format!(
            "the database {database} cannot be opened; the user who runs aigo must be able to read and write the file and \
             the folder {folder}; mend their permissions, or name another data directory with --data-dir"
        ),
        Some(ErrorCode::SystemIoFailure) => format!(
            "the database {database} cannot be read or written: the system reports an I/O error (SQLite's code {}); look at \
             the kernel's log and the health of the disk, and whether the file system of {folder} is still there",
            extended(error)
        ),
        Some(ErrorCode::FileLockingProtocolFailed | ErrorCode::NoLargeFileSupport) => format!(
            "the database {database} lies on a file system without the locks or file sizes that SQLite needs ({error}); name \
             a data directory on a local disk with --data-dir"
        ),
        Some(ErrorCode::OutOfMemory) => {
            format!("the database {database} cannot be used: no memory is left; end other programs, and try again")
        }
        _ => format!("the database {database} failed: {error}; this is a fault of aigo's, please report it"),
    }
}

fn extended(error: &Error) -> i32 {
    error.sqlite_error().map_or(0, |error| error.extended_code)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rusqlite::{Connection, ffi};

    use super::*;
    use crate::error_chain::chain;
    use crate::store::{Store, StoreError};

    /// The whole of what a person reads.
    fn said(error: &StoreError) -> String {
        chain(error)
    }

    #[track_caller]
    fn says_once(said: &str, words: &[&str]) {
        for word in words {
            assert_eq!(said.matches(word).count(), 1, "`{word}` in: {said}");
        }
        assert!(said.contains("; "), "a remedy in: {said}");
    }

    #[test]
    fn each_code_of_sqlite_has_a_sentence_with_a_remedy() {
        let path = Path::new("/d/aigo.db");
        for (code, word) in [
            (ffi::SQLITE_BUSY, "locked"),
            (ffi::SQLITE_LOCKED, "locked"),
            (ffi::SQLITE_FULL, "disk is full"),
            (ffi::SQLITE_CORRUPT, ".recover"),
            (ffi::SQLITE_NOTADB, "not a database"),
            (ffi::SQLITE_READONLY, "cannot be written to"),
            (ffi::SQLITE_CANTOPEN, "cannot be opened"),
            (ffi::SQLITE_PERM, "cannot be opened"),
            (ffi::SQLITE_IOERR_WRITE, "code 778"),
            (ffi::SQLITE_PROTOCOL, "local disk"),
            (ffi::SQLITE_NOMEM, "memory"),
            (ffi::SQLITE_CONSTRAINT, "report"),
        ] {
            let error = Error::SqliteFailure(ffi::Error::new(code), None);
            says_once(&sentence(path, &error), &[word]);
        }
    }

    #[tokio::test]
    async fn a_full_database_says_that_the_disk_is_full_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("aigo.db")).unwrap();
        let fill = |connection: &mut Connection| {
            connection.pragma_update(None, "max_page_count", 1)?;
            Ok(connection.execute_batch("CREATE TABLE more (x); INSERT INTO more VALUES (zeroblob(1000000))")?)
        };
        let error = store.call(fill).await.unwrap_err();
        says_once(&said(&error), &["aigo.db", "full", "make room"]);
    }

    #[test]
    fn a_file_that_is_no_database_a_damaged_one_and_a_newer_one_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aigo.db");
        std::fs::write(&path, "not a database, but long enough to be looked at by SQLite".repeat(20)).unwrap();
        says_once(&said(&Store::open(&path).unwrap_err()), &["is not a database", "move it away"]);
        std::fs::remove_file(&path).unwrap();

        drop(Store::open(&path).unwrap());
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 999").unwrap();
        says_once(&said(&Store::open(&path).unwrap_err()), &["newer aigo", "update this one"]);
        // A database of SQLite's own making: what a store has written may still be in the file of its journal.
        let path = dir.path().join("broken.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE sessions (id)").unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        // All pages but the header of the first one.
        bytes[100..].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        says_once(&said(&Store::open(&path).unwrap_err()), &["damaged", ".recover"]);
    }

    #[tokio::test]
    async fn a_lock_of_another_program_is_said_to_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aigo.db");
        let store = Store::open(&path).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let write = |connection: &mut Connection| {
            connection.busy_timeout(Duration::from_millis(1))?;
            Ok(connection.execute("DELETE FROM settings", [])?)
        };
        let error = store.call(write).await.unwrap_err();
        says_once(&said(&error), &["locked", "end what holds it"]);
        assert!(!error.is_disk());
    }
}
