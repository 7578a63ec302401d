//! Clears away what sessions have left whose owner died without a word (SIGKILL, power failure). Idempotent; run before
//! anything new is launched.
//!
//! A session is dead if nobody holds its lock. One that has ended, and still has a folder, could not remove its container
//! then (the engine was away), or does not know whether there is one ([`doubt`]). What the agent of a dead session said,
//! and nobody heard, is stored first ([`drain`]), so that nothing of it is lost.
//!
//! Only the engine that a session is on can be asked about it: sessions of another one are left alone ([`elsewhere`]).
//!
//! A row proves no ownership, since a data directory can be copied with its rows: what is removed from the engine has to carry
//! the name of this data directory, which a copy does not have ([`Identity`](crate::dirs::Identity)).

mod drain;

use std::collections::BTreeSet;
use std::time::Duration;

use super::event::{HostEvent, Summary, What};
use super::launch::{Launcher, compare, reopen};
use super::lock;
use super::resources::{object_name, remove_engine_objects, remove_folder, remove_mount_points};
use super::status::{EndReason, Ending};
use super::{SessionId, doubt};
use crate::dirs::{DataDir, SessionDir};
use crate::engine::{EngineError, EngineIdentity, Labels};
use crate::failpoint::reach;
use crate::plan::{LABEL_INSTANCE, LABEL_SESSION};
use crate::store::{Outcome, SessionFilter, SessionRow, Store, StoreError};

/// A folder without a row that is younger than this belongs to a session that is just beginning.
const BEGINNING: Duration = Duration::from_secs(60);
/// Events that are read at once to add their figures up; each may have some hundred KiB.
const PAGE: usize = 100;

/// What was found and done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sessions that were ended.
    pub sessions: Vec<SessionId>,
    /// What could not be removed, in words.
    pub problems: Vec<String>,
}

/// Clears away everything of this data directory's that has no living owner, as far as it is on this engine.
pub async fn sweep(launcher: &Launcher) -> Swept {
    let Launcher { store, dirs, .. } = launcher;
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
        if !is_kept(&row) {
            sweep_session(launcher, row, &mut swept).await;
        }
    }
    for id in engine_sessions(launcher, &mut swept).await {
        if !known.contains(&id) && !lock::is_held(&dirs.session(&id).lock()) {
            swept.problems.extend(remove_engine_objects(&launcher.engine, &id).await);
        }
    }
    sweep_folders(launcher, &known, &mut swept).await;
    if let Err(error) = pay_what_is_owed(store).await {
        swept.problems.push(error.to_string());
    }
    swept
}

/// Whether [`sweep`] would find something: cheap, without the engine.
///
/// # Errors
/// When the store cannot be read.
pub async fn is_due(launcher: &Launcher) -> Result<bool, StoreError> {
    let Launcher { store, dirs, identity, .. } = launcher;
    let is_dead = |id: &SessionId| !lock::is_held(&dirs.session(id).lock());
    let is_ours = |row: &SessionRow| elsewhere(row, identity).is_none() && !is_kept(row);
    if store.sessions(SessionFilter::Live).await?.iter().any(|row| is_dead(&row.id) && is_ours(row)) {
        return Ok(true);
    }
    for (id, _) in folders(dirs) {
        if is_dead(&id) && store.session(&id).await?.as_ref().is_none_or(is_ours) {
            return Ok(true);
        }
    }
    Ok(!store.owing().await?.is_empty())
}

/// Ends one session whose owner is dead, also one that a service would go on with.
pub async fn end(launcher: &Launcher, row: SessionRow) -> Swept {
    let mut swept = Swept::default();
    sweep_session(launcher, row, &mut swept).await;
    swept
}

/// A service's session runs on without it, until the next one.
fn is_kept(row: &SessionRow) -> bool {
    row.request.is_some() && row.ended_at.is_none()
}

/// Says so if the session is on another engine than this one.
pub fn elsewhere(row: &SessionRow, here: &EngineIdentity) -> Option<String> {
    let there = row.engine.as_ref().filter(|there| !there.is_same(here))?;
    Some(format!(
        "session {} is on another engine ({} at {}), which alone can say what is left of it; for that engine say \
         DOCKER_HOST={}",
        row.id, there.id, there.endpoint, there.endpoint
    ))
}

async fn sweep_session(launcher: &Launcher, row: SessionRow, swept: &mut Swept) {
    let Launcher { store, dirs, .. } = launcher;
    let folder = dirs.session(&row.id);
    let lock = match lock::take(&folder.lock()) {
        Ok(Some(lock)) => Some(lock),
        // It lives.
        Ok(None) => return,
        // Its folder is gone.
        Err(_) => None,
    };
    if let Some(where_it_is) = elsewhere(&row, &launcher.identity) {
        // Not a problem of this start, nor of each one that follows: `aigo stop` says it to whoever asks.
        tracing::info!("{where_it_is}");
        return;
    }
    // It may have ended in order since the rows were listed.
    match store.session(&row.id).await {
        Ok(Some(now)) if now.ended_at.is_none() => {}
        Ok(_) => return,
        Err(error) => {
            swept.problems.push(error.to_string());
            return;
        }
    }
    reach("sweep.locked");
    let problems = remove_own(launcher, &row.id).await;
    if !problems.is_empty() {
        // Its container may still write: it stays as it is until the engine answers again.
        swept.problems.extend(problems);
        return;
    }
    let mut summary = match last_words(store, &row.id, &folder).await {
        Ok(summary) => summary,
        Err(error) => {
            // What the agent said is only there: the next start tries again.
            swept.problems.push(error.to_string());
            return;
        }
    };
    reach("sweep.drained");
    swept.problems.extend(remove_mount_points(store, &row.id, &row.workspace, None).await);
    reach("sweep.unmounted");
    if row.container.is_some() {
        summary.set_changes(match row.request {
            Some(_) => match reopen(&row.workspace, &folder).await {
                Some(before) => compare(before).await,
                None => Err("how the folder was before the agent was not written down".to_owned()),
            },
            // Nobody knows how long ago that was, and who has worked on the folder since.
            None => Err("the aigo process that ran the session ended before it had compared the folder".to_owned()),
        });
    }
    let unknown = || Ending::because(EndReason::Cancelled, "the aigo process that ran it ended without a word");
    let ending = row.ending.clone().unwrap_or_else(unknown);
    let status = ending.reason.status();
    let ended = HostEvent::Ended { status, ending: ending.clone(), summary: summary.clone() };
    let outcome = Outcome { status, ending: Some(ending), summary: Some(summary) };
    match store.end_session(&row.id, outcome, ended).await {
        Ok(_) => swept.sessions.push(row.id),
        Err(error) => swept.problems.push(error.to_string()),
    }
    if lock.is_some() {
        swept.problems.extend(forget(&folder).await);
    }
}

/// Stores what nobody has heard yet. The session's figures as far as its events tell them.
pub(super) async fn last_words(store: &Store, id: &SessionId, folder: &SessionDir) -> Result<Summary, StoreError> {
    let mut figures = Figures::default();
    figures.read(store, id).await?;
    // The last that its owner heard; what comes now is stored with the time of now.
    let heard = figures.last;
    let said = drain::drain(store, id, folder).await?;
    figures.read(store, id).await?;
    let end = [heard, said].into_iter().flatten().max();
    let row = store.session(id).await?;
    let lasted = end.zip(row).map(|(end, row)| end.duration_since(row.created_at).as_millis());
    // A clock that was set back makes it negative.
    figures.summary.duration_ms = lasted.and_then(|lasted| u64::try_from(lasted).ok()).unwrap_or_default();
    Ok(figures.summary)
}

/// What the events of a session add up to.
#[derive(Debug, Default)]
struct Figures {
    summary: Summary,
    cursor: u64,
    last: Option<jiff::Timestamp>,
}

impl Figures {
    /// Goes on to the last event.
    async fn read(&mut self, store: &Store, id: &SessionId) -> Result<(), StoreError> {
        loop {
            let events = store.events(id, self.cursor, PAGE).await?;
            let Some(last) = events.last() else { return Ok(()) };
            (self.cursor, self.last) = (last.seq, Some(last.at));
            for event in &events {
                match &event.what {
                    What::Runner(kind) => self.summary.count(kind),
                    What::Host(_) => {}
                }
            }
        }
    }
}

/// The engine has answered, and the session's objects are gone: so is its folder, unless more may appear.
async fn forget(folder: &SessionDir) -> Vec<String> {
    match doubt::settle(folder) {
        Ok(()) => remove_folder(folder).await,
        Err(error) => vec![format!("{} cannot be used: {error}", folder.in_doubt().display())],
    }
}

/// Removes what the session has on the engine, unless it carries the name of another data directory: this one is a copy
/// then, and the session that of the original. Returns what could not be removed.
async fn remove_own(launcher: &Launcher, id: &SessionId) -> Vec<String> {
    let Launcher { engine, instance, .. } = launcher;
    let labels = Labels::from([(LABEL_SESSION.to_owned(), id.to_string())]);
    let found = async {
        let containers = engine.containers(&labels).await?.into_iter().map(|container| container.labels);
        let networks = engine.networks(&labels).await?.into_iter().map(|network| network.labels);
        Ok::<Vec<Labels>, EngineError>(containers.chain(networks).collect())
    };
    match found.await {
        Ok(found) => {
            let owners = || found.iter().filter_map(|labels| labels.get(LABEL_INSTANCE));
            if let Some(owner) = owners().find(|owner| ***owner != **instance) {
                tracing::info!("{} belongs to the data directory {owner}, and is left alone", object_name(id));
                return Vec::new();
            }
            remove_engine_objects(engine, id).await
        }
        Err(error) => vec![error.to_string()],
    }
}

async fn engine_sessions(launcher: &Launcher, swept: &mut Swept) -> BTreeSet<SessionId> {
    let labels = Labels::from([(LABEL_INSTANCE.to_owned(), launcher.instance.to_string())]);
    let session = |labels: &Labels| labels.get(LABEL_SESSION).and_then(|id| id.parse::<SessionId>().ok());
    let mut ids = BTreeSet::new();
    match launcher.engine.containers(&labels).await {
        Ok(containers) => ids.extend(containers.iter().filter_map(|container| session(&container.labels))),
        Err(error) => swept.problems.push(error.to_string()),
    }
    match launcher.engine.networks(&labels).await {
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

async fn sweep_folders(launcher: &Launcher, known: &BTreeSet<SessionId>, swept: &mut Swept) {
    let Launcher { store, dirs, identity, .. } = launcher;
    for (id, age) in folders(dirs) {
        let folder = dirs.session(&id);
        if known.contains(&id) || lock::is_held(&folder.lock()) {
            continue;
        }
        match store.session(&id).await {
            Ok(Some(row)) if elsewhere(&row, identity).is_some() => {}
            Ok(Some(row)) if row.ended_at.is_some() => {
                let problems = remove_own(launcher, &id).await;
                if problems.is_empty() {
                    swept.problems.extend(remove_mount_points(store, &id, &row.workspace, None).await);
                    swept.problems.extend(forget(&folder).await);
                } else {
                    swept.problems.extend(problems);
                }
            }
            Ok(None) if age.is_some_and(|age| age > BEGINNING) => {
                tracing::debug!("removing the folder of {}", object_name(&id));
                swept.problems.extend(remove_folder(&folder).await);
            }
            // It is just beginning.
            Ok(Some(_) | None) => {}
            Err(error) => swept.problems.push(error.to_string()),
        }
    }
}

/// Mount points that a session with another data directory was using when ours ended.
async fn pay_what_is_owed(store: &Store) -> Result<(), StoreError> {
    for (id, workspace) in store.owing().await? {
        // Said when they were left: as long as they are in use there is nothing new to say.
        let left = store.unmount(&id, &workspace, None).await?;
        tracing::debug!("session {id} still owes the removal of {left:?} in {}", workspace.display());
    }
    Ok(())
}
