//! The last words of a dead session: what is in its journal, `messages/` and `tasks/` and was not taken by its owner.
//!
//! The container is gone, so nothing is written any more, and nobody waits for an answer. Everything is taken once, by
//! the same rules as in life: the journal by its cursor, the rest by its ids, and all of it within the budget of the session's
//! events. Bounded in time for each session.

use std::time::Duration;

use ipc_protocol::host::HostIpc;
use ipc_protocol::journal::{Cursor, Reader};
use ipc_protocol::mailbox::{Inbox, Item, Scan};
use ipc_protocol::outgoing::OutgoingFile;
use ipc_protocol::task::TaskFile;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::dirs::SessionDir;
use crate::session::event::{HostEvent, What};
use crate::session::ledger::Ledger;
use crate::session::{SessionId, requests};
use crate::store::{NewEvent, Store, StoreError};

/// For the journal; all that a runner of ours can leave unread takes a few seconds.
const JOURNAL: Duration = Duration::from_secs(30);
/// For messages and requests: an agent can put more there than is read in hours at the allowed rate.
const MAIL: Duration = Duration::from_secs(5);
/// So many reads of the journal without an event say that what is left never becomes one.
const MAX_EMPTY_READS: u32 = 10;

/// Stores what is left. When the agent said the last of it, by its own clock, which is not believed beyond now; `None`
/// if its journal had nothing new.
pub(super) async fn drain(store: &Store, id: &SessionId, folder: &SessionDir) -> Result<Option<Timestamp>, StoreError> {
    // Without a folder there is nothing left.
    let Ok(ipc) = HostIpc::open(&folder.ipc()) else { return Ok(None) };
    let cursor = store.journal_cursor(id).await?;
    let cursor = cursor.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or(Cursor::START);
    // Nobody waits for what is stored now.
    let (latest, _) = watch::channel(0);
    settle(Ledger::new(id.clone(), store.clone(), latest), &ipc, cursor).await
}

async fn settle(mut ledger: Ledger, ipc: &HostIpc, cursor: Cursor) -> Result<Option<Timestamp>, StoreError> {
    ledger.catch_up().await?;
    let mut estate = Estate { ledger };
    let said = estate.journal(ipc.journal(cursor)).await?;
    estate.mail(ipc.messages(), ipc.tasks()).await?;
    Ok(said)
}

struct Estate {
    ledger: Ledger,
}

impl Estate {
    async fn journal(&mut self, mut journal: Reader) -> Result<Option<Timestamp>, StoreError> {
        let deadline = Instant::now() + JOURNAL;
        let mut said = None;
        let mut empty_reads = 0;
        loop {
            let batch = journal.read();
            empty_reads = if batch.events.is_empty() { empty_reads + 1 } else { 0 };
            if let Some(last) = batch.events.last() {
                said = i64::try_from(last.at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
                let events = batch.events.into_iter();
                let events =
                    events.map(|event| NewEvent { runner_seq: Some(event.seq), what: What::Runner(event.kind) });
                let cursor = serde_json::to_string(&batch.cursor).ok();
                self.ledger.append_journal(events.collect(), batch.bytes, cursor).await?;
            }
            if let Some(fault) = batch.fault {
                self.warn("ipc_journal_broken", fault.to_string()).await?;
                break;
            }
            match batch.again_in {
                None => break,
                Some(wait) if empty_reads < MAX_EMPTY_READS && Instant::now() + wait < deadline => {
                    tokio::time::sleep(wait).await;
                }
                Some(_) => {
                    self.dropped("the end of the agent's journal could not be read").await?;
                    break;
                }
            }
        }
        Ok(said.map(|said| said.min(Timestamp::now())))
    }

    async fn mail(&mut self, mut messages: Inbox<OutgoingFile>, mut tasks: Inbox<TaskFile>) -> Result<(), StoreError> {
        let deadline = Instant::now() + MAIL;
        loop {
            let again = [self.messages(&mut messages).await?, self.tasks(&mut tasks).await?];
            match again.into_iter().flatten().min() {
                None => return Ok(()),
                Some(wait) if Instant::now() + wait < deadline => tokio::time::sleep(wait).await,
                Some(_) => return self.dropped("the agent left more messages and requests than are read").await,
            }
        }
    }

    async fn messages(&mut self, messages: &mut Inbox<OutgoingFile>) -> Result<Option<Duration>, StoreError> {
        let scan = messages.scan();
        self.report(&scan).await?;
        for Item { name, id, body, .. } in scan.items {
            let event = HostEvent::outgoing(id.to_string(), &body);
            self.take("messages", id.as_str(), serde_json::to_string(&body), event).await?;
            if let Some(warning) = messages.remove(&name) {
                self.warn(warning.code(), warning.to_string()).await?;
            }
        }
        Ok(scan.again_in)
    }

    async fn tasks(&mut self, tasks: &mut Inbox<TaskFile>) -> Result<Option<Duration>, StoreError> {
        let scan = tasks.scan();
        self.report(&scan).await?;
        for Item { name, id, body, .. } in scan.items {
            let event = HostEvent::TaskRequest {
                id: id.to_string(),
                request: requests::judge(&body.request).request.to_owned(),
                ok: false,
                error: Some("the session ended before the request was answered".to_owned()),
            };
            self.take("tasks", id.as_str(), serde_json::to_string(&body), event).await?;
            if let Some(warning) = tasks.remove(&name) {
                self.warn(warning.code(), warning.to_string()).await?;
            }
        }
        Ok(scan.again_in)
    }

    async fn take(
        &mut self,
        name: &'static str,
        id: &str,
        body: serde_json::Result<String>,
        event: HostEvent,
    ) -> Result<(), StoreError> {
        self.ledger.take(name, id, body.unwrap_or_default(), event).await.map(drop)
    }

    async fn report<T>(&mut self, scan: &Scan<T>) -> Result<(), StoreError> {
        for refused in &scan.refused {
            self.warn("ipc_dead_letter", refused.to_string()).await?;
        }
        for warning in &scan.warnings {
            self.warn(warning.code(), warning.to_string()).await?;
        }
        Ok(())
    }

    async fn dropped(&mut self, what: &str) -> Result<(), StoreError> {
        self.warn("ipc_backlog_dropped", format!("{what} after its end; the rest is dropped")).await
    }

    async fn warn(&mut self, code: &str, message: String) -> Result<(), StoreError> {
        let warning = HostEvent::HostWarning { code: code.into(), message };
        self.ledger.append(vec![warning.into()], None).await
    }
}

#[cfg(test)]
mod tests {
    use ipc_protocol::clip::ClippedText;
    use ipc_protocol::event::EventKind;
    use ipc_protocol::host::HostDirs;
    use ipc_protocol::runner::RunnerIpc;

    use super::*;
    use crate::session::budget::Budget;
    use crate::store::SessionRow;

    /// Bytes of each text that the agent leaves.
    const TEXT: usize = 900;

    #[tokio::test]
    async fn last_words_are_within_the_budget_of_the_session() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("aigo.db")).unwrap();
        let id = SessionId::random();
        store.insert_session(SessionRow::new(id.clone(), "command", "image", "/w")).await.unwrap();
        let text = || EventKind::Text { body: ClippedText::new("x".repeat(TEXT), TEXT), parent_call: None };
        // What its owner had stored.
        let before: Vec<NewEvent> =
            (1001..=1002).map(|seq| NewEvent { runner_seq: Some(seq), what: What::Runner(text()) }).collect();
        store.append(&id, before, None).await.unwrap();
        let dirs = HostDirs::below(dir.path());
        let ipc = HostIpc::create(&dirs, None).unwrap();
        let runner = RunnerIpc::open(&dirs.mailbox, &dirs.record).unwrap();
        let (mut journal, _) = runner.journal().unwrap();
        for _ in 0..10 {
            journal.append(0, text()).unwrap();
        }
        journal.append(0, EventKind::AgentExited { code: Some(0), signal: None }).unwrap();
        let (latest, _) = watch::channel(0);
        let budget = Budget::new(5 * TEXT as u64, 10_000);
        let ledger = Ledger::new(id.clone(), store.clone(), latest).within(budget);
        settle(ledger, &ipc, Cursor::START).await.unwrap();
        let events = store.events(&id, 0, 99).await.unwrap();
        let is = |wanted: fn(&What) -> bool| events.iter().filter(|event| wanted(&event.what)).count();
        assert_eq!(is(|what| matches!(what, What::Runner(EventKind::Text { .. }))), 4, "two of them before");
        assert_eq!(is(|what| matches!(what, What::Runner(EventKind::AgentExited { .. }))), 1);
        assert_eq!(
            is(|what| matches!(what, What::Host(HostEvent::HostWarning { code, .. }) if code == "events_capped")),
            1
        );
    }
}
