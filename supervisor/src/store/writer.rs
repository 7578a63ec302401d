//! The thread that owns the connection, and the migrations.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use rusqlite_migration::{M, Migrations};
use tokio::sync::{mpsc, oneshot};

/// Jobs that may wait for the thread; beyond it callers wait.
const QUEUE: usize = 256;
/// How long SQLite waits for another process's write.
const BUSY: Duration = Duration::from_secs(10);
/// How long another process may take to make the database or bring it up to date.
const OPEN: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const OPEN_POLL: Duration = Duration::from_millis(5);
/// SQLite's page cache in KiB (its default is 2 MiB): events are appended, and read once soon after.
const CACHE_KIB: i64 = 256;

const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001-sessions.sql"),
    include_str!("migrations/0002-mounted.sql"),
    include_str!("migrations/0003-engine-id.sql"),
    include_str!("migrations/0004-service.sql"),
];

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the store; clones share one thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    path: Arc<PathBuf>,
}

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite says no.
    #[error("the database {} failed: {source}", path.display())]
    Sqlite {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// It was written by a newer aigo, or is no database of ours.
    #[error("the database {} cannot be brought up to date: {source}; it may belong to a newer aigo", path.display())]
    Migration {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite_migration::Error,
    },
    /// What it holds is not what we wrote.
    #[error("the database {} holds a value that cannot be read: {what}", path.display())]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What.
        what: String,
    },
    /// Another process is bringing it up to date, for longer than that takes.
    #[error("the database {} is being opened by another process for more than {OPEN:?}; is it stuck?", path.display())]
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// Its thread has ended.
    #[error("the database thread has ended")]
    Closed,
}

impl StoreError {
    /// The disk is full or broken, which a person mends by making room, as against a fault of ours.
    pub fn is_disk(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly)
            ),
            Self::Migration { .. } | Self::Corrupt { .. } | Self::Busy { .. } | Self::Closed => false,
        }
    }
}

/// What can go wrong inside a job.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Corrupt(String),
}

impl From<serde_json::Error> for JobError {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl Store {
    /// Opens or makes the database and starts its thread.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
        let _turn = take_turn(path)?;
        let mut connection = Connection::open(path).map_err(sqlite)?;
        connection.busy_timeout(BUSY).map_err(sqlite)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(sqlite)?;
        // NORMAL in WAL mode survives the death of the process; a power failure may lose the last moments, not the file.
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(sqlite)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(sqlite)?;
        // Negative: KiB, see https://sqlite.org/pragma.html#pragma_cache_size
        connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(sqlite)?;
        migrate(&mut connection).map_err(|source| StoreError::Migration { path: path.to_owned(), source })?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let thread = std::thread::Builder::new().name("store".into());
        thread
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(|_| StoreError::Closed)?;
        Ok(Self { jobs, path: Arc::new(path.to_owned()) })
    }

    /// Runs `job` on the thread and waits for what it returns.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, JobError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more if the caller was cancelled; the job is done all the same.
            let _ = answer.send(job(connection));
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        let result = result.await.map_err(|_| StoreError::Closed)?;
        result.map_err(|error| match error {
            JobError::Sqlite(source) => StoreError::Sqlite { path: (*self.path).clone(), source },
            JobError::Corrupt(what) => StoreError::Corrupt { path: (*self.path).clone(), what },
        })
    }
}

/// Two first starts at once must not both make the tables, and the switch to WAL does not wait for a lock
/// (<https://sqlite.org/wal.html>): a flock(2) on a file beside the database keeps them apart until it is open. A folder
/// in which that file cannot be made says so when the database is opened.
fn take_turn(path: &Path) -> Result<Option<File>, StoreError> {
    let Ok(file) = File::create(path.with_extension("db-open")) else { return Ok(None) };
    let deadline = Instant::now() + OPEN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            // A file system without locks: as before.
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(OPEN_POLL),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Busy { path: path.to_owned() }),
        }
    }
}

fn migrate(connection: &mut Connection) -> rusqlite_migration::Result<()> {
    Migrations::new(MIGRATIONS.iter().map(|sql| M::up(sql)).collect()).to_latest(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_sound() {
        let steps = MIGRATIONS.iter().map(|sql| M::up(sql)).collect::<Vec<_>>();
        Migrations::new(steps).validate().unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn first_starts_at_once_share_one_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aigo.db");
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || Store::open(&path).map(drop))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_told_from_other_failures() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("aigo.db")).unwrap();
        let full = store
            .call(|connection| {
                connection.pragma_update(None, "max_page_count", 1)?;
                connection.execute_batch("CREATE TABLE more (x); INSERT INTO more VALUES (zeroblob(1000000))")?;
                Ok(())
            })
            .await
            .unwrap_err();
        assert!(full.is_disk(), "{full}");
        let wrong = store.call(|connection| Ok(connection.execute("INSERT INTO nothing VALUES (1)", [])?)).await;
        assert!(!wrong.unwrap_err().is_disk());
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aigo.db");
        std::fs::write(&path, "not a database, but long enough to be looked at by SQLite".repeat(20)).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(error.to_string().contains("aigo.db"), "{error}");
    }
}
