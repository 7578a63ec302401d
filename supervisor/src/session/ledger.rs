//! The session's events on their way into the store, and the wake-up of their readers.

use tokio::sync::watch;

use super::budget::Budget;
use crate::session::SessionId;
use crate::session::event::HostEvent;
use crate::session::status::Status;
use crate::store::{NewEvent, Outcome, Position, Store, StoreError};

/// Stands for a message that was too much to store; its id is kept, so that it is still taken once.
const DROPPED_BODY: &str = "null";

/// One session's part of the store.
#[derive(Debug)]
pub(super) struct Ledger {
    id: SessionId,
    store: Store,
    latest: watch::Sender<u64>,
    budget: Budget,
    /// What the driver knew before what is stored next.
    checkpoint: Option<String>,
}

impl Ledger {
    pub(super) fn new(id: SessionId, store: Store, latest: watch::Sender<u64>) -> Self {
        Self { id, store, latest, budget: Budget::default(), checkpoint: None }
    }

    /// What is left of what may be stored.
    pub(super) fn budget(&self) -> Budget {
        self.budget
    }

    /// Goes on with what another process has left of it.
    pub(super) fn resume(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// With another budget.
    #[cfg(test)]
    pub(super) fn within(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// Goes on with what another process has stored: the session's budget is one.
    pub(super) async fn catch_up(&mut self) -> Result<(), StoreError> {
        let stored = self.store.event_bytes(&self.id).await?;
        self.budget.spend(stored);
        Ok(())
    }

    /// To be stored with the next events.
    pub(super) fn note(&mut self, checkpoint: Option<String>) {
        self.checkpoint = checkpoint;
    }

    /// Stores it now.
    pub(super) async fn keep(&mut self) -> Result<(), StoreError> {
        self.store_all(Vec::new(), None).await
    }

    pub(super) async fn set_status(&self, status: Status) -> Result<(), StoreError> {
        self.store.set_status(&self.id, status).await
    }

    /// Stores events of the journal, whose lines had so many bytes, and its position in the same transaction.
    pub(super) async fn append_journal(
        &mut self,
        events: Vec<NewEvent>,
        bytes: u64,
        cursor: Option<String>,
    ) -> Result<(), StoreError> {
        if self.budget.admit_all(events.len(), bytes) {
            return self.store_all(events, cursor).await;
        }
        self.append(events, cursor).await
    }

    /// Stores what may be stored of these events.
    pub(super) async fn append(&mut self, events: Vec<NewEvent>, cursor: Option<String>) -> Result<(), StoreError> {
        let mut kept = Vec::with_capacity(events.len());
        for event in events {
            let event = self.budget.admit(event, 0);
            kept.extend(self.budget.news().map(NewEvent::from));
            kept.extend(event);
        }
        if kept.is_empty() && cursor.is_none() {
            return Ok(());
        }
        self.store_all(kept, cursor).await
    }

    async fn store_all(&mut self, events: Vec<NewEvent>, cursor: Option<String>) -> Result<(), StoreError> {
        let position = Position { cursor, checkpoint: self.checkpoint.take() };
        let appended = self.store.append(&self.id, events, position).await?;
        if let Some(last) = appended.events.last() {
            self.latest.send_replace(last.seq);
        }
        Ok(())
    }

    /// Stores the end, and the last event in the same transaction: it is always kept, see [`Budget`].
    pub(super) async fn end(&mut self, outcome: Outcome, event: HostEvent) -> Result<(), StoreError> {
        let seq = self.store.end_session(&self.id, outcome, event).await?;
        self.latest.send_replace(seq);
        Ok(())
    }

    /// Stores what came by a mailbox; whether it is new.
    pub(super) async fn take(
        &mut self,
        name: &'static str,
        id: &str,
        body: String,
        event: HostEvent,
    ) -> Result<bool, StoreError> {
        let event = self.budget.admit(event.into(), body.len());
        if let Some(news) = self.budget.news() {
            self.append(vec![news.into()], None).await?;
        }
        let Some(event) = event else { return Ok(false) };
        let body = if self.budget.is_capped() { DROPPED_BODY.to_owned() } else { body };
        let taken = self.store.take(&self.id, name, id, body, event).await?;
        if let Some(seq) = taken {
            self.latest.send_replace(seq);
        }
        Ok(taken.is_some())
    }
}

#[cfg(test)]
mod tests {
    use ipc_protocol::clip::ClippedText;
    use ipc_protocol::event::EventKind;

    use super::*;
    use crate::session::event::What;
    use crate::store::SessionRow;

    #[tokio::test]
    async fn a_session_that_says_too_much_is_told_once_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("aigo.db")).unwrap();
        let id = SessionId::random();
        store.insert_session(SessionRow::new(id.clone(), "command", "image", "/w")).await.unwrap();
        let (latest, seen) = watch::channel(0);
        let budget = Budget::new(2_000, 10_000);
        let mut ledger = Ledger { id: id.clone(), store: store.clone(), latest, budget, checkpoint: None };
        let text = |seq| {
            let body = ClippedText::new("x".repeat(900), 900);
            NewEvent { runner_seq: Some(seq), what: What::Runner(EventKind::Text { body, parent_call: None }) }
        };
        ledger.append_journal((1..=10).map(text).collect(), 9_500, Some("cursor".into())).await.unwrap();
        let said = |id: &str| HostEvent::Message {
            id: id.into(),
            body: ClippedText::new("x".repeat(5_000), 5_000),
            chat_jid: None,
        };
        assert!(ledger.take("messages", "m", "long".repeat(1000), said("m")).await.unwrap());
        assert!(!ledger.take("messages", "m", "long".repeat(1000), said("m")).await.unwrap(), "once");
        let events = store.events(&id, 0, 99).await.unwrap();
        let kinds: Vec<String> = events
            .iter()
            .map(|event| match &event.what {
                What::Runner(EventKind::Text { .. }) => "text".to_owned(),
                What::Host(HostEvent::HostWarning { code, .. }) => code.clone(),
                What::Host(HostEvent::Message { body, .. }) => format!("{} of {:?}", body.text.len(), body.full_bytes),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(kinds, ["text", "text", "events_capped", "1024 of Some(5000)"]);
        assert_eq!(*seen.borrow(), 4);
        assert_eq!(store.journal_cursor(&id).await.unwrap().as_deref(), Some("cursor"), "the journal is read on");
    }
}
