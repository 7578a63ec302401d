//! Who uses which mount points of a folder: two sessions may work on one, and the last one cleans up.
//!
//! SQLite's write lock is what keeps processes apart here: whether a folder is still needed is decided, and it is
//! removed, in one transaction. What is about to be made is written down before it is made.
//!
//! A session with another data directory is not in this store; it holds locks on the mount points that it uses (see
//! [`mountpoints`]). What cannot be removed for its sake stays written down, as owed, and a later start tries again.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};

use super::writer::{JobError, Store, StoreError};
use crate::failpoint::reach;
use crate::session::SessionId;
use crate::session::id::InvalidSessionId;
use crate::workspace::mountpoints;

impl Store {
    /// Notes that the session uses `points` of `workspace`, and will make those of them that are missing.
    pub async fn mount(&self, id: &SessionId, workspace: &Path, points: Vec<PathBuf>) -> Result<(), StoreError> {
        let (id, workspace) = (id.clone(), workspace.to_owned());
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            add_made(&transaction, id.as_str(), mountpoints::missing(&workspace, &points))?;
            transaction.execute("UPDATE sessions SET mounted = 1 WHERE id = ?1", [id.as_str()])?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The session uses them no more: those that it was to remove are removed, or handed over to a session that still
    /// uses them. Returns those that a session with another data directory uses, and that are owed now. They are removed from
    /// the folder `root` if it is known, since another folder may be at its path by now.
    pub async fn unmount(
        &self,
        id: &SessionId,
        workspace: &Path,
        root: Option<OwnedFd>,
    ) -> Result<Vec<PathBuf>, StoreError> {
        let (id, workspace) = (id.clone(), workspace.to_owned());
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let made = made(&transaction, id.as_str())?;
            let other: Option<String> = transaction
                .query_row(
                    "SELECT id FROM sessions WHERE workspace = ?1 AND id <> ?2 AND mounted = 1 AND ended_at IS NULL LIMIT 1",
                    params![workspace.to_string_lossy(), id.as_str()],
                    |row| row.get(0),
                )
                .optional()?;
            let left = match other {
                Some(other) => {
                    add_made(&transaction, &other, made)?;
                    Vec::new()
                }
                None => match &root {
                    Some(root) => mountpoints::remove_in(root, &made),
                    None => mountpoints::remove(&workspace, &made),
                },
            };
            transaction.execute(
                "UPDATE sessions SET made = ?2, mounted = 0 WHERE id = ?1",
                params![id.as_str(), serde_json::to_string(&left)?],
            )?;
            reach("unmount.before");
            transaction.commit()?;
            reach("unmount.after");
            Ok(left)
        })
        .await
    }

    /// The session has made no mount points.
    pub async fn forget_mounts(&self, id: &SessionId) -> Result<(), StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            connection.execute("UPDATE sessions SET made = '[]', mounted = 0 WHERE id = ?1", [id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Sessions that owe the removal of mount points, and the folders that these are in.
    pub async fn owing(&self) -> Result<Vec<(SessionId, PathBuf)>, StoreError> {
        self.call(move |connection| {
            let mut query = connection
                .prepare_cached("SELECT id, workspace FROM sessions WHERE mounted = 0 AND made <> '[]' ORDER BY id")?;
            let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            let read = |row: rusqlite::Result<(String, String)>| {
                let (id, workspace) = row?;
                let id = id.parse().map_err(|error: InvalidSessionId| JobError::Corrupt(error.to_string()))?;
                Ok((id, workspace.into()))
            };
            rows.map(read).collect::<Result<_, JobError>>()
        })
        .await
    }
}

fn made(transaction: &Transaction<'_>, id: &str) -> Result<Vec<PathBuf>, JobError> {
    let json: Option<String> =
        transaction.query_row("SELECT made FROM sessions WHERE id = ?1", [id], |row| row.get(0)).optional()?;
    Ok(json.map(|json| serde_json::from_str(&json)).transpose()?.unwrap_or_default())
}

/// Parents stay before what is in them: whoever made a parent did so first.
fn add_made(transaction: &Transaction<'_>, id: &str, more: Vec<PathBuf>) -> Result<(), JobError> {
    let mut all = made(transaction, id)?;
    all.extend(more);
    all.sort();
    all.dedup();
    let json = serde_json::to_string(&all)?;
    transaction.execute("UPDATE sessions SET made = ?2 WHERE id = ?1", params![id, json])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SessionRow;

    #[tokio::test]
    async fn the_last_session_cleans_up_whoever_that_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("aigo.db")).unwrap();
        let workspace = dir.path().join("w");
        std::fs::create_dir(&workspace).unwrap();
        let points = || vec![PathBuf::from("ipc"), PathBuf::from("extra/d")];
        let mut ids = Vec::new();
        for _ in 0..3 {
            let id = SessionId::random();
            store.insert_session(SessionRow::new(id.clone(), "command", "image", &workspace)).await.unwrap();
            store.mount(&id, &workspace, points()).await.unwrap();
            mountpoints::make(&workspace, None, &points()).unwrap();
            ids.push(id);
        }
        // The first to go made the folders; each is still needed until the last has gone, also by one whose row has not
        // ended yet.
        for id in [&ids[0], &ids[2]] {
            store.unmount(id, &workspace, None).await.unwrap();
            assert!(workspace.join("extra/d").is_dir());
        }
        store.unmount(&ids[1], &workspace, None).await.unwrap();
        assert_eq!(std::fs::read_dir(&workspace).unwrap().count(), 0);
        store.unmount(&ids[1], &workspace, None).await.unwrap();
    }
}
