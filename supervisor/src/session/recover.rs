//! Clears away what sessions have left whose owner died without a word (SIGKILL, power failure). Idempotent; run before
//! anything new is launched.
//!
//! A session is dead if nobody holds its lock. One that has ended, and still has a folder, could not remove its container
//! then (the engine was away). What its journal still holds is stored first, so that nothing that the
//! agent said is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use ipc_protocol::host::HostIpc;
use ipc_protocol::journal::Cursor;

use super::event::{HostEvent, What};
use super::lock;
use super::resources::{object_name, remove_engine_objects, remove_folder, remove_mount_points};
use super::status::{EndReason, Ending};
use super::{SessionId, event::Summary};
use crate::dirs::DataDir;
use crate::engine::{Labels, SharedEngine};
use crate::plan::{LABEL_INSTANCE, LABEL_SESSION};
use crate::store::{NewEvent, Outcome, SessionFilter, SessionRow, Store, StoreError};

/// A folder without a row that is younger than this belongs to a session that is just beginning.
const BEGINNING: Duration = Duration::from_secs(60);
/// Rounds of reading a dead session's journal.
const MAX_ROUNDS: usize = 100_000;

/// What was found and done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sessions that were ended.
    pub sessions: Vec<SessionId>,
    /// What could not be removed, in words.
    pub problems: Vec<String>,
}

/// Clears away everything of this data directory's that has no living owner.
pub async fn sweep(engine: &SharedEngine, store: &Store, dirs: &DataDir, instance: &str) -> Swept {
    let mut swept = Swept::default();
    let rows = match store.sessions(SessionFilter::Live).await {
        Ok(rows) => rows,
        Err(error) => {
            swept.problems.push(error.to_string());
            return swept;
        }
    };
    let mut known: BTreeSet<SessionId> = BTreeSet::new();
    for row in rows {
        known.insert(row.id.clone());
        sweep_session(engine, store, dirs, row, &mut swept).await;
    }
    for id in engine_sessions(engine, instance, &mut swept).await {
        if !known.contains(&id) && !lock::is_held(&dirs.session(&id).lock()) {
            swept.problems.extend(remove_engine_objects(engine, &id).await);
        }
    }
    sweep_folders(engine, store, dirs, &known, &mut swept).await;
    swept
}

/// Whether [`sweep`] would find something: cheap, without the engine.
///
/// # Errors
/// When the store cannot be read.
pub async fn is_due(store: &Store, dirs: &DataDir) -> Result<bool, StoreError> {
    let is_dead = |id: &SessionId| !lock::is_held(&dirs.session(id).lock());
    let rows = store.sessions(SessionFilter::Live).await?;
    Ok(rows.iter().any(|row| is_dead(&row.id)) || folders(dirs).iter().any(|(id, _)| is_dead(id)))
}

async fn sweep_session(engine: &SharedEngine, store: &Store, dirs: &DataDir, row: SessionRow, swept: &mut Swept) {
    let folder = dirs.session(&row.id);
    let lock = match lock::take(&folder.lock()) {
        Ok(Some(lock)) => Some(lock),
        // It lives.
        Ok(None) => return,
        // Its folder is gone.
        Err(_) => None,
    };
    // It may have ended in order since the rows were listed.
    match store.session(&row.id).await {
        Ok(Some(now)) if now.ended_at.is_none() => {}
        Ok(_) => return,
        Err(error) => {
            swept.problems.push(error.to_string());
            return;
        }
    }
    let problems = remove_engine_objects(engine, &row.id).await;
    if !problems.is_empty() {
        // Its container may still write: it stays as it is until the engine answers again.
        swept.problems.extend(problems);
        return;
    }
    if let Err(error) = drain_journal(store, dirs, &row.id).await {
        swept.problems.push(error);
    }
    swept.problems.extend(remove_mount_points(store, &row.id, &row.workspace).await);
    let ending = Ending::because(EndReason::Cancelled, "the aigo process that ran it ended without a word");
    let summary = Summary::default();
    let status = ending.reason.status();
    let ended = HostEvent::Ended { status, ending: ending.clone(), summary: summary.clone() };
    let outcome = Outcome { status, ending: Some(ending), summary: Some(summary) };
    let stored = match store.end_session(&row.id, outcome).await {
        Ok(()) => store.append(&row.id, vec![ended.into()], None).await.map(drop),
        Err(error) => Err(error),
    };
    match stored {
        Ok(()) => swept.sessions.push(row.id),
        Err(error) => swept.problems.push(error.to_string()),
    }
    swept.problems.extend(remove_folder(&folder));
    drop(lock);
}

async fn drain_journal(store: &Store, dirs: &DataDir, id: &SessionId) -> Result<(), String> {
    let folder = dirs.session(id);
    let Ok(ipc) = HostIpc::open(&folder.ipc(), &folder.dead_letters(), None) else { return Ok(()) };
    let cursor = store.journal_cursor(id).await.map_err(|error| error.to_string())?;
    let cursor = cursor.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or(Cursor::START);
    let mut journal = ipc.journal(cursor);
    for _ in 0..MAX_ROUNDS {
        let batch = journal.read();
        if batch.events.is_empty() {
            break;
        }
        let events = batch.events.into_iter();
        let events = events.map(|event| NewEvent { runner_seq: Some(event.seq), what: What::Runner(event.kind) });
        let cursor = serde_json::to_string(&batch.cursor).ok();
        store.append(id, events.collect(), cursor).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn engine_sessions(engine: &SharedEngine, instance: &str, swept: &mut Swept) -> BTreeSet<SessionId> {
    let labels = Labels::from([(LABEL_INSTANCE.to_owned(), instance.to_owned())]);
    let session = |labels: &Labels| labels.get(LABEL_SESSION).and_then(|id| id.parse::<SessionId>().ok());
    let mut ids = BTreeSet::new();
    match engine.containers(&labels).await {
        Ok(containers) => ids.extend(containers.iter().filter_map(|container| session(&container.labels))),
        Err(error) => swept.problems.push(error.to_string()),
    }
    match engine.networks(&labels).await {
        Ok(networks) => ids.extend(networks.iter().filter_map(|network| session(&network.labels))),
        Err(error) => swept.problems.push(error.to_string()),
    }
    ids
}

/// Folders of sessions, and how old they are.
fn folders(dirs: &DataDir) -> Vec<(SessionId, Option<Duration>)> {
    let entries = std::fs::read_dir(dirs.sessions()).into_iter().flatten().flatten();
    let folder = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse::<SessionId>().ok()?;
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        Some((id, age))
    };
    entries.filter_map(folder).collect()
}

async fn sweep_folders(
    engine: &SharedEngine,
    store: &Store,
    dirs: &DataDir,
    known: &BTreeSet<SessionId>,
    swept: &mut Swept,
) {
    for (id, age) in folders(dirs) {
        let folder = dirs.session(&id);
        if known.contains(&id) || lock::is_held(&folder.lock()) {
            continue;
        }
        match store.session(&id).await {
            Ok(Some(row)) if row.ended_at.is_some() => {
                let problems = remove_engine_objects(engine, &id).await;
                if problems.is_empty() {
                    swept.problems.extend(remove_mount_points(store, &id, &row.workspace).await);
                    swept.problems.extend(remove_folder(&folder));
                } else {
                    swept.problems.extend(problems);
                }
            }
            Ok(None) if age.is_some_and(|age| age > BEGINNING) => {
                tracing::debug!("removing the folder of {}", object_name(&id));
                swept.problems.extend(remove_folder(&folder));
            }
            // It is just beginning.
            Ok(Some(_) | None) => {}
            Err(error) => swept.problems.push(error.to_string()),
        }
    }
}
