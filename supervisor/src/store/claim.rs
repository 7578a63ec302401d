//! Whose database it is. A database can be copied as its data directory can (see [`Identity`]); what was unfinished in the
//! original belongs there, and is not to be touched by the copy.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::sessions::{COLUMNS, Outcome, SessionRow, end_in, read};
use super::writer::JobError;
use crate::dirs::Identity;
use crate::plan::LABEL_INSTANCE;
use crate::session::SessionId;
use crate::session::event::{HostEvent, SessionEvent, Summary, What};
use crate::session::status::{EndReason, Ending};

/// The setting that holds the name of the database's data directory.
const SCOPE: &str = "store";
const NAME: &str = "instance";

/// Why the sessions of the original have ended for the copy.
const COPIED: &str = "its data directory was copied; the session belongs to the original";

/// A database that came from another data directory, and what follows from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The name of the data directory that it came from, if that was written down.
    pub original: Option<String>,
    /// Sessions that were unfinished, and that are marked as ended now.
    pub ended: Vec<SessionId>,
}

impl Claim {
    /// The sentence for people about a data directory that is a copy.
    pub fn notice(&self, root: &Path) -> impl fmt::Display {
        let sessions = match self.ended.len() {
            0 => String::new(),
            1 => ", and its one unfinished session, which belongs to the original, is marked as cancelled here"
                .to_owned(),
            count => {
                format!(
                    ", and its {count} unfinished sessions, which belong to the original, are marked as cancelled here"
                )
            }
        };
        let leftovers = match &self.original {
            Some(name) => format!(
                "; if the original is gone, `docker ps --all --filter label={LABEL_INSTANCE}={name}` lists what is left of \
                 its sessions"
            ),
            None => String::new(),
        };
        format!(
            "the data directory {} is a copy of another one, or was moved here from another file system or machine: it has \
             an identity of its own now{sessions}{leftovers}",
            root.display()
        )
    }
}

/// Makes the database that of the data directory. `None` if it was that before, or nobody's.
pub(super) fn claim(connection: &mut Connection, identity: &Identity) -> Result<Option<Claim>, JobError> {
    // Without a write lock: almost every opening ends here.
    if owner(connection)?.as_deref() == Some(&*identity.name) {
        return Ok(None);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let original = match owner(&transaction)? {
        Some(name) if name == identity.name => return Ok(None),
        // An older aigo did not write it down. Unless the folder had no name either, the two belong together.
        None => identity.original.clone().map(Some).or(identity.is_new.then_some(None)),
        Some(name) => Some(Some(name)),
    };
    let claim = match original {
        Some(original) => Some(Claim { original, ended: end_all(&transaction)? }),
        None => None,
    };
    transaction.execute(
        "INSERT OR REPLACE INTO settings (scope, name, value, set_at) VALUES (?1, ?2, ?3, ?4)",
        params![SCOPE, NAME, serde_json::to_string(&identity.name)?, Timestamp::now().to_string()],
    )?;
    transaction.commit()?;
    // A database that was just made comes from nowhere.
    Ok(claim.filter(|claim| claim.original.is_some() || !claim.ended.is_empty()))
}

fn owner(connection: &Connection) -> Result<Option<String>, JobError> {
    let mut query = connection.prepare_cached("SELECT value FROM settings WHERE scope = ?1 AND name = ?2")?;
    let value: Option<String> = query.query_row([SCOPE, NAME], |row| row.get(0)).optional()?;
    Ok(value.map(|value| serde_json::from_str(&value)).transpose()?)
}

/// Marks all unfinished sessions as ended, and forgets which mount points were made for them: the original removes those.
fn end_all(transaction: &Transaction<'_>) -> Result<Vec<SessionId>, JobError> {
    let sql = format!("SELECT {COLUMNS} FROM sessions WHERE ended_at IS NULL ORDER BY created_at, id");
    let rows: Vec<SessionRow> = {
        let mut query = transaction.prepare(&sql)?;
        query.query_map([], |row| Ok(read(row)))?.map(|row| row?).collect::<Result<_, JobError>>()?
    };
    let mut ended = Vec::with_capacity(rows.len());
    for row in rows {
        let ending = Ending::because(EndReason::Cancelled, COPIED);
        let (status, summary) = (ending.reason.status(), figures(transaction, &row)?);
        let event = HostEvent::Ended { status, ending: ending.clone(), summary: summary.clone() };
        let outcome = Outcome { status, ending: Some(ending), summary: Some(summary) };
        end_in(transaction, &row.id, outcome, event)?;
        ended.push(row.id);
    }
    transaction.execute("UPDATE sessions SET made = '[]', mounted = 0 WHERE made <> '[]' OR mounted <> 0", [])?;
    Ok(ended)
}

/// What the session's events add up to, as far as they came with the copy.
fn figures(transaction: &Transaction<'_>, row: &SessionRow) -> Result<Summary, JobError> {
    let mut query = transaction.prepare_cached("SELECT body FROM events WHERE session = ?1 ORDER BY seq")?;
    let mut bodies = query.query([row.id.as_str()])?;
    let (mut summary, mut last) = (Summary::default(), row.created_at);
    while let Some(body) = bodies.next()? {
        // One that cannot be read is shown as such by whoever reads the transcript.
        let Ok(event) = serde_json::from_str::<SessionEvent>(&body.get::<_, String>(0)?) else { continue };
        last = last.max(event.at);
        match &event.what {
            What::Runner(kind) => summary.count(kind),
            What::Host(_) => {}
        }
    }
    summary.duration_ms = u64::try_from(last.duration_since(row.created_at).as_millis()).unwrap_or_default();
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::status::Status;
    use crate::store::{SessionFilter, Store};

    fn identity(name: &str) -> Identity {
        Identity { name: name.into(), is_new: false, original: None }
    }

    fn new(name: &str) -> Identity {
        Identity { is_new: true, ..identity(name) }
    }

    async fn with_a_session(path: &Path, identity: &Identity) -> SessionId {
        let (store, claim) = Store::open_as(path, identity).unwrap();
        assert_eq!(claim, None);
        let id = SessionId::random();
        store.insert_session(SessionRow::new(id.clone(), "command", "image", "/w")).await.unwrap();
        store.mount(&id, "/nowhere".as_ref(), vec!["ipc".into()]).await.unwrap();
        id
    }

    #[tokio::test]
    async fn a_database_of_another_data_directory_ends_what_was_unfinished_and_says_so_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aigo.db");
        let id = with_a_session(&path, &new("one")).await;
        assert_eq!(Store::open_as(&path, &identity("one")).unwrap().1, None, "it is its own");

        let (store, claim) = Store::open_as(&path, &new("two")).unwrap();
        let claim = claim.unwrap();
        assert_eq!(claim, Claim { original: Some("one".into()), ended: vec![id.clone()] });
        let said = claim.notice(dir.path()).to_string();
        assert!(said.contains("one unfinished session") && said.contains("label=aigo.instance=one"), "{said}");
        let row = store.session(&id).await.unwrap().unwrap();
        assert_eq!((row.status, row.ended_at.is_some()), (Status::Cancelled, true));
        assert_eq!(row.ending.unwrap().detail.as_deref(), Some(COPIED));
        assert!(matches!(
            store.events(&id, 0, 9).await.unwrap().last().unwrap().what,
            What::Host(HostEvent::Ended { .. })
        ));
        assert_eq!(store.owing().await.unwrap(), [], "its mount points are the original's to remove");
        assert_eq!(store.sessions(SessionFilter::Live).await.unwrap().len(), 0);
        assert_eq!(Store::open_as(&path, &identity("two")).unwrap().1, None);
    }

    #[tokio::test]
    async fn a_database_of_an_older_aigo_stays_with_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aigo.db");
        let old = async || {
            let store = Store::open(&path).unwrap();
            let id = SessionId::random();
            store.insert_session(SessionRow::new(id.clone(), "command", "image", "/w")).await.unwrap();
            id
        };
        let id = old().await;
        assert_eq!(Store::open_as(&path, &identity("one")).unwrap().1, None, "a folder that had a name");

        std::fs::remove_file(&path).unwrap();
        let first = old().await;
        assert_ne!(first, id);
        let claim = Store::open_as(&path, &new("two")).unwrap().1;
        assert_eq!(claim, Some(Claim { original: None, ended: vec![first] }), "a folder that had none");
    }

    #[test]
    fn a_new_database_comes_from_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Store::open_as(&dir.path().join("aigo.db"), &new("one")).unwrap().1, None);
    }
}
