//! The thread that owns the connection, and the migrations.

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use rusqlite_migration::{M, Migrations};
use tokio::sync::{mpsc, oneshot};

use super::claim::{self, Claim};
use super::fault::sentence;
use crate::dirs::{self, Identity};

/// Jobs that may wait for the thread; beyond it callers wait.
const QUEUE: usize = 256;
/// How long SQLite waits for another process's write.
pub(super) const BUSY: Duration = Duration::from_secs(10);
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
    include_str!("migrations/0005-settings.sql"),
    include_str!("migrations/0006-counters.sql"),
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
    /// SQLite failed. Its error is no `source`: the sentence says all of it, and a chain would say it twice.
    #[error("{}", sentence(path, error))]
    Sqlite {
        /// Which.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// A newer aigo wrote the database.
    #[error(
        "the database {} was written by a newer aigo; update this one, or name another data directory with --data-dir",
        path.display()
    )]
    Newer {
        /// Which.
        path: PathBuf,
    },
    /// The tables of an older aigo cannot be made those of this one.
    #[error(
        "the database {} cannot be brought up to date: {error}; keep a copy of it, and report this",
        path.display()
    )]
    Migration {
        /// Which.
        path: PathBuf,
        /// Why.
        error: rusqlite_migration::Error,
    },
    /// What it holds is not what we wrote.
    #[error(
        "the database {} holds what aigo does not write there: {what}; if another program has changed it, restore a backup, \
         else please report this",
        path.display()
    )]
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
    #[error("the thread of the database has ended after a fault; start aigo again")]
    Closed,
}

impl StoreError {
    /// The disk is full or broken, which a person mends by making room, as against a fault of ours.
    pub fn is_disk(&self) -> bool {
        match self {
            Self::Sqlite { error, .. } => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly)
            ),
            Self::Newer { .. } | Self::Migration { .. } | Self::Corrupt { .. } | Self::Busy { .. } | Self::Closed => {
                false
            }
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
        Self::start(path, connect(path)?)
    }

    /// Opens or makes the database of a data directory. One that comes from another data directory is this one's from now
    /// on, and what was unfinished in it is marked as ended: see [`Claim`].
    pub fn open_as(path: &Path, identity: &Identity) -> Result<(Self, Option<Claim>), StoreError> {
        let mut connection = connect(path)?;
        let claim = claim::claim(&mut connection, identity).map_err(|error| failed(path, error))?;
        Ok((Self::start(path, connection)?, claim))
    }

    fn start(path: &Path, mut connection: Connection) -> Result<Self, StoreError> {
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
        result.map_err(|error| failed(&self.path, error))
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let sqlite = |error| StoreError::Sqlite { path: path.to_owned(), error };
    let _turn = take_turn(path)?;
    close_to_others(path);
    let mut connection = Connection::open(path).map_err(sqlite)?;
    connection.busy_timeout(BUSY).map_err(sqlite)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(sqlite)?;
    // NORMAL in WAL mode survives the death of the process; a power failure may lose the last moments, not the file.
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(sqlite)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(sqlite)?;
    // Negative: KiB, see https://sqlite.org/pragma.html#pragma_cache_size
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(sqlite)?;
    migrate(&mut connection).map_err(|error| not_migrated(path, error))?;
    Ok(connection)
}

fn failed(path: &Path, error: JobError) -> StoreError {
    match error {
        JobError::Sqlite(error) => StoreError::Sqlite { path: path.to_owned(), error },
        JobError::Corrupt(what) => StoreError::Corrupt { path: path.to_owned(), what },
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

/// Events and prompts are nobody else's. Made here, since SQLite would make it by the umask; its files beside the database
/// get that one's mode.
fn close_to_others(path: &Path) {
    // What cannot be made here SQLite cannot make either, and says so.
    let _ = File::options().append(true).create(true).mode(0o600).open(path);
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        let file = PathBuf::from(file);
        if file.exists()
            && let Err(error) = dirs::close(&file)
        {
            tracing::warn!("{error}");
        }
    }
}

fn not_migrated(path: &Path, error: rusqlite_migration::Error) -> StoreError {
    use rusqlite_migration::{Error, MigrationDefinitionError};
    let path = path.to_owned();
    match error {
        Error::RusqliteError { err: error, .. } => StoreError::Sqlite { path, error },
        Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => StoreError::Newer { path },
        error => StoreError::Migration { path, error },
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

    /// The migration that makes the counters.
    const COUNTERS: usize = 6;

    /// What each version of the tables held, in its own words.
    const OLD_ROWS: &str = r#"
        INSERT INTO sessions (id, status, reason, agent, image, workspace, created_at, ended_at, owner_pid, summary)
        VALUES ('0123456789ab', 'running', NULL, 'claude', 'i', '/w', '2026-01-02T03:04:05Z', NULL, 7, NULL),
               ('ba9876543210', 'failed', '{"reason":"agent_exit","code":3}', 'command', 'i', '/w',
                '2026-01-01T03:04:05.123Z', '2026-01-01T04:04:05Z', 7,
                '{"durationMs":5,"turns":1,"tokens":{"input":1,"output":2,"cacheRead":0,"cacheWrite":0},"modelRequests":3}');
        INSERT INTO events (session, seq, runner_seq, body)
        VALUES ('0123456789ab', 1, NULL, '{"seq":1,"at":"2026-01-02T03:04:05Z","kind":"status","status":"running"}'),
               ('0123456789ab', 2, 1, '{"seq":2,"at":"2026-01-02T03:04:06Z","kind":"text","text":"hi"}');
        INSERT INTO journals (session, cursor) VALUES ('0123456789ab', '{}');
        INSERT INTO inbox (session, box, id, body) VALUES ('0123456789ab', 'messages', 'm', '{}');
    "#;

    #[tokio::test]
    async fn a_database_of_each_older_aigo_is_gone_on_with() {
        use crate::session::event::{HostEvent, What};
        use crate::session::status::{EndReason, Ending, Status};
        use crate::store::{DEFAULT_AGENT, Outcome, SessionFilter, SessionPage};

        for version in 1..=MIGRATIONS.len() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("aigo.db");
            let mut old = Connection::open(&path).unwrap();
            let steps = MIGRATIONS[..version].iter().map(|sql| M::up(sql)).collect();
            Migrations::new(steps).to_latest(&mut old).unwrap();
            old.execute_batch(OLD_ROWS).unwrap();
            drop(old);
            let store = Store::open(&path).unwrap();
            let live = store.sessions(SessionFilter::Live).await.unwrap();
            let [live] = &live[..] else { panic!("version {version}: {live:?}") };
            assert_eq!((live.status, live.agent.as_str(), &live.request), (Status::Running, DEFAULT_AGENT, &None));
            assert_eq!(live.engine, None);
            let page = SessionPage { status: Some(Status::Failed), agent: None, after: None, limit: 9 };
            let ended = store.session_page(page).await.unwrap();
            assert_eq!(ended[0].ending, Some(Ending::new(EndReason::AgentExit { code: 3 })));
            assert_eq!(ended[0].summary.as_ref().map(|summary| (summary.turns, summary.tokens.output)), Some((1, 2)));
            // Numbers go on where they were, and what was taken is not taken again.
            assert_eq!(store.events(&live.id, 0, 9).await.unwrap().len(), 2);
            let event = || HostEvent::InterruptSent {}.into();
            assert_eq!(store.take(&live.id, "messages", "m", "{}".into(), event()).await.unwrap(), None);
            let known = crate::store::NewEvent { runner_seq: Some(1), ..event() };
            assert_eq!(store.append(&live.id, vec![known], None).await.unwrap().events.len(), 0);
            let outcome = Outcome { status: Status::Cancelled, ending: None, summary: None };
            assert_eq!(store.end_session(&live.id, outcome, HostEvent::InterruptSent {}).await.unwrap(), 3);
            let last = store.events(&live.id, 2, 9).await.unwrap();
            assert!(matches!(last[0].what, What::Host(HostEvent::InterruptSent {})), "version {version}: {last:?}");
            // What had ended before there were counters is counted by the migration that makes them.
            let counted = if version < COUNTERS { 2 } else { 0 };
            assert_eq!(store.totals().await.unwrap().output_tokens, counted);
            assert_eq!(store.forget_old(Some(Duration::ZERO), None).await.unwrap(), 2);
        }
    }

    #[tokio::test]
    async fn a_database_of_a_newer_aigo_is_refused_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aigo.db");
        drop(Store::open(&path).unwrap());
        let newer = Connection::open(&path).unwrap();
        newer.execute_batch("CREATE TABLE later (x); INSERT INTO later VALUES (1); PRAGMA user_version = 999").unwrap();
        let said = Store::open(&path).unwrap_err().to_string();
        assert!(said.contains("aigo.db") && said.contains("newer aigo"), "{said}");
        let kept: u64 = newer.query_row("SELECT x FROM later", [], |row| row.get(0)).unwrap();
        let version: u64 = newer.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!((kept, version), (1, 999));
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
