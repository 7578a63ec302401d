//! The end of a session that never ran: it waited for room, and there is nothing to let go of.

use std::time::Duration;

use jiff::Timestamp;

use super::SessionId;
use super::event::{HostEvent, Summary};
use super::status::{EndReason, Ending};
use crate::store::{NewAudit, Outcome, Store, StoreError};

/// Ends it, if it still waits; whether it did.
pub async fn end(store: &Store, id: &SessionId, ending: Ending) -> Result<bool, StoreError> {
    let Some(row) = store.session(id).await? else { return Ok(false) };
    // A clock that was set back makes it negative.
    let waited = Duration::try_from(Timestamp::now().duration_since(row.created_at)).unwrap_or_default();
    let duration_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    let summary = Summary { duration_ms, ..Summary::default() };
    let status = ending.reason.status();
    let outcome = Outcome { status, ending: Some(ending.clone()), summary: Some(summary.clone()) };
    store.end_waiting(id, outcome, HostEvent::Ended { status, ending, summary }).await
}

/// The same for somebody who asks no service, in the words `by`; it is written into the audit log.
pub async fn leave(store: &Store, id: &SessionId, by: &str) -> Result<bool, StoreError> {
    let left = end(store, id, Ending::because(EndReason::Cancelled, format!("cancelled by {by}"))).await?;
    if left {
        store.note(NewAudit::by_cli("queue.cancel", id, by)).await;
    }
    Ok(left)
}
